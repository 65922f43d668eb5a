// What tests/guests/conformance does in Rust, in JavaScript.

import * as pointsman from "../../../plugin-sdk/js/pointsman.js";

const REWRITTEN = {
  key: "new key",
  value: "new value",
  headers: [["a", "1"], ["a", new Uint8Array([0xff, 0x00])], { name: "n", value: null }],
  timestampMs: 1,
};

const ANSWERS = {
  pass: () => pointsman.pass(),
  drop: () => pointsman.drop("asked"),
  nothing: () => pointsman.emit(),
  twice: () => pointsman.emit(pointsman.toPort("first"), pointsman.toPort("second")),
  rewrite: () => pointsman.emit(REWRITTEN),
  nulls: () => pointsman.emit({ key: null, value: null, headers: [] }),
  empty: () => pointsman.emit({ key: "", value: new Uint8Array(0) }),
  retry: () => pointsman.retry("busy"),
  "retry-after": () => pointsman.retryAfter(1500, "busy"),
  reject: () => pointsman.reject("bad", "not acceptable"),
  trap: () => {
    throw new Error("asked to trap");
  },
};

export default pointsman.plugin((config) => {
  if (config.includes("refuse")) throw new pointsman.Refused("asked to refuse");
  return (event) => {
    const answer = event.headerText("answer");
    return Object.hasOwn(ANSWERS, answer) ? ANSWERS[answer]() : describe(config, event);
  };
});

function describe(config, event) {
  pointsman.log("info", "described");
  pointsman.count("described");
  const fields = [
    inHex(config),
    inHex(event.topic),
    event.partition,
    event.offset,
    event.timestampMs ?? -1,
    event.attempt,
    inHex(event.key),
    // As text where it is one, so that this goes there and back.
    inHex(event.text() ?? event.value),
    event.headers.map(({ name, value }) => `${inHex(name)}=${inHex(value)},`).join(""),
  ];
  return pointsman.emit({ value: fields.join("|") });
}

/** Null is a dash. */
function inHex(content) {
  if (content === null) return "-";
  if (typeof content === "string") return inHex(pointsman.event({ value: content }).value);
  return content.toHex();
}
