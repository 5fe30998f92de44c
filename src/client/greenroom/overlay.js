/**
 * What `greenroom run --reload` shows: the traceback of code that does not run, until it does.
 *
 * Styles are set by script, one by one, so a strict Content-Security-Policy allows them; a page can
 * restyle `.gr-broken`.
 *
 * @module
 */

const CLASS = "gr-broken";

/** @type {Partial<CSSStyleDeclaration>} */
const LOOK = {
  position: "fixed",
  inset: "0",
  zIndex: "2147483647",
  margin: "0",
  padding: "2rem",
  overflow: "auto",
  background: "rgb(20 20 24 / 94%)",
  color: "#f4f4f5",
  font: "14px/1.5 ui-monospace, monospace",
};

/** Show why the newest code does not run. @param {{traceback?: string}} data */
export function showBroken({ traceback = "" }) {
  takeAway();
  const overlay = document.createElement("section");
  overlay.className = CLASS;
  overlay.setAttribute("role", "alert");
  Object.assign(overlay.style, LOOK);
  const title = document.createElement("h2");
  title.textContent = "The new code does not run. The old one goes on.";
  const text = document.createElement("pre");
  text.textContent = traceback;
  text.style.whiteSpace = "pre-wrap";
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Hide";
  close.addEventListener("click", takeAway);
  overlay.append(title, text, close);
  document.body.append(overlay);
}

/**
 * New code runs. Pages it changed load themselves again: all of them, or those of some labels.
 *
 * @param {{label: string}} gr @param {{pages?: boolean | string[]}} data
 */
export function reloaded(gr, { pages = false }) {
  takeAway();
  if (pages === true || (Array.isArray(pages) && pages.includes(gr.label))) location.reload();
}

function takeAway() {
  for (const overlay of document.querySelectorAll(`.${CLASS}`)) overlay.remove();
}
