// Text from UTF-8 and back. QuickJS, which runs plugins inside a component, has neither TextDecoder nor TextEncoder; what it
// has in native code is base64, between bytes and strings of one character for each byte, and `escape` from there to text.

const NOT_ASCII = /[^\0-\x7f]/;

const native = typeof TextDecoder === "function";
const decoder = native ? new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }) : undefined;
const encoder = native ? new TextEncoder() : undefined;

/** The text, or `undefined` where the bytes are not UTF-8. */
export function decode(bytes) {
  try {
    if (native) return decoder.decode(bytes);
    const binary = atob(bytes.toBase64());
    return NOT_ASCII.test(binary) ? decodeURIComponent(escape(binary)) : binary;
  } catch {
    return undefined;
  }
}

/** The bytes of a text. A surrogate without its other half becomes U+FFFD. */
export function encode(text) {
  if (native) return encoder.encode(text);
  const binary = NOT_ASCII.test(text) ? unescape(encodeURIComponent(text.toWellFormed())) : text;
  return Uint8Array.fromBase64(btoa(binary));
}
