/**
 * The client's half of the wire machine as a table. The theory stands above the same table in
 * `machine.py`, and a test reads both through `tests/vectors/link_client.json`; in short:
 *
 * apart    no connection carries the link        opening  a hello was sent, nothing else may be
 * live     frames flow                           closed   it is over
 *
 * Frames of ours wait without a number; handed to a transport they get one and are kept until they
 * are answered. A welcome says which way on: `resumed` (what is above ack goes out again), `gap`
 * (the state comes whole; what the server neither owes nor lacks is lost) or `new` (all that was
 * handed over is lost, the rest counts from 1). Numbered frames are taken exactly in order; when
 * one is missing a second hello asks again.
 *
 * Each cell: the actions (methods of `Link`, in link.js) and the next state. What has no cell
 * cannot happen.
 *
 * @module
 */

/** @typedef {"apart" | "opening" | "live" | "closed"} State */
/** @typedef {readonly [actions: readonly string[], next: State]} Cell */

/** The driver did something that the machine has no cell for. */
export class LinkError extends Error {}

/** The ways a connection ends, the same wherever there is one. @type {Record<string, Cell>} */
const ENDS = {
  close_resume: [["hangUp", "retry"], "apart"], // gr:close with that retry
  close_fresh: [["forget", "hangUp", "retry"], "apart"],
  close_never: [["settleAll", "hangUp", "retry"], "closed"],
  cut_resume: [["retry"], "apart"], // the transport ended without gr:close
  cut_fresh: [["forget", "retry"], "apart"],
  cut_never: [["settleAll", "retry"], "closed"],
  garbage: [["hangUp", "retry"], "apart"], // what came is no frame
  silent: [["hangUp", "retry"], "apart"], // nothing was heard for too long
  diverged: [["forgetLink", "hangUp", "retry"], "apart"], // a patch does not fit the mirror
};

/** @type {Record<State, Record<string, Cell>>} */
export const TABLE = {
  apart: {
    open: [["hello"], "opening"],
    submit: [["keepOffline"], "apart"],
    bye: [["settleAll"], "closed"],
    wake: [[], "apart"],
    late: [[], "apart"], // a frame, or the end, of a connection we gave up
  },
  opening: {
    submit: [["keepOffline"], "opening"],
    bye: [["settleAll", "hangUp"], "closed"],
    wake: [[], "opening"],
    early: [[], "opening"], // a frame before the welcome: it will be sent again
    welcome_resumed: [["adopt", "resend"], "live"],
    welcome_gap: [["adopt", "skip", "settleUnknown", "resend"], "live"],
    welcome_new: [["adopt", "settleHanded", "renumber", "subscribeAgain"], "live"],
    welcome_broken: [["forgetLink", "hangUp", "retry"], "apart"],
    welcome_foreign: [["settleAll", "hangUp", "retry"], "closed"],
    ...ENDS,
  },
  live: {
    submit: [["keep"], "live"],
    bye: [["farewell", "settleAll", "hangUp"], "closed"],
    wake: [["probe"], "live"],
    next: [["apply"], "live"],
    old: [[], "live"],
    behind: [["hello"], "opening"],
    stuck: [["hangUp", "retry"], "apart"],
    ping: [["pong"], "live"],
    pong: [[], "live"],
    nack: [["resend"], "live"],
    nack_broken: [["forgetLink", "hangUp", "retry"], "apart"],
    chunk: [["collect"], "live"],
    refusal: [["tellRefusal"], "live"], // an error about a frame without an id
    stray: [[], "live"], // unnumbered and unknown, or a second welcome
    ack_due: [["ack"], "live"],
    ping_due: [["ping"], "live"],
    ...ENDS,
  },
  closed: {
    submit: [["refuse"], "closed"],
    bye: [[], "closed"],
    wake: [[], "closed"],
    late: [[], "closed"],
  },
};

const FRESH = [1013, 4001];
const NEVER = [1000, 1007, 1009, 4002, 4006];

/**
 * How to go on after a transport closed with `code` and no `gr:close`.
 *
 * @param {number} code @param {boolean} hadToken @returns {"resume" | "fresh" | "never"}
 */
export function retryAfterCut(code, hadToken) {
  if (NEVER.includes(code) || (code === 4001 && !hadToken)) return "never";
  return FRESH.includes(code) ? "fresh" : "resume";
}

/**
 * Whether a welcome has what goes on being counted and timed by, in its types.
 *
 * @param {Record<string, any>} welcome
 */
export function makesSense({ link, ack, seq, max_frame_in: size, inflight, ping = 0, dead = 0, pending = [] }) {
  return (
    typeof link === "string" &&
    isCount(ack) &&
    [seq, size, inflight].every((value) => isCount(value || 0)) &&
    [ping, dead].every((value) => typeof value === "number" && value >= 0 && value < 1e9) &&
    Array.isArray(pending) &&
    pending.every(isCount)
  );
}

/** @param {unknown} value */
function isCount(value) {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
