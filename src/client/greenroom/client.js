/**
 * The driver: it owns the WebSocket, the timers and the callbacks, and leaves every decision about
 * frames to `link.js`. What users see of it is described in `greenroom.d.ts`.
 *
 * @module
 */

import { builtIn } from "./actions.js";
import { bind } from "./bind.js";
import { encode, pack, unpack } from "./codec.js";
import { GreenroomError } from "./errors.js";
import { upload } from "./files.js";
import { Link } from "./link.js";
import { Diverged, Mirror } from "./patch.js";

/** @typedef {import("../greenroom.d.ts").Greenroom} Face */
/** @typedef {import("../greenroom.d.ts").Status} Status */
/** @typedef {import("../greenroom.d.ts").Options} Options */
/** @typedef {import("../greenroom.d.ts").CallOptions} CallOptions */
/** @typedef {import("./codec.js").Frame} Frame */
/** @typedef {{resolve: (value: any) => void, reject: (error: Error) => void}} Waiter */
/** @typedef {(...args: any[]) => any} Callback */

const BACK_OFF = 0.25; // seconds, doubling
const BACK_OFF_MAX = 10;
const LATE_EVENTS = 100; // that wait for a handler
const REFRESH_MIN = 5; // seconds
const REFRESH_MAX = 12 * 3600;
const REFRESH_AGAIN = 30; // after a refusal, or when our clock is ahead of the server's

/**
 * Connect to a session. Returns at once; `gr.ready` resolves when the state is there.
 *
 * @param {Options} [options]
 */
export function connect(options = {}) {
  return new Greenroom(options);
}

/** @implements {Face} */
export class Greenroom {
  #link;
  #mirror;
  #url;
  #store;
  #storeKey;
  #clock;
  #random;
  #WebSocket;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {any} */
  #timer = null;
  #dialAt = -Infinity; // when to dial again; Infinity: not at all
  #notBefore = 0; // what the server asked for
  #attempt = 0;
  #waited = 0;
  #liveSince = Infinity;
  #refreshAt = Infinity;
  #pumping = false;
  #leaving = false; // what is lost now is lost on purpose
  /** @type {Map<string, Set<Callback>>} */
  #handlers = new Map();
  /** @type {{type: string, args: any[]}[]} */
  #late = [];
  /** @type {Set<string>} */
  #unheard = new Set();
  /** @type {Map<string, number>} */
  #subscriptions = new Map();
  /** @type {Map<string, Record<string, Callback>>} */
  #exposed = new Map();
  /** @type {Set<(direction: "in" | "out", frame: Frame) => void>} */
  #frameHooks = new Set();
  /** @type {Set<(status: Status) => void>} */
  #statusHooks = new Set();
  /** @type {Set<(upload: import("../greenroom.d.ts").Upload) => void>} */
  #uploadHooks = new Set();
  /** @type {Set<() => void>} */
  #leaveHooks = new Set();
  /** @type {(() => void)[]} */
  #undo = [];
  #ready;

  /** @param {Options} options */
  constructor(options) {
    const { label = "main", binary = true, random = Math.random } = options;
    this.#url = socketUrl(options.url);
    this.#store = options.store === undefined ? defaultStore() : options.store;
    this.#storeKey = `greenroom ${this.#url}`;
    this.#clock = options.clock ?? systemClock;
    this.#random = random;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#link = new Link({ label, binary, token: this.#stored() });
    this.#mirror = new Mirror((error, path) => report(`a subscriber of "${path.join(".")}" failed`, error));
    /** Origins, besides the page's own, that `gr:import` may load modules from. */
    this.imports = options.imports ?? [];
    /** @type {Status} */
    this.status = "connecting";
    this.#ready = withResolvers();
    /** Resolves with this client when the state is there; rejects when it never will be. */
    this.ready = this.#ready.promise;
    this.ready.catch(() => {}); // whoever waits for it hears of it
    this.events = this.#eventsApi();
    this.#listen(options.window === undefined ? globalThis.window : options.window);
    this.#pump();
  }

  // -- the state -------------------------------------------------------------------------------

  /** The state as the server last told it. Read-only: what you change here nobody hears of. */
  get state() {
    return this.#mirror.root;
  }

  get label() {
    return this.#link.label;
  }

  /** The session's id, null before the first welcome. */
  get session() {
    return this.#link.session;
  }

  /** @param {import("./patch.js").UserPath} path */
  get(path) {
    return this.#mirror.get(path);
  }

  /** @param {import("./patch.js").UserPath} path @param {import("./patch.js").Watcher} watcher */
  subscribe(path, watcher) {
    return this.#mirror.watch(path, watcher);
  }

  // -- talking to the server -------------------------------------------------------------------

  /** @param {string} type @param {any} [data] @param {{context?: Record<string, any>}} [options] */
  send(type, data, { context } = {}) {
    this.#submit(type, data, { context });
  }

  /** @param {string} type @param {any} [data] @param {CallOptions} [options] @returns {Promise<any>} */
  async call(type, data, { context, timeout, signal } = {}) {
    if (signal?.aborted) throw new GreenroomError("cancelled", "cancelled before it was sent");
    const { promise, resolve, reject } = withResolvers();
    const entry = this.#submit(type, data, { context, tag: { resolve, reject } });
    const cancel = () => {
      if (!this.#link.withdraw(entry) && !entry.done) this.#submit("gr:cancel", { id: entry.id }, { tag: null });
      this.#pump();
    };
    const expire = () => {
      reject(new GreenroomError("timeout", `${type} was not answered within ${timeout} s`));
      cancel();
    };
    const timer = timeout === undefined ? null : this.#clock.setTimeout(expire, timeout * 1000);
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await promise;
    } finally {
      if (timer !== null) this.#clock.clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** @param {string} type @param {Callback} fn */
  on(type, fn) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(fn));
    const waiting = this.#late.filter((one) => one.type === type);
    if (waiting.length) {
      this.#late = this.#late.filter((one) => one.type !== type);
      queueMicrotask(() => waiting.forEach((one) => this.#dispatch(type, one.args)));
    }
    return () => void handlers.delete(fn);
  }

  /** @param {string} module @param {Record<string, Callback>} functions */
  expose(module, functions) {
    const known = this.#exposed.get(module);
    if (known) return void Object.assign(known, functions);
    const own = { ...functions };
    this.#exposed.set(module, own);
    this.on(`gr:call ${module}`, async (name, args) => {
      try {
        if (!Object.hasOwn(own, name)) throw new GreenroomError("not_found", `${module} exposes no ${name}`);
        await own[name]?.(...args);
      } catch (error) {
        this.refused(/** @type {any} */ (error), `gr:call ${module}.${name}`);
      }
    });
  }

  /** @param {(status: Status) => void} fn */
  onStatus(fn) {
    this.#statusHooks.add(fn);
    return () => void this.#statusHooks.delete(fn);
  }

  /** @param {(direction: "in" | "out", frame: Frame) => void} fn */
  onFrame(fn) {
    this.#frameHooks.add(fn);
    this.#link.onFrame = (...args) => this.#frameHooks.forEach((hook) => guard("a frame hook failed", hook, ...args));
    return () => {
      this.#frameHooks.delete(fn);
      if (!this.#frameHooks.size) this.#link.onFrame = null;
    };
  }

  /** @param {Blob} file @param {import("../greenroom.d.ts").UploadOptions} [options] */
  upload(file, options) {
    return upload(this, file, options);
  }

  /** @param {(upload: import("../greenroom.d.ts").Upload) => void} fn */
  onUpload(fn) {
    this.#uploadHooks.add(fn);
    return () => void this.#uploadHooks.delete(fn);
  }

  /** @param {ParentNode} [root] */
  bind(root = document) {
    return bind(this, root);
  }

  /** Leave for good. The session stays for its time to live; its token is kept in the store. */
  close() {
    this.#leaving = true;
    this.#link.bye(this.#clock.now());
    this.#ready.reject(new GreenroomError("closed", "the client was closed"));
    this.#pump();
  }

  #eventsApi() {
    /** @param {string} name @returns {Promise<void>} */
    const subscribe = async (name) => {
      this.#subscriptions.set(name, (this.#subscriptions.get(name) ?? 0) + 1);
      for (;;) {
        try {
          await this.#ask("gr:subscribe", { name }, { name });
          return;
        } catch (error) {
          // Lost is all right: the link subscribes again, and so do we, to know how it ended.
          if (error instanceof GreenroomError && error.code === "lost" && this.status !== "closed") continue;
          this.#subscriptions.delete(name);
          throw error;
        }
      }
    };
    return {
      subscribe,
      /** @param {string} name */
      unsubscribe: async (name) => {
        const others = (this.#subscriptions.get(name) ?? 1) - 1;
        this.#subscriptions.set(name, others);
        if (others > 0) return;
        this.#subscriptions.delete(name);
        await this.#ask("gr:unsubscribe", { name }, { name }).catch((error) => {
          if (error.code !== "lost") throw error; // a new link is not subscribed anyway
        });
      },
      /** @param {string} name @param {Callback} fn */
      registerHandler: (name, fn) => this.on(`gr:signal ${name}`, fn),
      /** @param {string} name @param {any} [data] */
      trigger: (name, data = null) => this.call("gr:trigger", { name, data }),
      /** @param {string} name @param {any} [data] @param {CallOptions} [options] */
      request: (name, data = null, options = {}) =>
        this.call("gr:query", { name, data, ...(options.timeout && { timeout: options.timeout }) }, options),
    };
  }

  // -- built-in actions and files reach the client through these -------------------------------

  /** Where the server's file at `path` is: beside its socket. @param {string} path */
  address(path) {
    return new URL(path, this.#url.replace(/^ws/, "http")).href;
  }

  /** Bytes that a frame of ours may have; 0: any. */
  get maxFrameIn() {
    return this.#link.maxFrameIn;
  }

  /** An upload has come so far. @param {import("../greenroom.d.ts").Upload} upload */
  uploading(upload) {
    for (const hook of [...this.#uploadHooks]) guard("an upload hook failed", hook, upload);
    upload.element?.dispatchEvent(new CustomEvent("gr-upload", { bubbles: true, detail: upload }));
  }

  /** Before the page is hidden or left, while frames still go out. @param {() => void} fn */
  onLeave(fn) {
    this.#leaveHooks.add(fn);
    return () => void this.#leaveHooks.delete(fn);
  }

  /** Answer a question of the server. @param {number} call @param {any} value */
  answer(call, value) {
    this.#submit("gr:answer", { call, value }, {});
  }

  /** Do what the server could ask for, or what the page has put in its place. @param {string} type @param {any} data */
  perform(type, data) {
    this.#dispatch(type, [data, this.label]);
  }

  /** Call what the page exposed, now or as soon as it does. @param {string} module @param {string} name @param {any[]} args */
  invoke(module, name, args) {
    this.#dispatch(`gr:call ${module}`, [name, args]);
  }

  // -- frames ----------------------------------------------------------------------------------

  /** @param {string} type @param {any} data @param {{context?: any, tag?: Waiter | null, name?: string}} more */
  #submit(type, data, { context, tag = null, name }) {
    /** @type {Uint8Array[]} */
    const buffers = [];
    const text = encode(data, this.#link.binary ? buffers : null);
    const about = context === undefined ? undefined : encode(context, null);
    const entry = this.#link.submit(type, text, { context: about, buffers, tag, name });
    this.#pump();
    return entry;
  }

  /** @param {string} type @param {any} data @param {{name?: string}} [more] @returns {Promise<any>} */
  #ask(type, data, more = {}) {
    const { promise, resolve, reject } = withResolvers();
    this.#submit(type, data, { ...more, tag: { resolve, reject } });
    return promise;
  }

  /** Send one packet. One that is closing takes nothing more, and says so in the console. @param {import("./codec.js").Packet} packet */
  #put(packet) {
    const socket = this.#socket;
    if (!socket || socket.readyState > 1) return; // the link keeps what is not acknowledged
    socket.send(/** @type {string | Uint8Array<ArrayBuffer>} */ (pack(packet)));
  }

  /** Carry out what the link wants, until it wants nothing more. */
  #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (let busy = true; busy; ) {
        const packets = this.#link.take();
        for (const packet of packets) this.#put(packet);
        const effects = this.#link.effects();
        for (const [kind, ...args] of effects) this.#act(kind, args);
        busy = packets.length + effects.length > 0;
      }
    } finally {
      this.#pumping = false;
    }
    this.#schedule();
    this.#tellStatus();
  }

  /** @param {string} kind @param {any[]} args */
  #act(kind, args) {
    switch (kind) {
      case "snapshot":
        this.#mirror.snapshot(args[0]);
        return this.#ready.resolve(this);
      case "patch":
        return this.#patch(args[0]);
      case "answer":
        return args[0].tag?.resolve(args[1]);
      case "error": {
        const [entry, code, message, after] = args;
        const error = new GreenroomError(code, message, after);
        return entry.tag ? entry.tag.reject(error) : this.refused(error, entry.type);
      }
      case "refusal":
        return this.refused(new GreenroomError(args[0], args[1]), "");
      case "event":
        return this.#dispatch(args[0], args.slice(1));
      case "signal":
        return this.#dispatch(`gr:signal ${args[0]}`, args.slice(1));
      case "gap":
      case "renewed":
        return this.#dispatch(`gr:${kind}`, [{}]);
      case "token":
        return this.#token(args[0], args[1]);
      case "hang_up":
        return this.#hangUp(args[0], args[1]);
      case "retry":
        if (args[0] === "never") this.#ready.reject(new GreenroomError("closed", args[3]));
        return this.#retry(args[0], args[1]);
    }
  }

  /** @param {any} patch */
  #patch(patch) {
    try {
      this.#mirror.patch(patch);
    } catch (error) {
      if (!(error instanceof Diverged)) throw error;
      report("the state is asked for again", error);
      this.#link.diverged(error.message, this.#clock.now());
    }
  }

  /** A frame that nobody waits for was refused. @param {GreenroomError} error @param {string} type */
  refused(error, type) {
    if (this.#handlers.get("gr:error")?.size) this.#dispatch("gr:error", [error, type]);
    else if (!this.#leaving) report(`${type || "a frame"} was refused`, error);
  }

  /** @param {string} type @param {any[]} args `(data, type, label)` for an event */
  #dispatch(type, args) {
    const handlers = this.#handlers.get(type);
    const [data, label] = args;
    if (handlers?.size) {
      for (const fn of [...handlers]) {
        const value = guard(`a handler of ${type} failed`, fn, ...(type.includes(" ") ? args : [data, type, label]));
        if (type === "gr:confirm" && data?.call !== undefined) {
          Promise.resolve(value).then((answer) => answer ?? null, () => null).then((answer) => this.answer(data.call, answer));
        }
      }
    } else if (!type.startsWith("gr:") || type.includes(" ")) {
      this.#late.push({ type, args });
      if (this.#late.length > LATE_EVENTS) this.#forgetOldest();
    } else if (globalThis.document) {
      guard(`${type} failed`, () => builtIn(this, type, data));
    }
  }

  /** Nobody took it in all this time. It is said once for each type. */
  #forgetOldest() {
    const type = this.#late.shift()?.type ?? "";
    if (this.#unheard.has(type)) return;
    this.#unheard.add(type);
    console.warn(`greenroom: nothing handles ${type}: the oldest of ${LATE_EVENTS} that wait are forgotten`);
  }

  // -- the connection --------------------------------------------------------------------------

  #dial() {
    this.#dialAt = Infinity;
    this.#liveSince = Infinity;
    const socket = new this.#WebSocket(this.#url);
    this.#socket = socket;
    let opened = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      opened = true;
      this.#link.open(this.#clock.now());
      this.#pump();
    };
    socket.onmessage = ({ data }) => {
      this.#link.receive(unpack(data), this.#clock.now());
      this.#pump();
    };
    socket.onclose = ({ code }) => {
      this.#drop();
      if (opened) this.#link.cut(code, this.#clock.now());
      else this.#retry("resume", null);
      this.#pump();
    };
  }

  /** Let go of the socket; what it still brings is not ours. */
  #drop() {
    const socket = this.#socket;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    this.#socket = null;
    return socket;
  }

  /** @param {number} code @param {string} reason */
  #hangUp(code, reason) {
    this.#drop()?.close(code, reason);
  }

  /** @param {"resume" | "fresh" | "never"} how @param {number | null} after */
  #retry(how, after) {
    const now = this.#clock.now();
    // A connection that outlived the wait before it starts the count anew.
    if (now - this.#liveSince > this.#waited) this.#attempt = 0;
    const step = Math.min(BACK_OFF_MAX, BACK_OFF * 2 ** this.#attempt++);
    this.#waited = Math.min(BACK_OFF_MAX, step * (0.5 + this.#random()));
    this.#notBefore = now + (after ?? 0);
    this.#dialAt = how === "never" ? Infinity : this.#notBefore + this.#waited;
  }

  /** The user or the network is back. */
  #wake() {
    const now = this.#clock.now();
    if (this.#socket) this.#link.wake(now);
    else if (this.#dialAt !== Infinity) this.#dialAt = this.#notBefore;
    this.#pump();
  }

  /** One timer for all that is due: to dial, the link's deadline, a new token. */
  #schedule() {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#link.state === "closed") return;
    const now = this.#clock.now();
    if (!this.#socket && this.#dialAt <= now) this.#dial();
    const due = Math.min(this.#dialAt, this.#link.deadline() ?? Infinity, this.#refreshAt);
    if (due === Infinity) return;
    this.#timer = this.#clock.setTimeout(() => this.#tick(), Math.max(0, due - now) * 1000);
  }

  #tick() {
    const now = this.#clock.now();
    this.#link.tick(now);
    if (now >= this.#refreshAt) {
      this.#refreshAt = Infinity; // the next token sets it again
      if (this.#link.state === "live") void this.#refresh();
    }
    this.#pump();
  }

  /** Ask for a new token, well before the one we have expires. */
  async #refresh() {
    try {
      await this.#ask("gr:refresh", undefined);
    } catch (error) {
      const { code } = /** @type {GreenroomError} */ (error);
      if (code === "lost" || code === "closed") return; // the next welcome brings one
      report("the token was not renewed", error);
      if (code === "unauthorized") return; // revoked: this session ends with its connection
      this.#refreshAt = this.#clock.now() + REFRESH_AGAIN;
      this.#schedule();
    }
  }

  #tellStatus() {
    const state = this.#link.state;
    const idle = this.#socket ? "connecting" : "offline";
    const status = /** @type {Status} */ (state === "live" || state === "closed" ? state : idle);
    if (status === this.status) return;
    if (status === "live") this.#liveSince = this.#clock.now();
    if (status === "closed") this.#undo.splice(0).forEach((undo) => undo());
    this.status = status;
    for (const hook of [...this.#statusHooks]) guard("a status hook failed", hook, status);
  }

  // -- the page --------------------------------------------------------------------------------

  /** @param {Window | null | undefined} window */
  #listen(window) {
    if (!window?.addEventListener) return;
    /** @param {EventTarget} target @param {string} type @param {(event: any) => void} fn */
    const listen = (target, type, fn) => {
      target.addEventListener(type, fn);
      this.#undo.push(() => target.removeEventListener(type, fn));
    };
    listen(window, "online", () => this.#wake());
    listen(window, "pageshow", () => this.#wake());
    listen(window.document, "visibilitychange", () => (window.document.visibilityState === "visible" ? this.#wake() : this.#leave()));
    listen(window, "pagehide", (event) => {
      this.#leave();
      if (!event.persisted) this.close(); // the page is gone for good
    });
  }

  /** The page may never be seen again: what still waits in it is sent now. */
  #leave() {
    for (const hook of [...this.#leaveHooks]) guard("a hook failed as the page was left", hook);
  }

  #stored() {
    try {
      return this.#store?.getItem(this.#storeKey) ?? null;
    } catch {
      return null; // storage is forbidden here
    }
  }

  /** @param {string | null} token @param {number | null} expires */
  #token(token, expires) {
    try {
      if (token === null) this.#store?.removeItem(this.#storeKey);
      else this.#store?.setItem(this.#storeKey, token);
    } catch {
      // Storage is full or forbidden: a reload will open a new session.
    }
    if (!expires) return;
    // A moment of the calendar, or a number of seconds: no token lives for three years.
    const left = expires > 1e8 ? expires - this.#clock.wall() : expires;
    const wait = left > 0 ? Math.max(REFRESH_MIN, left / 2) : REFRESH_AGAIN;
    this.#refreshAt = this.#clock.now() + Math.min(REFRESH_MAX, wait);
  }
}

/** Time in seconds, and timers in milliseconds. @type {import("../greenroom.d.ts").Clock} */
const systemClock = {
  now: () => performance.now() / 1000,
  wall: () => Date.now() / 1000,
  setTimeout: (fn, delay) => setTimeout(fn, delay),
  clearTimeout: (timer) => clearTimeout(timer),
};

/** `ws` beside greenroom.js, which is one folder up, unless told otherwise. @param {string | URL} [url] */
function socketUrl(url) {
  const here = globalThis.document?.baseURI;
  const full = url === undefined ? new URL("../ws", import.meta.url) : new URL(url, here);
  full.protocol = full.protocol.replace(/^http/, "ws");
  full.hash = "";
  return full.href;
}

function defaultStore() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // forbidden: the session ends with the page
  }
}

function withResolvers() {
  /** @type {Waiter["resolve"]} */
  let resolve = () => {};
  /** @type {Waiter["reject"]} */
  let reject = () => {};
  const promise = new Promise((yes, no) => ((resolve = yes), (reject = no)));
  return { promise, resolve, reject };
}

/** Call somebody else's function: its failure is theirs. @param {string} text @param {Callback} fn @param {any[]} args */
function guard(text, fn, ...args) {
  try {
    const value = fn(...args);
    value?.catch?.((/** @type {unknown} */ error) => report(text, error));
    return value;
  } catch (error) {
    report(text, error);
    return undefined;
  }
}

/** @param {string} text @param {unknown} error */
function report(text, error) {
  console.error(`greenroom: ${text}:`, error);
}
