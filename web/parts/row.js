// A session as a line of a list.

import { h, say, set } from "../lib/dom.js";
import { setTime, timeNode } from "../lib/clock.js";
import { addressOf, agentAddress, agentOf, placeOf } from "../lib/session.js";
import { isMuted } from "../lib/attention.js";
import { t } from "../lib/text.js";
import { icon } from "./icon.js";
import { badge, changeBadge } from "./status.js";
import { said, sayAgain } from "./said.js";

/** @typedef {import("../lib/session.js").Entry} Entry */
/** @typedef {import("../lib/session.js").Kind} Kind */

/**
 * What a row consists of.
 *
 * @typedef {object} Parts
 * @property {Element} badge
 * @property {HTMLElement} title
 * @property {HTMLElement} agent
 * @property {HTMLElement} place
 * @property {HTMLElement} host
 * @property {HTMLElement} user
 * @property {HTMLElement} message
 * @property {HTMLTimeElement} age
 * @property {HTMLElement} muted
 */

/** @type {WeakMap<HTMLElement, Parts>} */
const parts = new WeakMap();

/**
 * @param {Entry} entry
 * @param {Kind} kind
 * @param {number} depth 1 when it stands under its parent
 */
export function row(entry, kind, depth = 0) {
  const own = {
    badge: /** @type {Element} */ (badge(kind, entry.session.reason)),
    title: said(""),
    agent: said(""),
    place: said(""),
    host: said(""),
    user: said(""),
    message: h("p", { class: "row-message", dir: "auto" }),
    age: timeNode("age", entry.since),
    muted: h("span", { class: "row-muted", title: t("row.muted") }, icon("mute"), h("span", { class: "hidden" }, t("row.muted"))),
  };
  const node = h(
    "article",
    { class: "row" },
    h("div", { class: "row-status" }, own.badge),
    h(
      "div",
      { class: "row-main" },
      h(
        "h3",
        { class: "row-title" },
        h("a", { class: "row-link", href: addressOf(entry) }, own.title),
        own.muted,
      ),
      h(
        "p",
        { class: "row-meta" },
        h("span", { class: "meta-user" }, own.user),
        h("span", { class: "meta-agent" }, h("a", { href: agentAddress(entry.session.agent_id) }, own.agent)),
        h("span", { class: "meta-place" }, own.place),
        h("span", { class: "meta-host" }, own.host),
      ),
    ),
    own.message,
    h("div", { class: "row-age" }, own.age),
  );
  parts.set(node, own);
  updateRow(node, entry, kind, depth);
  return node;
}

/**
 * @param {HTMLElement} node made by `row`
 * @param {Entry} entry
 * @param {Kind} kind
 * @param {number} depth
 */
export function updateRow(node, entry, kind, depth = 0) {
  const own = parts.get(node);
  if (!own) return;
  const { session } = entry;
  set(node, { class: `row ${kind}${depth ? " child" : ""}` });
  own.badge = changeBadge(own.badge, kind, session.reason);
  sayAgain(own.title, entry.title);
  sayAgain(own.agent, agentOf(session));
  sayAgain(own.place, placeOf(session));
  const host = session.context?.host ?? "";
  // The names of many agents say where they run.
  sayAgain(own.host, agentOf(session).includes(host) ? "" : host);
  sayAgain(own.user, session.context?.user ?? "");
  sayMessage(own.message, session.message ?? "");
  // Who works is judged by the last event, who waits by how long already.
  setTime(own.age, "age", kind === "working" || kind === "done" ? entry.updated : entry.since);
  own.muted.hidden = !isMuted(entry.key);
}

/**
 * @param {HTMLElement} node
 * @param {string} message
 */
function sayMessage(node, message) {
  const line = said(message.slice(0, 400)).textContent ?? "";
  say(node, line);
  if (node.title !== line) node.title = line;
}
