// What the bindings decide without a document; the rest is tested in a real browser.
import assert from "node:assert/strict";
import test from "node:test";

import { isEmpty, textOf } from "../../src/client/greenroom/bind.js";
import { Bytes } from "../../src/client/greenroom/codec.js";
import { controlValue, payloadOf } from "../../src/client/greenroom/forms.js";
import { hashOf, route } from "../../src/client/greenroom/route.js";
import { rising } from "../../src/client/greenroom/rows.js";
import { safeTarget, safeUrl } from "../../src/client/greenroom/sanitize.js";
import { contextOf, loopOf, resolve } from "../../src/client/greenroom/scope.js";

const outer = { outer: null, path: ["rows", "r.1"], key: "r.1", item: { a: 1 }, keyName: "id", itemName: "row" };
const inner = {
  outer, path: ["rows", "r.1", "tags", "0"], key: 0, item: "red", keyName: "keyVariable", itemName: "valueVariable",
};

test("paths inside loops", () => {
  assert.deepEqual(resolve("a.b", null), { path: ["a", "b"] });
  assert.deepEqual(resolve("row", outer), { path: ["rows", "r.1"] });
  assert.deepEqual(resolve("row.title", inner), { path: ["rows", "r.1", "title"] });
  assert.deepEqual(resolve("valueVariable", inner), { path: ["rows", "r.1", "tags", "0"] });
  assert.deepEqual(resolve("id", inner), { key: "r.1" });
  assert.deepEqual(resolve("id.x", inner), { path: ["id", "x"] }); // a key has no inside: the state's own
  assert.deepEqual(resolve("count", inner), { path: ["count"] });
  const loops = ["row.title", "id", "id.x", "valueVariable", "count"].map((text) => loopOf(text, inner));
  assert.deepEqual(loops, [outer, outer, null, inner, null]);
});

test("the context of events inside loops", () => {
  assert.deepEqual(contextOf(null), {});
  assert.deepEqual(contextOf(inner), { id: "r.1", row: { a: 1 }, keyVariable: 0, valueVariable: "red" });
  assert.equal(contextOf({ ...outer, item: undefined }).row, null);
});

test("the longest rise", () => {
  const cases = [
    [[], []],
    [[7], [7]],
    [[1, 2, 3], [1, 2, 3]],
    [[3, 2, 1], [1]],
    [[1, 2, 3, 0], [1, 2, 3]],
    [[3, 0, 1, 2], [0, 1, 2]],
    [[0, 4, 2, 3, 1, 5], [0, 2, 3, 5]],
  ];
  for (const [numbers, rise] of cases) assert.deepEqual(rising(numbers), rise);
});

test("the longest rise, against all there are", () => {
  const permutations = (list) =>
    list.length < 2 ? [list] : list.flatMap((one, i) => permutations(list.filter((_, j) => j !== i)).map((rest) => [one, ...rest]));
  const rises = (list) => list.every((one, i) => i === 0 || list[i - 1] < one);
  for (const list of permutations([0, 1, 2, 3, 4, 5])) {
    const parts = [...Array(64).keys()].map((mask) => list.filter((_, i) => mask & (1 << i)));
    const longest = Math.max(...parts.filter(rises).map((part) => part.length));
    const rise = rising(list);
    assert.ok(rises(rise) && rise.length === longest, `${list}`);
    assert.deepEqual(rise, list.filter((one) => rise.includes(one)));
  }
});

test("bytes of a row stay where they are", () => {
  const picture = new Bytes(new Uint8Array(900_000), "image/png", "a.png");
  const row = { title: "a", picture, all: [picture, 1], ["__proto__"]: { x: 1 } };
  const { row: carried } = contextOf({ ...outer, item: row });
  assert.equal(JSON.stringify(carried), '{"title":"a","picture":null,"all":[null,1],"__proto__":{"x":1}}');
  assert.equal(contextOf({ ...outer, item: picture }).row, null);
  assert.equal(row.picture, picture);
});

test("what there is nothing of", () => {
  const nothing = [false, 0, "", null, undefined, NaN, [], {}, new Bytes(new Uint8Array(0))];
  const something = [true, 1, "0", [0], { a: null }, new Bytes(new Uint8Array(1))];
  assert.deepEqual([...new Set(nothing.map(isEmpty))], [true]);
  assert.deepEqual([...new Set(something.map(isEmpty))], [false]);
});

test("values as text", () => {
  const shown = [null, undefined, 0, false, "x", { a: 1 }, [1], new Bytes(new Uint8Array(0), "", "a.png")].map(textOf);
  assert.deepEqual(shown, ["", "", "0", "false", "x", '{"a":1}', "[1]", "a.png"]);
});

test("URLs that may stand in attributes", () => {
  const good = [
    "http://x", "https://x/y?z#w", "mailto:a@b", "", "#top", "/a", "./a", "a/b:c", "?q=a:b", "//host/x", "blob:https://x/1",
    "data:image/png;base64,AA==", "DATA:image/svg+xml,%3Csvg/%3E", " https://x",
  ];
  const bad = [
    "javascript:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "JAVASCRIPT:1", "\u0001javascript:1", "vbscript:x",
    "data:text/html,x", "data:,x", "data:image", "file:///etc/passwd", "ftp://x", "about:blank", ":x", "j\tavascript:x",
  ];
  for (const url of good) assert.equal(safeUrl(url), true, url);
  for (const url of bad) assert.equal(safeUrl(url), false, url);
  assert.deepEqual(["https://x", "mailto:a@b", "/x", "blob:x", " data:image/png,x", "javascript:1"].map(safeTarget), [
    true, true, true, false, false, false,
  ]);
});

test("pages are hash routes", () => {
  const cases = [
    ["", { page: "", params: {} }],
    ["#", { page: "", params: {} }],
    ["#cart", { page: "cart", params: {} }],
    ["#list%2Fall?q=a+b%26c&n=1", { page: "list/all", params: { q: "a b&c", n: "1" } }],
    ["#caf%C3%A9?a=?b", { page: "café", params: { a: "?b" } }],
    ["#100%", { page: "100%", params: {} }],
    ["#?x", { page: "", params: { x: "" } }],
  ];
  for (const [hash, there] of cases) assert.deepEqual(route(hash), there, hash);
  for (const there of [{ page: "a/b c?d#e", params: { "&": "=", é: "☕" } }, { page: "", params: {} }]) {
    assert.deepEqual(route(`#${hashOf(there)}`), there);
  }
  assert.equal(hashOf({ page: "p", params: { a: null, b: undefined, c: 0 } }), "p?c=0");
  assert.equal(hashOf({}), "");
  const { params } = route("#p?__proto__=x");
  assert.ok(Object.hasOwn(params, "__proto__"));
});

test("payloads of controls", async () => {
  const file = new File([Uint8Array.of(1, 2)], "a.bin", { type: "a/b" });
  const cases = [
    [{ type: "text", value: "x" }, "x"],
    [{ type: "textarea", value: "x\ny" }, "x\ny"],
    [{ type: "checkbox", checked: true, value: "on" }, true],
    [{ type: "number", value: "", valueAsNumber: NaN }, null],
    [{ type: "number", value: "1.5", valueAsNumber: 1.5 }, 1.5],
    [{ type: "range", value: "3", valueAsNumber: 3 }, 3],
    [{ type: "select-one", value: "b" }, "b"],
    [{ type: "select-multiple", selectedOptions: [{ value: "a" }, { value: "c" }] }, ["a", "c"]],
    [{ type: "date", value: "2024-05-06" }, "2024-05-06"],
    [{ type: "date", value: "" }, null],
    [{ type: "time", value: "10:30" }, "10:30:00"],
    [{ type: "time", value: "10:30:05" }, "10:30:05"],
    [{ type: "time", value: "10:30:05.250" }, "10:30:05.250"],
    [{ type: "time", value: "" }, null],
    [{ type: "datetime-local", value: "2024-05-06T10:30" }, "2024-05-06T10:30:00"],
    [{ type: "datetime-local", value: "2024-05-06T10:30:05" }, "2024-05-06T10:30:05"],
    [{ type: "month", value: "2024-05" }, "2024-05"],
    [{ type: "week", value: "" }, null],
    [{ type: "file", files: [file] }, [{ name: "a.bin", type: "a/b", data: new Bytes(Uint8Array.of(1, 2), "a/b", "a.bin") }]],
  ];
  for (const [control, payload] of cases) assert.deepEqual(await controlValue(control), payload, control.type);
});

test("payloads of events", async () => {
  const keys = { ctrlKey: true, shiftKey: false, altKey: false, metaKey: true };
  const button = { tagName: "BUTTON" };
  const field = { tagName: "INPUT", type: "text", value: "x" };
  assert.deepEqual(await payloadOf({ type: "click", ...keys }, button), { ctrl: true, shift: false, alt: false, meta: true });
  assert.deepEqual(await payloadOf({ type: "keydown", ...keys, key: "a" }, field), {
    ctrl: true, shift: false, alt: false, meta: true, key: "a",
  });
  assert.equal(await payloadOf({ type: "change" }, field), "x");
  assert.equal(await payloadOf({ type: "toggle" }, button), null);
  assert.equal(await payloadOf({ type: "toggle", newState: "open" }, button), true);
  assert.equal(await payloadOf({ type: "toggle", newState: "closed" }, button), false);
  assert.equal(await payloadOf({ type: "toggle", newState: "open" }, { ...button, open: false }), false);
  assert.deepEqual(await payloadOf({ type: "mouseenter", ...keys }, field), { ctrl: true, shift: false, alt: false, meta: true });
  assert.equal(await payloadOf({ type: "focus" }, field), "x");
  class Chosen extends CustomEvent {}
  for (const one of [CustomEvent, Chosen]) {
    assert.deepEqual(payloadOf(new one("chosen", { detail: { mine: 1 } }), button), { mine: 1 });
  }
});
