// Verdicts, and how they leave by the interface `columns` (wit/pointsman.wit).

import { bytesOf, concat } from "./event.js";

const PASS = Object.freeze({ kind: "pass" });

export const pass = () => PASS;

export const drop = (reason) => ({ kind: "drop", reason });

export const emit = (...outputs) => ({ kind: "emit", outputs });

export const toPort = (port) => ({ port });

export const retry = (reason) => ({ kind: "retry", reason });

export const retryAfter = (delayMs, reason) => ({ kind: "retry", reason, delayMs: Math.max(0, delayMs) });

export const reject = (code, message) => ({ kind: "reject", code, message });

/** The length of what is null, as componentize-qjs takes it: its numbers of 32 bits are signed. */
const NULL = -1;

/** What an output may name. */
const FIELDS = new Set(["port", "key", "value", "headers", "timestampMs"]);

/** The answer to a batch, as it is collected. */
export class Answer {
  #kinds = [];
  #lengths = [];
  #numbers = [];
  #outputs = [];
  #chunks = [];

  /** Adds a verdict. */
  push(verdict) {
    switch (verdict?.kind) {
      case "pass":
        this.#kinds.push(0);
        break;
      case "drop":
        this.#kinds.push(1);
        this.#text(verdict.reason);
        break;
      case "emit":
        this.#kinds.push(2);
        this.#lengths.push(verdict.outputs.length);
        for (const output of verdict.outputs) this.#output(output);
        break;
      case "retry":
        this.#kinds.push(3);
        this.#text(verdict.reason);
        this.#number(verdict.delayMs === undefined ? -1 : Math.ceil(verdict.delayMs));
        break;
      case "reject":
        this.#kinds.push(4);
        this.#text(verdict.code);
        this.#text(verdict.message);
        break;
      default:
        throw new TypeError(`a plugin has to return a verdict, not ${typeof verdict}`);
    }
  }

  #output(output) {
    const unknown = Object.keys(output).find((field) => !FIELDS.has(field));
    if (unknown !== undefined) throw new TypeError(`an output has no field ${unknown}`);
    const { port, key, value, headers, timestampMs } = output;
    const changes = [port, key, value, headers, timestampMs];
    this.#outputs.push(changes.reduce((bits, change, bit) => (change === undefined ? bits : bits | (1 << bit)), 0));
    if (port !== undefined) this.#text(port);
    if (key !== undefined) this.#content(key);
    if (value !== undefined) this.#content(value);
    if (headers !== undefined) {
      this.#lengths.push(headers.length);
      for (const header of headers) {
        const [name, content] = Array.isArray(header) ? header : [header.name, header.value];
        this.#text(name);
        this.#content(content);
      }
    }
    if (timestampMs !== undefined) this.#number(timestampMs);
  }

  #text(text) {
    if (typeof text !== "string") throw new TypeError(`expected a string, got ${typeof text}`);
    this.#content(text);
  }

  #content(content) {
    const bytes = bytesOf(content);
    this.#lengths.push(bytes === null ? NULL : bytes.length);
    if (bytes !== null && bytes.length > 0) this.#chunks.push(bytes);
  }

  #number(number) {
    if (!Number.isSafeInteger(number)) throw new TypeError(`expected a whole number, got ${number}`);
    this.#numbers.push(number);
  }

  /** What the router takes. */
  columns() {
    return {
      kinds: this.#kinds,
      lengths: this.#lengths,
      numbers: this.#numbers,
      outputs: this.#outputs,
      bytes: concat(this.#chunks),
    };
  }
}
