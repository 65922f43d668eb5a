// Write Pointsman plugins in JavaScript and TypeScript. What everything here does is told in pointsman.d.ts.

import * as host from "#host";
import { eventsOf } from "./event.js";
import { JsonError } from "./json.js";
import { Answer, reject } from "./verdict.js";

export { event } from "./event.js";
export { JsonError } from "./json.js";
export { drop, emit, pass, reject, retry, retryAfter, toPort } from "./verdict.js";

export function log(level, message) {
  host.log(level, String(message).toWellFormed());
}

export function count(name, increment = 1) {
  host.count(name, increment);
}

/** What is recorded where there is no router. */
export function recorded() {
  const said = { lines: [...host.lines], counts: Object.fromEntries(host.counts) };
  host.lines.length = 0;
  host.counts.clear();
  return said;
}

export class Refused extends Error {
  constructor(message) {
    super(message);
    this.name = "Refused";
  }
}

/** Every field of an event. */
const ALL_FIELDS = Object.freeze({ key: true, value: true, headers: true });

export function plugin(configure) {
  let judge;
  return {
    columns: {
      configure(config) {
        try {
          judge = configure(config);
        } catch (error) {
          // What a function of the contract throws is its refusal, a text.
          if (error instanceof Refused) throw error.message;
          fail(error);
        }
        if (typeof judge !== "function") fail(new TypeError("plugin() needs a function that returns a function"));
        return ALL_FIELDS;
      },
      process(batch) {
        const answer = new Answer();
        let present = 0;
        try {
          for (const event of eventsOf(batch)) {
            answer.push(verdictOn(event));
            present += 1;
          }
        } catch (error) {
          fail(error, present);
        }
        return answer.columns();
      },
    },
  };

  function verdictOn(event) {
    try {
      return judge(event);
    } catch (error) {
      if (error instanceof JsonError) return reject(error.code, error.message);
      throw error;
    }
  }
}

/** Tells the router what happened, and at which event of the batch. There it is the end. */
function fail(error, event = 0) {
  const text = error instanceof Error ? `${error.name}: ${error.message}\n${error.stack ?? ""}` : String(error);
  host.panic(event, text.trimEnd().toWellFormed());
  throw error;
}
