/**
 * What a call fails with.
 *
 * @module
 */

/** `code` is the word of the wire: busy, lost, timeout, offline ... */
export class GreenroomError extends Error {
  /** @param {string} code @param {string} message @param {number | null} [retryAfter] seconds */
  constructor(code, message, retryAfter = null) {
    super(message || code);
    this.name = "GreenroomError";
    this.code = code;
    this.retryAfter = retryAfter;
  }
}
