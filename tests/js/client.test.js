// The browser client over a fake WebSocket and a clock of its own: no network, no waiting.
import assert from "node:assert/strict";
import test from "node:test";

import { Bytes, GreenroomError, connect } from "../../src/client/greenroom.js";
import { unpack } from "../../src/client/greenroom/codec.js";
import { FakeStore, Stage, settle } from "./fakes.js";

const failure = (code) => (error) => error instanceof GreenroomError && error.code === code;
const result = (seq, id, data) => ({ type: "gr:result", seq, id, data });

/** Catch what goes to the console as an error. */
function errors(t) {
  const logged = [];
  t.mock.method(console, "error", (...args) => logged.push(args));
  return logged;
}

test("from nothing to a live state", async () => {
  const stage = new Stage();
  const seen = [];
  stage.gr.onStatus((status) => seen.push(status));
  assert.equal(stage.gr.status, "connecting");
  assert.equal(stage.socket.url, "ws://server/ws");
  assert.deepEqual(stage.open(), [
    { type: "gr:hello", data: { protocol: 1, token: null, link: null, seq: 0, label: "main", binary: true } },
  ]);
  stage.welcome();
  stage.say({ type: "gr:snapshot", seq: 1, data: { a: { b: 1 } } });
  assert.equal(await stage.gr.ready, stage.gr);
  assert.deepEqual(stage.gr.state, { a: { b: 1 } });
  assert.equal(stage.gr.get("a.b"), 1);
  assert.equal(stage.gr.session, "S1");
  assert.deepEqual(seen, ["live"]);
});

test("subscribers hear once per patch, with value and previous", () => {
  const stage = new Stage();
  stage.live({ a: { b: 1, c: 2 }, list: ["x"] });
  const heard = [];
  for (const path of ["", "a", "a.b", ["a", "c"], "list.0", "gone.away"]) {
    stage.gr.subscribe(path, (...values) => heard.push([String(path), ...values]));
  }
  const before = stage.gr.state;
  stage.say({ type: "gr:state", seq: 2, data: { "=": { "/a/b": 1, "/x": 3 }, "+": { "/list": ["y"] } } });
  assert.deepEqual(heard.map(([path]) => path), ["", "a", "a.b"]);
  assert.deepEqual(heard[2], ["a.b", 1, 1]); // an equal value is a mutation still
  assert.equal(heard[0][2], before);
  assert.deepEqual(before, { a: { b: 1, c: 2 }, list: ["x"] }); // what was is left alone
  heard.length = 0;
  stage.say({ type: "gr:state", seq: 3, data: { "-": ["/a"] } });
  assert.deepEqual(heard.map(([path, value]) => [path, path && value]), [["", ""], ["a", undefined], ["a.b", undefined], ["a,c", undefined]]);
});

test("a snapshot tells of what is different only", () => {
  const stage = new Stage();
  stage.live({ same: { n: 1 }, other: 1 });
  const heard = [];
  stage.gr.subscribe("same", (value) => heard.push(["same", value]));
  stage.gr.subscribe("other", (value) => heard.push(["other", value]));
  stage.gr.on("gr:gap", () => heard.push(["gap"]));
  stage.cut();
  stage.clock.pass(1);
  stage.open();
  stage.welcome({ seq: 5 });
  stage.say({ type: "gr:snapshot", seq: 6, data: { same: { n: 1 }, other: 2 } });
  assert.deepEqual(heard, [["other", 2], ["gap"]]);
});

test("a call is answered, or fails with a code", async () => {
  const stage = new Stage();
  stage.live();
  const good = stage.gr.call("add", 5, { context: { row: 1 } });
  const bad = stage.gr.call("app:save");
  assert.deepEqual(stage.sent, [
    { type: "add", id: 1, data: 5, context: { row: 1 } },
    { type: "app:save", id: 2 },
  ]);
  stage.say(result(2, 1, { sum: 5 }), {
    type: "gr:error",
    seq: 3,
    id: 2,
    data: { code: "busy", message: "full", retry_after: 0.5 },
  });
  assert.deepEqual(await good, { sum: 5 });
  await assert.rejects(bad, (error) => failure("busy")(error) && error.retryAfter === 0.5 && error.message === "full");
});

test("a call times out; what was not sent yet never is, what was is cancelled", async () => {
  const stage = new Stage();
  const early = stage.gr.call("add", 1, { timeout: 2 });
  const checked = assert.rejects(early, failure("timeout"));
  await stage.clock.pass(2);
  await checked;
  stage.live();
  const late = stage.gr.call("add", 2, { timeout: 0.5 });
  const waiting = assert.rejects(late, failure("timeout"));
  await stage.clock.pass(0.5);
  await waiting;
  assert.deepEqual(stage.sent, [
    { type: "add", id: 1, data: 2 },
    { type: "gr:cancel", id: 2, data: { id: 1 } },
  ]);
  stage.say(result(2, 1, 2)); // too late, and no harm
});

test("a signal aborts: by withdrawing what waits, by gr:cancel what does not", async () => {
  const stage = new Stage();
  const early = new AbortController();
  const waiting = stage.gr.call("add", 1, { signal: early.signal });
  early.abort();
  await assert.rejects(waiting, failure("cancelled"));
  await assert.rejects(stage.gr.call("add", 1, { signal: early.signal }), failure("cancelled"));
  stage.live();
  const control = new AbortController();
  const running = stage.gr.call("add", 2, { signal: control.signal });
  control.abort();
  assert.deepEqual(stage.sent, [
    { type: "add", id: 1, data: 2 },
    { type: "gr:cancel", id: 2, data: { id: 1 } },
  ]);
  stage.say(result(2, 2, true), { type: "gr:error", seq: 3, id: 1, data: { code: "cancelled", message: "c" } });
  await assert.rejects(running, failure("cancelled"));
});

test("what is said offline waits for a connection, and exactly once goes out", async () => {
  const stage = new Stage();
  stage.live();
  const sent = stage.gr.call("add", 1);
  assert.equal(stage.sent.length, 1);
  stage.cut();
  assert.equal(stage.gr.status, "offline");
  const queued = stage.gr.call("add", 2);
  await stage.clock.pass(0.25);
  assert.equal(stage.sockets.length, 2);
  assert.deepEqual(stage.open()[0].data, { protocol: 1, token: "T1", link: "L1", seq: 1, label: "main", binary: true });
  assert.deepEqual(stage.welcome({ resumed: true, seq: 1, ack: 0 }), [
    { type: "add", id: 1, data: 1 },
    { type: "add", id: 2, data: 2 },
  ]);
  stage.say(result(2, 1, "one"), result(3, 2, "two"));
  assert.deepEqual(await Promise.all([sent, queued]), ["one", "two"]);
});

test("a new link: what was handed over is lost, signals are subscribed again", async () => {
  const stage = new Stage();
  stage.live();
  const subscribed = stage.gr.events.subscribe("model:created");
  const call = assert.rejects(stage.gr.call("add", 1), failure("lost"));
  stage.sent;
  const renewed = [];
  stage.gr.on("gr:renewed", () => renewed.push(1));
  stage.cut(1012);
  await stage.clock.pass(1);
  stage.open();
  const first = stage.welcome({ link: "L2" });
  await call;
  await settle();
  assert.deepEqual([...first, ...stage.sent].map(({ type, id, data }) => [type, id, data]), [
    ["gr:subscribe", 1, { name: "model:created" }],
    ["gr:subscribe", 2, { name: "model:created" }], // to know how it ends
  ]);
  stage.say({ type: "gr:snapshot", seq: 1, data: {} }, result(2, 1, true), result(3, 2, true));
  await subscribed;
  assert.deepEqual(renewed, [1]);
});

test("the offline queue is bounded", async (t) => {
  const logged = errors(t);
  const stage = new Stage();
  for (let i = 0; i < 1000; i++) stage.gr.send("add", i);
  await assert.rejects(stage.gr.call("add"), failure("offline"));
  stage.gr.send("add");
  assert.equal(logged.length, 1); // nothing is dropped in silence
  const refusals = [];
  stage.gr.on("gr:error", (error) => refusals.push(error.code));
  stage.gr.send("add");
  assert.deepEqual(refusals, ["offline"]);
});

test("back-off doubles to ten seconds, with jitter, and a connection that lasted resets it", async () => {
  const stage = new Stage();
  const waits = [];
  for (let i = 0; i < 8; i++) {
    const { time } = stage.clock;
    stage.cut();
    const [, timer] = [...stage.clock.timers][0];
    waits.push(timer.at - time);
    await stage.clock.pass(timer.at - time);
  }
  assert.deepEqual(waits, [0.25, 0.5, 1, 2, 4, 8, 10, 10]);
  stage.live();
  await stage.clock.pass(11);
  stage.say({ type: "gr:ping", data: { seq: 1 } });
  const { time } = stage.clock;
  stage.cut();
  assert.equal([...stage.clock.timers][0][1].at - time, 0.25);
});

test("jitter spreads the wait from half to one and a half", () => {
  for (const [random, wait] of [[0, 0.125], [0.999, 0.37475]]) {
    const stage = new Stage({ random: () => random });
    stage.cut();
    assert.ok(Math.abs([...stage.clock.timers][0][1].at - wait) < 1e-9);
  }
});

test("the network or the user is back: at once, but not before the server's time", async () => {
  const stage = new Stage();
  for (let i = 0; i < 6; i++) {
    stage.cut();
    await stage.clock.pass(20);
  }
  stage.cut();
  const dialled = stage.sockets.length;
  stage.page.dispatchEvent(new Event("online"));
  assert.equal(stage.sockets.length, dialled + 1);
  stage.live();
  stage.say({ type: "gr:close", data: { code: "draining", message: "", retry: "resume", after: 3 } });
  assert.deepEqual(stage.socket.closed, [1000, "draining"]);
  stage.page.document.dispatchEvent(new Event("visibilitychange"));
  await stage.clock.pass(2.9);
  assert.equal(stage.sockets.length, dialled + 1);
  await stage.clock.pass(0.2);
  assert.equal(stage.sockets.length, dialled + 2);
});

test("being visible again asks whether the connection lives", async () => {
  const stage = new Stage();
  stage.live();
  stage.page.document.dispatchEvent(new Event("visibilitychange"));
  assert.deepEqual(stage.sent, [{ type: "gr:ping", data: { id: 0 } }]);
  const { socket } = stage;
  await stage.clock.pass(10);
  assert.deepEqual(socket.closed, [1000, ""]);
  assert.equal(stage.gr.status, "offline");
});

test("acks go out by themselves", async () => {
  const stage = new Stage();
  stage.live();
  await stage.clock.pass(1);
  assert.deepEqual(stage.sent, [{ type: "gr:ack", data: { seq: 1 } }]);
});

test("the token is kept in the store, under the server's name, and nothing else is", () => {
  const store = new FakeStore();
  const stage = new Stage({ store });
  stage.live({ secret: 1 });
  assert.deepEqual([...store.items], [["greenroom ws://server/ws", "T1"]]);
  const reloaded = new Stage({ store });
  assert.equal(reloaded.open()[0].data.token, "T1");
  assert.equal(reloaded.gr.session, null);
  reloaded.say({ type: "gr:close", data: { code: "unauthorized", message: "", retry: "fresh" } });
  assert.deepEqual([...store.items], []);
});

test("a store that refuses is no store", () => {
  const refuse = () => {
    throw new Error("forbidden");
  };
  const stage = new Stage({ store: { getItem: refuse, setItem: refuse, removeItem: refuse } });
  stage.live();
  assert.equal(stage.gr.status, "live");
});

test("the token is renewed at half its life", async () => {
  const stage = new Stage();
  stage.open();
  stage.welcome({ expires: stage.clock.wall() + 200, ping: 0, dead: 0 });
  await stage.clock.pass(99);
  assert.deepEqual(stage.sent, []);
  await stage.clock.pass(1);
  assert.deepEqual(stage.sent, [{ type: "gr:refresh", id: 1 }]);
  stage.say({ type: "gr:result", seq: 1, id: 1, data: { token: "T2", expires: 86400 } });
  assert.deepEqual([...stage.store.items.values()], ["T2"]);
});

test("short lives, clocks that are ahead, and refusals", async (t) => {
  const errors = t.mock.method(console, "error", () => {});
  const cases = [
    [4, 5], [20, 10], [-100, 30], [0.001, 5], // our clock may be ahead of the server's
    [10 * 86400, 12 * 3600],
  ];
  for (const [left, wait] of cases) {
    const stage = new Stage();
    stage.open();
    stage.welcome({ expires: stage.clock.wall() + left, ping: 0, dead: 0 });
    await stage.clock.pass(wait - 0.01);
    assert.deepEqual(stage.sent, [], String(left));
    await stage.clock.pass(0.02);
    assert.deepEqual(stage.sent, [{ type: "gr:refresh", id: 1 }]);
  }
  const stage = new Stage();
  stage.open();
  stage.welcome({ expires: stage.clock.wall() + 200, ping: 0, dead: 0 });
  await stage.clock.pass(100);
  stage.say({ type: "gr:error", seq: 1, id: 1, data: { code: "busy", message: "not now" } });
  await settle();
  assert.equal(errors.mock.calls.length, 1);
  await stage.clock.pass(31);
  assert.deepEqual(stage.sent.filter((frame) => frame.type === "gr:refresh"), [{ type: "gr:refresh", id: 2 }]);
  stage.say({ type: "gr:error", seq: 2, id: 2, data: { code: "unauthorized", message: "revoked" } });
  await settle();
  await stage.clock.pass(3600);
  assert.deepEqual(stage.sent.filter((frame) => frame.type === "gr:refresh"), []); // revoked is revoked
});

test("never: closed for good, and ready says so", async () => {
  const stage = new Stage();
  stage.open();
  const call = assert.rejects(stage.gr.call("add"), failure("closed"));
  stage.say({ type: "gr:close", data: { code: "version", message: "too old", retry: "never" } });
  await call;
  await assert.rejects(stage.gr.ready, /too old/);
  assert.equal(stage.gr.status, "closed");
  assert.equal(stage.clock.timers.size, 0);
  stage.page.dispatchEvent(new Event("online"));
  assert.equal(stage.sockets.length, 1);
});

test("close says bye; so does a page that goes for good", async () => {
  const stage = new Stage();
  stage.live();
  const call = assert.rejects(stage.gr.call("add"), failure("lost"));
  stage.sent;
  stage.gr.close();
  assert.deepEqual(stage.sent, [{ type: "gr:bye" }]);
  assert.deepEqual(stage.socket.closed, [1000, "bye"]);
  await call;
  await assert.rejects(stage.gr.call("add"), failure("closed"));
  const page = new Stage();
  page.live();
  page.page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: true }));
  assert.equal(page.gr.status, "live");
  page.page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: false }));
  assert.deepEqual(page.sent, [{ type: "gr:bye" }]);
});

test("events reach their handlers; those without one wait, bounded", async (t) => {
  const logged = errors(t);
  const stage = new Stage();
  stage.live();
  const heard = [];
  let seq = 1;
  const say = (type, data) => stage.say({ type, seq: ++seq, data, label: "main" });
  for (let i = 0; i < 101; i++) say("app:late", i);
  say("app:later", "x");
  const off = stage.gr.on("app:late", (...args) => heard.push(args));
  await settle();
  assert.equal(heard.length, 99);
  assert.deepEqual(heard[0], [2, "app:late", "main"]);
  stage.gr.on("app:late", () => {
    throw new Error("mine");
  });
  say("app:late", "now");
  assert.deepEqual(heard.at(-1), ["now", "app:late", "main"]);
  assert.equal(logged.length, 1);
  off();
  say("app:late", "off");
  assert.equal(heard.length, 100);
  say("gr:hologram", {}); // an unknown one of the protocol is ignored
  assert.equal(stage.gr.status, "live");
});

test("signals, triggers and queries", async () => {
  const stage = new Stage();
  stage.live();
  const heard = [];
  const one = stage.gr.events.subscribe("model:created");
  stage.gr.events.registerHandler("model:created", (data) => heard.push(data));
  stage.gr.events.trigger("model:created", { id: 1 });
  const count = stage.gr.events.request("model:count", null, { timeout: 5 });
  assert.deepEqual(stage.sent, [
    { type: "gr:subscribe", id: 1, data: { name: "model:created" } },
    { type: "gr:trigger", id: 2, data: { name: "model:created", data: { id: 1 } } },
    { type: "gr:query", id: 3, data: { name: "model:count", data: null, timeout: 5 } },
  ]);
  stage.say(result(2, 1, null), { type: "gr:signal", seq: 3, data: { name: "model:created", data: 7 } }, result(4, 3, 42));
  await one;
  assert.deepEqual(heard, [7]);
  assert.equal(await count, 42);
  const again = stage.gr.events.subscribe("model:created");
  stage.say(result(5, 4, null));
  await again;
  stage.sent;
  await stage.gr.events.unsubscribe("model:created");
  assert.deepEqual(stage.sent, []); // the other subscriber is still there
  const last = stage.gr.events.unsubscribe("model:created");
  assert.deepEqual(stage.sent, [{ type: "gr:unsubscribe", id: 5, data: { name: "model:created" } }]);
  stage.say(result(6, 5, null));
  await last;
  const refused = stage.gr.events.subscribe("model:secret");
  stage.say({ type: "gr:error", seq: 7, id: 6, data: { code: "not_found", message: "" } });
  await assert.rejects(refused, failure("not_found"));
});

test("the server calls what the page exposed, and nothing else", async (t) => {
  const logged = errors(t);
  const stage = new Stage();
  stage.live();
  const drawn = [];
  stage.gr.invoke("charts", "draw", [1, 2]); // what gr:call does; the module comes late
  stage.gr.expose("charts", { draw: (...args) => drawn.push(args) });
  await settle();
  stage.gr.expose("charts", { clear: () => drawn.push("clear") });
  stage.gr.invoke("charts", "draw", [3]);
  stage.gr.invoke("charts", "clear", []);
  stage.gr.invoke("charts", "toString", []);
  stage.gr.invoke("charts", "constructor", []);
  assert.deepEqual(drawn, [[1, 2], [3], "clear"]);
  assert.equal(logged.length, 2);
});

test("a page's own gr:confirm is the answer", async (t) => {
  errors(t);
  const stage = new Stage();
  stage.live();
  stage.gr.on("gr:confirm", async ({ message }) => message === "sure?");
  stage.say({ type: "gr:confirm", seq: 2, data: { call: 3, message: "sure?" } });
  await settle();
  assert.deepEqual(stage.sent, [{ type: "gr:answer", id: 1, data: { call: 3, value: true } }]);
});

test("bytes go out as buffers of a binary message, or as base64", () => {
  const stage = new Stage();
  stage.live();
  stage.gr.send("save", { file: new Bytes(Uint8Array.of(1, 2), "image/png", "a.png"), raw: Uint8Array.of(9) });
  const [message] = stage.sent;
  const { text, buffers } = unpack(message);
  assert.deepEqual(JSON.parse(text), {
    type: "save",
    id: 1,
    data: { file: { $bytes: 0, mime: "image/png", name: "a.png" }, raw: { $bytes: 1 } },
  });
  assert.deepEqual(buffers.map((part) => [...part]), [[1, 2], [9]]);
  const plain = new Stage({ binary: false });
  plain.live();
  plain.gr.send("save", Uint8Array.of(1, 2));
  assert.deepEqual(plain.sent, [{ type: "save", id: 1, data: { $bytes: "AQI=" } }]);
});

test("the URL of bytes lives as long as the value", (t) => {
  const revoked = [];
  let made = 0;
  t.mock.method(URL, "createObjectURL", () => `blob:${++made}`);
  t.mock.method(URL, "revokeObjectURL", (url) => revoked.push(url));
  const stage = new Stage();
  stage.live({});
  const set = (seq, path, value) => stage.say({ type: "gr:state", seq, data: { "=": { [path]: value } } });
  set(2, "/pic", { $bytes: "AQI=", mime: "image/png" });
  set(3, "/doc", { $bytes: "AQI=", mime: "text/html" });
  const { pic, doc } = stage.gr.state;
  assert.equal(pic.url, "blob:1");
  assert.equal(pic.url, "blob:1");
  assert.equal(doc.url, "blob:2");
  set(4, "/other", 1);
  assert.deepEqual(revoked, []);
  set(5, "/pic", null);
  assert.deepEqual(revoked, ["blob:1"]);
  assert.match(new Bytes(Uint8Array.of(60), "image/svg+xml").url, /^data:image\/svg\+xml;base64,PA==$/);
  assert.equal(URL.createObjectURL.mock.calls[1].arguments[0].type, "application/octet-stream"); // no page of ours
});

test("a patch that does not fit brings a new link, not a wrong state", async (t) => {
  errors(t);
  const stage = new Stage();
  stage.live({ n: 1 });
  const { socket } = stage;
  stage.say({ type: "gr:state", seq: 2, data: { "=": { "/gone/deep": 1 } } });
  assert.deepEqual(socket.closed, [4000, "bad_frame"]);
  assert.deepEqual(stage.gr.state, { n: 1 });
  await stage.clock.pass(1);
  assert.deepEqual(stage.open()[0].data, { protocol: 1, token: "T1", link: null, seq: 0, label: "main", binary: true });
});

test("frames of a socket we gave up are not heard", async () => {
  const stage = new Stage();
  stage.live({ n: 1 });
  const { socket } = stage;
  stage.cut();
  assert.equal(socket.onmessage, null);
});

test("a subscriber may send, close, and throw", (t) => {
  const logged = errors(t);
  const stage = new Stage();
  stage.live({});
  stage.gr.subscribe("n", (n) => {
    stage.gr.send("seen", n);
    if (n === 2) stage.gr.close();
    throw new Error("mine");
  });
  assert.deepEqual(stage.say({ type: "gr:state", seq: 2, data: { "=": { "/n": 1 } } }), [{ type: "seen", id: 1, data: 1 }]);
  stage.say({ type: "gr:state", seq: 3, data: { "=": { "/n": 2 } } });
  assert.equal(stage.gr.status, "closed");
  assert.ok(logged.length >= 2);
});

test("the trace shows both directions, until it is switched off", () => {
  const stage = new Stage();
  const seen = [];
  const off = stage.gr.onFrame((direction, frame) => seen.push(`${direction} ${frame.type}`));
  stage.live();
  stage.gr.send("add", 1);
  assert.deepEqual(seen, ["out gr:hello", "in gr:welcome", "in gr:snapshot", "out add"]);
  off();
  stage.gr.send("add", 1);
  assert.equal(seen.length, 4);
});

test("the URL: http is understood, the default is beside the file", () => {
  const urls = [];
  class Socket {
    constructor(url) {
      urls.push(url);
    }
  }
  const options = { WebSocket: Socket, store: null, window: null, clock: new Stage().clock };
  connect({ ...options, url: "https://host/live/ws#x" });
  connect(options);
  assert.equal(urls[0], "wss://host/live/ws");
  assert.match(urls[1], /\/src\/client\/ws$/);
});

test("a socket that is closing is sent nothing, and loses nothing", async () => {
  const stage = new Stage();
  stage.open();
  stage.welcome();
  stage.say({ type: "gr:snapshot", seq: 1, data: {} });
  const { socket } = stage;
  const before = socket.sent.length;
  socket.readyState = 2; // CLOSING
  stage.gr.send("add", 1);
  assert.equal(socket.sent.length, before);
  socket.readyState = 1;
  stage.gr.send("add", 2);
  assert.equal(socket.sent.at(-1).id, 2);
});
