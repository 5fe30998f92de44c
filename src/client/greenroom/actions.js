/**
 * What the server may ask of a page: toasts, questions, downloads, navigation, content.
 *
 * Each can be replaced: `gr.on("gr:notify", fn)` runs instead of what stands here. Nothing that is
 * asked for and not done is passed over in silence: an action that does not exist, a target that is
 * not there, a URL that leads where it may not are warnings in the console; what fails goes to
 * `gr.on("gr:error")`, else to the console.
 *
 * @module
 */

import { download } from "./files.js";
import { reloaded, showBroken } from "./overlay.js";
import { confirm, notify, withdraw } from "./popups.js";
import { hashOf } from "./route.js";
import { safeTarget, safeUrl, sanitize } from "./sanitize.js";

/** @typedef {import("./client.js").Greenroom} Greenroom */

/** @type {Record<string, (gr: Greenroom, data: any) => void>} */
const ACTIONS = {
  "gr:notify": (_, data) => notify(data),
  "gr:confirm": (gr, data) => ask(gr, data),
  "gr:settled": (gr, { call }) => withdraw(gr, call),
  "gr:download": (gr, data) => download(gr, data).catch((error) => gr.refused(error, "gr:download")),
  "gr:open-url": (_, { url }) => openUrl(url),
  "gr:page": (_, data) => void (location.hash = hashOf(data)),
  "gr:content": (_, data) => content(data),
  "gr:style": (_, data) => style(data),
  "gr:call": (gr, data) => gr.invoke(data.module, data.function, data.args ?? []),
  "gr:import": (gr, data) => importModule(gr, data).catch((error) => gr.refused(error, "gr:import")),
  "gr:log": (_, data) => log(data),
  "gr:broken": (_, data) => showBroken(data),
  "gr:reloaded": (gr, data) => reloaded(gr, data),
  "gr:gap": () => {}, // news of our own, which a page need not hear
  "gr:renewed": () => {},
};

/** Do what an event of the protocol asks for. @param {Greenroom} gr @param {string} type @param {any} data */
export function builtIn(gr, type, data) {
  if (Object.hasOwn(ACTIONS, type)) return ACTIONS[type]?.(gr, data ?? {});
  warn(`the server asks for ${type}, which this page does not know`);
}

/** @param {string} text */
function warn(text) {
  console.warn(`greenroom: ${text}`);
}

/** @param {Greenroom} gr @param {any} data */
async function ask(gr, data) {
  const answer = await confirm(gr, data);
  if (answer !== undefined) gr.answer(data.call, answer);
}

/** @param {string} url */
function openUrl(url) {
  if (safeTarget(url)) window.open(url, "_blank", "noopener,noreferrer");
  else warn(`gr:open-url: ${url} was not opened: only http, https, mailto and relative URLs are`);
}

/**
 * By id first, then as a selector.
 *
 * @param {string} type @param {{target?: string, id?: string, selector?: string}} where @returns {Element[]}
 */
function find(type, { target, id, selector }) {
  const name = id ?? target ?? selector ?? "";
  const one = selector === undefined ? document.getElementById(name) : null;
  const found = one ? [one] : select(name);
  if (!found.length) warn(`${type}: nothing here is called ${JSON.stringify(name)}`);
  return found;
}

/** @param {string} selector */
function select(selector) {
  try {
    return [...document.querySelectorAll(selector)];
  } catch {
    return []; // not a selector: "", or an id like "2nd"
  }
}

/** @param {{target?: string, id?: string, selector?: string, text?: string, html?: string}} data */
function content(data) {
  for (const place of find("gr:content", data)) {
    if (data.html !== undefined && data.html !== null) place.replaceChildren(sanitize(data.html));
    else place.textContent = data.text ?? "";
  }
}

/** @param {{target?: string, id?: string, selector?: string, styles?: Record<string, any>}} data */
function style(data) {
  for (const place of find("gr:style", data)) {
    for (const [name, value] of Object.entries(data.styles ?? {})) {
      const property = name.startsWith("--") ? name : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      // Styles reach out through url(): only to where attributes may lead, too.
      const urls = [...String(value).matchAll(/url\(\s*["']?([^"')]*)/gi)].map((match) => match[1] ?? "");
      if (urls.every(safeUrl)) /** @type {HTMLElement} */ (place).style.setProperty(property, String(value ?? ""));
      else warn(`gr:style: ${property} was not set, for its URL leads where none may`);
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
