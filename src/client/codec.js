/**
 * Values and messages as they travel. `codec.py` is the twin of this file.
 *
 * A value is JSON with two additions. Bytes are `{"$bytes": ..., "mime", "name"}`: base64 text, or,
 * in a binary message, the index of a buffer of the same message; here they are `Bytes`. An object
 * of the application that itself has a key `$bytes` or `$dict` travels as `{"$dict": {...}}`.
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
// Types that a browser would run with our origin's rights if a link led to them.
const ACTIVE = /^(text\/html|application\/xhtml\+xml|(text|application)\/([\w.-]+\+)?xml|.*script.*)/i;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

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
   * could run scripts as a blob of our origin, becomes a data URL; markup loses its type.
   */
  get url() {
    if (this.#url === null) {
      if (/^image\/svg\+xml/i.test(this.mime)) {
        this.#url = `data:image/svg+xml;base64,${toBase64(this.bytes)}`;
      } else {
        const type = ACTIVE.test(this.mime) ? "application/octet-stream" : this.mime;
        this.#url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (this.bytes)], { type }));
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
  if (depth > MAX_DEPTH) throw new RangeError(`the payload is nested deeper than ${MAX_DEPTH} levels`);
  if (typeof value === "string") return checked(value);
  if (typeof value === "bigint") return String(value);
  if (typeof value === "function" || typeof value === "symbol") {
    throw new TypeError(`a ${typeof value} has no form on the wire`);
  }
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Bytes) return told(value.bytes, value, buffers);
  if (value instanceof ArrayBuffer) return told(new Uint8Array(value), null, buffers);
  if (ArrayBuffer.isView(value)) {
    return told(new Uint8Array(value.buffer, value.byteOffset, value.byteLength), null, buffers);
  }
  if (typeof Blob !== "undefined" && value instanceof Blob) {
    throw new TypeError("a Blob or File must be read first: new Uint8Array(await blob.arrayBuffer())");
  }
  if (Array.isArray(value) || value instanceof Set) {
    return Array.from(value, (item) => plain(item, buffers, depth + 1));
  }
  if (typeof value.toJSON === "function") return plain(value.toJSON(), buffers, depth + 1);
  /** @type {Record<string, any>} */
  const result = {};
  for (const [key, item] of value instanceof Map ? value : Object.entries(value)) {
    put(result, checked(String(key)), plain(item, buffers, depth + 1));
  }
  return "$bytes" in result || "$dict" in result ? { $dict: result } : result;
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
 * A parsed value with its bytes as `Bytes` and its `$dict` wrappers taken off.
 *
 * @param {any} value @param {Uint8Array[]} [buffers] @returns {any}
 */
export function decode(value, buffers = []) {
  if (Array.isArray(value)) return value.map((item) => decode(item, buffers));
  if (!isObject(value)) return value;
  if (Object.hasOwn(value, "$bytes")) {
    const content = value.$bytes;
    const bytes = typeof content === "string" ? fromBase64(content) : buffers[content];
    if (!bytes) throw new TypeError(`$bytes ${content} names no buffer of this message`);
    return new Bytes(bytes, String(value.mime ?? ""), String(value.name ?? ""));
  }
  const inner = Object.hasOwn(value, "$dict") && isObject(value.$dict) ? value.$dict : value;
  /** @type {Record<string, any>} */
  const result = {};
  for (const [key, item] of Object.entries(inner)) put(result, key, decode(item, buffers));
  return result;
}

/**
 * The frame of a packet, its values decoded. Throws for anything else.
 *
 * @param {Packet} packet @returns {Frame}
 */
export function parse(packet) {
  const frame = JSON.parse(packet.text);
  if (!isObject(frame) || typeof frame.type !== "string") {
    throw new TypeError("a frame is a JSON object that has a type");
  }
  if (packet.text.includes('"$bytes"') || packet.text.includes('"$dict"')) {
    frame.data = decode(frame.data, packet.buffers);
  }
  return /** @type {Frame} */ (/** @type {unknown} */ (frame));
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
 * The packet of a WebSocket message. Throws when its lengths do not add up.
 *
 * @param {string | ArrayBuffer | Uint8Array} message @returns {Packet}
 */
export function unpack(message) {
  if (typeof message === "string") return { text: message, buffers: [] };
  const bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** @type {Uint8Array[]} */
  const parts = [];
  let at = 0;
  while (at < bytes.length || !parts.length) {
    if (at + 4 > bytes.length) throw new RangeError("a binary message ends within a length");
    const end = at + 4 + view.getUint32(at);
    if (end > bytes.length) throw new RangeError("a binary message ends within a buffer");
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
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
