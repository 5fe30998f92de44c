import { connect } from "./greenroom.js";

globalThis.gr = connect();
globalThis.answers = [];
gr.onFrame((direction, { type, data }) => {
  if (direction === "in" && type === "gr:result" && Array.isArray(data)) answers.push(data);
});
gr.bind(document);
