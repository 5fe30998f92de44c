// A clock that moves when told, a WebSocket that a test plays the server of, and a store.
import { connect } from "../../src/client/greenroom.js";

export class FakeClock {
  time = 0;
  timers = new Map();
  last = 0;

  now = () => this.time;
  wall = () => 1_700_000_000 + this.time;

  setTimeout = (fn, delay) => {
    this.timers.set(++this.last, { fn, at: this.time + delay / 1000 });
    return this.last;
  };

  clearTimeout = (timer) => void this.timers.delete(timer);

  /** Let `seconds` pass, and what is due run, in order. */
  async pass(seconds) {
    const end = this.time + seconds;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].fn();
      await settle();
    }
    this.time = end;
  }
}

/** Let promises that are decided have their say. */
export async function settle() {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

export class FakeStore {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, value);
  removeItem = (key) => void this.items.delete(key);
}

/** A client with its server in the test's hands. */
export class Stage {
  clock = new FakeClock();
  store = new FakeStore();
  sockets = [];
  page = new EventTarget();

  constructor(options = {}) {
    const stage = this;
    this.page.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
    class FakeSocket {
      sent = [];
      closed = null;

      constructor(url) {
        this.url = url;
        stage.sockets.push(this);
      }

      send(message) {
        this.sent.push(typeof message === "string" ? JSON.parse(message) : message);
      }

      close(code, reason) {
        this.closed = [code, reason];
      }
    }
    this.gr = connect({
      url: "ws://server/ws",
      store: this.store,
      clock: this.clock,
      random: () => 0.5,
      window: this.page,
      WebSocket: FakeSocket,
      ...options,
    });
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** What was sent since the last look. */
  get sent() {
    return this.socket.sent.splice(0);
  }

  open() {
    this.socket.onopen();
    return this.sent;
  }

  say(...frames) {
    for (const frame of frames) this.socket.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    return this.sent;
  }

  welcome(data = {}) {
    return this.say({
      type: "gr:welcome",
      data: {
        ...{ protocol: 1, session: "S1", token: "T1", expires: 86400, link: "L1", resumed: false, seq: 0, ack: 0 },
        ...{ pending: [], ping: 20, dead: 10, window: 120, max_frame_in: 1048576, inflight: 256, binary: true },
        ...data,
      },
    });
  }

  live(state = {}) {
    this.open();
    return [...this.welcome(), ...this.say({ type: "gr:snapshot", seq: 1, data: state })];
  }

  cut(code = 1006) {
    this.socket.onclose({ code });
  }
}
