/**
 * State in HTML without a line of script: the `data-gr-*` attributes.
 *
 *     data-gr-text="path"           data-gr-html="path" (sanitised)     data-gr-value="path"
 *     data-gr-attr:NAME="path"      data-gr-class:NAME="path"           data-gr-show="path"
 *     data-gr-on:EVENT="handler"    data-gr-payload='{"json": true}'
 *     <template data-gr-each="path" data-gr-key="place" data-gr-item="row" data-gr-id="row.id">...</template>
 *
 * Inside a template the item's name stands for the item (`row.title`), the key's name for its key
 * or index; events inside carry both in their context. Without names they are called
 * `valueVariable` and `keyVariable`. `data-gr-id` says what tells the rows of a list apart.
 * Browsers never write state: a changed field is an event.
 *
 * @module
 */

import { camera } from "./camera.js";
import { Bytes } from "./codec.js";
import { Field } from "./field.js";
import { carried, reader } from "./files.js";
import { keepFocus } from "./focus.js";
import { controlsOf, isChoice, isControl, payloadOf, radiosOf } from "./forms.js";
import { dress } from "./look.js";
import { Rows } from "./rows.js";
import { sanitize, setAttribute } from "./sanitize.js";
import { contextOf, loopOf, resolve } from "./scope.js";

/** @typedef {import("./client.js").Greenroom} Greenroom */
/** @typedef {import("./scope.js").Scope} Scope */
/** @typedef {() => void} Off */

const DEBOUNCE = 150; // milliseconds
const PREFIX = "data-gr-";
const OURS = new Set(["submit", "camera-error"]); // events that have no other effect, once bound
const READ_LATER = new Set(["payload", "key", "item", "id"]); // where they are needed

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
        return this.#watch(value, scope, (now) => keepFocus(element, () => void element.toggleAttribute("hidden", isEmpty(now))));
      case "class":
        return this.#watch(value, scope, (now) => element.classList.toggle(argument, !isEmpty(now)));
      case "attr":
        return this.#watch(value, scope, (now) => keepFocus(element, () => this.#attribute(element, argument, now)));
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

  /** @param {Element} element @param {string} name @param {any} value */
  #attribute(element, name, value) {
    if (!setAttribute(element, name, value)) console.warn(`greenroom: ${name}="${value}" was not set`);
    fields.get(element)?.show(); // what a control takes depends on it: the `max` of a range
  }

  /**
   * Show what is at a path, now and whenever it changes. Inside rows the place moves with the row;
   * what is still the same there is not shown again, unless `moves` says that the place matters.
   *
   * @param {string} text @param {Scope | null} scope
   * @param {(value: any, path: string[]) => void} show @param {boolean} [moves] @returns {Off}
   */
  #watch(text, scope, show, moves = false) {
    let off = () => {};
    /** @type {any} */
    let shown;
    const look = (first = false) => {
      off();
      const { path = [], key } = resolve(text, scope);
      const take = (/** @type {any} */ value) => show((shown = value), path);
      if (key === undefined) off = this.gr.subscribe(path, take);
      const value = key ?? this.gr.get(path);
      if (first || moves || value !== shown) take(value);
    };
    look(true);
    const again = () => look();
    const loop = loopOf(text, scope);
    loop?.moved.add(again);
    return () => {
      loop?.moved.delete(again);
      off();
    };
  }

  // -- fields ----------------------------------------------------------------------------------

  /** @param {Element} element @param {string} text @param {Scope | null} scope @returns {Off | undefined} */
  #field(element, text, scope) {
    if (!isControl(element)) return this.#watch(text, scope, (now) => setAttribute(element, "value", now));
    const field = new Field(element);
    fields.set(element, field);
    const offs = [this.#watch(text, scope, (now) => field.take(now))];
    offs.push(listen(element, "input", (event) => field.edited(/** @type {InputEvent} */ (event).isComposing === true)));
    offs.push(listen(element, "compositionend", () => field.composed()));
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
    const whole = event.type === "submit" || event.type === "change";
    const settled = this.#fieldsOf(element).map((field) => field.sending(whole));
    const context = {
      event: event.type,
      target: element.getAttribute("id") || null, // `id` of a form may be a field of that name
      ...contextOf(scope),
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
    if (!resolve(text, outer).path || !template.content) return undefined;
    const rows = new Rows(template, outer, (nodes, scope) => this.scan(nodes, scope));
    const show = (/** @type {any} */ value, /** @type {string[]} */ path) => {
      rows.show(value, path);
      const select = template.closest("select");
      if (select) fields.get(select)?.show(); // its options have changed
    };
    const off = this.#watch(text, outer, show, true);
    return () => {
      off();
      rows.remove();
    };
  }
}

/** @param {EventTarget} target @param {string} type @param {(event: Event) => void} fn @param {boolean} [first] before those of the targets inside @returns {Off} */
function listen(target, type, fn, first = false) {
  target.addEventListener(type, fn, first);
  return () => target.removeEventListener(type, fn, first);
}
