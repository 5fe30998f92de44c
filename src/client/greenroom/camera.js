/**
 * A video as the face of a camera: the first click (Enter, space) starts it, each further one fires
 * `snapshot`, whose payload is a PNG picture of the size of the video.
 *
 * A camera that cannot be used fires `camera-error`, a CustomEvent that bubbles, with `{reason,
 * message}`. Its user is told by a toast, unless somebody prevents the event's default; a
 * `data-gr-on:camera-error` does, for then the handler tells them.
 *
 * @module
 */

import { Bytes } from "./codec.js";

/** @typedef {{reason: string, message: string}} Trouble */

/** Why, by the name of what `getUserMedia` raises. @type {Record<string, Trouble>} */
const TROUBLES = {
  NotAllowedError: {
    reason: "refused",
    message: "This page may not use the camera. Allow it in the browser's settings for this page, and click again.",
  },
  NotFoundError: { reason: "missing", message: "No camera was found." },
  NotReadableError: { reason: "busy", message: "The camera does not start. Perhaps another program is using it." },
  InsecureError: { reason: "insecure", message: "Cameras can be used on https pages only." },
  ended: { reason: "ended", message: "The camera was taken away. Click to start it again." },
};
const SAME = new Map([["SecurityError", "NotAllowedError"], ["OverconstrainedError", "NotFoundError"], ["AbortError", "NotReadableError"]]);

/**
 * Returns a function that ends it.
 *
 * @param {HTMLVideoElement} video @param {(trouble: Trouble) => void} tell the user of what nobody else took
 */
export function camera(video, tell) {
  /** @type {MediaStream | null} */
  let stream = null;
  let starting = false; // a question to the user may stand for long; it is asked once
  let over = false;

  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.srcObject = null; // what it showed last is not what a camera sees
  };

  const start = async () => {
    if (!navigator.mediaDevices) throw new DOMException("no media devices", "InsecureError");
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
    if (over) return stop(); // the element went meanwhile
    for (const track of stream.getTracks()) track.addEventListener("ended", () => (stop(), trouble("ended")));
    video.srcObject = stream;
    video.muted = true;
    await video.play();
  };

  /** @param {string} name @param {unknown} [error] */
  const trouble = (name, error) => {
    const known = TROUBLES[SAME.get(name) ?? name];
    const detail = known ?? { reason: "failed", message: `The camera does not start: ${/** @type {any} */ (error)?.message ?? name}` };
    const event = new CustomEvent("camera-error", { bubbles: true, cancelable: true, detail });
    if (video.dispatchEvent(event)) tell(detail);
  };

  const shoot = () => {
    // What is on the screen can be taken, also before play() has said that it plays.
    if (stream && (video.videoWidth || !starting)) return void video.dispatchEvent(new Event("snapshot"));
    if (starting) return;
    starting = true;
    start()
      .catch((error) => (stop(), trouble(error.name, error)))
      .finally(() => (starting = false));
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault(); // space would scroll
    if (!event.repeat) shoot();
  };
  if (!video.hasAttribute("tabindex")) video.tabIndex = 0;
  if (!video.hasAttribute("role")) video.setAttribute("role", "button");
  if (!video.hasAttribute("aria-label")) video.setAttribute("aria-label", "Camera: start, then take a picture");
  video.addEventListener("click", shoot);
  video.addEventListener("keydown", key);
  return () => {
    over = true;
    video.removeEventListener("click", shoot);
    video.removeEventListener("keydown", key);
    stop();
  };
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
