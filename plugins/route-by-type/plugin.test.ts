import assert from "node:assert/strict";
import test from "node:test";

import { configure } from "./plugin.js";
import { emit, event, pass, Refused, toPort } from "../../plugin-sdk/js/pointsman.js";

const PORTS = { "order.created": "orders", "refund.made": "refunds", constructor: "odd" };

const router = (more: object = {}) => configure(JSON.stringify({ ports: PORTS, ...more }));
const to = (port: string) => emit(toPort(port));

const code = (judge: ReturnType<typeof router>, fields: Parameters<typeof event>[0]) => {
  const verdict = judge(event(fields));
  return verdict.kind === "reject" ? verdict.code : verdict.kind;
};

test("headers say the type, in order, the last of one name", () => {
  const route = router();
  assert.deepEqual(route(event({ headers: [["ce_type", "order.created"]] })), to("orders"));
  assert.deepEqual(route(event({ headers: [["type", "refund.made"]] })), to("refunds"));
  assert.deepEqual(route(event({ headers: [["type", "refund.made"], ["ce_type", "order.created"]] })), to("orders"));
  assert.deepEqual(route(event({ headers: [["type", "refund.made"], ["type", "order.created"]] })), to("orders"));
  assert.deepEqual(route(event({ headers: [["type", "constructor"]] })), to("odd"));
  const other = router({ headers: ["kind"] });
  assert.deepEqual(other(event({ headers: [["ce_type", "x"], ["kind", "refund.made"]] })), to("refunds"));
  // The value is not looked at.
  assert.deepEqual(route(event({ value: "{", headers: [["type", "refund.made"]] })), to("refunds"));
});

test("a field says it where no header does", () => {
  const route = router({ field: "type" });
  assert.deepEqual(route(event({ value: '{"type":"order.created"}' })), to("orders"));
  assert.deepEqual(route(event({ value: '{"type":"order.created"}', headers: [["type", "refund.made"]] })), to("refunds"));
  assert.equal(code(router(), { value: '{"type":"order.created"}' }), "no-type");
  assert.throws(() => route(event({ value: "{" })), { code: "bad-json" });
  assert.equal(code(route, { value: "[]" }), "bad-json");
  assert.equal(code(route, { value: "null" }), "bad-json");
});

test("a tombstone goes by its headers, and passes without", () => {
  const route = router({ field: "type" });
  assert.deepEqual(route(event({ value: null, headers: [["type", "refund.made"]] })), to("refunds"));
  assert.deepEqual(route(event({ value: null })), pass());
});

test("types that are missing or unknown are rejected, or pass", () => {
  const [rejecting, passing] = [router({ field: "type" }), router({ field: "type", unknown: "pass" })];
  for (const [value, expected] of [
    ["{}", "no-type"],
    ['{"type":"order.deleted"}', "unknown-type"],
    ['{"type":"toString"}', "unknown-type"],
    ['{"type":""}', "unknown-type"],
  ] as const) {
    assert.equal(code(rejecting, { value }), expected, value);
    assert.deepEqual(passing(event({ value })), pass(), value);
  }
  // Every object has this field, but not of its own.
  assert.equal(code(router({ field: "constructor" }), { value: "{}" }), "no-type");
});

test("a type that is no text is rejected whatever becomes of unknown ones", () => {
  const route = router({ field: "type", unknown: "pass" });
  for (const value of ['{"type":1}', '{"type":null}', '{"type":["order.created"]}']) {
    assert.equal(code(route, { value }), "bad-type", value);
  }
  assert.equal(code(route, { headers: [["type", null]] }), "bad-type");
  assert.equal(code(route, { headers: [["type", new Uint8Array([0xff])]] }), "bad-type");
});

test("a wrong configuration is refused", () => {
  for (const config of [
    null,
    [],
    {},
    { ports: [] },
    { ports: { a: 1 } },
    { ports: { a: "" } },
    { ports: { a: "ž".repeat(33) } },
    { ports: {}, headers: "type" },
    { ports: {}, headers: [""] },
    { ports: {}, field: "" },
    { ports: {}, unknown: "drop" },
    { ports: {}, port: "x" },
  ]) {
    assert.throws(() => configure(JSON.stringify(config)), Refused, JSON.stringify(config));
  }
  configure(JSON.stringify({ ports: { a: "ž".repeat(32) } }));
});
