// The panel's lower part: what the handlers of this page's session printed, logged and failed with.
// The server sends it only when it runs with `--debug` (or log_to_client), newest first here.

const ROWS = 100;

const list = document.getElementById("log-list");
const note = document.getElementById("log-note");

/** For `gr.on("gr:log", ...)`: level, text, time in seconds, and the traceback of an error. */
export function showRecord({ level, text, time, traceback }) {
  const item = document.createElement("li");
  item.dataset.level = level;
  item.append(piece("time", new Date(time * 1000).toLocaleTimeString("en-GB")), piece("text", text));
  if (traceback) item.append(details(traceback));
  list.prepend(item);
  while (list.childElementCount > ROWS) list.lastElementChild.remove();
  list.hidden = false;
  note.hidden = true;
}

function piece(name, content) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = content;
  return span;
}

function details(traceback) {
  const fold = document.createElement("details");
  const summary = document.createElement("summary");
  const code = document.createElement("pre");
  summary.textContent = "Traceback";
  code.textContent = traceback;
  fold.append(summary, code);
  return fold;
}
