// Connects a page of `app.show`: binds its attributes and offers the client as `greenroom`.
import { connect } from "../greenroom.js";

const script = document.querySelector("script[data-label]");
const client = connect({
  label: script?.getAttribute("data-label") ?? "main",
  store: sessionStorage,
});
client.bind(document);
Object.assign(globalThis, { greenroom: client });
