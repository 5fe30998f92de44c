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

export { Greenroom, connect } from "./greenroom/client.js";
export { Bytes, FileRef } from "./greenroom/codec.js";
export { GreenroomError } from "./greenroom/errors.js";
