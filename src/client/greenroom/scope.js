/**
 * What names mean inside a loop: the scope of a row. It changes when the row gets another place.
 *
 * @module
 */

import { Bytes, isObject, put } from "./codec.js";
import { parsePath } from "./patch.js";

/**
 * One row: its place, its key there, the item that it shows, and who hears of another place.
 *
 * @typedef {{outer: Scope | null, path: string[], key: string | number, item: any, keyName: string, itemName: string, moved: Set<() => void>}} Scope
 */

/** The row whose item or key a path begins with; null when it leads into the state. @param {string} text @param {Scope | null} scope */
export function loopOf(text, scope) {
  const path = parsePath(text);
  for (let one = scope; one; one = one.outer) {
    if (path[0] === one.itemName || (path[0] === one.keyName && path.length === 1)) return one;
  }
  return null;
}

/**
 * Where a path of an attribute leads: to a place in the state, or to the key of a row.
 *
 * @param {string} text @param {Scope | null} scope @returns {{path?: string[], key?: string | number}}
 */
export function resolve(text, scope) {
  const path = parsePath(text);
  const row = loopOf(text, scope);
  if (!row) return { path };
  return path[0] === row.itemName ? { path: [...row.path, ...path.slice(1)] } : { key: row.key };
}

/**
 * The context of events inside rows, outermost first: their keys, and what they show. Bytes in it
 * are null: a picture of the row would go up with every click, and the server has it.
 *
 * @param {Scope | null} scope @returns {Record<string, any>}
 */
export function contextOf(scope) {
  if (!scope) return {};
  return { ...contextOf(scope.outer), [scope.keyName]: scope.key, [scope.itemName]: withoutBytes(scope.item ?? null) };
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
