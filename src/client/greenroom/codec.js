/**
 * Values and messages as they travel. `codec.py` is the twin of this file.
 *
 * A value is JSON with two additions. Bytes are `{"$bytes": ..., "mime", "name"}`: base64 text, or,
 * in a binary message, the index of a buffer of the same message; here they are `Bytes`. An object
 * of the application that itself has a key `$bytes`, `$file` or `$dict` travels as `{"$dict": {...}}`.
 *
 * A message is a packet, `{text, buffers}`. On a WebSocket one without buffers is text; one with
 * buffers is binary: 4 bytes with the length of the JSON (big-endian), the JSON, then each buffer
 * preceded by its own 4-byte length.
 *
 * @module
 */

/** @typedef {{text: string, buffers: Uint8Array[]}} Packet */
/** @typedef {{type: string, data?: any, label?: string, id?: number, seq?: number}} Frame */

const MAX_DEPTH = 100;
// Types that a browser shows and never runs. Of any other, who opens a link to it may only save it:
// a blob has the rights of our origin.
const SHOWN = /^(image\/(?!svg)[\w.+-]+|(audio|video|font)\/[\w.+-]+|text\/(plain|csv)|application\/(pdf|json))$/;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What came is no frame. */
export class Garbage extends Error {}

/** Bytes of the state or of an event, with media type, file name and a URL to show them by. */
export class Bytes {
  /** @type {string | null} */
  #url = null;

  /** @param {Uint8Array} bytes @param {string} [mime] @param {string} [name] */
  constructor(bytes, mime = "", name = "") {
    this.bytes = bytes;
    this.mime = mime;
    this.name = name;
  }

  /**
   * A URL made on first use. It is a blob's, and revoked when the value is replaced; SVG, which
   * could run scripts as a blob of our origin, becomes a data URL; what is neither a picture, a
   * sound, a film, a font nor plain text loses its type.
   */
  get url() {
    if (this.#url === null) {
      const type = (this.mime.split(";")[0] ?? "").trim().toLowerCase();
      if (type === "image/svg+xml") {
        this.#url = `data:image/svg+xml;base64,${toBase64(this.bytes)}`;
      } else {
        const shown = SHOWN.test(type) ? this.mime : "application/octet-stream";
        this.#url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (this.bytes)], { type: shown }));
        Bytes.urls += 1;
      }
    }
    return this.#url;
  }

  /** Let go of the URL, if one was made. */
  revoke() {
    if (this.#url?.startsWith("blob:")) {
      URL.revokeObjectURL(this.#url);
      Bytes.urls -= 1;
    }
    this.#url = null;
  }

  /** @param {Bytes} other */
  equals(other) {
    return (
      this.mime === other.mime &&
      this.name === other.name &&
      this.bytes.length === other.bytes.length &&
      this.bytes.every((byte, index) => byte === other.bytes[index])
    );
  }

  toString() {
    return this.url;
  }
}

/** How many blob URLs are alive. */
Bytes.urls = 0;

/** The name of a file that travels beside the stream; what `upload` gives and a payload takes. */
export class FileRef {
  /** @param {string} id @param {string} [name] @param {string} [mime] @param {number} [size] */
  constructor(id, name = "", mime = "", size = 0) {
    this.id = id;
    this.name = name;
    this.mime = mime;
    this.size = size;
  }
}

/** @param {unknown} value @returns {value is Record<string, any>} */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Bytes);
}

/**
 * Set a key of plain data. `__proto__` is a key like any other here.
 *
 * @param {Record<string, any>} node @param {string} key @param {any} value
 */
export function put(node, key, value) {
  if (key === "__proto__") {
    Object.defineProperty(node, key, { value, writable: true, enumerable: true, configurable: true });
  } else {
    node[key] = value;
  }
}

/**
 * JSON text of a value; undefined for undefined. With `buffers` bytes are put there, else they
 * become base64.
 *
 * @param {any} value @param {Uint8Array[] | null} [buffers]
 * @returns {string | undefined}
 */
export function encode(value, buffers = null) {
  return JSON.stringify(plain(value, buffers, 0));
}

/** @param {any} value @param {Uint8Array[] | null} buffers @param {number} depth @returns {any} */
function plain(value, buffers, depth) {
  if (typeof value === "string") return checked(value);
  if (typeof value === "bigint") return String(value);
  if (typeof value === "function" || typeof value === "symbol") {
    throw new TypeError(`a ${typeof value} has no form on the wire`);
  }
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Bytes) return told(value.bytes, value, buffers);
  if (value instanceof FileRef) return { $file: value.id, name: value.name, mime: value.mime, size: value.size };
  if (value instanceof ArrayBuffer) return told(new Uint8Array(value), null, buffers);
  if (ArrayBuffer.isView(value)) {
    return told(new Uint8Array(value.buffer, value.byteOffset, value.byteLength), null, buffers);
  }
  if (typeof Blob !== "undefined" && value instanceof Blob) {
    throw new TypeError("a Blob or File must be uploaded (await gr.upload(file)) or read first");
  }
  if (depth >= MAX_DEPTH) throw new RangeError(`the payload is nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value) || value instanceof Set) {
    return Array.from(value, (item) => plain(item, buffers, depth + 1));
  }
  if (typeof value.toJSON === "function") return plain(value.toJSON(), buffers, depth + 1);
  /** @type {Record<string, any>} */
  const result = {};
  for (const [key, item] of value instanceof Map ? value : Object.entries(value)) {
    put(result, checked(String(key)), plain(item, buffers, depth + 1));
  }
  return "$bytes" in result || "$dict" in result || "$file" in result ? { $dict: result } : result;
}

/** @param {string} text */
function checked(text) {
  if (/\p{Surrogate}/u.test(text)) throw new TypeError("a text that is not valid Unicode cannot be sent");
  return text;
}

/** @param {Uint8Array} bytes @param {Bytes | null} about @param {Uint8Array[] | null} buffers */
function told(bytes, about, buffers) {
  const content = buffers ? buffers.push(bytes) - 1 : toBase64(bytes);
  return about ? { $bytes: content, mime: about.mime, name: about.name } : { $bytes: content };
}

/**
 * A parsed value with its bytes as `Bytes` and its `$dict` wrappers taken off. Throws for what
 * nobody takes: other forms of those, and more than 100 levels.
 *
 * @param {any} value @param {Uint8Array[]} [buffers] @returns {any}
 */
export function decode(value, buffers = []) {
  return undo(value, buffers, MAX_DEPTH, false);
}

/** @param {any} value @param {Uint8Array[]} buffers @param {number} room @param {boolean} literal @returns {any} */
function undo(value, buffers, room, literal) {
  if (typeof value !== "object" || value === null) return value;
  const object = isObject(value);
  if (object && !literal && Object.hasOwn(value, "$dict")) {
    const inner = value.$dict;
    if (!isObject(inner) || Object.keys(value).length > 1) throw new TypeError("$dict holds an object, alone");
    return undo(inner, buffers, room, true);
  }
  if (object && !literal && Object.hasOwn(value, "$bytes")) return bytesFrom(value, buffers);
  if (object && !literal && Object.hasOwn(value, "$file")) return fileFrom(value);
  if (room <= 0) throw new RangeError(`nested deeper than ${MAX_DEPTH} levels`);
  if (!object) return value.map((/** @type {any} */ item) => undo(item, buffers, room - 1, false));
  /** @type {Record<string, any>} */
  const result = {};
  for (const [key, item] of Object.entries(value)) put(result, key, undo(item, buffers, room - 1, false));
  return result;
}

/** @param {Record<string, any>} value @param {Uint8Array[]} buffers */
function bytesFrom(value, buffers) {
  const { $bytes: content, mime = "", name = "", ...others } = value;
  if (typeof mime !== "string" || typeof name !== "string" || Object.keys(others).length) {
    throw new TypeError("$bytes goes with mime and name, which are strings, and nothing else");
  }
  const bytes = typeof content === "string" ? fromBase64(content) : Number.isInteger(content) && buffers[content];
  if (!bytes) throw new TypeError(`$bytes ${content} names no buffer of this message`);
  return new Bytes(bytes, mime, name);
}

/** @param {Record<string, any>} value */
function fileFrom(value) {
  const { $file: id, name = "", mime = "", size = 0, ...others } = value;
  if (![id, name, mime].every((text) => typeof text === "string") || !Number.isInteger(size) || Object.keys(others).length) {
    throw new TypeError("$file is an id, and goes with name, mime and size");
  }
  return new FileRef(id, name, mime, size);
}

/** The frame of a packet, its values as they travelled. Throws `Garbage`. @param {Packet} packet @returns {Frame} */
export function parse(packet) {
  let frame;
  try {
    frame = JSON.parse(packet.text);
  } catch (error) {
    throw new Garbage(String(error));
  }
  if (!isFrame(frame)) throw new Garbage("a frame is a JSON object that has a type");
  return frame;
}

/** @param {unknown} value @returns {value is Frame} */
export function isFrame(value) {
  return isObject(value) && typeof value.type === "string";
}

/**
 * The frame with its values decoded. Throws `Garbage` for values that nobody takes.
 *
 * @param {Frame} frame @param {Uint8Array[]} buffers @returns {Frame}
 */
export function decoded(frame, buffers) {
  try {
    return { ...frame, data: dataOf(frame, buffers) };
  } catch (error) {
    throw new Garbage(String(error));
  }
}

/** @param {Frame} frame @param {Uint8Array[]} buffers */
function dataOf({ type, data }, buffers) {
  if (type === "gr:signal" && isObject(data)) return { ...data, data: decode(data.data, buffers) };
  if (type !== "gr:state" || !isObject(data)) return decode(data, buffers);
  // Paths are no keys of the application: what they lead to is decoded, one by one.
  const each = (/** @type {any} */ part) =>
    isObject(part) ? Object.fromEntries(Object.entries(part).map(([path, value]) => [path, decode(value, buffers)])) : part;
  return Object.fromEntries(Object.entries(data).map(([kind, part]) => [kind, each(part)]));
}

/** A copy for eyes: tokens and the addresses of files are capabilities, and never shown. @param {Frame} frame @returns {Frame} */
export function withoutToken(frame) {
  if (frame?.type === "gr:batch" && Array.isArray(frame.data)) return { ...frame, data: frame.data.map(withoutToken) };
  if (!["gr:hello", "gr:welcome", "gr:result"].includes(frame?.type)) return frame;
  const { token, url } = frame.data ?? {};
  if (typeof token === "string") return { ...frame, data: { ...frame.data, token: "…" } };
  if (typeof url === "string" && url.startsWith("file/")) return { ...frame, data: { ...frame.data, url: "file/…" } };
  return frame;
}

/**
 * A packet as a WebSocket message: text, or binary when it has buffers.
 *
 * @param {Packet} packet @returns {string | Uint8Array}
 */
export function pack(packet) {
  if (!packet.buffers.length) return packet.text;
  const parts = [encoder.encode(packet.text), ...packet.buffers];
  const message = new Uint8Array(parts.reduce((size, part) => size + 4 + part.length, 0));
  const view = new DataView(message.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length);
    message.set(part, at + 4);
    at += 4 + part.length;
  }
  return message;
}

/**
 * The packet of a WebSocket message; one that is none has no text, and no frame either.
 *
 * @param {string | ArrayBuffer | Uint8Array} message @returns {Packet}
 */
export function unpack(message) {
  if (typeof message === "string") return { text: message, buffers: [] };
  const bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** @type {Uint8Array[]} */
  const parts = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 <= bytes.length ? at + 4 + view.getUint32(at) : Infinity;
    if (end > bytes.length) return { text: "", buffers: [] };
    parts.push(bytes.slice(at + 4, end));
    at = end;
  }
  return { text: decoder.decode(parts[0]), buffers: parts.slice(1) };
}

/** @param {Packet} packet */
export function packetSize(packet) {
  return byteLength(packet.text) + packet.buffers.reduce((size, part) => size + part.length, 0);
}

/** The length of a text in UTF-8, without encoding it. @param {string} text */
export function byteLength(text) {
  let size = text.length;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    // A surrogate pair is two units and four bytes, so each half counts two.
    if (code > 0x7f) size += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1;
  }
  return size;
}

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}

/** @param {string} text */
function fromBase64(text) {
  if (text.length % 4 || /\s/.test(text)) throw new TypeError("$bytes is no base64"); // atob is lenient
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
