/**
 * Form controls: what their events carry, and how a value of the state is shown in one.
 *
 * | control or event        | payload                                        |
 * |-------------------------|------------------------------------------------|
 * | text, textarea, radio   | string                                         |
 * | number, range           | number; null for a number that is none          |
 * | checkbox                | bool                                           |
 * | select                  | string; with `multiple` a list of them         |
 * | date, time              | ISO 8601 string                                |
 * | file                    | list of {name, type, data}; see files.js       |
 * | form (submit)           | {name of a control: its payload}               |
 * | click, key              | {ctrl, shift, alt, meta}, and `key` for keys   |
 * | snapshot of a video     | PNG bytes                                      |
 * | a CustomEvent           | its `detail`                                   |
 *
 * @module
 */

import { Bytes, put } from "./codec.js";
import { get } from "./patch.js";

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Control */

/** @param {EventTarget | null} element @returns {element is Control} */
export function isControl(element) {
  return /^(input|select|textarea)$/i.test(/** @type {Element | null} */ (element)?.tagName ?? "");
}

/** @typedef {(file: File) => Promise<any>} Read */

/** What an event tells the server; a promise, because files are read. @param {Event} event @param {Element} element @param {Read} [read] */
export async function payloadOf(event, element, read = readFile) {
  if ("detail" in event && event.constructor.name === "CustomEvent") return event.detail;
  if (event.type === "snapshot") return snapshot(/** @type {HTMLVideoElement} */ (element));
  if (event.type === "submit") return formValue(/** @type {HTMLFormElement} */ (element), read);
  const { ctrlKey, shiftKey, altKey, metaKey, key } = /** @type {KeyboardEvent} */ (event);
  if (/^key/.test(event.type)) return { ctrl: ctrlKey, shift: shiftKey, alt: altKey, meta: metaKey, key };
  if (isControl(element) && !/^(dbl)?click$/.test(event.type)) return controlValue(element, read);
  if (ctrlKey !== undefined) return { ctrl: ctrlKey, shift: shiftKey, alt: altKey, meta: metaKey };
  return null;
}

/** @param {Control} control @param {Read} [read] @returns {Promise<any>} */
export async function controlValue(control, read = readFile) {
  switch (control.type) {
    case "checkbox":
      return /** @type {HTMLInputElement} */ (control).checked;
    case "number":
    case "range": {
      const number = /** @type {HTMLInputElement} */ (control).valueAsNumber;
      return Number.isNaN(number) ? null : number;
    }
    case "select-multiple":
      return Array.from(/** @type {HTMLSelectElement} */ (control).selectedOptions, (option) => option.value);
    case "file":
      return Promise.all(Array.from(/** @type {HTMLInputElement} */ (control).files ?? [], read));
    default:
      return control.value;
  }
}

/** @param {HTMLFormElement} form @param {Read} read */
async function formValue(form, read) {
  /** @type {Record<string, any>} */
  const result = {};
  // The getter of the prototype: a field called "elements" would answer in its place.
  const elements = Object.getOwnPropertyDescriptor(HTMLFormElement.prototype, "elements")?.get?.call(form);
  for (const element of elements) {
    if (!isControl(element) || !element.name || element.disabled) continue;
    if (/^(submit|button|reset|image)$/.test(element.type)) continue;
    if (element.type === "radio" && !(/** @type {HTMLInputElement} */ (element).checked)) put(result, element.name, get(result, [element.name]) ?? null);
    else put(result, element.name, await controlValue(element, read));
  }
  return result;
}

/** @param {File} file */
async function readFile(file) {
  const data = new Bytes(new Uint8Array(await file.arrayBuffer()), file.type, file.name);
  return { name: file.name, type: file.type, data };
}

/** A picture of what a video shows. @param {HTMLVideoElement} video @returns {Promise<Bytes>} */
export async function snapshot(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error("the video shows nothing yet");
  return new Bytes(new Uint8Array(await blob.arrayBuffer()), "image/png", "snapshot.png");
}

/**
 * Make a video the face of a camera: the first click (or Enter) starts it, each further one fires
 * `snapshot`. Returns a function that ends it.
 *
 * @param {HTMLVideoElement} video
 */
export function camera(video) {
  /** @type {MediaStream | null} */
  let stream = null;
  const act = async () => {
    if (stream) return void video.dispatchEvent(new Event("snapshot"));
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
    video.srcObject = stream;
    video.muted = true;
    await video.play();
  };
  const shoot = () => void act().catch((error) => console.error("greenroom: the camera did not start:", error));
  const key = (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && shoot();
  if (!video.hasAttribute("tabindex")) video.tabIndex = 0;
  if (!video.hasAttribute("role")) video.setAttribute("role", "button");
  if (!video.hasAttribute("aria-label")) video.setAttribute("aria-label", "Camera: start, then take a picture");
  video.addEventListener("click", shoot);
  video.addEventListener("keydown", key);
  return () => {
    video.removeEventListener("click", shoot);
    video.removeEventListener("keydown", key);
    stream?.getTracks().forEach((track) => track.stop());
  };
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
    case "number":
      if (value !== null && input.valueAsNumber === Number(value)) return; // "1." is 1 already
  }
  const text = value === null || value === undefined ? "" : String(value);
  if (control.value === text) return;
  const focused = control.ownerDocument.activeElement === control && "selectionStart" in control;
  const [start, end] = focused ? [input.selectionStart, input.selectionEnd] : [null, null];
  control.value = text;
  if (start !== null) input.setSelectionRange(start, end); // a caret stays where it was
}
