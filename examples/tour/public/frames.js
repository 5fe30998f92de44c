// The panel that shows the frames as they pass: bounded, pausable, painted once per animation frame.

const ROWS = 150;
const LENGTH = 320; // characters shown of one frame

const panel = document.getElementById("frames");
const list = document.getElementById("frames-list");
const count = document.getElementById("frames-count");
const pause = document.getElementById("frames-pause");
const drawer = document.getElementById("frames-drawer");

let passed = 0;
let paused = false;
let painting = false;
let fresh = []; // what came since the last painting, newest first

/** For `gr.onFrame`: direction is "in" or "out", frame the decoded object, without its secrets. */
export function showFrame(direction, frame) {
  if (frame.type === "gr:batch") {
    for (const one of frame.data) showFrame(direction, one); // they were ready together
    return;
  }
  passed += 1;
  if (!paused) {
    fresh.unshift([direction, frame]);
    fresh.length = Math.min(fresh.length, ROWS);
  }
  if (!painting) {
    painting = true;
    requestAnimationFrame(paint);
  }
}

function paint() {
  painting = false;
  count.textContent = String(passed);
  list.prepend(...fresh.map(row));
  fresh = [];
  while (list.childElementCount > ROWS) list.lastElementChild.remove();
}

function row([direction, { type, id, seq, data, ...rest }]) {
  const item = document.createElement("li");
  item.className = direction;
  item.dataset.type = type;
  item.append(
    piece("way", direction === "in" ? "←" : "→", direction === "in" ? "from the server" : "to the server"),
    piece("type", type),
    piece("number", seq !== undefined ? `seq ${seq}` : id !== undefined ? `id ${id}` : ""),
    piece("data", text(data, rest)),
  );
  return item;
}

function piece(name, content, title) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = content;
  if (title) span.title = title;
  return span;
}

function text(data, rest) {
  const whole = data === undefined ? rest : Object.keys(rest).length ? { data, ...rest } : data;
  const json = JSON.stringify(whole) ?? "";
  if (json.length <= LENGTH) return json;
  return `${json.slice(0, LENGTH)} … ${json.length.toLocaleString("en")} characters`;
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
});

document.getElementById("frames-clear").addEventListener("click", () => {
  fresh = [];
  passed = 0;
  count.textContent = "0";
  list.replaceChildren();
});

drawer.addEventListener("click", () => {
  const open = panel.dataset.open !== "true";
  panel.dataset.open = String(open);
  drawer.setAttribute("aria-expanded", String(open));
});
