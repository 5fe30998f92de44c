/**
 * State in HTML without a line of script: the `data-gr-*` attributes.
 *
 *     data-gr-text="path"           data-gr-html="path" (sanitised)     data-gr-value="path"
 *     data-gr-attr:NAME="path"      data-gr-class:NAME="path"           data-gr-show="path"
 *     data-gr-on:EVENT="handler"    data-gr-payload='{"json": true}'
 *     <template data-gr-each="path" data-gr-key="id" data-gr-item="row">...</template>
 *
 * Inside a template the item's name stands for the item (`row.title`), the key's name for its key
 * or index; events inside carry both in their context. Without names they are called
 * `valueVariable` and `keyVariable`. Browsers never write state: a changed field is an event.
 *
 * @module
 */

import { camera } from "./camera.js";
import { Bytes, isObject, put } from "./codec.js";
import { carried, reader } from "./files.js";
import { controlsOf, isChoice, isControl, payloadOf, radiosOf, showValue } from "./forms.js";
import { dress } from "./look.js";
import { parsePath } from "./patch.js";
import { sanitize, setAttribute } from "./sanitize.js";

/** @typedef {import("./client.js").Greenroom} Greenroom */
/** @typedef {{outer: Scope | null, path: string[], key: string | number, keyName: string, itemName: string}} Scope */
/** @typedef {() => void} Off */

const DEBOUNCE = 150; // milliseconds
const PREFIX = "data-gr-";
const OURS = new Set(["submit", "camera-error"]); // events that have no other effect, once bound
const READ_LATER = new Set(["payload", "key", "item"]); // where they are needed

/** @type {WeakMap<Element, Greenroom>} */
const bound = new WeakMap();
/** @type {WeakMap<Element, Field>} */
const fields = new WeakMap();

/**
 * Bring the attributes below `root` to life. Returns a function that ends it.
 *
 * @param {Greenroom} gr @param {ParentNode} root @returns {Off}
 */
export function bind(gr, root) {
  dress(); // data-gr-show holds whatever `display` the page gives
  dress(root.getRootNode());
  const binder = new Binder(gr);
  const offs = [binder.scan([root], null), gr.onLeave(() => binder.flush())];
  return () => offs.forEach((off) => off());
}

/** Where a path of an attribute leads: to a place in the state, or to a key of a loop. @param {string} text @param {Scope | null} scope */
export function resolve(text, scope) {
  const path = parsePath(text);
  for (let one = scope; one; one = one.outer) {
    if (path[0] === one.itemName) return { path: [...one.path, ...path.slice(1)] };
    if (path[0] === one.keyName && path.length === 1) return { key: one.key };
  }
  return { path };
}

/**
 * The context of events inside loops, outermost first. Bytes in it are null: a picture of the row
 * would go up with every click, and the server has it.
 *
 * @param {Scope | null} scope @param {(path: string[]) => any} get @returns {Record<string, any>}
 */
export function contextOf(scope, get) {
  if (!scope) return {};
  return { ...contextOf(scope.outer, get), [scope.keyName]: scope.key, [scope.itemName]: withoutBytes(get(scope.path) ?? null) };
}

/** @param {any} value @returns {any} */
function withoutBytes(value) {
  if (value instanceof Bytes) return null;
  if (Array.isArray(value)) return value.map(withoutBytes);
  if (!isObject(value)) return value;
  /** @type {Record<string, any>} */
  const result = {};
  for (const [key, item] of Object.entries(value)) put(result, key, withoutBytes(item));
  return result;
}

/** How a value reads as text. @param {any} value */
export function textOf(value) {
  if (value === null || value === undefined) return "";
  if (value instanceof Bytes) return value.name;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Whether a value has nothing to show: false, zero, missing, or without anything in it. @param {any} value */
export function isEmpty(value) {
  if (value instanceof Bytes) return !value.bytes.length;
  return typeof value === "object" && value !== null ? !Object.keys(value).length : !value;
}

class Binder {
  /** Inputs that wait to be sent: they go before any other event. @type {Set<Off>} */
  #waiting = new Set();

  /** @param {Greenroom} gr */
  constructor(gr) {
    this.gr = gr;
  }

  flush() {
    for (const send of [...this.#waiting]) send();
  }

  /** @param {Iterable<Node>} roots @param {Scope | null} scope @returns {Off} */
  scan(roots, scope) {
    /** @type {Off[]} */
    const offs = [];
    for (const root of [...roots]) {
      if (root.nodeType !== 1 && root.nodeType !== 9 && root.nodeType !== 11) continue;
      const below = /** @type {ParentNode & Node} */ (root);
      const self = root.nodeType === 1 ? [/** @type {Element} */ (root)] : [];
      for (const element of [...self, ...below.querySelectorAll("*")]) {
        const names = element.getAttributeNames().filter((name) => name.startsWith(PREFIX));
        if (!names.length || bound.get(element) === this.gr) continue;
        bound.set(element, this.gr);
        offs.push(() => bound.delete(element));
        for (const name of names) {
          const off = this.#directive(element, name.slice(PREFIX.length), element.getAttribute(name) ?? "", scope);
          if (off) offs.push(off);
        }
      }
    }
    return () => offs.splice(0).forEach((off) => off());
  }

  /** @param {Element} element @param {string} name @param {string} value @param {Scope | null} scope @returns {Off | undefined} */
  #directive(element, name, value, scope) {
    const [kind, ...rest] = name.split(":");
    const argument = rest.join(":");
    switch (kind) {
      case "text":
        return this.#watch(value, scope, (now) => (element.textContent = textOf(now)));
      case "html":
        return this.#watch(value, scope, (now) => element.replaceChildren(sanitize(textOf(now))));
      case "show":
        return this.#watch(value, scope, (now) => element.toggleAttribute("hidden", isEmpty(now)));
      case "class":
        return this.#watch(value, scope, (now) => element.classList.toggle(argument, !isEmpty(now)));
      case "attr":
        return this.#watch(value, scope, (now) => {
          if (!setAttribute(element, argument, now)) console.warn(`greenroom: ${argument}="${now}" was not set`);
          fields.get(element)?.show(); // what a control takes depends on it: the `max` of a range
        });
      case "value":
        return this.#field(element, value, scope);
      case "on":
        return this.#on(element, argument, value, scope);
      case "each":
        return this.#each(/** @type {HTMLTemplateElement} */ (element), value, scope);
      default:
        if (!READ_LATER.has(name)) console.warn(`greenroom: there is no attribute ${PREFIX}${name}`);
        return undefined;
    }
  }

  /** @param {string} text @param {Scope | null} scope @param {(value: any) => void} show @returns {Off} */
  #watch(text, scope, show) {
    const { path, key } = resolve(text, scope);
    if (!path) {
      show(key);
      return () => {};
    }
    const off = this.gr.subscribe(path, show);
    show(this.gr.get(path));
    return off;
  }

  // -- fields ----------------------------------------------------------------------------------

  /** @param {Element} element @param {string} text @param {Scope | null} scope @returns {Off | undefined} */
  #field(element, text, scope) {
    if (!isControl(element)) return this.#watch(text, scope, (now) => setAttribute(element, "value", now));
    const field = new Field(element);
    fields.set(element, field);
    const offs = [this.#watch(text, scope, (now) => field.take(now))];
    offs.push(listen(element, "input", () => field.edited()));
    offs.push(listen(element, "blur", () => field.left()));
    return () => {
      fields.delete(element);
      offs.forEach((off) => off());
    };
  }

  // -- events ----------------------------------------------------------------------------------

  /** @param {Element} element @param {string} type @param {string} handler @param {Scope | null} scope @returns {Off} */
  #on(element, type, handler, scope) {
    const send = (/** @type {Event} */ event) => this.#send(element, event, handler, scope);
    if (type === "input") return this.#onInput(element, send);
    if (type === "open") return void send(new Event("open")), () => {}; // it just did
    const target = type === "hashchange" ? globalThis.window : element;
    const off = listen(target, type, (event) => {
      if (OURS.has(type) || (type === "click" && element.getAttribute("href") === "#")) event.preventDefault();
      this.flush();
      void send(event);
    });
    const tell = (/** @type {any} */ { message }) => this.gr.perform("gr:notify", { message, kind: "error" });
    const end = type === "snapshot" && element.tagName === "VIDEO" ? camera(/** @type {any} */ (element), tell) : null;
    return () => {
      off();
      end?.();
    };
  }

  /** Inputs come in floods: the last of 150 ms is sent, and only when the one before was answered. @param {Element} element @param {(event: Event) => Promise<void>} send @returns {Off} */
  #onInput(element, send) {
    /** @type {Event | null} */
    let last = null;
    let busy = false;
    /** @type {any} */
    let timer = null;
    const fire = () => {
      clearTimeout(timer);
      const event = last;
      last = null;
      this.#waiting.delete(fire);
      if (!event) return;
      busy = true;
      void send(event).finally(() => {
        busy = false;
        if (last) fire();
      });
    };
    const offs = [
      listen(element, "input", (event) => {
        last = event;
        this.#waiting.add(fire);
        clearTimeout(timer);
        timer = setTimeout(() => busy || fire(), DEBOUNCE);
      }),
      // Before the field itself hears of it, which then knows that its text is on its way.
      listen(element, "blur", fire, true),
    ];
    return () => {
      offs.forEach((off) => off());
      fire();
    };
  }

  /** @param {Element} element @param {Event} event @param {string} handler @param {Scope | null} scope */
  async #send(element, event, handler, scope) {
    const settled = this.#fieldsOf(element).map((field) => field.sending());
    const context = {
      event: event.type,
      target: element.getAttribute("id") || null, // `id` of a form may be a field of that name
      ...contextOf(scope, (path) => this.gr.get(path)),
    };
    let ok = false;
    try {
      const fixed = element.getAttribute(`${PREFIX}payload`);
      let payload = fixed === null ? payloadOf(event, element, reader(this.gr, element)) : JSON.parse(fixed);
      // Nothing else waits here: events leave in the order they happened in.
      if (payload instanceof Promise || payload instanceof Bytes) payload = await carried(this.gr, await payload, element);
      await this.gr.call(handler, payload, { context });
      ok = true;
    } catch (error) {
      this.gr.refused(/** @type {any} */ (error), handler);
    }
    for (const settle of settled) settle(ok || isChoice(element)); // refused text stays, to be mended
  }

  /** The fields whose values an event of this element sends. @param {Element} element */
  #fieldsOf(element) {
    const all = new Set([element, ...controlsOf(element), ...radiosOf(element)]);
    return [...all].flatMap((one) => fields.get(one) ?? []);
  }

  // -- loops -----------------------------------------------------------------------------------

  /** @param {HTMLTemplateElement} template @param {string} text @param {Scope | null} outer @returns {Off | undefined} */
  #each(template, text, outer) {
    const { path } = resolve(text, outer);
    if (!path || !template.content) return undefined;
    const keyName = template.getAttribute(`${PREFIX}key`) || "keyVariable";
    const itemName = template.getAttribute(`${PREFIX}item`) || "valueVariable";
    /** @type {Map<string, Row>} */
    const rows = new Map();
    const show = (/** @type {any} */ value) => {
      const keys = typeof value === "object" && value !== null && !(value instanceof Bytes) ? Object.keys(value) : [];
      const wanted = new Set(keys);
      for (const [key, row] of rows) {
        if (!wanted.has(key)) {
          row.remove();
          rows.delete(key);
        }
      }
      const focused = template.ownerDocument.activeElement;
      // Nodes that are moved lose the focus, so its row stays where it is and the others move.
      const still = template.parentNode?.contains(focused) && [...rows.values()].find((row) => row.holds(focused));
      /** @type {ChildNode} */
      let after = template;
      for (const key of keys) {
        let row = rows.get(key);
        if (!row) {
          const shown = Array.isArray(value) ? Number(key) : key;
          const scope = { outer, path: [...path, key], key: shown, keyName, itemName };
          row = new Row(template, (nodes) => this.scan(nodes, scope));
          rows.set(key, row);
        }
        if (row === still) row.pushBehind(after.nextSibling);
        else if (after.nextSibling !== row.start) after.after(...row.nodes());
        after = row.end;
      }
      const select = template.closest("select");
      if (select) fields.get(select)?.show(); // its options have changed
    };
    const off = this.#watch(text, outer, show);
    return () => {
      off();
      for (const row of rows.values()) row.remove();
    };
  }
}

/** One item of a loop: the nodes between two marks, whatever loops inside it add there. */
class Row {
  /** @param {HTMLTemplateElement} template @param {(nodes: Node[]) => Off} scan */
  constructor(template, scan) {
    const document = template.ownerDocument;
    this.start = document.createComment("");
    this.end = document.createComment("");
    const fragment = document.createDocumentFragment();
    const content = document.importNode(template.content, true);
    fragment.append(this.start, content, this.end);
    this.off = scan([fragment]);
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

  /** Put what stands between `first` and this row behind it; the row does not move. @param {ChildNode | null} first */
  pushBehind(first) {
    const behind = this.end.nextSibling;
    for (let node = first; node && node !== this.start; ) {
      const next = node.nextSibling;
      this.start.parentNode?.insertBefore(node, behind);
      node = next;
    }
  }

  remove() {
    this.off();
    for (const node of this.nodes()) node.remove();
  }
}

/**
 * A form control that shows a value of the state. What its user typed is newer than what the
 * server knows until the server has answered it, so until then older values wait.
 */
class Field {
  #value = /** @type {any} */ (undefined);
  #edits = 0; // of the user, ever
  #known = 0; // of those, answered (or given up)
  #sending = 0;

  /** @param {import("./forms.js").Control} control */
  constructor(control) {
    this.control = control;
  }

  /** The server's value. @param {any} value */
  take(value) {
    this.#value = value;
    this.show();
  }

  show() {
    if (this.#edits === this.#known) showValue(this.control, this.#value);
  }

  edited() {
    this.#edits += 1;
  }

  /** Its user went elsewhere; what was typed stays until the server says otherwise. */
  left() {
    if (!this.#sending) this.#known = this.#edits;
  }

  /** What was typed so far is on its way; returns what to call when it is answered, and whether to show the state then. */
  sending() {
    const edits = this.#edits;
    this.#sending += 1;
    return (/** @type {boolean} */ show) => {
      this.#sending -= 1;
      this.#known = Math.max(this.#known, edits);
      if (show) this.show();
    };
  }
}

/** @param {EventTarget} target @param {string} type @param {(event: Event) => void} fn @param {boolean} [first] before those of the targets inside @returns {Off} */
function listen(target, type, fn, first = false) {
  target.addEventListener(type, fn, first);
  return () => target.removeEventListener(type, fn, first);
}
