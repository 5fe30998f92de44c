/**
 * What stands in front of a page: toasts (`gr:notify`) and questions (`gr:confirm`).
 *
 * Looks are a style sheet made by script and a few CSS variables, so a strict
 * Content-Security-Policy allows them and a page can restyle `.gr-toasts`, `.gr-toast` and
 * `.gr-dialog`. A toast has a role that screen readers speak, waits while somebody reads or reaches
 * for it, and goes by Escape; a question is a modal dialog, Escape is its no. Either gives the focus
 * back to where it came from.
 *
 * @module
 */

const TOASTS = 20; // at a time in one corner: the oldest gives way
const KINDS = ["info", "success", "warning", "error"];
const POSITIONS = ["top-left", "top-center", "top-right", "bottom-left", "bottom-center", "bottom-right"];

/** @param {{message?: string, title?: string, kind?: string, position?: string, duration?: number}} data */
export function notify({ message = "", title, kind = "info", position = "top-right", duration = 5000 }) {
  dress();
  const toast = element("div", { class: `gr-toast gr-${oneOf(KINDS, kind, "kind", "info")}` });
  // An error interrupts a screen reader, the others wait until it has finished.
  toast.setAttribute("role", kind === "error" ? "alert" : "status");
  if (title) toast.append(element("strong", { class: "gr-toast-title" }, title));
  toast.append(element("span", { class: "gr-toast-message" }, message));
  const close = element("button", { class: "gr-toast-close", type: "button", "aria-label": "Dismiss" }, "×");
  toast.append(close);
  /** @type {any} */
  let before = null; // what had the focus before it came here
  const dismiss = () => {
    const focused = toast.contains(document.activeElement);
    toast.remove();
    if (focused) before?.focus?.();
  };
  toast.addEventListener("focusin", ({ relatedTarget }) => {
    if (!toast.contains(/** @type {Node | null} */ (relatedTarget))) before = relatedTarget;
  });
  close.addEventListener("click", dismiss);
  toast.addEventListener("keydown", (event) => event.key === "Escape" && dismiss());
  if (duration > 0) {
    // Whoever reads or reaches for it has all the time in the world.
    let timer = setTimeout(dismiss, duration);
    const hold = () => clearTimeout(timer);
    const resume = () => void (hold(), (timer = setTimeout(dismiss, duration)));
    for (const type of ["pointerenter", "focusin"]) toast.addEventListener(type, hold);
    for (const type of ["pointerleave", "focusout"]) toast.addEventListener(type, resume);
  }
  const place = region(oneOf(POSITIONS, position, "position", "top-right"));
  place.append(toast);
  while (place.children.length > TOASTS) place.firstElementChild?.remove();
}

/** @param {string[]} known @param {string} given @param {string} what @param {string} instead */
function oneOf(known, given, what, instead) {
  if (known.includes(given)) return given;
  console.warn(`greenroom: a toast has no ${what} ${JSON.stringify(given)}: it is one of ${known.join(", ")}`);
  return instead;
}

/** The place toasts of one corner appear in. @param {string} position */
function region(position) {
  const known = document.querySelector(`.gr-toasts.gr-${position}`);
  if (known) return known;
  const made = element("section", { class: `gr-toasts gr-${position}`, "aria-label": "Notifications" });
  document.body.append(made);
  return made;
}

/** The questions that stand open, by client and by the number of the call. @type {WeakMap<object, Map<number, () => void>>} */
const open = new WeakMap();

/**
 * Ask, and resolve with true or false; with null when the time to answer is over, with undefined
 * when the question was withdrawn.
 *
 * @param {object} client @param {{call: number, message?: string, title?: string, timeout?: number, ok?: string, cancel?: string}} data
 * @returns {Promise<boolean | null | undefined>}
 */
export function confirm(client, { call, message = "", title, timeout, ok = "OK", cancel = "Cancel" }) {
  dress();
  const dialog = /** @type {HTMLDialogElement} */ (element("dialog", { class: "gr-dialog", role: "alertdialog" }));
  const text = element("p", { id: `gr-dialog-${Math.random().toString(36).slice(2)}` }, message);
  if (title) {
    dialog.setAttribute("aria-label", title);
    dialog.setAttribute("aria-describedby", text.id);
    dialog.append(element("h2", {}, title));
  } else dialog.setAttribute("aria-labelledby", text.id);
  const no = element("button", { type: "button" }, cancel);
  const yes = element("button", { type: "button", class: "gr-primary" }, ok);
  const buttons = element("div", { class: "gr-buttons" });
  buttons.append(no, yes);
  dialog.append(text, buttons);
  document.body.append(dialog);
  return new Promise((resolve) => {
    const mine = open.get(client) ?? new Map();
    /** @param {boolean | null | undefined} value */
    const settle = (value) => {
      clearTimeout(timer);
      mine.delete(call);
      dialog.close(); // which gives the focus back
      dialog.remove();
      resolve(value);
    };
    const timer = timeout ? setTimeout(() => settle(null), timeout * 1000) : undefined;
    open.set(client, mine.set(call, () => settle(undefined)));
    yes.addEventListener("click", () => settle(true));
    no.addEventListener("click", () => settle(false));
    dialog.addEventListener("cancel", (event) => (event.preventDefault(), settle(false))); // Escape
    dialog.showModal();
    yes.focus();
  });
}

/** The question is decided, or its time is over: nobody need answer it any more. @param {object} client @param {number} call */
export function withdraw(client, call) {
  open.get(client)?.get(call)?.();
}

/** @param {string} tag @param {Record<string, string>} attributes @param {string} [text] @returns {HTMLElement} */
function element(tag, attributes, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** @type {CSSStyleSheet | null} */
let sheet = null;

/** Put on our style sheet, once. */
function dress() {
  if (sheet || !("adoptedStyleSheets" in document)) return;
  sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    /* In a layer: the rules of the page win. */
    @layer greenroom {
      .gr-toasts { position: fixed; z-index: 2147483000; display: grid; gap: .5rem; padding: 1rem; max-width: min(24rem, 100vw);
        box-sizing: border-box; pointer-events: none; font: 14px/1.45 system-ui, sans-serif; }
      .gr-toasts.gr-top-left, .gr-toasts.gr-top-center, .gr-toasts.gr-top-right { top: 0; }
      .gr-toasts.gr-bottom-left, .gr-toasts.gr-bottom-center, .gr-toasts.gr-bottom-right { bottom: 0; }
      .gr-toasts.gr-top-right, .gr-toasts.gr-bottom-right { right: 0; }
      .gr-toasts.gr-top-left, .gr-toasts.gr-bottom-left { left: 0; }
      .gr-toasts.gr-top-center, .gr-toasts.gr-bottom-center { left: 50%; transform: translateX(-50%); }
      .gr-toast { --gr-accent: #2563eb; pointer-events: auto; display: grid; grid-template-columns: 1fr auto; gap: 0 .75rem;
        padding: .7rem .5rem .7rem .9rem; border-radius: .5rem; border-left: .25rem solid var(--gr-accent);
        background: Canvas; color: CanvasText; box-shadow: 0 4px 18px rgb(0 0 0 / .22); overflow-wrap: anywhere; }
      .gr-toast.gr-success { --gr-accent: #15803d; }
      .gr-toast.gr-warning { --gr-accent: #b45309; }
      .gr-toast.gr-error { --gr-accent: #b91c1c; }
      .gr-toast-title, .gr-toast-message { grid-column: 1; }
      .gr-toast-close { grid-column: 2; grid-row: 1; align-self: start; width: 1.75rem; height: 1.75rem; padding: 0; border: 0;
        background: none; color: inherit; font: inherit; font-size: 1.2rem; cursor: pointer; }
      .gr-dialog { max-width: min(28rem, 90vw); padding: 1.25rem; border: 0; border-radius: .6rem; background: Canvas;
        color: CanvasText; box-shadow: 0 10px 40px rgb(0 0 0 / .35); font: 15px/1.5 system-ui, sans-serif; }
      .gr-dialog[open] { display: grid; gap: 1rem; }
      .gr-dialog::backdrop { background: rgb(0 0 0 / .4); }
      .gr-dialog h2 { margin: 0; font-size: 1.1rem; }
      .gr-dialog p { margin: 0; white-space: pre-line; overflow-wrap: anywhere; }
      .gr-buttons { display: flex; justify-content: flex-end; gap: .5rem; }
      .gr-buttons button { padding: .4rem 1rem; border: 1px solid; border-radius: .35rem; background: none; color: inherit;
        font: inherit; cursor: pointer; }
      .gr-buttons .gr-primary { background: #2563eb; border-color: #2563eb; color: #fff; }
    }
  `);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
