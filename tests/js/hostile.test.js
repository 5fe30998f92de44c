// A server that says anything at all: nothing breaks, nothing grows, nothing leaves plain data.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bytes, decode } from "../../src/client/greenroom/codec.js";
import { apply, get } from "../../src/client/greenroom/patch.js";
import { safeTarget, safeUrl } from "../../src/client/greenroom/sanitize.js";
import { Stage, settle } from "./fakes.js";

const BUILT_IN = ["__proto__", "constructor", "prototype", "toString", "valueOf", "hasOwnProperty"];

function untouched() {
  assert.equal({}.polluted, undefined);
  assert.equal([].polluted, undefined);
  assert.equal((() => {}).polluted, undefined);
  for (const name of BUILT_IN) assert.equal(Object.hasOwn({}, name), false);
}

test("names of the language in paths are keys like any other and reach no prototype", () => {
  for (const name of BUILT_IN) {
    const root = apply({}, { "=": { [`/${name}`]: { polluted: 1 } } });
    assert.deepEqual(Object.keys(root), [name]);
    assert.equal(Object.getPrototypeOf(root), Object.prototype);
    assert.equal(get(root, [name, "polluted"]), 1);
    assert.equal(get({}, [name]), undefined);
    assert.equal(get([], [name]), undefined);
    const deeper = apply(root, { "=": { [`/${name}/${name}`]: 2 } });
    assert.equal(get(deeper, [name, name]), 2);
    assert.deepEqual(apply(deeper, { "-": [`/${name}`] }), {});
    // What is not there cannot be walked through, appended to or deleted.
    for (const patch of [{ "=": { [`/${name}/polluted`]: 1 } }, { "+": { [`/${name}`]: "x" } }, { "-": [`/${name}`] }]) {
      assert.throws(() => apply({}, patch), undefined, name);
    }
    const value = decode(JSON.parse(`{"${name}":{"polluted":1},"list":[{"${name}":{"polluted":1}}]}`));
    assert.equal(Object.getPrototypeOf(value), Object.prototype);
    assert.deepEqual(Object.keys(value), [name, "list"]);
    untouched();
  }
});

test("names of the language in frames: state, events, calls and contexts", async (t) => {
  const errors = t.mock.method(console, "error", () => {});
  const stage = new Stage();
  const called = [];
  stage.live({ ok: 1 });
  stage.gr.expose("page", { greet: (...args) => called.push(args) });
  let seq = 1;
  const say = (frame) => stage.say(`${JSON.stringify({ ...frame, seq: ++seq }).replaceAll("PROTO", "__proto__")}`);
  say({ type: "gr:snapshot", data: { PROTO: { polluted: 1 }, ok: 1 } });
  assert.equal(stage.gr.get(["__proto__", "polluted"]), 1);
  say({ type: "gr:state", data: { "=": { "/PROTO/polluted": 2, "/constructor": 3 } } });
  assert.equal(stage.gr.get("constructor"), 3);
  say({ type: "app:PROTO", data: { PROTO: { polluted: 1 } } });
  for (const name of [...BUILT_IN, "greet.constructor", ""]) {
    // What stands behind gr:call, with every name that an object has without having been given it.
    stage.gr.invoke("page", name, []);
    stage.gr.invoke(name, "greet", []);
    say({ type: "gr:call page", data: name });
  }
  await settle();
  assert.deepEqual(called, []);
  stage.gr.invoke("page", "greet", [1, 2]);
  assert.deepEqual(called, [[1, 2]]);
  assert.ok(errors.mock.calls.length > 0); // said, not swallowed
  assert.equal(stage.gr.status, "live");
  untouched();
});

test("events, signals and calls that nobody hears wait, a hundred of them and no more", () => {
  const stage = new Stage();
  stage.live({});
  for (let i = 1; i <= 3000; i++) {
    const type = ["app:x", "gr:call nobody", "gr:unknown"][i % 3];
    stage.say({ type, seq: i + 1, data: i });
  }
  let heard = 0;
  stage.gr.on("app:x", () => (heard += 1));
  stage.gr.on("gr:call nobody", () => (heard += 1));
  return settle().then(() => assert.ok(heard > 0 && heard <= 100, String(heard)));
});

test("a link to bytes is shown only where nothing in it can run", (t) => {
  const types = [];
  t.mock.method(URL, "createObjectURL", (blob) => `blob:${types.push(blob.type)}`);
  const urlOf = (mime) => new Bytes(Uint8Array.of(60), mime).url;
  const bad = [
    "text/html", " text/html", "TEXT/HTML", "text/html;charset=utf-8", "text/html ;x", "\ttext/html", "text/xml",
    "application/xhtml+xml", "application/xml", "text/javascript", "application/x-shockwave-flash", "text/vtt+xml",
    "multipart/x-mixed-replace", "message/rfc822", "image/svg", "image/svg+xml2", "unknown", "image/", "a/b;text/html",
  ];
  for (const mime of bad) urlOf(mime);
  assert.deepEqual(new Set(types), new Set(["application/octet-stream"]));
  for (const mime of ["image/svg+xml", " image/svg+xml", "IMAGE/SVG+XML;charset=utf-8"]) assert.match(urlOf(mime), /^data:/);
  types.length = 0;
  const good = ["image/png", "image/vnd.microsoft.icon", "video/mp4", "audio/ogg", "font/woff2", "text/plain;charset=utf-8", "application/pdf"];
  for (const mime of good) urlOf(mime);
  assert.deepEqual(types, good);
});

test("buffers are named by their numbers", () => {
  const buffers = [Uint8Array.of(1)];
  assert.deepEqual(decode({ $bytes: 0 }, buffers).bytes, buffers[0]);
  for (const name of [["length"], ["0"], [0], { a: 1 }, null, true, -1, 0.5, 1]) {
    assert.throws(() => decode({ $bytes: name }, buffers), TypeError, JSON.stringify(name));
  }
});

test("where the server may send a page", () => {
  for (const url of ["https://a.example", "page", "/page", "#x", "mailto:a@b.example"]) assert.equal(safeTarget(url), true, url);
  const bad = [
    "javascript:alert(1)", "java\nscript:alert(1)", "\u0001javascript:alert(1)", "JAVASCRIPT:alert(1)", "vbscript:x", "file:///etc",
    "data:text/html,x", "data:image/svg+xml,x", "da\nta:image/png,x", "blob:https://a.example/1", "bl\tob:https://a.example/1",
    " blob:x", "filesystem:x", "view-source:x", "about:blank", "intent:x", "ws:x",
  ];
  for (const url of bad) assert.equal(safeTarget(url), false, JSON.stringify(url));
  for (const url of [undefined, null, {}, 7]) assert.equal(typeof safeUrl(url), "boolean");
});

test("frames of any shape close, are asked for again or are passed over, and nothing throws", (t) => {
  t.mock.method(console, "error", () => {});
  t.mock.method(console, "warn", () => {});
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const pick = (list) => list[random(list.length)];
  const odd = { toString: 1, valueOf: 1 }; // cannot be made a text of
  const leaves = [null, true, -1, 0, 1, 2, 7, 1.5, 1e300, "", "x", "7", [], {}, [1], { a: 1 }, odd, [odd]];
  const types = ["welcome", "close", "snapshot", "state", "result", "error", "signal", "ping", "pong", "nack", "chunk", "batch", "confirm"];
  const fields = [
    ..."protocol session token expires link resumed seq ack pending ping dead window max_frame_in inflight".split(" "),
    ..."code message retry after retry_after of i last part name data call = - + $bytes $dict".split(" "),
  ];
  const object = () => Object.fromEntries(Array.from({ length: random(6) }, () => [pick(fields), pick(leaves)]));
  const frame = () => ({
    type: random(9) ? `gr:${pick(types)}` : "app:x",
    ...(random(4) && { data: random(3) ? object() : pick(leaves) }),
    ...(random(2) && { seq: pick(leaves) }),
    ...(random(3) || { id: pick(leaves) }),
    ...(random(5) || { label: pick(leaves) }),
  });
  for (let round = 0; round < 600; round++) {
    const stage = new Stage();
    stage.gr.ready.catch(() => {});
    stage.gr.onFrame(() => {});
    stage.open();
    if (random(2)) stage.welcome({});
    else stage.welcome(object());
    for (let i = 0; i < 8 && stage.socket.onmessage; i++) {
      const said = random(6) ? frame() : { type: "gr:batch", data: [frame(), frame()] };
      try {
        stage.say(said);
      } catch (error) {
        assert.fail(`${error.stack} after ${JSON.stringify(said)}`);
      }
    }
    const waits = [...stage.clock.timers.values()].map((timer) => timer.at);
    assert.ok(waits.every((at) => Number.isFinite(at)), "a timer at no time");
    if (stage.gr.status !== "closed") stage.gr.close();
  }
  untouched();
});
