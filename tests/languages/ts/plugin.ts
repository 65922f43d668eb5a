// What tests/guests/conformance does in Rust, in TypeScript.

import * as pointsman from "../../../plugin-sdk/js/pointsman.js";
import type { Event, Judge, Output, Verdict } from "../../../plugin-sdk/js/pointsman.js";

const REWRITTEN: Output = {
  key: "new key",
  value: "new value",
  headers: [["a", "1"], ["a", new Uint8Array([0xff, 0x00])], { name: "n", value: null }],
  timestampMs: 1,
};

const ANSWERS = new Map<string | undefined, () => Verdict>([
  ["pass", pointsman.pass],
  ["drop", () => pointsman.drop("asked")],
  ["nothing", () => pointsman.emit()],
  ["twice", () => pointsman.emit(pointsman.toPort("first"), pointsman.toPort("second"))],
  ["rewrite", () => pointsman.emit(REWRITTEN)],
  ["nulls", () => pointsman.emit({ key: null, value: null, headers: [] })],
  ["empty", () => pointsman.emit({ key: "", value: new Uint8Array(0) })],
  ["retry", () => pointsman.retry("busy")],
  ["retry-after", () => pointsman.retryAfter(1500, "busy")],
  ["reject", () => pointsman.reject("bad", "not acceptable")],
  ["trap", trap],
]);

function trap(): never {
  throw new Error("asked to trap");
}

function configure(config: string): Judge {
  if (config.includes("refuse")) throw new pointsman.Refused("asked to refuse");
  return (event) => ANSWERS.get(event.headerText("answer"))?.() ?? describe(config, event);
}

function describe(config: string, event: Event): Verdict {
  pointsman.log("info", "described");
  pointsman.count("described", 1);
  const fields: (string | number)[] = [
    inHex(bytes(config)),
    inHex(bytes(event.topic)),
    event.partition,
    event.offset,
    event.timestampMs ?? -1,
    event.attempt,
    inHex(event.key),
    inHex(event.value),
    event.headers.map(({ name, value }) => `${inHex(bytes(name))}=${inHex(value)},`).join(""),
  ];
  return pointsman.emit({ value: fields.join("|") });
}

const bytes = (text: string): Uint8Array | null => pointsman.event({ value: text }).value;

/** Null is a dash. */
function inHex(content: Uint8Array | null): string {
  return content === null ? "-" : content.toHex();
}

declare global {
  interface Uint8Array {
    /** Newer than the libraries that TypeScript knows. */
    toHex(): string;
  }
}

export default pointsman.plugin(configure);
