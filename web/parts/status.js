// How a status looks: a shape, a colour and words.

import { h } from "../lib/dom.js";
import { known, t } from "../lib/text.js";
import { icon } from "./icon.js";
import { plain } from "./said.js";

/** @typedef {import("../lib/session.js").Kind} Kind */

/** Kinds that say all there is to say: their reason is what they are. */
const SELF = ["turn", "stopped"];

/**
 * The words for a status: why, where that is known, else what.
 *
 * @param {Kind} kind
 * @param {string} [reason]
 */
export function statusWords(kind, reason) {
  if (!reason || SELF.includes(kind) || kind === "silent") return t(`kind.${kind}`);
  const words = known(`reason.${reason}`) ?? plain(reason).replaceAll("_", " ");
  return kind === "failed" ? t("kind.failedFor", { reason: words }) : words;
}

/**
 * A badge with a status.
 *
 * @param {Kind} kind
 * @param {string} [reason]
 */
export function badge(kind, reason) {
  return h("span", { class: `badge ${kind}` }, icon(kind), h("span", { class: "badge-text" }, statusWords(kind, reason)));
}

/**
 * The badge that a node shows, changed only when it is another one.
 *
 * @param {Element} old
 * @param {Kind} kind
 * @param {string} [reason]
 * @returns {Element} what is there now
 */
export function changeBadge(old, kind, reason) {
  if (old.classList.contains(kind) && old.textContent === statusWords(kind, reason)) return old;
  const next = badge(kind, reason);
  old.replaceWith(next);
  return next;
}
