import { connect } from "./greenroom.js";

const gr = connect();
gr.bind(document);
globalThis.steps = [];
document.addEventListener("gr-upload", ({ detail }) => {
  steps.push({ sent: detail.sent, size: detail.size, done: detail.done, error: detail.error?.code ?? null });
  document.querySelector("progress").value = detail.sent / detail.size;
});
globalThis.gr = gr;
