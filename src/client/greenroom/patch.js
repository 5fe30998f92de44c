/**
 * The mirror of the state: paths, patches, and who hears of what. `patch.py` is the twin.
 *
 * The mirror is plain data, copied on write: a patch makes new containers along the paths it
 * touches and leaves everything else, and the tree before it, as they were. So the previous value
 * is always at hand, and what is the same object is unchanged. A snapshot keeps every part that is
 * equal to what was there. Nobody but the server writes: treat what you read as read-only.
 *
 * Paths are written twice. On the wire they are JSON Pointers (`/a/b`, RFC 6901); users write
 * `a.b`, with `\.` for a literal dot and `\\` for a backslash, or an array of keys.
 *
 * @module
 */

import { Bytes, isObject, put } from "./codec.js";

/** @typedef {{"="?: Record<string, any>, "-"?: string[], "+"?: Record<string, any>}} Patch */
/** @typedef {string | readonly (string | number)[]} UserPath */
/** @typedef {(value: any, previous: any) => void} Watcher */

/** A patch does not fit the mirror: only a new snapshot can help. */
export class Diverged extends Error {}

/** The keys of `"a.b"`; `""` is the whole state. @param {UserPath} path @returns {string[]} */
export function parsePath(path) {
  if (typeof path !== "string") return path.map(String);
  if (path === "") return [];
  const keys = [""];
  for (let i = 0; i < path.length; i++) {
    let char = path.charAt(i);
    if (char === ".") {
      keys.push("");
      continue;
    }
    const next = path.charAt(i + 1);
    if (char === "\\" && (next === "." || next === "\\")) {
      char = next;
      i += 1;
    }
    keys[keys.length - 1] += char;
  }
  return keys;
}

/** The keys of a JSON Pointer. No patch is about the whole document. @param {string} pointer */
export function parsePointer(pointer) {
  if (!pointer.startsWith("/") || /~(?![01])/.test(pointer)) {
    throw new Diverged(`"${pointer}" is no JSON Pointer to a key`);
  }
  return pointer
    .slice(1)
    .split("/")
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/**
 * The value at a path, or undefined when there is none. Lists are reached by index.
 *
 * @param {any} root @param {readonly string[]} path @returns {any}
 */
export function get(root, path) {
  let value = root;
  for (const [i, key] of path.entries()) {
    if (value instanceof Bytes) return i === path.length - 1 ? field(value, key) : undefined;
    if (Array.isArray(value) ? !/^\d+$/.test(key) : !isObject(value)) return undefined;
    if (!Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/** What a path may name of bytes: `photo.url`. @param {Bytes} bytes @param {string} key @returns {any} */
function field(bytes, key) {
  return key === "url" || key === "mime" || key === "name" || key === "bytes" ? bytes[key] : undefined;
}

/**
 * The tree after a patch (the data of `gr:state`); `root` itself stays as it was. Throws `Diverged`
 * for a patch that does not fit, or is none.
 *
 * @param {any} root @param {Patch} patch @returns {any}
 */
export function apply(root, patch) {
  return applied(root, patch).root;
}

/** @param {any} root @param {Patch} patch */
function applied(root, patch) {
  if (Object.keys(patch).some((kind) => !["=", "-", "+"].includes(kind))) {
    throw new Diverged("a patch has the kinds =, - and +");
  }
  /** @type {(pair: [string, any]) => [string[], any]} */
  const parsed = ([pointer, value]) => [parsePointer(pointer), value];
  const sets = Object.entries(patch["="] ?? {}).map(parsed);
  const gone = (patch["-"] ?? []).map(parsePointer);
  const tails = Object.entries(patch["+"] ?? {}).map(parsed);
  const touched = [...sets.map(([path]) => path), ...gone, ...tails.map(([path]) => path)];
  checkApart(touched);
  const tree = new Copy(root);
  for (const [path, value] of sets) tree.set(path, value);
  for (const path of gone) tree.delete(path);
  for (const [path, tail] of tails) tree.append(path, tail);
  return { root: tree.root, touched };
}

/** No path of a patch is a prefix of another: its parts may be applied in any order. @param {string[][]} paths */
function checkApart(paths) {
  if (paths.length < 2) return;
  const all = new Set(paths.map((path) => JSON.stringify(path)));
  let clash = all.size < paths.length;
  for (const path of paths) {
    for (let length = 1; length < path.length; length++) clash ||= all.has(JSON.stringify(path.slice(0, length)));
  }
  if (clash) throw new Diverged("the patch has two operations about one path");
}

/** One patch under way: each container is copied once, at the first step into it. */
class Copy {
  /** @type {Set<object>} */
  #fresh = new Set();

  /** @param {any} root */
  constructor(root) {
    this.root = root;
  }

  /** @param {string[]} path @param {any} value */
  set(path, value) {
    put(this.#parent(path), last(path), value);
  }

  /** @param {string[]} path */
  delete(path) {
    const parent = this.#parent(path);
    if (!Object.hasOwn(parent, last(path))) throw new Diverged(`the patch deletes ${path.join(".")}, which is not there`);
    delete parent[last(path)];
  }

  /** @param {string[]} path @param {any} tail */
  append(path, tail) {
    const parent = this.#parent(path);
    const old = get(parent, path.slice(-1));
    if (typeof old === "string" && typeof tail === "string") {
      put(parent, last(path), old + tail);
    } else if (Array.isArray(old) && Array.isArray(tail)) {
      put(parent, last(path), [...old, ...tail]);
    } else {
      throw new Diverged(`the patch appends to ${path.join(".")}, which is neither text nor list`);
    }
  }

  /** @param {string[]} path */
  #parent(path) {
    let node = (this.root = this.#own(this.root, path));
    for (const key of path.slice(0, -1)) {
      const child = this.#own(get(node, [key]), path);
      put(node, key, child);
      node = child;
    }
    return node;
  }

  /** @param {any} value @param {string[]} path @returns {Record<string, any>} */
  #own(value, path) {
    if (!isObject(value)) {
      throw new Diverged(`the patch reaches ${path.join(".")} through something that is no object`);
    }
    if (this.#fresh.has(value)) return value;
    const copy = { ...value };
    this.#fresh.add(copy);
    return copy;
  }
}

/** @param {string[]} path */
function last(path) {
  return /** @type {string} */ (path[path.length - 1]);
}

/**
 * `now` with every part that equals its counterpart in `was` replaced by that one.
 *
 * @param {any} was @param {any} now @returns {any}
 */
export function share(was, now) {
  if (Array.isArray(was) && Array.isArray(now)) {
    for (let i = 0; i < Math.min(was.length, now.length); i++) now[i] = share(was[i], now[i]);
    return was.length === now.length && now.every((item, i) => item === was[i]) ? was : now;
  }
  if (was instanceof Bytes && now instanceof Bytes) return was.equals(now) ? was : now;
  if (!isObject(was) || !isObject(now)) return now;
  const before = Object.keys(was);
  const keys = Object.keys(now);
  for (const key of keys) {
    if (Object.hasOwn(was, key)) put(now, key, share(was[key], now[key]));
  }
  const same = before.length === keys.length && keys.every((key, i) => key === before[i] && now[key] === was[key]);
  return same ? was : now;
}

/** The state as the server last told it, and the callbacks that hear of changes. */
export class Mirror {
  /** @type {Map<number, {path: string[], watcher: Watcher}>} */
  #watchers = new Map();
  #last = 0;
  /** @type {Record<string, any>} */
  root = {};

  /** @param {(error: unknown, path: string[]) => void} [failed] told of watchers that throw */
  constructor(failed = (error) => console.error(error)) {
    this.failed = failed;
  }

  /** @param {UserPath} path */
  get(path) {
    return get(this.root, parsePath(path));
  }

  /**
   * Call `watcher(value, previous)` once per patch that touches the path; returns off().
   *
   * @param {UserPath} path @param {Watcher} watcher
   */
  watch(path, watcher) {
    const token = ++this.#last;
    this.#watchers.set(token, { path: parsePath(path), watcher });
    return () => void this.#watchers.delete(token);
  }

  /** Take the whole state. Watchers hear of what is different. @param {Record<string, any>} root */
  snapshot(root) {
    this.#become(share(this.root, root), null);
  }

  /** Apply the data of one `gr:state`; throws `Diverged` and changes nothing. @param {Patch} patch */
  patch(patch) {
    let result;
    try {
      result = applied(this.root, patch);
    } catch (error) {
      throw error instanceof Diverged ? error : new Diverged(`this is no patch: ${error}`);
    }
    this.#become(result.root, result.touched);
  }

  /** @param {Record<string, any>} root @param {string[][] | null} touched */
  #become(root, touched) {
    const before = this.root;
    this.root = root;
    for (const [token, { path, watcher }] of [...this.#watchers]) {
      if (!this.#watchers.has(token)) continue; // one that was told before it has ended it
      const value = get(root, path);
      const previous = get(before, path);
      // An operation at the path or below it counts, be the value equal or not.
      if (value !== previous || touched?.some((at) => path.every((key, i) => key === at[i]))) {
        try {
          watcher(value, previous);
        } catch (error) {
          this.failed(error, path);
        }
      }
    }
    if (Bytes.urls) for (const path of touched ?? [[]]) sweep(get(before, path), get(root, path));
  }
}

/** Revoke the URLs of bytes that were in one value and are not in the other. @param {any} was @param {any} now */
function sweep(was, now) {
  if (was === now) return;
  const kept = new Set(bytesIn(now));
  for (const bytes of bytesIn(was)) if (!kept.has(bytes)) bytes.revoke();
}

/** @param {any} value @returns {Generator<Bytes>} */
function* bytesIn(value) {
  if (value instanceof Bytes) yield value;
  else if (typeof value === "object" && value !== null) {
    for (const item of Object.values(value)) yield* bytesIn(item);
  }
}
