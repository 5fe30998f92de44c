/**
 * The browser client: a session's state, live, and the ways to talk to its server.
 *
 *     import { connect } from "./greenroom.js";
 *     const gr = connect();
 *     gr.subscribe("counter", (value) => ...);
 *     await gr.call("add", 5);
 *
 * @module
 */

export { Greenroom, connect } from "./client.js";
export { Bytes, FileRef } from "./codec.js";
export { GreenroomError } from "./errors.js";
