// The page that stands in for public/index.html while an app runs with `debug`.
import { connect } from "../greenroom.js";

const LINES = 200;

const client = connect({ store: sessionStorage });

const status = /** @type {HTMLElement} */ (document.getElementById("status"));
const state = /** @type {HTMLElement} */ (document.getElementById("state"));
const log = /** @type {HTMLElement} */ (document.getElementById("log"));

/** @param {string} kind @param {string} text */
function say(kind, text) {
  const line = document.createElement("li");
  line.className = kind;
  line.textContent = text;
  log.prepend(line);
  while (log.children.length > LINES) log.lastElementChild?.remove();
}

client.onStatus((/** @type {string} */ now) => {
  status.textContent = now;
});
client.subscribe("", () => {
  state.textContent = JSON.stringify(client.state, null, 2);
});
client.on("gr:log", (/** @type {{level?: string, text?: string}} */ entry) => {
  say(entry.level ?? "info", entry.text ?? "");
});

// Its table of handlers is made by the server, from the code that runs.
client.on("gr:reloaded", () => location.reload());

document.addEventListener("submit", async (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  const handler = form.dataset.handler;
  if (handler === undefined) return;
  event.preventDefault();
  const text = String(new FormData(form).get("payload") ?? "").trim();
  try {
    const payload = text === "" ? undefined : JSON.parse(text);
    const answer = await client.call(handler, payload);
    say("answer", `${handler}: ${JSON.stringify(answer)}`);
  } catch (error) {
    say("error", `${handler}: ${error}`);
  }
});
