import { connect } from "./greenroom.js";

globalThis.gr = connect();
gr.bind(document);
