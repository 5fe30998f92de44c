/**
 * What a link keeps and tells: one frame of ours, and one thing for the driver to do.
 *
 * @module
 */

import { byteLength } from "./codec.js";

/**
 * Something for the driver to do, `[kind, ...arguments]`:
 *
 * - `token, token | null, expires`: keep it, or drop it
 * - `snapshot, state`; `patch, operations`
 * - `answer, entry, value`; `error, entry, code, message, retryAfter`
 * - `event, type, data, label`; `signal, name, data`; `refusal, code, message`
 * - `gap`: events sent in between are missing, the state is not
 * - `renewed`: a new link took the place of an earlier one
 * - `hang_up, code, reason`: close the transport
 * - `retry, how, after, code, message`: `after` is in seconds, or null
 *
 * @typedef {[kind: string, ...args: any[]]} Effect
 */

/** One frame of ours, from `submit` to its answer. `tag` is the driver's own. */
export class Entry {
  /** The number on the wire; 0: never handed to a transport. */
  id = 0;
  done = false;

  /**
   * @param {string} type
   * @param {string} body what stands behind the id in the frame
   * @param {Uint8Array[]} buffers
   * @param {any} tag
   * @param {string | null} name of the signal, in gr:subscribe
   */
  constructor(type, body, buffers, tag, name) {
    this.type = type;
    this.body = body;
    this.buffers = buffers;
    this.tag = tag;
    this.name = name;
    this.size = byteLength(type) + byteLength(body) + buffers.reduce((sum, part) => sum + part.length, 0) + 32;
  }

  /** Whether it counts towards `inflight`: frames of the protocol do not. */
  get counts() {
    return !this.type.startsWith("gr:");
  }

  /** Whether it may pass others: those the server does at once, to help what is stuck. */
  get urgent() {
    return ["gr:cancel", "gr:answer", "gr:refresh"].includes(this.type);
  }

  /** @returns {import("./codec.js").Packet} */
  packet() {
    return { text: `{"type":${JSON.stringify(this.type)},"id":${this.id}${this.body}}`, buffers: this.buffers };
  }
}
