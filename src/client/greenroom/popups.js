/**
 * What stands in front of a page: toasts (`gr:notify`) and questions (`gr:confirm`).
 *
 * A page can restyle `.gr-toasts`, `.gr-toast` and `.gr-dialog`. A toast has a role that screen
 * readers speak, waits while somebody reads or reaches for it, and goes by Escape; a question is a
 * modal dialog, Escape is its no. Either gives the focus back to where it came from.
 *
 * While a modal dialog is open, ours or the page's, all that is not inside it is inert. So the
 * toasts go into it for that time.
 *
 * @module
 */

import { dress } from "./look.js";

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
  toast.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault(); // or a dialog around it would be closed by it
    dismiss();
  });
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

/** Where toasts appear: one place for each corner that was needed. @type {Map<string, HTMLElement>} */
const regions = new Map();

/** The place toasts of one corner appear in. @param {string} position */
function region(position) {
  if (!regions.size) {
    // A dialog opens in front of them.
    document.addEventListener("toggle", ({ target }) => target instanceof HTMLDialogElement && comeForward(), true);
  }
  const attributes = { class: `gr-toasts gr-${position}`, "aria-label": "Notifications", popover: "manual" };
  const place = regions.get(position) ?? element("section", attributes);
  regions.set(position, place);
  comeForward();
  return place;
}

/** Put all toasts in front of everything, and inside the modal dialog that is open, if there is one. */
function comeForward() {
  const dialog = [...document.querySelectorAll("dialog:modal")].at(-1);
  for (const place of regions.values()) {
    if (place.parentNode === (dialog ?? document.body)) continue;
    (dialog ?? document.body).append(place);
    place.showPopover?.(); // into the top layer
  }
  dialog?.addEventListener("close", comeForward, { once: true });
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
