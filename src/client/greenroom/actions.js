/**
 * What the server may ask of a page: toasts, questions, downloads, navigation, content.
 *
 * Each can be replaced: `gr.on("gr:notify", fn)` runs instead of what stands here. Looks are a
 * style sheet made by script and a few CSS variables, so a strict Content-Security-Policy allows
 * them and a page can restyle `.gr-toasts`, `.gr-toast` and `.gr-dialog`.
 *
 * @module
 */

import { download } from "./files.js";
import { reloaded, showBroken } from "./overlay.js";
import { safeTarget, safeUrl, sanitize } from "./sanitize.js";

/** @typedef {import("./client.js").Greenroom} Greenroom */

/** @type {Record<string, (gr: Greenroom, data: any) => void>} */
const ACTIONS = {
  "gr:notify": (_, data) => notify(data),
  "gr:confirm": async (gr, data) => gr.answer(data.call, await confirm(data)),
  "gr:download": (gr, data) => download(gr, data).catch((error) => gr.refused(error, "gr:download")),
  "gr:open-url": (_, { url }) => void (safeTarget(url) && window.open(url, "_blank", "noopener,noreferrer")),
  "gr:page": (_, data) => page(data),
  "gr:content": (_, data) => content(data),
  "gr:style": (_, data) => style(data),
  "gr:call": (gr, data) => gr.invoke(data.module, data.function, data.args ?? []),
  "gr:import": (gr, data) => importModule(gr, data),
  "gr:log": (_, data) => log(data),
  "gr:broken": (_, data) => showBroken(data),
  "gr:reloaded": (gr, data) => reloaded(gr, data),
};

/** Do what an event of the protocol asks for; an unknown one is ignored. @param {Greenroom} gr @param {string} type @param {any} data */
export function builtIn(gr, type, data) {
  if (Object.hasOwn(ACTIONS, type)) return ACTIONS[type]?.(gr, data ?? {});
}

const TOASTS = 20; // at a time in one corner: the oldest gives way
const KINDS = ["info", "success", "warning", "error"];
const POSITIONS = ["top-left", "top-center", "top-right", "bottom-left", "bottom-center", "bottom-right"];

/** @param {{message?: string, title?: string, kind?: string, position?: string, duration?: number}} data */
function notify({ message = "", title, kind = "info", position = "top-right", duration = 5000 }) {
  dress();
  const toast = element("div", { class: `gr-toast gr-${KINDS.includes(kind) ? kind : "info"}` });
  // An error interrupts a screen reader, the others wait until it has finished.
  toast.setAttribute("role", kind === "error" ? "alert" : "status");
  if (title) toast.append(element("strong", { class: "gr-toast-title" }, title));
  toast.append(element("span", { class: "gr-toast-message" }, message));
  const close = element("button", { class: "gr-toast-close", type: "button", "aria-label": "Dismiss" }, "×");
  toast.append(close);
  const dismiss = () => toast.remove();
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
  const place = region(POSITIONS.includes(position) ? position : "top-right");
  place.append(toast);
  while (place.children.length > TOASTS) place.firstElementChild?.remove();
}

/** The place toasts of one corner appear in. @param {string} position */
function region(position) {
  const known = document.querySelector(`.gr-toasts.gr-${position}`);
  if (known) return known;
  const made = element("section", { class: `gr-toasts gr-${position}`, "aria-label": "Notifications" });
  document.body.append(made);
  return made;
}

/**
 * Ask, and resolve with true or false; with null when the time to answer is over.
 *
 * @param {{message?: string, title?: string, timeout?: number, ok?: string, cancel?: string}} data
 * @returns {Promise<boolean | null>}
 */
function confirm({ message = "", title, timeout, ok = "OK", cancel = "Cancel" }) {
  dress();
  const dialog = /** @type {HTMLDialogElement} */ (element("dialog", { class: "gr-dialog" }));
  const text = element("p", { id: `gr-dialog-${Math.random().toString(36).slice(2)}` }, message);
  dialog.setAttribute("aria-describedby", text.id);
  dialog.setAttribute("aria-label", title || message);
  if (title) dialog.append(element("h2", {}, title));
  const no = element("button", { type: "button" }, cancel);
  const yes = element("button", { type: "button", class: "gr-primary" }, ok);
  const buttons = element("div", { class: "gr-buttons" });
  buttons.append(no, yes);
  dialog.append(text, buttons);
  document.body.append(dialog);
  return new Promise((resolve) => {
    const timer = timeout ? setTimeout(() => settle(null), timeout * 1000) : undefined;
    /** @param {boolean | null} value */
    const settle = (value) => {
      clearTimeout(timer);
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    yes.addEventListener("click", () => settle(true));
    no.addEventListener("click", () => settle(false));
    dialog.addEventListener("cancel", (event) => (event.preventDefault(), settle(false))); // Escape
    dialog.showModal();
    yes.focus();
  });
}

/** Pages are hash routes. @param {{page?: string, params?: Record<string, any>}} data */
function page({ page: name = "", params = {} }) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  location.hash = encodeURIComponent(name) + (query && `?${query}`);
}

/**
 * By id first, then as a selector.
 *
 * @param {{target?: string, id?: string, selector?: string}} where @returns {Element[]}
 */
function find({ target, id, selector }) {
  const name = id ?? target ?? selector ?? "";
  const one = selector === undefined ? document.getElementById(name) : null;
  return one ? [one] : name ? [...document.querySelectorAll(name)] : [];
}

/** @param {{target?: string, id?: string, selector?: string, text?: string, html?: string}} data */
function content(data) {
  for (const place of find(data)) {
    if (data.html !== undefined && data.html !== null) place.replaceChildren(sanitize(data.html));
    else place.textContent = data.text ?? "";
  }
}

/** @param {{target?: string, id?: string, selector?: string, styles?: Record<string, any>}} data */
function style(data) {
  for (const place of find(data)) {
    for (const [name, value] of Object.entries(data.styles ?? {})) {
      const property = name.startsWith("--") ? name : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      // Styles reach out through url(): only to where attributes may lead, too.
      const urls = [...String(value).matchAll(/url\(\s*["']?([^"')]*)/gi)].map((match) => match[1] ?? "");
      if (urls.every(safeUrl)) /** @type {HTMLElement} */ (place).style.setProperty(property, String(value ?? ""));
    }
  }
}

/** Load a module from our own origin, or one the page listed, and expose what it exports. @param {Greenroom} gr @param {{url?: string, name?: string}} data */
async function importModule(gr, { url = "", name }) {
  const full = new URL(url, document.baseURI);
  const origins = [location.origin, new URL(import.meta.url).origin, ...gr.imports];
  // A blob has its page's origin, and a data URL that of a page without one.
  if (!/^https?:$/.test(full.protocol) || !origins.includes(full.origin)) {
    throw new Error(`modules may not be imported from ${full.protocol}//${full.host}`);
  }
  const stem = full.pathname.split("/").pop()?.replace(/\.\w+$/, "");
  const functions = Object.entries(await import(full.href)).filter(([, value]) => typeof value === "function");
  gr.expose(name ?? stem ?? full.href, Object.fromEntries(functions));
}

/** @param {{level?: string, text?: string, time?: number}} data */
function log({ level = "info", text = "" }) {
  const write = { debug: console.debug, warning: console.warn, error: console.error }[level] ?? console.info;
  write(`[server] ${text}`);
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
      .gr-dialog::backdrop { background: rgb(0 0 0 / .4); }
      .gr-dialog h2 { margin: 0 0 .5rem; font-size: 1.1rem; }
      .gr-dialog p { margin: 0 0 1rem; white-space: pre-line; overflow-wrap: anywhere; }
      .gr-buttons { display: flex; justify-content: flex-end; gap: .5rem; }
      .gr-buttons button { padding: .4rem 1rem; border: 1px solid; border-radius: .35rem; background: none; color: inherit;
        font: inherit; cursor: pointer; }
      .gr-buttons .gr-primary { background: #2563eb; border-color: #2563eb; color: #fff; }
    }
  `);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
