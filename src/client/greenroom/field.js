/**
 * A form control that shows a value of the state, and its user's hands in it.
 *
 * @module
 */

import { showValue } from "./forms.js";

/**
 * A form control that shows a value of the state. What its user typed is newer than what the
 * server knows until the server has answered it, so until then older values wait.
 */
export class Field {
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
