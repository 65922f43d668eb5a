// What the router does for a plugin, inside a component.

import host from "pointsman:plugin/host@0.1.0";

export const log = host.log;
export const count = host.count;
export const panic = host.panic;

// Nothing is recorded here.
export const lines = [];
export const counts = new Map();
