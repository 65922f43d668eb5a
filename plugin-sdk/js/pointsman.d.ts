/**
 * Write Pointsman plugins in JavaScript and TypeScript.
 *
 * A plugin judges events, one verdict each: it lets them pass, drops them, emits others in their place, asks for a retry,
 * or rejects them. It is a function, and one line in `plugin.js` or `plugin.ts` that makes a component of it:
 *
 * ```js
 * import { drop, pass, plugin } from "./pointsman/pointsman.js";
 *
 * export function recent(event) {
 *   return event.timestampMs !== null && event.timestampMs < 1_700_000_000_000 ? drop("too-old") : pass();
 * }
 *
 * export default plugin(() => recent);
 * ```
 *
 * `pointsman plugin build` builds it, and it is tested natively, with `node --test`.
 *
 * A component runs in QuickJS: the language is there, as of ES2023, nothing of Node, and of the web no more than `atob`,
 * `btoa` and `performance`. `Date` tells the time of the batch, unless the router's configuration grants the clock, and
 * `Math.random` gives a fixed stream, another with each build.
 *
 * An exception that is not caught is a trap: the record that caused it ends as a poison pill, and the instance is thrown
 * away. (A {@link JsonError} is none: it rejects the event.) So is recursion that is some 500 calls deep.
 *
 * @module
 */

/** One header of a record. */
export interface Header {
  readonly name: string;
  /** `null` is not the same as empty. */
  readonly value: Uint8Array | null;
}

/**
 * A record of a source topic, or what an earlier stage made of it. Topic, partition and offset together name the record it
 * comes from, for ever: a retried event has those of its source topic.
 *
 * What is not looked at costs nothing. Bytes lie in the batch, and must not be kept after the return.
 */
export interface Event {
  readonly topic: string;
  readonly partition: number;
  /** Throws for an offset beyond 2^53, which a number can't tell from its neighbours. */
  readonly offset: number;
  /** Milliseconds since 1970-01-01 UTC, rounded beyond 2^53; `null` where the log has no timestamp. */
  readonly timestampMs: number | null;
  /** 1 on the first run of this event, 2 on its first retry, and so on. */
  readonly attempt: number;
  /** `null` is not the same as empty. */
  readonly key: Uint8Array | null;
  /** `null` is a tombstone. */
  readonly value: Uint8Array | null;
  readonly isTombstone: boolean;
  /** In order; a name may come several times. */
  readonly headers: readonly Header[];
  /** The last header of this name, as Kafka's own clients look headers up. */
  header(name: string): Header | undefined;
  /** The value of that header as text; `undefined` where there is none, or it is null, or not UTF-8. */
  headerText(name: string): string | undefined;
  /** The value as text; `undefined` for a tombstone, and where it is not UTF-8. */
  text(): string | undefined;
  /**
   * The value as JSON. Throws a {@link JsonError}, which rejects the event where nobody catches it, for a tombstone and for
   * what is no JSON or more than 1000 deep. Numbers beyond 2^53 lose digits, as everywhere in the language.
   */
  json(): any;
}

/** A value that is not the JSON it should be. */
export class JsonError extends Error {
  constructor(code: string, message: string);
  /** `tombstone` or `bad-json`: what the event is rejected with where nobody catches this. */
  readonly code: string;
}

/** One event that goes on in place of the one that came in. What is not named stays as the event has it. */
export interface Output {
  /** The port it leaves by, of at most 64 bytes. */
  port?: string;
  /** A text leaves as UTF-8; `null` is null. */
  key?: string | Uint8Array | null;
  /** A text leaves as UTF-8; `null` is a tombstone. */
  value?: string | Uint8Array | null;
  /** Headers in place of the event's; to add to them, begin with `...event.headers`. */
  headers?: readonly (Header | readonly [name: string, value: string | Uint8Array | null])[];
  /** Milliseconds since 1970-01-01 UTC. */
  timestampMs?: number;
}

/** What becomes of one event. Of each text that gives a reason the first 1024 bytes are kept. */
export type Verdict =
  | { readonly kind: "pass" }
  | { readonly kind: "drop"; readonly reason: string }
  | { readonly kind: "emit"; readonly outputs: readonly Output[] }
  | { readonly kind: "retry"; readonly reason: string; readonly delayMs?: number }
  | { readonly kind: "reject"; readonly code: string; readonly message: string };

/** The event goes on unchanged. */
export function pass(): Verdict;

/** The event ends here, on purpose. The reason is a short word of a small set, since metrics count by it. */
export function drop(reason: string): Verdict;

/** These go on in place of the event, in order. None at all ends it, as a drop with the reason `emitted-nothing`. */
export function emit(...outputs: Output[]): Verdict;

/** The event as it is, by this port. */
export function toPort(port: string): Output;

/**
 * A transient failure: the whole record is tried again later, from the first stage, on the route's schedule. The reason is a
 * sentence for a person.
 */
export function retry(reason: string): Verdict;

/** The same, but not before so many milliseconds have passed. The route's schedule may wait longer, and caps it. */
export function retryAfter(delayMs: number, reason: string): Verdict;

/**
 * A permanent failure. The code is a short word of a small set, since metrics count by it; the message is a sentence for a
 * person.
 */
export function reject(code: string, message: string): Verdict;

/** How much a log line matters: for the plugin's author, for the record, odd, or wrong. */
export type Level = "debug" | "info" | "warn" | "error";

/**
 * Writes a line to the router's log, with route, lane and plugin as fields. At most 64 lines of 1024 bytes are kept of one
 * call. What is said in a call that traps is forgotten with that call, but for the last line of level `error`.
 */
export function log(level: Level, message: string): void;

/** Adds to one of the plugin's own counters. A name has 1 to 64 ASCII letters, digits, `_`, `-` and `.`. */
export function count(name: string, increment?: number): void;

/**
 * Thrown where a plugin is configured with what it can't use. The router then does not start, and shows the text.
 */
export class Refused extends Error {
  constructor(message: string);
}

/** Judges one event. */
export type Judge = (event: Event) => Verdict;

/**
 * What a component is made of: the default export of `plugin.js` or `plugin.ts`. The function gets the configuration, JSON
 * text, once for each instance, before any event, and returns the function that judges.
 *
 * Nothing is promised about state between calls: instances are discarded, multiplied, and shared by partitions, and a batch
 * that failed is run again in smaller parts. Keep what makes the next call cheaper, never what a verdict depends on.
 */
export function plugin(configure: (config: string) => Judge): Plugin;

/** What the router calls. */
export interface Plugin {
  /** The interface `columns` of the contract. */
  readonly columns: unknown;
}

/** An event of these fields, for tests: a text is UTF-8, and what is missing is null, empty, zero or the first. */
export function event(fields?: {
  topic?: string;
  partition?: number;
  offset?: number;
  timestampMs?: number;
  attempt?: number;
  key?: string | Uint8Array | null;
  value?: string | Uint8Array | null;
  headers?: readonly (readonly [name: string, value: string | Uint8Array | null])[];
}): Event;

/** What was logged and counted since the last call, for tests. */
export function recorded(): { lines: { level: Level; message: string }[]; counts: Record<string, number> };
