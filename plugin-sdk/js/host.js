// What the router does for a plugin, where there is no router: it is recorded, for tests.

/** Level and message of each line. */
export const lines = [];

/** Sums by name. */
export const counts = new Map();

export function log(level, message) {
  lines.push({ level, message });
}

/** A test sees the exception itself. */
export function panic() {}

export function count(name, increment) {
  counts.set(name, (counts.get(name) ?? 0) + increment);
}
