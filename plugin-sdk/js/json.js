// Values as JSON.

/** Deepest nesting that is read. The sandbox's stack would end at about three times as much, in a trap. */
const DEEPEST = 1000;

/** A value that is not the JSON it should be. Where nobody catches it, the event is rejected with its code. */
export class JsonError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "JsonError";
    this.code = code;
  }
}

/** Reads a text as JSON. Throws {@link JsonError}. */
export function parse(text) {
  const malformed = (why) => new JsonError("bad-json", `the value is not the JSON expected: ${why}`);
  if (opens(text) > DEEPEST && depth(text) > DEEPEST) throw malformed(`it is more than ${DEEPEST} deep`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw malformed(error.message);
  }
}

/** How many objects and arrays begin in a text, up to a few more than the deepest nesting. */
function opens(text) {
  let count = 0;
  for (const opening of ["{", "["]) {
    for (let at = text.indexOf(opening); at >= 0 && count <= DEEPEST; at = text.indexOf(opening, at + 1)) count++;
  }
  return count;
}

/** The deepest nesting of a text, strings left out. Of what is no JSON it need not be right, but never too small. */
function depth(text) {
  let deepest = 0;
  let open = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '"':
        at = endOfString(text, at);
        break;
      case "{":
      case "[":
        deepest = Math.max(deepest, ++open);
        break;
      case "}":
      case "]":
        open--;
        break;
    }
  }
  return deepest;
}

/** Where the string ends that begins here. */
function endOfString(text, start) {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text[end - 1 - slashes] === "\\") slashes++;
    if (slashes % 2 === 0) return end;
  }
  return text.length;
}
