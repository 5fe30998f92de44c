// The page's own code. The attributes in index.html do most of the work; here is what they cannot
// say: a form with errors, a crash that is shown, a cable, a second window, and the code of it all.

import { connect } from "./greenroom.js";
import { Cable, pullTheCable, putItBack } from "./cable.js";
import { showCode } from "./code.js";
import { showFrame } from "./frames.js";
import { showRecord } from "./log.js";

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------- the connection

const label = new URLSearchParams(location.search).get("label") ?? "main";
const gr = connect({ label, WebSocket: Cable });

gr.onFrame(showFrame);
gr.on("gr:log", showRecord);
gr.onStatus(showStatus);
showStatus(gr.status);
gr.bind(document);

function showStatus(status) {
  $("status").dataset.status = status;
  $("status-text").textContent = status;
  $("cable-status").textContent = status;
}

// ---------------------------------------------------------------- the code beside the cards

gr.subscribe("sources", (sources) => {
  for (const element of document.querySelectorAll("[data-source]")) {
    showCode(element, sources?.[element.dataset.source] ?? "");
  }
});
showCode($("window-source"), String(openWindow), "javascript");
showCode($("cable-source"), `${pullTheCable}\n\n${putItBack}`, "javascript");

// ---------------------------------------------------------------- a file on its way

$("cloakroom").addEventListener("gr-upload", ({ detail }) => {
  $("coat-progress").value = detail.error ? 0 : detail.size ? detail.sent / detail.size : 1;
});

// ---------------------------------------------------------------- the form

const booking = $("booking");

booking.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, email, seats } = Object.fromEntries(new FormData(booking));
  complain();
  try {
    say("booking-outcome", await gr.call("reserve", { name, email, seats: Number(seats) }));
  } catch (error) {
    // What does not fit stands at the end: "...: Expected `int` <= 6 - at `$.seats`".
    const [, text, field] = /: ([^:]*) - at `\$\.(\w+)`$/.exec(error.message) ?? [];
    complain(field, text);
    const why = field ? "the handler did not run" : error.message;
    say("booking-outcome", `Refused (${error.code}): ${why}.`, true);
  }
});

/** Say `text` below the field of that name, and nothing below the others. */
function complain(field, text) {
  for (const input of booking.querySelectorAll("input")) {
    const wrong = input.name === field;
    const note = $(`error-${input.name}`);
    note.hidden = !wrong;
    note.textContent = wrong ? text : "";
    input.setAttribute("aria-invalid", String(wrong));
    if (wrong) input.focus();
  }
}

function say(id, text, bad = false) {
  $(id).hidden = false;
  $(id).textContent = text;
  $(id).classList.toggle("bad", bad);
}

// ---------------------------------------------------------------- the crash

$("crash-button").addEventListener("click", async () => {
  const before = gr.get("till");
  try {
    await gr.call("crash");
  } catch (error) {
    const coins = `Coins before: ${before}, now: ${gr.get("till")}.`;
    say("crash-outcome", `${error.code}: ${error.message}. ${coins}`, true);
  }
});

// ---------------------------------------------------------------- the table

const calm = matchMedia("(prefers-reduced-motion: reduce)");

new MutationObserver((changes) => {
  for (const { target } of changes) {
    if (target.className !== "sold" || calm.matches) continue;
    target.animate({ background: ["var(--tint)", "transparent"], color: ["var(--accent)", "inherit"] }, 900);
  }
}).observe($("acts"), { childList: true, subtree: true });

// ---------------------------------------------------------------- the second window

function openWindow() {
  // Same origin, and we are its opener: so the browser copies our
  // sessionStorage, and with it the token that opens the session.
  window.open("?label=second", "_blank", "popup,width=560,height=780");
}

$("open-window").addEventListener("click", openWindow);
$("window-label").textContent = label;
if (label !== "main") {
  $("label").hidden = false;
  $("label").textContent = `${label} window`;
  document.title = `${label}: ${document.title}`;
}

// ---------------------------------------------------------------- the cable

$("cable-switch").addEventListener("click", ({ currentTarget: button }) => {
  const pulled = button.getAttribute("aria-pressed") !== "true";
  if (pulled) pullTheCable();
  else putItBack();
  button.setAttribute("aria-pressed", String(pulled));
});

let waiting = 0;

$("cable-add").addEventListener("click", async () => {
  $("cable-waiting").textContent = String(++waiting);
  try {
    await gr.call("add", 1); // no timeout: the cable may be out for a while
  } finally {
    $("cable-waiting").textContent = String(--waiting);
  }
});

// ---------------------------------------------------------------- light and dark

const THEMES = ["auto", "light", "dark"];
let theme = document.documentElement.dataset.theme ?? "auto";

function showTheme() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme-text").textContent = `Theme: ${theme}`;
}

$("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem("theme", theme);
  showTheme();
});
showTheme();
