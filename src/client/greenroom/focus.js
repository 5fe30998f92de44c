/**
 * What is disabled, inert or hidden loses the focus, and whoever works with the keyboard their place
 * on the page: a button that is disabled while its call runs, say. Here it gets the focus back once
 * it can have it again, unless its user has gone elsewhere meanwhile.
 *
 * @module
 */

const OFF = ":disabled, [inert], [inert] *, [hidden], [hidden] *";

/** What had the focus when it was switched off. @type {HTMLElement | null} */
let waiting = null;

/** Switch an element off or on, by `change`. @param {Element} element @param {() => void} change */
export function keepFocus(element, change) {
  const { activeElement = null } = /** @type {Document | ShadowRoot} */ (element.getRootNode());
  change();
  if (activeElement && element.contains(activeElement) && activeElement.matches(OFF)) {
    waiting = /** @type {HTMLElement} */ (activeElement);
    for (const type of ["focusin", "pointerdown"]) document.addEventListener(type, elsewhere, true);
  }
  if (waiting && !waiting.matches(OFF)) {
    const free = !document.activeElement || document.activeElement === document.body;
    if (free) waiting.focus({ preventScroll: true });
    forget();
  }
}

/** Not in a modal dialog: after a question its user is back where they were. @param {Event} event */
function elsewhere({ target }) {
  const there = /** @type {Element} */ (target);
  if (!waiting?.contains(there) && !there.closest?.("dialog:modal")) forget();
}

function forget() {
  waiting = null;
  for (const type of ["focusin", "pointerdown"]) document.removeEventListener(type, elsewhere, true);
}
