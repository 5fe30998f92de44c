// The client's half of the wire machine, story by story (tests/vectors/link_client.json).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { encode } from "../../src/client/greenroom/codec.js";
import { Entry } from "../../src/client/greenroom/entry.js";
import { Link } from "../../src/client/greenroom/link.js";
import { LinkError, TABLE, retryAfterCut } from "../../src/client/greenroom/machine.js";

const VECTORS = JSON.parse(readFileSync(new URL("../vectors/link_client.json", import.meta.url), "utf8"));

/** A link that remembers which cells it went through. */
class Watched extends Link {
  cells = new Set();

  _step(event) {
    this.cells.add(`${this.state} ${event}`);
    super._step(event);
  }
}

/** Equality, where `*` stands for anything. */
function matches(expected, found) {
  if (expected === "*") return true;
  if (Array.isArray(expected) && Array.isArray(found)) {
    return expected.length === found.length && expected.every((item, i) => matches(item, found[i]));
  }
  try {
    assert.deepStrictEqual(found, expected);
    return true;
  } catch {
    return false;
  }
}

function act(link, entries, step, turn) {
  const now = step.now ?? 0;
  switch (step.do) {
    case "open":
    case "tick":
    case "wake":
    case "bye":
      return link[step.do](now);
    case "receive": {
      const frame = { ...step.frame };
      if (step.pad) frame.data = "x".repeat(step.pad);
      if (turn) frame.seq += turn;
      return link.receive({ text: JSON.stringify(frame), buffers: [] }, now);
    }
    case "text":
      return link.receive({ text: step.text, buffers: [] }, now);
    case "cut":
      return link.cut(step.code, now);
    case "diverged":
      return link.diverged(step.message, now);
    case "withdraw":
      return assert.equal(link.withdraw(entries.get(step.tag)), step.result);
    case "submit": {
      const data = step.pad ? "x".repeat(step.pad) : step.data;
      const subscribing = step.type === "gr:subscribe" || step.type === "gr:unsubscribe";
      const entry = link.submit(step.type, step.nodata ? undefined : encode(data), {
        context: encode(step.context),
        tag: step.tag,
        name: subscribing ? data.name : null,
      });
      return entries.set(step.tag, entry);
    }
    default:
      throw new Error(step.do);
  }
}

for (const vector of VECTORS.vectors) {
  test(vector.name, () => {
    const link = new Watched(vector.options);
    const entries = new Map();
    for (const step of vector.steps) {
      for (let turn = 0; turn < (step.count ?? 1); turn++) {
        act(link, entries, step, turn);
        const out = link.take().map((packet) => JSON.parse(packet.text));
        const effects = link.effects().map((told) => told.map((arg) => (arg instanceof Entry ? arg.tag : arg)));
        assert.ok(matches(step.out ?? [], out), JSON.stringify({ step, out }));
        assert.ok(matches(step.effects ?? [], effects), JSON.stringify({ step, effects }));
      }
      assert.equal(link.state, step.state, JSON.stringify(step));
      if ("deadline" in step) assert.equal(link.deadline(), step.deadline, JSON.stringify(step));
    }
    for (const cell of vector.cells) assert.ok(link.cells.has(cell), cell);
  });
}

test("the table is the shared one", () => {
  const snake = (word) => word.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const ours = Object.fromEntries(
    Object.entries(TABLE).map(([state, events]) => [
      state,
      Object.fromEntries(
        Object.entries(events).map(([event, [actions, next]]) => [event, [actions.map(snake), next]]),
      ),
    ]),
  );
  assert.deepEqual(ours, VECTORS.table);
});

test("every action is a method", () => {
  for (const events of Object.values(TABLE)) {
    for (const [actions] of Object.values(events)) {
      for (const action of actions) assert.equal(typeof Link.prototype[`_${action}`], "function", action);
    }
  }
});

test("what close codes say", () => {
  for (const [code, withToken, without] of VECTORS.cuts) {
    assert.equal(retryAfterCut(code, true), withToken, `${code}`);
    assert.equal(retryAfterCut(code, false), without, `${code}`);
  }
});

test("what cannot happen throws", () => {
  const link = new Link();
  link.open(0);
  assert.throws(() => link.open(0), (error) => error instanceof LinkError && /"open" cannot happen/.test(error.message));
});

test("buffers travel beside the frame", () => {
  const link = new Link({ binary: true });
  link.open(0);
  assert.equal(JSON.parse(link.take()[0].text).data.binary, true);
  const data = { protocol: 1, link: "L", ack: 0, resumed: false, seq: 0, ping: 0, dead: 0 };
  link.receive({ text: JSON.stringify({ type: "gr:welcome", data }), buffers: [] }, 0);
  const buffers = [];
  link.submit("save", encode({ raw: Uint8Array.of(0, 255) }, buffers), { buffers });
  assert.deepEqual(link.take(), [
    { text: '{"type":"save","id":1,"data":{"raw":{"$bytes":0}}}', buffers: [Uint8Array.of(0, 255)] },
  ]);
  const state = '{"type":"gr:state","seq":1,"data":{"=":{"/raw":{"$bytes":0,"mime":"a/b","name":""}}}}';
  link.receive({ text: state, buffers: [Uint8Array.of(1, 2)] }, 1);
  const [[, patch]] = link.effects();
  assert.deepEqual([...patch["="]["/raw"].bytes], [1, 2]);
  assert.equal(patch["="]["/raw"].mime, "a/b");
});

test("the trace shows no token", () => {
  const seen = [];
  const link = new Link({ token: "secret" });
  link.onFrame = (direction, frame) => seen.push([direction, frame]);
  link.open(0);
  link.take();
  const data = { protocol: 1, token: "secret", link: "L", ack: 0, seq: 0 };
  link.receive({ text: JSON.stringify({ type: "gr:welcome", data }), buffers: [] }, 0);
  const refreshed = { type: "gr:result", seq: 1, id: 1, data: { token: "secret", expires: 1 } };
  link.receive({ text: JSON.stringify({ type: "gr:batch", data: [refreshed, null] }), buffers: [] }, 0);
  assert.deepEqual(
    seen.map(([direction, frame]) => [direction, frame.type]),
    [["out", "gr:hello"], ["in", "gr:welcome"], ["in", "gr:batch"]],
  );
  assert.ok(!JSON.stringify(seen).includes("secret"));
  assert.equal(link.token, "secret");
});
