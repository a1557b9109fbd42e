// Patterns for bars, so that colour is not the only sign of a status.

import { s } from "../lib/dom.js";

/** @typedef {import("../lib/session.js").Kind} Kind */

const SHAPES = {
  waiting: "M-2 2l4-4M0 8l8-8M6 10l4-4",
  failed: "M0 0l8 8M8 0 0 8",
  silent: "M4 0v8",
  turn: "M2 2h.01M6 6h.01",
};

/** Definitions to be put into an SVG. Their names are those of the page: an address refers to them. */
export function textures() {
  return s(
    "defs",
    {},
    ...Object.entries(SHAPES).map(([kind, d]) =>
      s(
        "pattern",
        { id: `texture-${kind}`, class: kind, width: "8", height: "8", patternUnits: "userSpaceOnUse" },
        s("rect", { class: "texture-ground", width: "8", height: "8" }),
        s("path", { class: "texture-lines", d }),
      ),
    ),
  );
}

/**
 * A bar of a kind.
 *
 * @param {Kind} kind
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 */
export function bar(kind, x, y, width, height) {
  const wide = Math.max(width, 2);
  return s("rect", {
    class: `bar ${kind}`,
    x: x.toFixed(1),
    y,
    width: wide.toFixed(1),
    height,
    rx: Math.min(3, wide / 2),
    fill: kind in SHAPES ? `url(#texture-${kind})` : undefined,
  });
}
