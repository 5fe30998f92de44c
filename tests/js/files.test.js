// Files of the browser client: a fake socket, a fake XMLHttpRequest, no network, no waiting.
import assert from "node:assert/strict";
import test from "node:test";

import { decode, encode, unpack, withoutToken } from "../../src/client/greenroom/codec.js";
import { reader, safeName } from "../../src/client/greenroom/files.js";
import { Bytes, FileRef, GreenroomError } from "../../src/client/greenroom.js";
import { Stage, settle } from "./fakes.js";

const WORD = "file/" + "w".repeat(43);
const failure = (code) => (error) => error instanceof GreenroomError && error.code === code;

/** XMLHttpRequest as far as uploads use it; a test plays the server. */
function fakeRequests(t) {
  const requests = [];
  class Fake {
    upload = {};
    constructor() {
      requests.push(this);
    }
    open(method, url) {
      Object.assign(this, { method, url });
    }
    setRequestHeader() {}
    send(body) {
      this.body = body;
    }
    abort() {
      this.onabort();
      this.onloadend();
    }
    answer(status, responseText = "") {
      Object.assign(this, { status, responseText });
      this.onload();
      this.onloadend();
    }
  }
  globalThis.XMLHttpRequest = Fake;
  t.after(() => delete globalThis.XMLHttpRequest);
  return requests;
}

/** What the client said last. */
function last(stage) {
  const message = stage.sent.at(-1); // taken by whoever looks, so we keep it
  if (message) stage.said = message instanceof Uint8Array ? JSON.parse(unpack(message).text) : message;
  return stage.said;
}

/** Answer the frame that was said last. */
function answer(stage, data) {
  stage.say({ type: "gr:result", seq: ++stage.seq, id: last(stage).id, data });
  return settle();
}

function live(options) {
  const stage = new Stage(options);
  stage.seq = 1;
  stage.live();
  return stage;
}

test("a file goes up beside the socket, and says how far it is", async (t) => {
  const requests = fakeRequests(t);
  const stage = live({ url: "ws://server/live/ws" });
  const heard = [];
  const hooked = [];
  stage.gr.onUpload((upload) => hooked.push([upload.name, upload.sent, upload.done]));
  const file = new File([new Uint8Array(1000)], "a.bin", { type: "a/b" });
  const ref = stage.gr.upload(file, { progress: (...moved) => heard.push(moved) });
  assert.deepEqual(last(stage), { type: "gr:upload", id: 1, data: { name: "a.bin", size: 1000, mime: "a/b" } });
  await answer(stage, { file: "F1", url: WORD, piece: 10 });
  assert.equal(requests[0].method, "POST");
  assert.equal(requests[0].url, `http://server/live/${WORD}`);
  assert.equal(requests[0].body, file);
  requests[0].upload.onprogress({ loaded: 400 });
  requests[0].answer(200);
  assert.deepEqual(await ref, new FileRef("F1", "a.bin", "a/b", 1000));
  assert.deepEqual(heard, [[0, 1000], [400, 1000], [1000, 1000]]);
  assert.deepEqual(hooked.at(-1), ["a.bin", 1000, true]);
});

test("an abort ends the request and drops the file", async (t) => {
  const requests = fakeRequests(t);
  const stage = live();
  const control = new AbortController();
  const ref = stage.gr.upload(new Blob(["abc"]), { signal: control.signal });
  await answer(stage, { file: "F1", url: WORD });
  control.abort();
  await assert.rejects(ref, failure("cancelled"));
  assert.deepEqual(last(stage).data, { file: "F1", drop: true });
  assert.equal(requests.length, 1);
});

test("an abort by the first news of it sends nothing", async (t) => {
  const requests = fakeRequests(t);
  const stage = live();
  const control = new AbortController();
  const ref = stage.gr.upload(new Blob(["abc"]), { signal: control.signal, progress: () => control.abort() });
  await answer(stage, { file: "F1", url: WORD });
  await assert.rejects(ref, failure("cancelled"));
  assert.equal(requests.length, 0);
});

test("a refusal says what the server said", async (t) => {
  const requests = fakeRequests(t);
  const stage = live();
  for (const [status, body, code] of [
    [413, '{"code":"too_large","message":"m"}', "too_large"],
    [502, "<html>", "lost"],
  ]) {
    const ref = stage.gr.upload(new Blob(["abc"]));
    await answer(stage, { file: "F1", url: WORD });
    requests.at(-1).answer(status, body);
    await assert.rejects(ref, failure(code));
    await answer(stage, true);
  }
});

test("without an address it goes in pieces", async (t) => {
  const requests = fakeRequests(t);
  const stage = live();
  for (const url of [undefined, "http://evil/file/x", "../x"]) {
    const ref = stage.gr.upload(new Blob(["abcde"]));
    await answer(stage, { file: "F1", piece: 2, url });
    for (const [at, end] of [[0, false], [2, false], [4, true]]) {
      await new Promise((resolve) => setImmediate(resolve)); // the blob is read
      const { type, data } = last(stage);
      assert.deepEqual([type, data.file, data.at, data.last], ["gr:piece", "F1", at, end]);
      await answer(stage, at);
    }
    assert.equal((await ref).size, 5);
  }
  assert.equal(requests.length, 0);
});

test("of a payload, small files travel in it and large ones beside it", async (t) => {
  const requests = fakeRequests(t);
  const stage = live();
  const element = new EventTarget();
  const read = reader(stage.gr, element);
  const small = await read(new File(["hello"], "a.txt", { type: "text/plain" }));
  assert.ok(small.data instanceof Bytes);
  const events = [];
  element.addEventListener("gr-upload", ({ detail }) => events.push(detail.done));
  const large = read(new File([new Uint8Array(100_000)], "b.bin"));
  await answer(stage, { file: "F1", url: WORD });
  requests[0].answer(200);
  assert.deepEqual((await large).data, new FileRef("F1", "b.bin", "", 100_000));
  assert.deepEqual(events, [false, true]);
  const stale = read(new File([new Uint8Array(100_000)], "c.bin"));
  await answer(stage, { file: "F2", url: WORD });
  const next = reader(stage.gr, element)(new File(["x"], "d.txt")); // another choice: the one before is off
  await assert.rejects(stale, failure("cancelled"));
  assert.equal((await next).name, "d.txt");
});

test("$file on the wire", () => {
  const ref = new FileRef("F1", "a", "b/c", 3);
  assert.equal(encode({ x: ref }), '{"x":{"$file":"F1","name":"a","mime":"b/c","size":3}}');
  assert.equal(encode({ $file: "mine" }), '{"$dict":{"$file":"mine"}}');
  assert.deepEqual(decode({ $file: "F1", name: "a", mime: "b/c", size: 3 }), ref);
  assert.deepEqual(decode({ $dict: { $file: "mine" } }), { $file: "mine" });
  assert.throws(() => decode({ $file: 1 }), TypeError);
  assert.throws(() => decode({ $file: "F1", path: "/" }), TypeError);
});

test("addresses of files are for no eyes", () => {
  const frame = { type: "gr:result", id: 1, seq: 1, data: { file: "F1", url: WORD } };
  assert.equal(withoutToken(frame).data.url, "file/…");
});

test("names that are saved", () => {
  const cases = {
    "a.txt": "a.txt", "../../etc/passwd": "passwd", "C:\\x\\y.exe": "y.exe", "a\u202etxt.exe": "atxt.exe",
    "..": "download", "": "download", ".hidden": "hidden", 'a"b|c': "abc", "x. ": "x", "a\0b": "ab",
  };
  for (const [name, safe] of Object.entries(cases)) assert.equal(safeName(name), safe, JSON.stringify(name));
});
