// What agents and people have written, shown as text and nothing else.

import { h } from "../lib/dom.js";

/** How many marks may stand on one letter: more of them paint over the lines around. */
const MARKS = /(\p{M}{4})\p{M}+/gu;
/** Control characters, and those that change the direction of what follows or cannot be seen. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/**
 * A text without what would disturb the text around it: control characters are shown as `�`.
 *
 * @param {string} value
 */
export function plain(value) {
  return value.replace(/\r\n?/g, "\n").replace(HIDDEN, "�").replace(MARKS, "$1");
}

/**
 * A line that somebody has written, isolated from the direction of what is around it.
 *
 * @param {string} value
 */
export function said(value) {
  return h("bdi", { dir: "auto" }, plain(value).replace(/\s+/g, " "));
}

/**
 * Changes what a node made by `said` says.
 *
 * @param {HTMLElement} node
 * @param {string} value
 */
export function sayAgain(node, value) {
  const text = plain(value).replace(/\s+/g, " ");
  if (node.textContent !== text) node.textContent = text;
}
