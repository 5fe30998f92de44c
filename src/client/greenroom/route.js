/**
 * Pages are hash routes: `#checkout?step=2` is the page "checkout" with one parameter. The server
 * goes to one (`session.set_page`); `hashchange` and `open` events tell it which one is shown.
 *
 * @module
 */

/** @typedef {{page: string, params: Record<string, string>}} Route */

/** Where the page is. @param {string} [hash] @returns {Route} */
export function route(hash = location.hash) {
  const text = hash.replace(/^#/, "");
  const cut = text.indexOf("?");
  const [name, query] = cut < 0 ? [text, ""] : [text.slice(0, cut), text.slice(cut + 1)];
  return { page: plain(name), params: Object.fromEntries(new URLSearchParams(query)) };
}

/** The hash of a page. Parameters that are null are left out. @param {{page?: string, params?: Record<string, any>}} data */
export function hashOf({ page = "", params = {} }) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return encodeURIComponent(page) + (query && `?${query}`);
}

/** @param {string} text */
function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone % is what it is
  }
}
