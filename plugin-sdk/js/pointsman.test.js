// The SDK's own tests: a batch in, columns out, as wit/pointsman.wit lays them out.

import assert from "node:assert/strict";
import test from "node:test";

import * as sdk from "./pointsman.js";
import { eventsOf } from "./event.js";

const NULL = 0xffffffff;
const bytes = (...texts) => new TextEncoder().encode(texts.join(""));

/** Two events: the first with two headers of one name, the second a tombstone without a key. */
const BATCH = {
  topic: "orders",
  partition: 3,
  offsets: [7, 2 ** 60],
  timestamps: [-1, 1_700_000_000_000],
  attempts: [1, 2],
  // Null as the contract has it, and as componentize-qjs hands it over.
  keyLengths: [1, NULL],
  valueLengths: [2, -1],
  headerCounts: [2, 1],
  headerLengths: [1, 1, 1, NULL, 3, 0],
  bytes: bytes("k", "{}", "h", "1", "h", "né"),
};

test("events are read as they lie in a batch", () => {
  const [first, second] = eventsOf(BATCH);
  assert.deepEqual([first.topic, first.partition, first.offset, first.timestampMs, first.attempt], ["orders", 3, 7, null, 1]);
  assert.deepEqual([first.key, first.value], [bytes("k"), bytes("{}")]);
  assert.deepEqual(first.headers, [{ name: "h", value: bytes("1") }, { name: "h", value: null }]);
  assert.deepEqual(first.header("h"), { name: "h", value: null });
  assert.equal(first.headerText("h"), undefined);
  assert.deepEqual(first.json(), {});
  assert.deepEqual([second.timestampMs, second.key, second.isTombstone], [1_700_000_000_000, null, true]);
  assert.deepEqual(second.headers, [{ name: "né", value: bytes() }]);
  assert.throws(() => second.offset, RangeError);
});

const judged = (judge, batch = BATCH) => {
  const { columns } = sdk.plugin(() => judge);
  assert.deepEqual(columns.configure("{}"), { key: true, value: true, headers: true });
  return columns.process(batch);
};

test("verdicts become columns", () => {
  const verdicts = [sdk.reject("c", "né"), sdk.retryAfter(1.5, "r")];
  assert.deepEqual(judged(() => verdicts.shift()), {
    kinds: [4, 3],
    lengths: [1, 3, 1],
    numbers: [2],
    outputs: [],
    bytes: bytes("c", "né", "r"),
  });
  const all = { port: "p", key: null, value: "", headers: [["a", new Uint8Array([255])], { name: "n", value: null }], timestampMs: 9 };
  const others = [sdk.emit(all, sdk.toPort("q"), {}), sdk.retry("")];
  assert.deepEqual(judged(() => others.shift()), {
    kinds: [2, 3],
    lengths: [3, 1, -1, 0, 2, 1, 1, 1, -1, 1, 0],
    numbers: [9, -1],
    outputs: [31, 1, 0],
    bytes: new Uint8Array([...bytes("p", "a"), 255, ...bytes("n", "q")]),
  });
});

test("what is no verdict is told, and traps", () => {
  for (const wrong of [undefined, {}, sdk.drop(1), sdk.emit({ prot: "de" }), sdk.emit({ value: 1 }), sdk.emit({ timestampMs: 2 ** 60 })]) {
    assert.throws(() => judged(() => wrong), TypeError);
  }
  assert.throws(() => judged(() => { throw new Error("by hand"); }), /by hand/);
});

test("what is no JSON is rejected, however deep", () => {
  const code = (value) => {
    try {
      return sdk.event({ value }).json();
    } catch (error) {
      return error.code;
    }
  };
  assert.equal(code(null), "tombstone");
  assert.equal(code("{"), "bad-json");
  assert.equal(code(new Uint8Array([0x22, 0xff, 0x22])), "bad-json");
  const nested = (deep) => "[".repeat(deep) + "]".repeat(deep);
  assert.equal(code(nested(1001)), "bad-json");
  assert.equal(code(`{"a\\"[":${nested(1000)}}`), "bad-json");
  assert.ok(Array.isArray(code(nested(1000))));
  assert.equal(code(JSON.stringify("[{".repeat(2000) + '\\"')).length, 4002);
  assert.equal(code(JSON.stringify(Array(3000).fill({}))).length, 3000);
  const pairs = judged((event) => (event.isTombstone ? event.json() : sdk.pass()));
  assert.deepEqual([pairs.kinds, pairs.lengths[0]], [[0, 4], "tombstone".length], "and nobody has to catch it");
});

test("a configuration is refused with its text", () => {
  const refuses = sdk.plugin(() => { throw new sdk.Refused("no currency"); });
  assert.throws(() => refuses.columns.configure("{}"), (error) => error === "no currency");
});

test("what is logged and counted is recorded", () => {
  sdk.recorded();
  sdk.log("warn", "odd");
  sdk.count("seen");
  sdk.count("seen", 2);
  assert.deepEqual(sdk.recorded(), { lines: [{ level: "warn", message: "odd" }], counts: { seen: 3 } });
});
