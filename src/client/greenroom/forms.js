/**
 * Form controls: what their events carry, and how a value of the state is shown in one.
 *
 * | element, event | payload |
 * |---|---|
 * | text, textarea, `change` | the string |
 * | text, textarea, `input` | the string, 150 ms after the last key |
 * | number | a number; null when it is none |
 * | range | a number |
 * | checkbox | true or false |
 * | radio | the string in its `value` |
 * | select | the string in the option's `value` |
 * | select with `multiple` | a list of strings |
 * | date | ISO 8601, `2026-11-21`; null when it is empty |
 * | time | ISO 8601, `10:30:00`; null when it is empty |
 * | datetime-local | ISO 8601, `2026-11-21T10:30:00`; null when it is empty |
 * | month, week | `2026-11`, `2026-W47`; null when it is empty |
 * | color | `#rrggbb` |
 * | file | a list of `{name, type, data}`; `data` is bytes, or a `gr.File` when it is large |
 * | video, `snapshot` | PNG bytes, of the size of the video |
 * | video, `camera-error` | `{reason, message}`: why the camera does not start |
 * | click, dblclick, mouse and pointer events | `{ctrl, shift, alt, meta}` |
 * | keydown, keyup | `{ctrl, shift, alt, meta, key}` |
 * | anything with `data-gr-payload` | the JSON that stands there |
 * | anything inside `data-gr-each` | as elsewhere; `context` has the key and the value of its row |
 * | form, `submit` | `{name of a control: its payload}` |
 * | form, fieldset, `change` or `input` | the same, whenever one of them changes |
 * | details, popover, dialog, `toggle` | true when it is open now |
 * | anything, `open` | `{page, params}` of the address, once, when it comes to life |
 * | anything, `hashchange` | `{page, params}` of the address, after a link or the way back |
 * | a `CustomEvent` of your own | its `detail` |
 * | other events | of a control, its payload as above; else null |
 *
 * `greenroom doctor --events` shows a handler for each: `src/cli/events.py` is the list of them.
 *
 * @module
 */

import { snapshot } from "./camera.js";
import { Bytes, put } from "./codec.js";
import { get } from "./patch.js";
import { route } from "./route.js";

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Control */

/** @param {EventTarget | null} element @returns {element is Control} */
export function isControl(element) {
  return /^(input|select|textarea)$/i.test(/** @type {Element | null} */ (element)?.tagName ?? "");
}

/** A control that its user chooses with: there is nothing in it to mend. @param {Element} element */
export function isChoice(element) {
  return isControl(element) && /^(checkbox|radio|range|select-.*)$/.test(element.type);
}

/** @typedef {(file: File) => Promise<any>} Read */

const BUTTONS = /^(submit|button|reset|image)$/;
const MOUSE = /^(click|dblclick|contextmenu|(mouse|pointer).*)$/;

/**
 * What an event tells the server: all of it is read now, whatever changes on the page next. Only
 * where bytes have to be fetched (files, pictures) it is a promise.
 *
 * @param {Event} event @param {Element} element @param {Read} [read]
 */
export function payloadOf(event, element, read = readFile) {
  const type = event.type;
  if (event instanceof CustomEvent) return event.detail;
  if (type === "snapshot") return snapshot(/** @type {HTMLVideoElement} */ (element));
  if (type === "open" || type === "hashchange") return route();
  if (type === "toggle") return isOpen(event, element);
  const { ctrlKey, shiftKey, altKey, metaKey, key } = /** @type {KeyboardEvent} */ (event);
  if (/^key/.test(type)) return { ctrl: ctrlKey, shift: shiftKey, alt: altKey, meta: metaKey, key };
  if (isControl(element) && !MOUSE.test(type)) return controlValue(element, read);
  if (groupOf(element) && /^(submit|change|input)$/.test(type)) return groupValue(event, element, read);
  if (ctrlKey !== undefined) return { ctrl: ctrlKey, shift: shiftKey, alt: altKey, meta: metaKey };
  return null;
}

/** Of details, popovers and dialogs. @param {any} event @param {any} element */
function isOpen(event, element) {
  if (typeof element.open === "boolean") return element.open;
  return event.newState === undefined ? null : event.newState === "open";
}

/** The class of a form or fieldset. Not by its tag: a field called "tagName" would answer for it. @param {Element} element */
function groupOf(element) {
  const { HTMLFormElement: form, HTMLFieldSetElement: set } = globalThis;
  return [form, set].find((one) => one && element instanceof one);
}

/** A promise of a file input. @param {Control} control @param {Read} [read] @returns {any} */
export function controlValue(control, read = readFile) {
  switch (control.type) {
    case "checkbox":
      return /** @type {HTMLInputElement} */ (control).checked;
    case "number":
    case "range": {
      const number = /** @type {HTMLInputElement} */ (control).valueAsNumber;
      return Number.isNaN(number) ? null : number;
    }
    case "time":
    case "datetime-local": // ISO 8601 has seconds where it stands for a moment
      return control.value ? control.value.replace(/^(.*T)?\d\d:\d\d$/, "$&:00") : null;
    case "date":
    case "month":
    case "week":
      return control.value || null;
    case "select-multiple":
      return Array.from(/** @type {HTMLSelectElement} */ (control).selectedOptions, (option) => option.value);
    case "file":
      return Promise.all(Array.from(/** @type {HTMLInputElement} */ (control).files ?? [], read));
    default:
      return control.value;
  }
}

/** The controls of a form or fieldset; none for other elements. @param {Element} group @returns {Control[]} */
export function controlsOf(group) {
  const owner = groupOf(group);
  // The getter of the prototype: a field called "elements" would answer in its place.
  const elements = owner && Object.getOwnPropertyDescriptor(owner.prototype, "elements")?.get?.call(group);
  return [...(elements ?? [])].filter(isControl);
}

/** The buttons of a radio button's group: when one is chosen, another one is not any more. @param {Element} element @returns {Element[]} */
export function radiosOf(element) {
  const radio = /** @type {HTMLInputElement} */ (element);
  if (!isControl(element) || element.type !== "radio" || !element.name) return [];
  const root = /** @type {ParentNode & Node} */ (element.getRootNode());
  const all = /** @type {NodeListOf<HTMLInputElement>} */ (root.querySelectorAll("input[type=radio]"));
  return [...all].filter((one) => one.name === radio.name && one.form === radio.form);
}

/** @param {Event} event @param {Element} group @param {Read} read */
function groupValue(event, group, read) {
  /** @type {Record<string, any>} */
  const result = {};
  /** @type {Promise<void>[]} */
  const later = [];
  const controls = controlsOf(group).filter((one) => one.name && !one.matches(":disabled") && !BUTTONS.test(one.type));
  const names = controls.filter(isCheckbox).map((one) => one.name);
  for (const element of controls) {
    const { name } = element;
    const before = () => get(result, [name]) ?? null;
    if (element.type === "radio" && !(/** @type {HTMLInputElement} */ (element).checked)) put(result, name, before());
    else if (isCheckbox(element) && names.indexOf(name) < names.lastIndexOf(name)) {
      const chosen = before();
      put(result, name, [...(Array.isArray(chosen) ? chosen : []), ...(element.checked ? [element.value] : [])]);
    } else {
      const value = controlValue(element, read);
      put(result, name, value);
      if (value instanceof Promise) later.push(value.then((files) => put(result, name, files)));
    }
  }
  const by = /** @type {HTMLButtonElement | null | undefined} */ (/** @type {SubmitEvent} */ (event).submitter);
  if (by?.name) put(result, by.name, by.value);
  return later.length ? Promise.all(later).then(() => result) : result;
}

/** @param {Control} control @returns {control is HTMLInputElement} */
function isCheckbox(control) {
  return control.type === "checkbox";
}

/** @param {File} file */
async function readFile(file) {
  const data = new Bytes(new Uint8Array(await file.arrayBuffer()), file.type, file.name);
  return { name: file.name, type: file.type, data };
}

/** Show a value of the state. @param {Control} control @param {any} value */
export function showValue(control, value) {
  const input = /** @type {HTMLInputElement} */ (control);
  switch (control.type) {
    case "file":
      return; // only its user can fill it
    case "checkbox":
      input.checked = Array.isArray(value) ? value.map(String).includes(control.value) : Boolean(value);
      return;
    case "radio":
      input.checked = value !== null && value !== undefined && String(value) === control.value;
      return;
    case "select-multiple": {
      const chosen = new Set((Array.isArray(value) ? value : [value]).map(String));
      for (const option of /** @type {HTMLSelectElement} */ (control).options) option.selected = chosen.has(option.value);
      return;
    }
    case "time":
    case "datetime-local":
      if (control.value && control.value === String(value ?? "").replace(/:00$/, "")) return;
      break;
    case "number":
      if (value !== null && input.valueAsNumber === Number(value)) return; // "1." is 1 already
  }
  const none = control.type === "color" ? "#000000" : ""; // a colour there always is
  const text = value === null || value === undefined ? none : String(value);
  if (control.value === text) return;
  const focused = control.ownerDocument.activeElement === control && "selectionStart" in control;
  const [start, end] = focused ? [input.selectionStart, input.selectionEnd] : [null, null];
  control.value = text;
  if (start !== null) input.setSelectionRange(start, end); // a caret stays where it was
}

/** Put a value of the state in the place of the text that a field begins with; the caret stays where it is in the rest. @param {Control} control @param {string} start @param {any} value */
export function replaceStart(control, start, value) {
  const input = /** @type {HTMLInputElement} */ (control);
  const isText = "selectionStart" in control && input.selectionStart !== null; // an email address is none
  if (isText && control.value.startsWith(start)) input.setRangeText(String(value ?? ""), 0, start.length, "preserve");
}
