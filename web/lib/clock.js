// Time as the server has it, and the one tick by which every clock on the page moves.

import { Signal, say } from "./dom.js";
import { locale, t } from "./text.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
/** What was so recently was just now. */
const JUST = 5 * SECOND;

let skew = 0;

/** @returns {number} Milliseconds of the server's clock. */
export function now() {
  return Date.now() + skew;
}

/**
 * Learns the server's clock from the `Date` of an answer, which is exact to a second.
 *
 * @param {string | null} date
 */
export function learn(date) {
  const ahead = Date.parse(date ?? "") - Date.now();
  if (Number.isNaN(ahead)) return;
  skew = Math.abs(ahead) < 2 * SECOND ? 0 : ahead;
}

/** The present second. */
export const tick = new Signal(0);

/** Starts the tick. */
export function startClock() {
  setInterval(() => {
    tick.value = Math.floor(now() / SECOND);
    refreshTimes(document);
  }, SECOND);
}

/**
 * Brings the `<time>` elements below a node up to date. What is to be shown stands in their data, so
 * a node that is gone needs no farewell.
 *
 * @param {ParentNode} root
 */
export function refreshTimes(root) {
  for (const node of root.querySelectorAll("time[data-kind]")) showTime(/** @type {HTMLTimeElement} */ (node));
}

/** @typedef {"age" | "ago" | "left"} TimeKind */

/**
 * Sets what a `<time>` shows: the time since then, or the time until then.
 *
 * @param {HTMLTimeElement} node
 * @param {TimeKind} kind
 * @param {number} at
 */
export function setTime(node, kind, at) {
  node.dataset.kind = kind;
  node.dataset.at = String(at);
  const iso = new Date(at).toISOString();
  if (node.dateTime !== iso) {
    node.dateTime = iso;
    node.title = dateTime(at);
  }
  showTime(node);
}

/**
 * A `<time>` that moves with the clock.
 *
 * @param {TimeKind} kind
 * @param {number} at
 */
export function timeNode(kind, at) {
  const node = document.createElement("time");
  setTime(node, kind, at);
  return node;
}

/** @param {HTMLTimeElement} node */
function showTime(node) {
  const at = Number(node.dataset.at);
  const kind = node.dataset.kind;
  if (kind === "left") say(node, at > now() ? countdown(at - now()) : t("time.over"));
  else if (kind === "ago") say(node, now() - at < JUST ? t("time.now") : t("time.ago", { time: duration(now() - at) }));
  else say(node, duration(now() - at));
}

/**
 * A length of time, short: `12 s`, `3 min`, `2 h 5 min`, `4 d`.
 *
 * @param {number} milliseconds
 */
export function duration(milliseconds) {
  const length = Math.max(0, milliseconds);
  if (length < MINUTE) return t("time.seconds", { n: Math.floor(length / SECOND) });
  if (length < HOUR) return t("time.minutes", { n: Math.floor(length / MINUTE) });
  if (length < DAY) {
    const minutes = Math.floor((length % HOUR) / MINUTE);
    const hours = t("time.hours", { n: Math.floor(length / HOUR) });
    return minutes && length < 10 * HOUR ? `${hours} ${t("time.minutes", { n: minutes })}` : hours;
  }
  return t("time.days", { n: Math.floor(length / DAY) });
}

/**
 * What is left of a time: `59:03`, `1:02:09`.
 *
 * @param {number} milliseconds
 */
function countdown(milliseconds) {
  const seconds = Math.ceil(milliseconds / SECOND);
  /** @param {number} part */
  const two = (part) => String(part).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const tail = `${two(minutes)}:${two(seconds % 60)}`;
  return hours ? `${hours}:${tail}` : tail;
}

/** @param {number} at */
export function dateTime(at) {
  return new Date(at).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "medium" });
}

/**
 * The time of day, with the date when it is not today's.
 *
 * @param {number} at
 */
export function clockTime(at) {
  const date = new Date(at);
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  const today = date.toDateString() === new Date(now()).toDateString();
  const parts = today ? time : { month: "short", day: "numeric", ...time };
  return date.toLocaleString(locale(), /** @type {Intl.DateTimeFormatOptions} */ (parts));
}
