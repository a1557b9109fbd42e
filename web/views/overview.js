// The overview: all sessions, what needs a person first.

import { muted } from "../lib/attention.js";
import { arrange } from "../lib/bands.js";
import { FIELDS, choiceOf } from "../lib/choice.js";
import { now, tick } from "../lib/clock.js";
import { fill, h, say } from "../lib/dom.js";
import { ApiError } from "../lib/http.js";
import { onKey } from "../lib/keys.js";
import { LongList } from "../lib/list.js";
import { startLive, trouble } from "../lib/live.js";
import { setQuery } from "../lib/router.js";
import { agentAddress, agentOf } from "../lib/session.js";
import { loaded, onChange, sessions } from "../lib/sessions.js";
import { count, t } from "../lib/text.js";
import { late } from "../lib/upgrade.js";
import { empty } from "../parts/empty.js";
import { filters } from "../parts/filters.js";
import { icon } from "../parts/icon.js";
import { row, updateRow } from "../parts/row.js";
import { said } from "../parts/said.js";

/** @typedef {import("../lib/bands.js").Item} Item */

/** Arranging this often is cheap; with very many sessions it is done as seldom as it takes long. */
const SHARE = 8;

/** @type {import("../lib/router.js").MakeView} */
export function view(context) {
  const { query, signal } = context;
  /** @type {Set<string>} */
  const open = new Set();
  const bar = filters(context, { bands: true });
  const note = h("div", { class: "note" });
  /** @type {LongList<Item>} */
  const list = new LongList({ key: (item) => item.key, kind: heightOf, make, update }, signal);
  const node = h("div", { class: "overview" }, h("h1", { class: "hidden" }, t("overview.title")), bar.node, note, list.node);
  let next = Infinity;
  let timer = 0;
  let state = "";

  const show = () => {
    const started = performance.now();
    timer = 0;
    const arranged = arrange(sessions.values(), choiceOf(query.value, open), now());
    next = arranged.next;
    bar.count(arranged.counts);
    list.show(arranged.items);
    explain(arranged.items.length);
    cost = performance.now() - started;
  };
  let cost = 0;
  let shownAt = 0;
  /** Shows now, or as soon as showing does not take all the time there is. */
  const showSoon = () => {
    if (timer) return;
    const rest = shownAt + cost * SHARE - performance.now();
    if (rest <= 0 || cost < 8) {
      show();
      shownAt = performance.now();
    } else {
      timer = setTimeout(() => {
        show();
        shownAt = performance.now();
      }, rest);
    }
  };

  /** @param {number} lines */
  function explain(lines) {
    const wanted = what(lines);
    if (wanted === state) return;
    state = wanted;
    bar.node.hidden = ["welcome", "loading", "trouble"].includes(wanted);
    if (wanted === "loading") fill(note, skeleton());
    else if (wanted === "trouble") fill(note, problem());
    else if (wanted === "more") fill(note, h("p", { class: "hint" }, t("overview.more")));
    else if (wanted === "none") fill(note, nothing());
    else fill(note);
    if (wanted === "welcome") void greet();
  }

  async function greet() {
    const part = await late(() => import("../parts/welcome.js"));
    if (part && state === "welcome") fill(note, part.welcome());
  }

  /** @param {number} lines */
  function what(lines) {
    if (loaded.value === "all") return lines ? "" : sessions.size ? "none" : "welcome";
    if (lines) return "more";
    return trouble.value ? "trouble" : "loading";
  }

  /** @param {Item} item */
  function make(item) {
    if (item.type === "row") return row(item.entry, item.kind, item.depth);
    const node = item.type === "fold" ? foldLine(item) : heading(item);
    update(node, item);
    return node;
  }

  /**
   * @param {HTMLElement} node
   * @param {Item} item
   */
  function update(node, item) {
    if (item.type === "row") updateRow(node, item.entry, item.kind, item.depth);
    else if (item.type === "fold") updateFold(node, item);
    else updateHeading(node, item);
  }

  /** @param {Extract<Item, { type: "fold" }>} item */
  function foldLine(item) {
    const toggle = () => {
      if (!open.delete(item.key)) open.add(item.key);
      show();
    };
    return h(
      "div",
      { class: "fold" },
      h("button", { type: "button", class: "button quiet", onclick: toggle }, icon("fold"), h("span", {})),
    );
  }

  query.changed(show, signal);
  muted.changed(show, signal);
  trouble.changed(show, signal);
  loaded.changed(() => {
    bar.offer();
    show();
  }, signal);
  onChange((changes) => {
    // A field may have got a value that it has not offered yet.
    if (changes.some(({ before }) => !before)) bar.offer();
    showSoon();
  }, signal);
  tick.changed(() => now() >= next && showSoon(), signal);
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  moveByKeys(list, signal);
  show();
  return { node, title: "kubeagents" };
}

/** @param {Item} item */
function heightOf(item) {
  return item.type === "group" ? "band" : item.type;
}

/** @param {Exclude<Item, { type: "row" | "fold" }>} item */
function heading(item) {
  const name = item.type === "band" ? t(`band.${item.band}`) : "";
  return h(
    "h2",
    { class: item.type === "band" ? `band ${item.band}` : "band group" },
    h("span", { class: "band-name" }, item.type === "band" ? name : groupName(item)),
    h("span", { class: "band-count" }),
    h("span", { class: "band-needs" }),
  );
}

/** @param {Extract<Item, { type: "group" }>} item */
function groupName({ facet, name }) {
  if (!name) return h("i", {}, t("overview.unnamed"));
  if (facet !== "agent") return said(name);
  const entry = [...sessions.values()].find(({ session }) => session.agent_id === name);
  return h("a", { href: agentAddress(name) }, said(entry ? agentOf(entry.session) : name));
}

/**
 * @param {HTMLElement} node
 * @param {Exclude<Item, { type: "row" | "fold" }>} item
 */
function updateHeading(node, item) {
  say(node.children[1], count(item.count));
  say(node.children[2], item.type === "group" && item.needs ? t("overview.needs", { n: item.needs }) : "");
}

/**
 * @param {HTMLElement} node
 * @param {Extract<Item, { type: "fold" }>} item
 */
function updateFold(node, item) {
  node.classList.toggle("child", item.depth > 0);
  const button = /** @type {HTMLElement} */ (node.firstElementChild);
  button.setAttribute("aria-expanded", String(item.open));
  const words = /** @type {Element} */ (button.lastElementChild);
  say(words, t(`overview.${item.of}`, { n: item.count }));
}

/** Lines in the place of those that are on their way. */
function skeleton() {
  return h(
    "div",
    { class: "skeleton" },
    h("p", { class: "hidden", role: "status" }, t("app.loading")),
    ...Array.from({ length: 6 }, () => h("div", { "aria-hidden": "true" })),
  );
}

/** What keeps the sessions from being shown. */
function problem() {
  const error = trouble.value;
  const known = error instanceof ApiError && error.status > 0;
  const retry = h("button", { type: "button", class: "button", onclick: startLive }, t("app.retry"));
  return empty(t(known ? "app.error" : "app.unreachable"), known ? error.message : t("app.unreachable.hint"), retry);
}

function nothing() {
  const clear = h(
    "button",
    { type: "button", class: "button", onclick: () => void setQuery(Object.fromEntries(FIELDS.map((field) => [field, ""]))) },
    t("overview.clear"),
  );
  return empty(t("overview.none"), t("overview.none.hint"), clear);
}

/**
 * Moves with `j` and `k`, also to lines that do not exist yet.
 *
 * @param {LongList<Item>} list
 * @param {AbortSignal} signal
 */
function moveByKeys(list, signal) {
  /** @param {number} step */
  const move = (step) => {
    const rows = list.items.filter((item) => item.type === "row");
    const line = document.activeElement?.closest("[data-line]");
    const at = line instanceof HTMLElement ? rows.findIndex((item) => item.key === line.dataset.line) : -1;
    const next = rows[at < 0 ? 0 : Math.min(Math.max(at + step, 0), rows.length - 1)];
    if (next) list.reveal(next.key)?.querySelector("a")?.focus({ preventScroll: true });
  };
  onKey("j", () => move(1), signal);
  onKey("k", () => move(-1), signal);
}
