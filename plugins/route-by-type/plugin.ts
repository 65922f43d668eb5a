// Routes events to a port by their type, as CloudEvents have one:
//
//     config = { ports = { "com.shop.order.created" = "orders", "com.shop.refund.made" = "refunds" }, field = "type", unknown = "pass" }
//
// The type is the value of the first of the headers `ce_type` and `type` that is there (`headers` names others; of several with
// one name the last counts), or else of the JSON object's `field`, if that is configured. A value is looked at only for it.
//
// The port of a type stands in `ports`. An event without a type is rejected as `no-type`, and one whose type has no port as
// `unknown-type`; with `unknown = "pass"` both go on unchanged. A type that is no text is rejected as `bad-type`, a value that is
// no JSON object as `bad-json`. Tombstones go by their headers, and pass if those say no type.

import * as pointsman from "../../plugin-sdk/js/pointsman.js";
import { emit, pass, Refused, reject, toPort, type Event, type Judge, type Verdict } from "../../plugin-sdk/js/pointsman.js";

/** Bytes that the name of a port may have. */
const PORT_MAX = 64;

interface Settings {
  ports: Map<string, string>;
  headers: string[];
  field: string | undefined;
  unknown: "reject" | "pass";
}

export function configure(config: string): Judge {
  const settings = settingsOf(config);
  return (event) => route(settings, event);
}

function route(settings: Settings, event: Event): Verdict {
  const found = typeOf(settings, event);
  if (typeof found === "object") return found;
  const port = found === undefined ? undefined : settings.ports.get(found);
  if (port !== undefined) return emit(toPort(port));
  if (settings.unknown === "pass" || (found === undefined && event.isTombstone)) return pass();
  return found === undefined
    ? reject("no-type", "neither a header nor the value says what type the event has")
    : reject("unknown-type", `there is no port for the type \`${found}\``);
}

/** The type of an event, if it has one; or what becomes of an event whose type can't be told. */
function typeOf({ headers, field }: Settings, event: Event): string | undefined | Verdict {
  for (const name of headers) {
    if (event.header(name) === undefined) continue;
    return event.headerText(name) ?? reject("bad-type", `the header \`${name}\` is null, or not UTF-8`);
  }
  if (field === undefined || event.isTombstone) return undefined;
  // What is no JSON is rejected by the SDK.
  const value: unknown = event.json();
  if (!isObject(value)) return reject("bad-json", "the value is not a JSON object");
  // An own field: every object inherits some.
  const type = Object.hasOwn(value, field) ? value[field] : undefined;
  if (type === undefined || typeof type === "string") return type;
  return reject("bad-type", `\`${field}\` is no text`);
}

function settingsOf(config: string): Settings {
  const settings: unknown = JSON.parse(config);
  if (!isObject(settings)) throw new Refused("the configuration must be a table");
  const { ports, headers = ["ce_type", "type"], field, unknown = "reject", ...others } = settings;
  for (const name of Object.keys(others)) throw new Refused(`the configuration has no \`${name}\``);
  if (!isObject(ports)) throw new Refused("`ports` must be a table of types and their ports");
  const table = new Map<string, string>();
  for (const [type, port] of Object.entries(ports)) {
    if (!isText(port) || bytesOf(port) > PORT_MAX) {
      throw new Refused(`the port of \`${type}\` must be a text of 1 to ${PORT_MAX} bytes`);
    }
    table.set(type, port);
  }
  if (!Array.isArray(headers) || !headers.every(isText)) throw new Refused("`headers` must be a list of names");
  if (field !== undefined && !isText(field)) throw new Refused("`field` must be a name");
  if (unknown !== "reject" && unknown !== "pass") throw new Refused('`unknown` must be "reject" or "pass"');
  return { ports: table, headers, field, unknown };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

/** Bytes of a text as UTF-8: the SDK makes them. */
function bytesOf(text: string): number {
  return pointsman.event({ value: text }).value?.length ?? 0;
}

export default pointsman.plugin(configure);
