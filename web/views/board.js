// The same sessions as columns.

import { BANDS, bandOf } from "../lib/bands.js";
import { arrange } from "../lib/bands.js";
import { choiceOf } from "../lib/choice.js";
import { now, setTime, tick, timeNode } from "../lib/clock.js";
import { each, h, say, set } from "../lib/dom.js";
import { onMove } from "../lib/keys.js";
import { addressOf, agentOf, kindOf, placeOf } from "../lib/session.js";
import { loaded, onChange, sessions } from "../lib/sessions.js";
import { count, t } from "../lib/text.js";
import { filters } from "../parts/filters.js";
import { said, sayAgain } from "../parts/said.js";
import { badge, changeBadge } from "../parts/status.js";

/** @typedef {import("../lib/bands.js").Band} Band */
/** @typedef {import("../lib/bands.js").Item} Item */
/** @typedef {Extract<Item, { type: "row" }>} Row */

/** So many cards of a column are shown; the overview has all. */
const SHOWN = 60;

/** @type {import("../lib/router.js").MakeView} */
export function view(context) {
  const { query, signal } = context;
  const bar = filters(context, { bands: false });
  const columns = BANDS.map((band) => ({ band, ...column(band) }));
  const board = h("div", { class: "board" }, ...columns.map(({ node }) => node));
  const node = h("div", {}, h("h1", { class: "hidden" }, t("board.title")), bar.node, board);
  let next = Infinity;

  const show = () => {
    const present = now();
    const choice = { ...choiceOf(query.value, EVERY_FOLD), band: "", group: /** @type {const} */ ("") };
    const arranged = arrange(sessions.values(), choice, present);
    next = arranged.next;
    const rows = arranged.items.filter((item) => item.type === "row");
    for (const { band, cards, number, more } of columns) {
      const own = rows.filter(({ kind, entry }) => bandOf(kind, entry, present) === band);
      const rest = arranged.counts[band] - Math.min(own.length, SHOWN);
      say(number, count(arranged.counts[band]));
      each(cards, own.slice(0, SHOWN), (item) => item.key, card, updateCard);
      more.hidden = rest <= 0;
      say(more, t("board.more", { n: rest }));
      const search = new URLSearchParams(query.value);
      search.set("status", band);
      set(more, { href: `/?${search}` });
    }
  };
  query.changed(show, signal);
  loaded.changed(() => {
    bar.offer();
    show();
  }, signal);
  onChange(show, signal);
  tick.changed(() => now() >= next && show(), signal);
  onMove(() => [.../** @type {NodeListOf<HTMLElement>} */ (board.querySelectorAll(".row-link"))], signal);
  show();
  return { node, title: t("board.title") };
}

/** Cards have no folds: everything is open. */
const EVERY_FOLD = /** @type {ReadonlySet<string>} */ (/** @type {unknown} */ ({ has: () => true }));

/** @param {Band} band */
function column(band) {
  const number = h("span", { class: "band-count" });
  const cards = h("ul", { class: "cards" });
  const more = h("a", { class: "button quiet", href: "/" });
  const id = `column-${band}`;
  const node = h(
    "section",
    { class: `column ${band}`, "aria-labelledby": id },
    h("h2", { id, class: "column-head" }, h("span", { class: "band-name" }, t(`band.${band}`)), number),
    cards,
    more,
  );
  return { node, cards, number, more };
}

/** @param {Row} item */
function card(item) {
  const { session } = item.entry;
  const node = h(
    "li",
    { class: `card ${item.kind}` },
    h("p", { class: "card-head" }, badge(item.kind, session.reason), timeNode("age", item.entry.since)),
    h("h3", { class: "card-title" }, h("a", { class: "row-link", href: addressOf(item.entry) }, said(item.entry.title))),
    h("p", { class: "row-message", dir: "auto" }),
    h("p", { class: "row-meta" }, h("span", {}, said("")), h("span", {}, said(""))),
  );
  updateCard(node, item);
  return node;
}

/**
 * @param {HTMLElement} node
 * @param {Row} item
 */
function updateCard(node, { entry, kind }) {
  const { session } = entry;
  set(node, { class: `card ${kind}` });
  const [head, title, message, meta] = /** @type {HTMLElement[]} */ ([...node.children]);
  changeBadge(head.children[0], kind, session.reason);
  setTime(/** @type {HTMLTimeElement} */ (head.children[1]), "age", kind === "working" || kind === "done" ? entry.updated : entry.since);
  sayAgain(/** @type {HTMLElement} */ (title.querySelector("bdi")), entry.title);
  sayAgain(message, (session.message ?? "").slice(0, 300));
  const [agent, place] = meta.querySelectorAll("bdi");
  sayAgain(agent, agentOf(session));
  sayAgain(place, placeOf(session));
}
