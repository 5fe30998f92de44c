/**
 * The rows of a `<template data-gr-each>`: one for each item of a list or dict.
 *
 * A row has an identity: the key in a dict, the index in a list, or what `data-gr-id` names inside
 * the item. While its identity is there a row keeps its nodes, and all that a user did with them.
 * When the order changes as few rows as possible move, and never the one that has the focus: nodes
 * that are taken out lose it. (`moveBefore` keeps it, and scroll positions too, where there is one.)
 *
 * @module
 */

import { Bytes } from "./codec.js";
import { get, parsePath } from "./patch.js";

/** @typedef {import("./scope.js").Scope} Scope */
/** @typedef {(nodes: Node[], scope: Scope) => () => void} Scan brings nodes to life; what it returns ends that */

export class Rows {
  /** By identity, in the order of the page. @type {Map<string, Row>} */
  #rows = new Map();
  #told = false;

  /** @param {HTMLTemplateElement} template @param {Scope | null} outer @param {Scan} scan */
  constructor(template, outer, scan) {
    this.template = template;
    this.outer = outer;
    this.scan = scan;
    this.keyName = template.getAttribute("data-gr-key") || "keyVariable";
    this.itemName = template.getAttribute("data-gr-item") || "valueVariable";
    this.id = this.#idPath();
  }

  /** Show a list or dict, and nothing of anything else. @param {any} value @param {string[]} path where it is */
  show(value, path) {
    const keys = typeof value === "object" && value !== null && !(value instanceof Bytes) ? Object.keys(value) : [];
    const ids = this.id && Array.isArray(value) ? this.#idsOf(value, this.id) : keys;
    const wanted = new Set(ids);
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    const staying = this.#staying(ids);
    /** @type {Map<string, Row>} */
    const rows = new Map();
    /** @type {ChildNode} */
    let after = this.template;
    for (const [i, key] of keys.entries()) {
      const id = /** @type {string} */ (ids[i]);
      const place = { path: [...path, key], key: Array.isArray(value) ? i : key, item: value[key] };
      const known = this.#rows.get(id);
      const row = known ?? this.#made(place);
      if (!staying.has(row)) row.putBehind(after);
      known?.settle(place);
      rows.set(id, row);
      after = row.end;
    }
    this.#rows = rows;
  }

  remove() {
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
  }

  /** @param {Place} place */
  #made(place) {
    const { outer, keyName, itemName } = this;
    return new Row(this.template, { outer, keyName, itemName, moved: new Set(), ...place }, this.scan);
  }

  /** Where the id is inside an item. */
  #idPath() {
    const text = this.template.getAttribute("data-gr-id");
    if (text === null) return null;
    const [name, ...path] = parsePath(text);
    if (name === this.itemName) return path;
    console.error(`greenroom: data-gr-id="${text}" does not lead into the item of a row: "${this.itemName}.${text}" does`);
    return null;
  }

  /** What tells the items of a list apart; where there is nothing, the index does. @param {any[]} list @param {string[]} path @returns {string[]} */
  #idsOf(list, path) {
    /** @type {Map<string, number>} */
    const seen = new Map();
    let trouble = "";
    const ids = list.map((item, i) => {
      const id = path.length ? get(item, path) : item;
      const name = `${typeof id} ${id}`;
      if (!/^(string|number|bigint) /.test(name)) trouble ||= `row ${i} of ${this.#name} has no text or number there`;
      else if (seen.has(name)) trouble ||= `rows ${seen.get(name)} and ${i} of ${this.#name} have the same there, ${JSON.stringify(id)}`;
      else return seen.set(name, i), name;
      return String(i);
    });
    if (trouble && !this.#told) {
      console.error(`greenroom: data-gr-id="${this.template.getAttribute("data-gr-id")}": ${trouble}; such rows stay by their index`);
    }
    this.#told = trouble !== ""; // once, until it is mended
    return ids;
  }

  get #name() {
    return this.template.getAttribute("data-gr-each");
  }

  /** The rows that need not move: as many as can stay, and the one that has the focus. @param {string[]} ids in their new order */
  #staying(ids) {
    const rows = [...this.#rows.values()];
    const places = new Map([...this.#rows.keys()].map((id, i) => [id, i]));
    let order = ids.flatMap((id) => places.get(id) ?? []);
    const { activeElement = null } = /** @type {Document | ShadowRoot} */ (this.template.getRootNode());
    const focused = this.template.parentNode?.contains(activeElement) ? rows.findIndex((row) => row.holds(activeElement)) : -1;
    if (focused >= 0) {
      const now = order.indexOf(focused);
      order = order.filter((place, i) => i === now || i < now === place < focused);
    }
    return new Set(rising(order).map((place) => rows[place]));
  }
}

/** @typedef {Pick<Scope, "path" | "key" | "item">} Place */

/** One item of a loop: the nodes between two marks, whatever loops inside it add there. */
class Row {
  /** @param {HTMLTemplateElement} template @param {Scope} scope @param {Scan} scan */
  constructor(template, scope, scan) {
    const document = template.ownerDocument;
    this.start = document.createComment("");
    this.end = document.createComment("");
    this.scope = scope;
    const fragment = document.createDocumentFragment();
    fragment.append(this.start, document.importNode(template.content, true), this.end);
    this.off = scan([fragment], scope);
  }

  /** It may be elsewhere in the state now, and its item another one. @param {Place} place */
  settle(place) {
    const { path, key, moved } = this.scope;
    Object.assign(this.scope, place);
    const same = key === place.key && path.length === place.path.length && path.every((step, i) => step === place.path[i]);
    if (!same) for (const tell of [...moved]) tell();
  }

  nodes() {
    /** @type {ChildNode[]} */
    const nodes = [];
    for (let node = /** @type {ChildNode | null} */ (this.start); node; node = node.nextSibling) {
      nodes.push(node);
      if (node === this.end) break;
    }
    return nodes;
  }

  /** @param {Element | null} element */
  holds(element) {
    return this.nodes().some((node) => node.contains(element));
  }

  /** @param {ChildNode} after */
  putBehind(after) {
    const parent = /** @type {any} */ (after.parentNode);
    const before = after.nextSibling;
    if (!parent || before === this.start) return;
    const moves = this.start.getRootNode() === parent.getRootNode() && parent.moveBefore;
    for (const node of this.nodes()) moves ? parent.moveBefore(node, before) : parent.insertBefore(node, before);
  }

  remove() {
    this.off();
    for (const node of this.nodes()) node.remove();
  }
}

/** The longest part of a list of different numbers that rises. @param {number[]} numbers */
export function rising(numbers) {
  /** Of the rises of each length the one that ends lowest: where its end is. @type {number[]} */
  const ends = [];
  /** What stands before each number in its rise. @type {(number | undefined)[]} */
  const before = [];
  for (const [i, number] of numbers.entries()) {
    let length = 0;
    for (let high = ends.length; length < high; ) {
      const middle = (length + high) >> 1;
      if (/** @type {number} */ (numbers[/** @type {number} */ (ends[middle])]) < number) length = middle + 1;
      else high = middle;
    }
    before[i] = ends[length - 1];
    ends[length] = i;
  }
  /** @type {number[]} */
  const rise = [];
  for (let i = ends.at(-1); i !== undefined; i = before[i]) rise.push(/** @type {number} */ (numbers[i]));
  return rise.reverse();
}
