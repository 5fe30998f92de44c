import { connect } from "./greenroom.js";

const gr = connect();
gr.bind(document);
globalThis.gr = gr;
globalThis.called = [];
gr.expose("charts", {
  draw: (...args) => called.push(args),
  fail: () => { throw new Error("no ink"); },
});
