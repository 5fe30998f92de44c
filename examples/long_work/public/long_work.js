import { connect } from "./greenroom.js";

const gr = connect();
gr.bind(document);

// Only who called a handler can cancel it: the signal travels as `gr:cancel`.
const think = document.getElementById("think");
const cancel = document.getElementById("stop-thinking");
const answer = document.getElementById("answer");

think.addEventListener("click", async () => {
  const abort = new AbortController();
  cancel.onclick = () => abort.abort();
  think.disabled = true;
  cancel.disabled = false;
  answer.textContent = "";
  try {
    answer.textContent = `${await gr.call("think", null, { signal: abort.signal })} steps`;
  } catch (error) {
    answer.textContent = error.code ?? error.message; // cancelled, offline, busy, ...
  } finally {
    think.disabled = false;
    cancel.disabled = true;
  }
});
