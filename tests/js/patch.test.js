// Patches and values, from the corpus that Python reads too (tests/vectors/patch.json).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Bytes, byteLength, decode, encode, pack, unpack } from "../../src/client/greenroom/codec.js";
import { Diverged, Mirror, apply, get, parsePath, share } from "../../src/client/greenroom/patch.js";

const VECTORS = JSON.parse(readFileSync(new URL("../vectors/patch.json", import.meta.url), "utf8"));

/** A patch in its decoded form, as the link hands it on. */
function decodedPatch(patch) {
  return Object.fromEntries(
    Object.entries(patch).map(([kind, part]) => [
      kind,
      Array.isArray(part) ? part : Object.fromEntries(Object.entries(part).map(([path, value]) => [path, decode(value)])),
    ]),
  );
}

for (const { name, before, patch, after } of VECTORS.cases) {
  test(`a patch: ${name}`, () => {
    const root = decode(before);
    const kept = structuredClone(before);
    const result = apply(root, decodedPatch(patch));
    assert.deepStrictEqual(result, decode(after));
    assert.deepStrictEqual(root, decode(kept)); // what was is left alone
  });
}

for (const { name, before, patch } of VECTORS.refused) {
  test(`no patch: ${name}`, () => {
    const mirror = new Mirror();
    mirror.snapshot(decode(before));
    const { root } = mirror;
    assert.throws(() => mirror.patch(decodedPatch(patch)), Diverged);
    assert.equal(mirror.root, root);
  });
}


for (const { name, value, deep } of VECTORS.refused_values) {
  test(`no value: ${name}`, () => {
    const nested = deep ? JSON.parse("[".repeat(deep) + "]".repeat(deep)) : value;
    assert.throws(() => decode(nested));
  });
}

test("100 levels are fine", () => {
  const text = "[".repeat(100) + "]".repeat(100);
  assert.equal(encode(decode(JSON.parse(text))), text);
  assert.throws(() => encode([JSON.parse(text)]), /deeper than 100/);
});

test("paths", () => {
  assert.deepEqual(parsePath(""), []);
  assert.deepEqual(parsePath("a.b"), ["a", "b"]);
  assert.deepEqual(parsePath("a\\.b.c"), ["a.b", "c"]);
  assert.deepEqual(parsePath("a\\\\.b"), ["a\\", "b"]);
  assert.deepEqual(parsePath("a\\b."), ["a\\b", ""]);
  assert.deepEqual(parsePath(["a.b", 0]), ["a.b", "0"]);
  const root = { list: [{ x: 1 }], text: "abc", "": { "": 2 } };
  assert.equal(get(root, ["list", "0", "x"]), 1);
  assert.equal(get(root, ["", ""]), 2);
  for (const path of [["list", "1"], ["list", "length"], ["list", "-1"], ["text", "0"], ["constructor"], ["toString"]]) {
    assert.equal(get(root, path), undefined, path.join("."));
  }
});

test("keys of the language are keys like any other", () => {
  const evil = decode(JSON.parse('{"__proto__": {"polluted": 1}}'));
  assert.deepEqual(Object.keys(evil), ["__proto__"]);
  assert.equal({}.polluted, undefined);
  const next = apply({ a: 1 }, { "=": { "/__proto__": { polluted: 1 } } });
  assert.deepEqual(Object.keys(next), ["a", "__proto__"]);
  const deep = apply(next, { "=": { "/__proto__/polluted": 2 } });
  assert.equal(get(deep, ["__proto__", "polluted"]), 2);
  assert.equal({}.polluted, undefined);
  assert.throws(() => apply({}, { "=": { "/__proto__/polluted": 2 } }), Diverged);
  assert.equal(JSON.stringify(share({ ["__proto__"]: 1 }, deep)), '{"a":1,"__proto__":{"polluted":2}}');
});

test("a patch copies what it touches, once, and shares the rest", () => {
  const before = { a: { x: 1 }, b: { y: 1, z: {} } };
  const after = apply(before, { "=": { "/a/x": 2, "/a/w": 3 } });
  assert.equal(after.b, before.b);
  assert.notEqual(after.a, before.a);
});

test("share keeps what is equal", () => {
  const was = { a: { x: [1, { y: 2 }] }, b: 1, bytes: new Bytes(Uint8Array.of(1), "a/b") };
  const now = share(was, { a: { x: [1, { y: 2 }] }, b: 2, bytes: new Bytes(Uint8Array.of(1), "a/b") });
  assert.equal(now.a, was.a);
  assert.equal(now.bytes, was.bytes);
  assert.equal(now.b, 2);
  assert.notEqual(share({ a: 1, b: 2 }, { b: 2, a: 1 }), was); // order is part of what is seen
  assert.deepEqual(Object.keys(share({ a: 1, b: 2 }, { b: 2, a: 1 })), ["b", "a"]);
});

test("what JavaScript has beyond JSON", () => {
  const value = {
    date: new Date(0),
    set: new Set([1, 2]),
    map: new Map([["k", 1]]),
    big: 2n ** 70n,
    gone: undefined,
    none: NaN,
    own: { $bytes: 1 },
    nested: [{ $dict: 1 }],
  };
  assert.deepEqual(JSON.parse(encode(value)), {
    date: "1970-01-01T00:00:00.000Z",
    set: [1, 2],
    map: { k: 1 },
    big: "1180591620717411303424",
    none: null,
    own: { $dict: { $bytes: 1 } },
    nested: [{ $dict: { $dict: 1 } }],
  });
  assert.equal(encode(undefined), undefined);
  for (const wrong of [() => {}, "\ud800", { "\udc00": 1 }, [Symbol("x")], new Blob([])]) assert.throws(() => encode(wrong), TypeError);
});

test("a binary message there and back", () => {
  const packet = { text: '{"type":"ü"}', buffers: [Uint8Array.of(1, 2, 3), new Uint8Array(0)] };
  const message = pack(packet);
  assert.deepEqual([...message.slice(0, 4)], [0, 0, 0, 13]);
  assert.deepEqual(unpack(message), packet);
  assert.deepEqual(unpack(message.buffer), packet);
  for (const broken of [message.slice(0, 3), message.slice(0, 10), message.slice(0, -1), new Uint8Array(0)]) {
    assert.equal(unpack(broken).text, "");
  }
});

test("the length of a text in bytes", () => {
  for (const text of ["", "abc", "é", "€", "😀", "aé€😀"]) assert.equal(byteLength(text), Buffer.byteLength(text), text);
});

test("a path may name what bytes have", () => {
  const root = { photo: new Bytes(Uint8Array.of(1), "image/png", "a.png") };
  assert.equal(get(root, ["photo", "mime"]), "image/png");
  assert.equal(get(root, ["photo", "name"]), "a.png");
  assert.match(get(root, ["photo", "url"]), /^blob:/);
  for (const path of [["photo", "equals"], ["photo", "__proto__"], ["photo", "name", "name"]]) {
    assert.equal(get(root, path), undefined);
  }
  root.photo.revoke();
});
