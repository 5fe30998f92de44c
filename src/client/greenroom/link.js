/**
 * One link of a client: frames and the time go in, frames and effects come out. `link.py` is the
 * twin; `tests/vectors/link_client.json` binds them both.
 *
 * No I/O, no timers, no clock. `machine.js` says in a table what a link does; here are the names of
 * events, the actions, and what is kept. A driver (greenroom.js, or a notebook's widget) says what
 * happened (`open`, `receive`, `cut`, `submit` ...), hands what `take()` returns to its transport,
 * acts on `effects()`, and comes back at `deadline()`. Times are in seconds.
 *
 * @module
 */

import { Garbage, decoded, isFrame, packetSize, parse, withoutToken } from "./codec.js";
import { Entry } from "./entry.js";
import { LinkError, TABLE, makesSense, retryAfterCut } from "./machine.js";

/** @typedef {import("./codec.js").Packet} Packet */
/** @typedef {import("./codec.js").Frame} Frame */
/** @typedef {[how: "resume" | "fresh" | "never", after: number | null, code: string, message: string]} End */
/** @typedef {import("./entry.js").Effect} Effect */

const PROTOCOL = 1;
const ACK_AFTER = 1;
const ACK_BYTES = 64 * 1024;
const ACK_FRAMES = 128;
const OFFLINE_FRAMES = 1000; // what may wait while there is no live connection
const OFFLINE_BYTES = 1024 * 1024;
const STALLS = 3; // hellos in a row that brought nothing

const LOST = "the connection was lost before the answer: it may or may not have run";
const OVER = "the client is closed";
const OFFLINE = "there is no connection, and the queue of what waits for one is full";
const CANCELLED = "cancelled before it was sent";

export class Link {
  /** @type {import("./machine.js").State} */
  state = "apart";
  /** @type {string | null} */
  link = null;
  /** @type {string | null} */
  session = null;
  /** The last numbered frame we applied. */
  seq = 0;
  /** The last id we gave. */
  lastId = 0;
  /** @type {((direction: "in" | "out", frame: Frame) => void) | null} */
  onFrame = null;
  // The server's terms, from its welcome; until then its defaults.
  ping = 20;
  dead = 10;
  maxFrameIn = 0;
  inflight = 256;

  /** @type {Entry[]} */
  _waiting = [];
  /** @type {Entry[]} */
  _urgent = [];
  _waitingBytes = 0;
  /** By id, in order. @type {Map<number, Entry>} */
  _kept = new Map();
  _counting = 0; // kept entries that count towards inflight
  /** @type {Set<string>} */
  _subscribed = new Set();
  /** @type {Packet[]} */
  _out = [];
  /** @type {Effect[]} */
  _effects = [];
  /** @type {string[]} */
  _parts = [];
  /** @type {any} */
  _partsOf = null;
  /** @type {string | null} */
  _joined = null;
  _acked = 0;
  _unackedBytes = 0;
  /** @type {number | null} */
  _ackAt = null;
  _heard = 0;
  _pinged = 0;
  /** Until when a probe may go unanswered. @type {number | null} */
  _probed = null;
  _askedFrom = -1; // seq of the last hello
  _hellos = 0; // hellos from there
  _met = false; // there was a link before
  /** Told after the snapshot. @type {"gap" | "renewed" | null} */
  _news = null;
  // What the event under way is about.
  _now = 0;
  /** @type {Frame} */
  _frame = { type: "" };
  _size = 0;
  /** @type {End} */
  _end = ["resume", null, "", ""];
  /** @type {Entry | null} */
  _entry = null;

  /** @param {{label?: string, token?: string | null, binary?: boolean}} [options] */
  constructor({ label = "main", token = null, binary = false } = {}) {
    this.label = label;
    this.token = token;
    this.binary = binary;
  }

  // -- what the driver says --------------------------------------------------------------------

  /** A transport is there. @param {number} now */
  open(now) {
    this._now = this._heard = now;
    this._out = [];
    this._askedFrom = -1;
    this._step("open");
  }

  /** The transport brought a message. @param {Packet} packet @param {number} now */
  receive(packet, now) {
    this._now = this._heard = now;
    this._probed = null;
    if (this._ended) return this._step("late");
    this._size = packetSize(packet);
    try {
      const frame = parse(packet);
      this.onFrame?.("in", withoutToken(frame));
      this._takeIn(frame, packet.buffers);
    } catch (error) {
      if (!(error instanceof Garbage)) throw error;
      this._end = ["resume", null, "bad_frame", error.message];
      this._step(this._ended ? "late" : "garbage");
    }
  }

  /** The transport is gone. @param {number} code @param {number} now */
  cut(code, now) {
    this._now = now;
    const how = retryAfterCut(code, this.token !== null);
    this._end = [how, null, "", `the connection ended with code ${code}`];
    this._step(this._ended ? "late" : `cut_${how}`);
  }

  /**
   * Say `type` with `data` (JSON text). Its answer comes as an effect with the entry.
   *
   * @param {string} type
   * @param {string | undefined} data
   * @param {{context?: string, buffers?: Uint8Array[], tag?: any, name?: string | null}} [more]
   */
  submit(type, data, { context, buffers = [], tag = null, name = null } = {}) {
    let body = data === undefined ? "" : `,"data":${data}`;
    if (context !== undefined) body += `,"context":${context}`;
    const entry = (this._entry = new Entry(type, body, buffers, tag, name));
    if (type === "gr:unsubscribe" && name !== null) this._subscribed.delete(name);
    this._step("submit");
    if (type === "gr:subscribe" && name !== null && !entry.done) this._subscribed.add(name);
    return entry;
  }

  /** Take back a frame that no transport has had; false when one had it. @param {Entry} entry */
  withdraw(entry) {
    if (entry.done || entry.id) return false;
    const queue = entry.urgent ? this._urgent : this._waiting;
    queue.splice(queue.indexOf(entry), 1);
    this._waitingBytes -= entry.size;
    this._fail(entry, "cancelled", CANCELLED);
    return true;
  }

  /** The time is `now`; call this at `deadline()`, and whenever you like. @param {number} now */
  tick(now) {
    this._now = now;
    const silent = this._silentAt();
    if (silent !== null && now >= silent) {
      const overslept = now - silent > this.dead && this._probed === null;
      if (overslept && this.state === "live") {
        this._step("wake");
      } else {
        this._end = ["resume", null, "", "the server has been silent for too long"];
        this._step("silent");
      }
    }
    if (this.state === "live" && this._ackAt !== null && now >= this._ackAt) this._step("ack_due");
    const ping = this._pingAt();
    if (ping !== null && now >= ping) this._step("ping_due");
  }

  /** The user is back, or the network is: make sure that the connection lives. @param {number} now */
  wake(now) {
    this._now = now;
    this._step("wake");
  }

  /** A patch does not fit the mirror: start over with a snapshot. @param {string} message @param {number} now */
  diverged(message, now) {
    this._now = now;
    this._end = ["resume", null, "bad_frame", message];
    this._step(this._ended ? "late" : "diverged");
  }

  /** Leave for good. @param {number} now */
  bye(now) {
    this._now = now;
    this._end = ["never", null, "bye", OVER];
    this._step("bye");
  }

  // -- what the driver takes -------------------------------------------------------------------

  /** What the transport is handed now. Entries get their numbers here. @returns {Packet[]} */
  take() {
    for (let entry; this.state === "live" && (entry = this._nextWaiting()); ) {
      this._waitingBytes -= entry.size;
      if (this.maxFrameIn && entry.size > this.maxFrameIn) {
        const text = `the frame has ${entry.size} bytes, the server takes ${this.maxFrameIn}`;
        this._fail(entry, "too_large", text);
        continue;
      }
      entry.id = ++this.lastId;
      this._kept.set(entry.id, entry);
      this._counting += Number(entry.counts);
      this._out.push(entry.packet());
    }
    const out = this._out;
    this._out = [];
    if (this.onFrame) for (const packet of out) this.onFrame("out", withoutToken(parse(packet)));
    return out;
  }

  /** What has happened since the last call, in order. */
  effects() {
    const effects = this._effects;
    this._effects = [];
    return effects;
  }

  /** When `tick` has something to do, or null. @returns {number | null} */
  deadline() {
    const times = [this._silentAt(), this.state === "live" ? this._ackAt : null, this._pingAt()];
    const least = Math.min(...times.map((time) => time ?? Infinity));
    return least === Infinity ? null : least;
  }

  /** Frames that no transport has had. */
  get waiting() {
    return this._waiting.length + this._urgent.length;
  }

  /** Frames that were handed over and not answered. */
  get kept() {
    return this._kept.size;
  }

  // -- the machine -----------------------------------------------------------------------------

  get _ended() {
    return this.state === "apart" || this.state === "closed";
  }

  /** @param {string} event */
  _step(event) {
    const cell = TABLE[this.state][event];
    if (!cell) throw new LinkError(`"${event}" cannot happen to a link that is ${this.state}`);
    for (const action of cell[0]) /** @type {any} */ (this)[`_${action}`]();
    this.state = cell[1];
  }

  /** @param {Frame} frame @param {Uint8Array[]} buffers */
  _takeIn(frame, buffers) {
    if (frame.type === "gr:batch" && this.state === "live") {
      for (const inner of Array.isArray(frame.data) ? frame.data : []) {
        if (isFrame(inner) && inner.type !== "gr:batch") this._takeIn(inner, buffers);
      }
      return;
    }
    this._frame = decoded(frame, buffers);
    this._step(this._nameOf(this._frame));
    if ((frame.type === "gr:ping" || frame.type === "gr:pong") && this.state === "live") {
      if (Number.isInteger(frame.data?.seq) && frame.data.seq > this.seq) this._step(this._nameOfLag());
    } else if (this._joined !== null) {
      const text = this._joined;
      this._joined = null;
      this.receive({ text, buffers }, this._now);
    }
  }

  /** @param {Frame} frame @returns {string} */
  _nameOf(frame) {
    const { type, seq } = frame;
    const data = frame.data ?? {};
    if (this._ended) return "late"; // the rest of a batch whose beginning made us hang up
    if (type === "gr:close") return this._nameOfClose(data);
    if (this.state === "opening") return type === "gr:welcome" ? this._nameOfWelcome(data) : "early";
    if (type === "gr:ping" || type === "gr:pong" || type === "gr:chunk") return type.slice(3);
    if (type === "gr:nack") {
      if (this._canResend(data.ack)) return "nack";
      this._end = ["resume", null, "bad_frame", "the server asks for frames we do not have"];
      return "nack_broken";
    }
    if (!Number.isInteger(seq)) return type === "gr:error" ? "refusal" : "stray";
    if (seq === this.seq + 1) return "next";
    return Number(seq) <= this.seq ? "old" : this._nameOfLag();
  }

  _nameOfLag() {
    if (this._askedFrom !== this.seq || this._hellos < STALLS) return "behind";
    this._end = ["resume", null, "", "frames are missing, and asking again brought none"];
    return "stuck";
  }

  /** @param {any} data */
  _nameOfClose(data) {
    const how = ["resume", "fresh", "never"].includes(data.retry) ? data.retry : "resume";
    const after = typeof data.after === "number" ? data.after : null;
    this._end = [how, after, text(data.code), text(data.message)];
    return `close_${how}`;
  }

  /** @param {any} data */
  _nameOfWelcome(data) {
    if (data.protocol !== PROTOCOL) {
      this._end = ["never", null, "version", "the server speaks another protocol"];
      return "welcome_foreign";
    }
    this._end = ["resume", null, "bad_frame", "the server's welcome makes no sense"];
    if (!makesSense(data)) return "welcome_broken";
    if (data.link !== this.link) return data.resumed || data.ack ? "welcome_broken" : "welcome_new";
    if (!this._canResend(data.ack)) return "welcome_broken";
    return data.resumed ? "welcome_resumed" : "welcome_gap";
  }

  /** Whether we still have every frame above `ack`. @param {any} ack */
  _canResend(ack) {
    if (!Number.isInteger(ack) || ack < 0 || ack > this.lastId) return false;
    for (let id = ack + 1; id <= this.lastId; id++) if (!this._kept.has(id)) return false;
    return true;
  }

  // -- actions: opening and ending -------------------------------------------------------------

  _hello() {
    this._hellos = this._askedFrom === this.seq ? this._hellos + 1 : 1;
    this._askedFrom = this.seq;
    this._probed = null;
    this._pinged = this._now;
    this._forgetParts();
    const { token, link, seq, label, binary } = this;
    this._say("gr:hello", { protocol: PROTOCOL, token, link, seq, label, binary });
    this._saidAck();
  }

  _adopt() {
    const data = this._frame.data;
    if (data.link !== this.link) this._news = this._met ? "renewed" : null;
    else if (!data.resumed && this._news === null) this._news = "gap"; // a new link says it all
    this._met = true;
    this.link = data.link;
    this.session = data.session ?? null;
    if (typeof data.ping === "number") this.ping = data.ping;
    if (typeof data.dead === "number") this.dead = data.dead;
    this.maxFrameIn = data.max_frame_in ?? 0;
    this.inflight = data.inflight ?? 0;
    this._pinged = this._now;
    this._takeToken(data);
  }

  /** The server's numbers go on from where it says. */
  _skip() {
    this.seq = this._acked = this._frame.data.seq ?? 0;
  }

  _settleUnknown() {
    const { ack, pending } = this._frame.data;
    const owed = new Set(pending ?? []);
    for (const entry of [...this._kept.values()]) {
      if (entry.id <= ack && !owed.has(entry.id)) this._fail(entry, "lost", LOST);
    }
  }

  _settleHanded() {
    for (const entry of [...this._kept.values()]) this._fail(entry, "lost", LOST);
  }

  _renumber() {
    this.lastId = 0;
    this.seq = this._acked = this._frame.data.seq ?? 0;
    for (const entry of this._urgent.filter((one) => one.type === "gr:cancel")) {
      this._urgent.splice(this._urgent.indexOf(entry), 1); // the id it names is no more
      this._waitingBytes -= entry.size;
      this._settle(entry, "answer", false);
    }
  }

  _subscribeAgain() {
    const asked = new Set(this._waiting.filter((one) => one.type === "gr:subscribe").map((one) => one.name));
    const names = [...this._subscribed].filter((name) => !asked.has(name));
    const entries = names.map(
      (name) => new Entry("gr:subscribe", `,"data":${JSON.stringify({ name })}`, [], null, name),
    );
    this._waiting.unshift(...entries);
    for (const entry of entries) this._waitingBytes += entry.size;
  }

  _resend() {
    const { ack } = this._frame.data;
    for (const entry of this._kept.values()) if (entry.id > ack) this._out.push(entry.packet());
  }

  /** It is over: what a transport had is lost, what waited never ran. */
  _settleAll() {
    this._settleHanded();
    const waiting = [...this._urgent, ...this._waiting];
    this._urgent = [];
    this._waiting = [];
    this._waitingBytes = 0;
    for (const entry of waiting) this._fail(entry, "closed", this._end[3] || OVER);
  }

  _forgetLink() {
    this.link = null;
    this.seq = this._acked = 0;
  }

  _forget() {
    this._forgetLink();
    this.token = this.session = null;
    this._tell("token", null, null);
  }

  _hangUp() {
    this._ackAt = this._probed = null;
    this._forgetParts();
    this._tell("hang_up", this._end[2] === "bad_frame" ? 4000 : 1000, this._end[2]);
  }

  _retry() {
    this._ackAt = this._probed = null;
    this._forgetParts();
    this._tell("retry", ...this._end);
  }

  _farewell() {
    this._say("gr:bye");
  }

  // -- actions: what we say --------------------------------------------------------------------

  _keep() {
    const entry = /** @type {Entry} */ (this._entry);
    (entry.urgent ? this._urgent : this._waiting).push(entry);
    this._waitingBytes += entry.size;
  }

  _keepOffline() {
    const entry = /** @type {Entry} */ (this._entry);
    if (this.waiting >= OFFLINE_FRAMES || this._waitingBytes + entry.size > OFFLINE_BYTES) {
      this._fail(entry, "offline", OFFLINE);
    } else {
      this._keep();
    }
  }

  _refuse() {
    this._fail(/** @type {Entry} */ (this._entry), "closed", OVER);
  }

  /** @returns {Entry | undefined} */
  _nextWaiting() {
    const head = this._waiting[0];
    if (this._urgent.length || !head) return this._urgent.shift();
    return this.inflight && head.counts && this._counting >= this.inflight ? undefined : this._waiting.shift();
  }

  _ack() {
    this._say("gr:ack", { seq: this.seq });
    this._saidAck();
  }

  _ping() {
    this._pinged = this._now;
    this._say("gr:ping", { id: this.lastId });
  }

  _pong() {
    this._say("gr:pong", { id: this.lastId });
  }

  _probe() {
    if (this._probed !== null || !this.dead) return;
    this._probed = this._now + this.dead;
    this._ping();
  }

  // -- actions: what we hear -------------------------------------------------------------------

  _apply() {
    const { type, id, label, data } = this._frame;
    this.seq += 1;
    this._askedFrom = -1;
    this._unackedBytes += this._size;
    this._size = 0; // what came as a batch is counted once
    this._ackAt ??= this._now + ACK_AFTER;
    if (this._unackedBytes >= ACK_BYTES || this.seq - this._acked >= ACK_FRAMES) this._ack();
    const entry = this._kept.get(id ?? 0);
    if (type === "gr:state") {
      this._tell("patch", data ?? {});
    } else if (type === "gr:result") {
      if (!entry) return;
      if (entry.type === "gr:refresh") this._takeToken(data ?? {});
      this._settle(entry, "answer", data ?? null);
    } else if (type === "gr:error") {
      if (!entry) return;
      this._fail(entry, text(data?.code), text(data?.message), data?.retry_after ?? null);
    } else if (type === "gr:snapshot") {
      this._tell("snapshot", data ?? {});
      if (this._news) this._tell(this._news);
      this._news = null;
    } else if (type === "gr:signal") {
      this._tell("signal", text(data?.name), data?.data ?? null);
    } else {
      this._tell("event", type, data ?? null, label ?? this.label);
    }
  }

  _tellRefusal() {
    const { data } = this._frame;
    this._tell("refusal", text(data?.code), text(data?.message));
  }

  /** A part of a frame that was too long for its transport. */
  _collect() {
    const data = this._frame.data ?? {};
    if (data.i === 0) {
      this._parts = [];
      this._partsOf = data.of;
    } else if (data.of !== this._partsOf || data.i !== this._parts.length) {
      this._forgetParts(); // the missing number will be noticed
      return;
    }
    this._parts.push(text(data.part));
    if (data.last) {
      this._joined = this._parts.join("");
      this._forgetParts();
    }
  }

  _forgetParts() {
    this._parts = [];
    this._partsOf = null;
  }

  // -- small change ----------------------------------------------------------------------------

  /** @param {string} type @param {any} [data] */
  _say(type, data) {
    this._out.push({ text: JSON.stringify(data === undefined ? { type } : { type, data }), buffers: [] });
  }

  _saidAck() {
    this._acked = this.seq;
    this._unackedBytes = 0;
    this._ackAt = null;
  }

  /** @param {any} data */
  _takeToken(data) {
    if (typeof data.token !== "string") return;
    this.token = data.token;
    // In seconds from now, for our clock may differ from the server's; else by its clock.
    this._tell("token", data.token, [data.expires_in, data.expires].find(Number.isFinite) ?? null);
  }

  /** @param {string} kind @param {any[]} args */
  _tell(kind, ...args) {
    this._effects.push([kind, ...args]);
  }

  /** @param {Entry} entry @param {string} code @param {string} message @param {number | null} [after] */
  _fail(entry, code, message, after = null) {
    if (entry.type === "gr:subscribe" && code !== "lost" && entry.name) this._subscribed.delete(entry.name);
    this._settle(entry, "error", code, message, after);
  }

  /** @param {Entry} entry @param {string} kind @param {any[]} args */
  _settle(entry, kind, ...args) {
    if (this._kept.delete(entry.id)) this._counting -= Number(entry.counts);
    entry.done = true;
    this._tell(kind, entry, ...args);
  }

  /** @returns {number | null} */
  _silentAt() {
    const wait = this.ping + this.dead;
    if (this.state === "opening") return wait ? this._heard + wait : null;
    if (this.state !== "live" || !this.dead) return null;
    return this._probed ?? this._heard + 3 * wait;
  }

  /** @returns {number | null} */
  _pingAt() {
    if (this.state !== "live" || !this.ping) return null;
    return Math.max(this._heard + 1.5 * this.ping, this._pinged + this.ping);
  }
}

/** A text of the server's; what is none has nothing to say. @param {unknown} value */
function text(value) {
  return typeof value === "string" ? value : "";
}
