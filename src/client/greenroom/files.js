/**
 * Files: beside the stream by HTTP, or in pieces where a link has no HTTP.
 *
 * What a file input sends is a list of `{name, type, data}`. Small files travel in the payload
 * (`data` is bytes), others are uploaded first and named in it (the handler gets a `gr.File`). While
 * one is on its way its element fires `gr-upload` events, which bubble, and the functions given to
 * `gr.onUpload` are called: both with an `Upload`, see greenroom.d.ts.
 *
 * Cut in the middle: an upload that is aborted or fails is dropped at the server.
 *
 * @module
 */

import { Bytes, FileRef } from "./codec.js";
import { GreenroomError } from "./errors.js";

/** @typedef {import("./client.js").Greenroom} Greenroom */
/** @typedef {import("../greenroom.d.ts").Upload} Upload */
/** @typedef {import("../greenroom.d.ts").UploadOptions} UploadOptions */

const INLINE = 64 * 1024; // bytes of a file that travels in a payload
const INLINE_ALL = 256 * 1024; // of all files of one payload
const PIECE = 64 * 1024;
const ADDRESS = /^file\/[\w-]{20,200}$/;

/** @type {WeakMap<Element, AbortController>} */
const running = new WeakMap();

/**
 * Send a file (or Blob) to the server; resolves with what names it in a payload.
 *
 * @param {Greenroom} gr @param {Blob} file @param {UploadOptions & {element?: Element | null, bytes?: boolean}} [options] with
 * `bytes` the handler gets bytes, as if they had come in the payload
 */
export async function upload(gr, file, { name, progress, signal, element = null, bytes = false } = {}) {
  const about = { name: name ?? (file instanceof File ? file.name : "file"), size: file.size, mime: file.type };
  /** @param {number} sent @param {boolean} done @param {Error | null} error */
  const tell = (sent, done = false, error = null) => {
    if (!error) progress?.(sent, file.size);
    gr.uploading({ name: about.name, type: file.type, size: file.size, sent, done, error, element });
  };
  let told;
  try {
    told = await gr.call("gr:upload", bytes ? { ...about, bytes } : about, { signal });
    tell(0);
    if (signal?.aborted) throw aborted(); // perhaps just now
    if (ADDRESS.test(told.url ?? "")) await post(gr.address(told.url), file, tell, signal);
    else await sendPieces(gr, told, file, tell, signal);
    tell(file.size, true);
    return new FileRef(told.file, about.name, about.mime, file.size);
  } catch (error) {
    if (told) gr.call("gr:piece", { file: told.file, drop: true }).catch(() => {}); // its failure is no news
    tell(0, true, /** @type {Error} */ (error));
    throw error;
  }
}

function aborted() {
  return new GreenroomError("cancelled", "the upload was aborted");
}

/**
 * The one way that tells how much has left: fetch does not.
 *
 * @param {string} url @param {Blob} file @param {(sent: number) => void} tell @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function post(url, file, tell, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open("POST", url);
    request.withCredentials = true; // the binding cookie, should the server be another origin
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => tell(event.loaded);
    request.onload = () => (request.status === 200 ? resolve() : reject(refusal(request)));
    request.onerror = () => reject(new GreenroomError("lost", "the connection broke off during the upload"));
    request.onabort = () => reject(aborted());
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    request.send(file);
  });
}

/** @param {XMLHttpRequest} request */
function refusal({ status, responseText }) {
  try {
    const { code, message } = JSON.parse(responseText);
    return new GreenroomError(String(code), String(message));
  } catch {
    return new GreenroomError("lost", `the server answered ${status}`);
  }
}

/** @param {Greenroom} gr @param {any} told @param {Blob} file @param {(sent: number) => void} tell @param {AbortSignal} [signal] */
async function sendPieces(gr, told, file, tell, signal) {
  const size = Math.min(PIECE, told.piece ?? PIECE);
  for (let at = 0, last = false; !last; at += size) {
    const data = new Bytes(new Uint8Array(await file.slice(at, at + size).arrayBuffer()));
    last = at + size >= file.size;
    await gr.call("gr:piece", { file: told.file, at, data, last });
    if (signal?.aborted) throw aborted();
    tell(Math.min(at + size, file.size));
  }
}

/**
 * What reads the files of one payload. A new payload of the same element aborts the one before.
 *
 * @param {Greenroom} gr @param {Element} element @returns {(file: File) => Promise<any>}
 */
export function reader(gr, element) {
  let room = INLINE_ALL;
  /** @type {AbortController | null} */
  let control = null;
  return async (file) => {
    if (!control) {
      running.get(element)?.abort();
      running.set(element, (control = new AbortController()));
    }
    const { name, type, size } = file;
    if (size <= Math.min(INLINE, room, gr.maxFrameIn / 4 || INLINE)) {
      room -= size;
      return { name, type, data: new Bytes(new Uint8Array(await file.arrayBuffer()), type, name) };
    }
    return { name, type, data: await upload(gr, file, { signal: control.signal, element }) };
  };
}

/**
 * A payload that may be sent: bytes that are too large for a frame go up beside the stream, and are
 * bytes again when a handler sees them.
 *
 * @param {Greenroom} gr @param {any} payload @param {Element} element
 */
export async function carried(gr, payload, element) {
  if (!(payload instanceof Bytes) || payload.bytes.length <= (gr.maxFrameIn / 2 || Infinity)) return payload;
  const file = new File([/** @type {BlobPart} */ (payload.bytes)], payload.name, { type: payload.mime });
  return upload(gr, file, { element, bytes: true });
}

/**
 * Save what the server offers (`gr:download`).
 *
 * @param {Greenroom} gr @param {{file?: string, data?: Bytes, filename?: string, mime?: string}} offer
 */
export async function download(gr, { file, data, filename, mime }) {
  const name = safeName(filename || (data instanceof Bytes && data.name) || "");
  if (data instanceof Bytes) return saveBlob(new Blob([/** @type {BlobPart} */ (data.bytes)], { type: mime || data.mime }), name);
  const told = await gr.call("gr:fetch", { file });
  if (ADDRESS.test(told.url ?? "")) return save(gr.address(told.url), name);
  /** @type {BlobPart[]} */
  const pieces = [];
  for (let at = 0; at < told.size; ) {
    const piece = await gr.call("gr:piece", { file, at });
    if (!(piece instanceof Bytes) || !piece.bytes.length) throw new GreenroomError("lost", `${at} of ${told.size} bytes came`);
    pieces.push(/** @type {BlobPart} */ (piece.bytes));
    at += piece.bytes.length;
  }
  saveBlob(new Blob(pieces, { type: told.mime }), name);
}

/** A name without a path, or what hides its end. @param {string} name */
export function safeName(name) {
  const last = name.split(/[/\\]/).pop() ?? "";
  return last.replace(/[\p{C}<>:"|?*]/gu, "").replace(/^\.+|[. ]+$/g, "").slice(0, 200) || "download";
}

/** @param {Blob} blob @param {string} name */
function saveBlob(blob, name) {
  const made = URL.createObjectURL(blob);
  save(made, name);
  setTimeout(() => URL.revokeObjectURL(made), 60_000);
}

/** @param {string} href @param {string} name */
function save(href, name) {
  const link = document.createElement("a");
  link.href = href;
  link.download = name;
  link.rel = "noopener";
  if (link.origin !== location.origin && link.protocol !== "blob:") link.target = "_blank"; // it is followed, not saved
  document.body.append(link);
  link.click();
  link.remove();
}
