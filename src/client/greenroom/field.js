/**
 * A form control that shows a value of the state, and its user's hands in it.
 *
 * @module
 */

import { replaceStart, showValue } from "./forms.js";

/**
 * A form control that shows a value of the state. What its user typed is newer than what the
 * server knows until the server has answered it, so until then older values wait.
 */
export class Field {
  #value = /** @type {any} */ (undefined);
  #edits = 0; // of the user, ever
  #known = 0; // of those, answered (or given up)
  #sending = 0;
  #composing = false;

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

  /** @param {boolean} composing the text has letters that are no more than begun */
  edited(composing) {
    this.#edits += 1;
    this.#composing = composing;
  }

  composed() {
    this.#composing = false;
  }

  /** Its user went elsewhere; what was typed stays until the server says otherwise. */
  left() {
    if (!this.#sending) this.#known = this.#edits;
  }

  /**
   * What was typed so far is on its way. Returns what to call when it is answered, and whether to
   * show the state then. What was typed since stays; if the text was sent off (`whole`: a form was
   * submitted, a change is over), what was sent gives way to the state in front of it.
   *
   * @param {boolean} whole
   */
  sending(whole) {
    const edits = this.#edits;
    const sent = this.control.value;
    this.#sending += 1;
    return (/** @type {boolean} */ show) => {
      this.#sending -= 1;
      this.#known = Math.max(this.#known, edits);
      if (!show) return;
      this.show();
      if (!whole || this.#edits === this.#known) return;
      const give = () => replaceStart(this.control, sent, this.#value);
      // Letters that are being composed would be lost.
      if (this.#composing) this.control.addEventListener("compositionend", give, { once: true });
      else give();
    };
  }
}
