/**
 * Our looks: a style sheet made by script and a few CSS variables, so that a strict
 * Content-Security-Policy allows them and a page can restyle what it likes.
 *
 * @module
 */

/** @type {CSSStyleSheet | null} */
let sheet = null;

/** Put on our style sheet, once: a document, or a shadow root in it. @param {Node} [root] */
export function dress(root = document) {
  if (!("adoptedStyleSheets" in root) || (root.ownerDocument ?? root) !== document) return;
  const place = /** @type {Document | ShadowRoot} */ (root);
  if (!sheet) sheet = made();
  if (!place.adoptedStyleSheets.includes(sheet)) place.adoptedStyleSheets = [...place.adoptedStyleSheets, sheet];
}

function made() {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    /* In a layer: the rules of the page win, but over what is important. */
    @layer greenroom {
      [data-gr-show][hidden] { display: none !important; }
      .gr-toasts { position: fixed; inset: auto; z-index: 2147483000; display: grid; gap: .5rem; padding: 1rem; margin: 0; border: 0;
        max-width: min(24rem, 100vw); box-sizing: border-box; overflow: visible; background: none; pointer-events: none;
        font: 14px/1.45 system-ui, sans-serif; }
      .gr-toasts.gr-top-left, .gr-toasts.gr-top-center, .gr-toasts.gr-top-right { top: 0; }
      .gr-toasts.gr-bottom-left, .gr-toasts.gr-bottom-center, .gr-toasts.gr-bottom-right { bottom: 0; }
      .gr-toasts.gr-top-right, .gr-toasts.gr-bottom-right { right: 0; }
      .gr-toasts.gr-top-left, .gr-toasts.gr-bottom-left { left: 0; }
      .gr-toasts.gr-top-center, .gr-toasts.gr-bottom-center { left: 50%; transform: translateX(-50%); }
      .gr-toast { --gr-accent: #2563eb; pointer-events: auto; display: grid; grid-template-columns: 1fr auto; gap: 0 .75rem;
        padding: .7rem .5rem .7rem .9rem; border-radius: .5rem; border-left: .25rem solid var(--gr-accent);
        background: Canvas; color: CanvasText; box-shadow: 0 0 0 1px rgb(128 128 128 / .3), 0 4px 18px rgb(0 0 0 / .22); overflow-wrap: anywhere; }
      .gr-toast.gr-success { --gr-accent: #15803d; }
      .gr-toast.gr-warning { --gr-accent: #b45309; }
      .gr-toast.gr-error { --gr-accent: #b91c1c; }
      .gr-toast-title, .gr-toast-message { grid-column: 1; }
      .gr-toast-close { grid-column: 2; grid-row: 1; align-self: start; width: 1.75rem; height: 1.75rem; padding: 0; border: 0;
        background: none; color: inherit; font: inherit; font-size: 1.2rem; cursor: pointer; }
      .gr-dialog { max-width: min(28rem, 90vw); padding: 1.25rem; border: 0; border-radius: .6rem; background: Canvas;
        color: CanvasText; box-shadow: 0 0 0 1px rgb(128 128 128 / .3), 0 10px 40px rgb(0 0 0 / .35); font: 15px/1.5 system-ui, sans-serif; }
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
  return sheet;
}
