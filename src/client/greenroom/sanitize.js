/**
 * Foreign HTML and URLs, made safe to show.
 *
 * HTML is parsed into an inert template and walked with a list of what may stay; the nodes that
 * are left are copied over as nodes. Nothing is written out and parsed again, so no second reading
 * can differ from the first. Scripts, styles, frames, forms and foreign markup go with their
 * content; other unknown elements go, their content stays.
 *
 * What stands in HTML can put itself in front of what the walk reads: a form answers for
 * `childNodes` or `remove` with its field of that name. So while there may be forms, nodes are read
 * by the getters of their prototypes only.
 *
 * @module
 */

const TAGS = new Set(
  (
    "a abbr address article aside b bdi bdo blockquote br caption cite code col colgroup data dd del details dfn " +
    "div dl dt em figcaption figure footer h1 h2 h3 h4 h5 h6 header hgroup hr i img ins kbd li main mark nav ol p " +
    "picture pre q rp rt ruby s samp section small source span strong sub summary sup table tbody td tfoot th thead " +
    "time tr u ul var wbr audio video track"
  ).split(" "),
);
const DROPPED = new Set(
  (
    "script style template iframe frame frameset object embed applet noscript noembed noframes svg math base link " +
    "meta head title plaintext xmp textarea select option input button form dialog portal"
  ).split(" "),
);
const ATTRIBUTES = new Set(
  (
    "abbr align alt aria-busy aria-describedby aria-hidden aria-label aria-labelledby aria-level aria-live cite class " +
    "colspan controls datetime dir headers height hidden href id kind label lang loop muted open poster reversed role " +
    "rowspan scope span src srclang start title translate type value width"
  ).split(" "),
);
// Elements that run, redirect or rewrite what they are given: no binding may feed them.
const MACHINES = new Set("script base object embed meta animate animatemotion animatetransform set".split(" "));
const URLS = new Set(["href", "src", "cite", "poster", "action", "formaction", "data", "background", "xlink:href", "ping"]);
// Attributes that a binding may not set: they run code, or hold documents or lists of URLs.
const FORBIDDEN = /^(on.*|srcdoc|srcset|imagesrcset|http-equiv|attributionsrc)$/i;

/**
 * A getter of a prototype as a function: it tells the truth about any node.
 *
 * @param {string} owner @param {string} name @returns {(node: Node) => any}
 */
function getter(owner, name) {
  /** @type {(() => any) | undefined} */
  let get; // found at the first use: there may be no DOM when this file is loaded
  return (node) => {
    get ??= Object.getOwnPropertyDescriptor(/** @type {any} */ (globalThis)[owner].prototype, name)?.get;
    return get?.call(node);
  };
}

const childNodesOf = getter("Node", "childNodes");
const typeOf = getter("Node", "nodeType");
const rawNameOf = getter("Node", "nodeName");

/**
 * A fragment with what is harmless in `html`.
 *
 * @param {string} html @param {Document} [document] that takes it
 */
export function sanitize(html, document = globalThis.document) {
  const inert = document.createElement("template");
  inert.innerHTML = String(html);
  clean(inert.content);
  return document.importNode(inert.content, true);
}

/** @param {Node} parent */
function clean(parent) {
  for (const node of [...childNodesOf(parent)]) {
    const type = typeOf(node);
    if (type === 3) continue; // text
    if (type !== 1 || DROPPED.has(nameOf(node))) {
      Node.prototype.removeChild.call(parent, node);
      continue;
    }
    // No form is left: from here on elements answer for themselves.
    const element = /** @type {Element} */ (node);
    clean(element);
    if (TAGS.has(nameOf(element))) cleanAttributes(element);
    else element.replaceWith(...element.childNodes);
  }
}

/** @param {Node} node */
function nameOf(node) {
  return rawNameOf(node).toLowerCase();
}

/** @param {Element} element */
function cleanAttributes(element) {
  for (const { name, value } of [...element.attributes]) {
    if (!ATTRIBUTES.has(name) || (URLS.has(name) && !safeUrl(value))) element.removeAttribute(name);
  }
  if (nameOf(element) === "a") element.setAttribute("rel", "noopener noreferrer");
}

/**
 * Set an attribute as a binding may; null, undefined and false remove it. False when it may not.
 *
 * @param {Element} element @param {string} name @param {any} value
 */
export function setAttribute(element, name, value) {
  const text = value === true ? "" : String(value);
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (FORBIDDEN.test(name) || MACHINES.has(nameOf(element))) return false;
  else if (name === "style") /** @type {HTMLElement} */ (element).style.cssText = text;
  else if (!URLS.has(name.toLowerCase())) element.setAttribute(name, text);
  else if (safeUrl(text)) element.setAttribute(name, text);
  else {
    element.removeAttribute(name);
    return false;
  }
  return true;
}

/**
 * The scheme of a URL as a browser reads it, and all of it in that reading; null where it is relative.
 *
 * @param {string} url @returns {[scheme: string | null, bare: string]}
 */
function schemeOf(url) {
  // Browsers strip these before they look for the scheme, so do we.
  const bare = String(url).replace(/[\u0000-\u0020\u007f-\u00a0]+/g, "").toLowerCase();
  return [/^([a-z][a-z0-9+.-]*):/.exec(bare)?.[1] ?? null, bare];
}

/**
 * Whether a URL may stand in an attribute: http, https, mailto, relative, blob, or a data image.
 *
 * @param {string} url
 */
export function safeUrl(url) {
  const [scheme, bare] = schemeOf(url);
  if (scheme === null) return !bare.startsWith(":");
  if (scheme === "data") return /^data:image\/[a-z0-9.+-]+[;,]/.test(bare);
  return ["http", "https", "mailto", "blob"].includes(scheme);
}

/** Whether the server may send a page somewhere: http, https, mailto, or relative. @param {unknown} url */
export function safeTarget(url) {
  return typeof url === "string" && safeUrl(url) && !["blob", "data"].includes(schemeOf(url)[0] ?? "");
}
