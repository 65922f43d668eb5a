// Events, as they lie in a batch of the interface `columns` (wit/pointsman.wit). What is not looked at costs nothing.

import { decode, encode } from "./text.js";
import { JsonError, parse } from "./json.js";

/** The length of what is null. */
const NULL = 0xffffffff;

/** A record of a source topic, or what an earlier stage made of it. */
export class Event {
  #batch;
  #index;
  #keyAt;
  #valueAt;
  #headersAt;
  #firstHeader;
  #headers;

  /** Made by {@link eventsOf} alone. */
  constructor(batch, index, at, firstHeader) {
    this.#batch = batch;
    this.#index = index;
    this.#firstHeader = firstHeader;
    this.#keyAt = at;
    this.#valueAt = at + size(batch.keyLengths[index]);
    this.#headersAt = this.#valueAt + size(batch.valueLengths[index]);
  }

  get topic() {
    return this.#batch.topic;
  }

  get partition() {
    return this.#batch.partition;
  }

  get offset() {
    const offset = this.#batch.offsets[this.#index];
    if (!Number.isSafeInteger(offset)) throw new RangeError("an offset beyond 2^53 can't be told exactly");
    return offset;
  }

  get timestampMs() {
    const timestamp = this.#batch.timestamps[this.#index];
    return timestamp === -1 ? null : timestamp;
  }

  get attempt() {
    return this.#batch.attempts[this.#index] >>> 0;
  }

  get key() {
    return bytesAt(this.#batch, this.#keyAt, this.#batch.keyLengths[this.#index]);
  }

  get value() {
    return bytesAt(this.#batch, this.#valueAt, this.#batch.valueLengths[this.#index]);
  }

  get isTombstone() {
    return isNull(this.#batch.valueLengths[this.#index]);
  }

  get headers() {
    return (this.#headers ??= this.#readHeaders());
  }

  #readHeaders() {
    const headers = [];
    let at = this.#headersAt;
    const end = this.#firstHeader + this.#batch.headerCounts[this.#index];
    for (let header = this.#firstHeader; header < end; header++) {
      const nameLength = this.#batch.headerLengths[2 * header];
      const valueLength = this.#batch.headerLengths[2 * header + 1];
      const name = decode(bytesAt(this.#batch, at, nameLength));
      headers.push({ name, value: bytesAt(this.#batch, at + nameLength, valueLength) });
      at += nameLength + size(valueLength);
    }
    return headers;
  }

  header(name) {
    return this.headers.findLast((header) => header.name === name);
  }

  headerText(name) {
    const value = this.header(name)?.value;
    return value == null ? undefined : decode(value);
  }

  text() {
    const value = this.value;
    return value === null ? undefined : decode(value);
  }

  json() {
    if (this.isTombstone) throw new JsonError("tombstone", "the value is null, not JSON");
    const text = this.text();
    if (text === undefined) throw new JsonError("bad-json", "the value is not the JSON expected: it is not UTF-8");
    return parse(text);
  }
}

/** componentize-qjs hands numbers of 32 bits over as signed ones. */
const isNull = (length) => length >>> 0 === NULL;

const size = (length) => (isNull(length) ? 0 : length);

const bytesAt = (batch, at, length) => (isNull(length) ? null : batch.bytes.subarray(at, at + length));

/** The events of a batch, one at a time. */
export function* eventsOf(batch) {
  const { keyLengths, valueLengths, headerCounts, headerLengths } = batch;
  let at = 0;
  let header = 0;
  for (let index = 0; index < batch.offsets.length; index++) {
    yield new Event(batch, index, at, header);
    at += size(keyLengths[index]) + size(valueLengths[index]);
    for (const end = header + headerCounts[index]; header < end; header++) {
      at += headerLengths[2 * header] + size(headerLengths[2 * header + 1]);
    }
  }
}

/** An event of these fields, for tests: as a batch of one, which is how the router hands it over. */
export function event(fields = {}) {
  const chunks = [];
  const put = (content) => {
    const bytes = bytesOf(content);
    if (bytes === null) return NULL;
    chunks.push(bytes);
    return bytes.length;
  };
  const { key = null, value = null, headers = [] } = fields;
  const keyLengths = [put(key)];
  const valueLengths = [put(value)];
  const headerLengths = headers.flatMap(([name, content]) => [put(name), put(content)]);
  const batch = {
    topic: fields.topic ?? "topic",
    partition: fields.partition ?? 0,
    offsets: [fields.offset ?? 0],
    timestamps: [fields.timestampMs ?? -1],
    attempts: [fields.attempt ?? 1],
    keyLengths,
    valueLengths,
    headerCounts: [headers.length],
    headerLengths,
    bytes: concat(chunks),
  };
  return eventsOf(batch).next().value;
}

/** Bytes of what an author may give: a text, bytes, or null. */
export function bytesOf(content) {
  if (typeof content === "string") return encode(content);
  if (content === null || content instanceof Uint8Array) return content;
  throw new TypeError(`expected a string, a Uint8Array or null, got ${typeof content}`);
}

/** All of these bytes, in order. */
export function concat(chunks) {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
