// One agent: its sessions on a time axis, and as a list.

import { get } from "../lib/api.js";
import { dateTime, now, tick, timeNode } from "../lib/clock.js";
import { Signal, fill, h, say } from "../lib/dom.js";
import { History } from "../lib/history.js";
import { isMissing } from "../lib/http.js";
import { onMove } from "../lib/keys.js";
import { LongList } from "../lib/list.js";
import { addressOf, keyOf, kindOf, pathOf } from "../lib/session.js";
import { loaded, onChange, sessions } from "../lib/sessions.js";
import { spells } from "../lib/steps.js";
import { count, t } from "../lib/text.js";
import { axis } from "../parts/axis.js";
import { row, updateRow } from "../parts/row.js";
import { plain, said } from "../parts/said.js";

/** @typedef {import("../lib/session.js").Entry} Entry */
/** @typedef {import("../lib/session.js").Status} Status */

/**
 * @typedef {object} Agent
 * @property {string} agent_id
 * @property {string} [name]
 * @property {string} [source]
 * @property {string} registered
 * @property {string} last_seen
 */

const LANES = 25;
const STATUSES = 1000;
/** The history is read again this often at most, in milliseconds. */
const PAUSE = 1500;

/** @type {import("../lib/router.js").MakeView} */
export async function view({ params, signal }) {
  const agent = /** @type {Agent} */ (await get(pathOf("/api/agents/{agent_id}", params), signal));
  const history = new History(pathOf("/api/agents/{agent_id}/history", params), STATUSES, signal);
  /** @type {Map<string, Status[]>} */
  let histories = new Map();
  const name = agent.name || agent.agent_id;
  const timeline = axis(signal);
  const number = h("span", { class: "band-count" });
  const older = h("p", { class: "hint" });
  const seen = h("dd", {});
  const gone = h("p", { class: "notice", role: "status", hidden: true }, t("app.gone"));
  /** @type {LongList<Entry>} */
  const list = new LongList(
    {
      key: (entry) => entry.key,
      kind: () => "row",
      make: (entry) => row(entry, kindOf(entry, now())),
      update: (node, entry) => updateRow(node, entry, kindOf(entry, now())),
    },
    signal,
  );
  const node = h(
    "div",
    { class: "agent" },
    h("header", {}, h("h1", {}, said(name)), facts(agent, seen), gone),
    h("section", { "aria-labelledby": "axis" }, h("h2", { id: "axis" }, t("agent.timeline")), timeline.node, older),
    h("section", { "aria-labelledby": "sessions" }, h("h2", { id: "sessions", class: "band group" }, h("span", {}, t("agent.list")), number), list.node),
  );

  const own = () => {
    const found = [...sessions.values()].filter(({ session }) => session.agent_id === agent.agent_id);
    return found.sort((a, b) => b.updated - a.updated);
  };
  const show = () => {
    const entries = own();
    say(number, count(entries.length));
    fill(seen, timeNode("ago", entries[0]?.updated ?? Date.parse(agent.last_seen)));
    list.show(entries);
    const shown = entries.slice(0, LANES);
    timeline.show(
      shown.map((entry) => ({ title: plain(entry.title), href: addressOf(entry), spells: spellsOf(entry) })),
      shown.map((entry) => h("a", { href: addressOf(entry) }, said(entry.title))),
    );
    older.hidden = entries.length <= LANES;
    say(older, t("agent.more", { n: Math.max(0, entries.length - LANES) }));
  };

  /** @param {Entry} entry */
  function spellsOf(entry) {
    const statuses = histories.get(entry.key) ?? [];
    const known = spells(statuses, entry.expires, now());
    // The history that was read may begin later than the session.
    if (known.length) return known;
    return [{ kind: kindOf(entry, now()), from: entry.created, to: entry.updated }];
  }

  const read = async () => {
    await history.refresh();
    histories = new Map();
    for (const status of history.statuses) {
      const key = keyOf(agent.agent_id, status.session_topic);
      const known = histories.get(key);
      if (known) known.push(status);
      else histories.set(key, [status]);
    }
  };
  let reading = false;
  let again = false;
  const refresh = async () => {
    again = reading;
    if (reading) return;
    reading = true;
    try {
      await read();
      gone.hidden = true;
    } catch (error) {
      // What cannot be read now is read with the next event.
      if (isMissing(error)) gone.hidden = false;
    }
    if (signal.aborted) return;
    show();
    setTimeout(() => {
      reading = false;
      if (again && !signal.aborted) void refresh();
    }, PAUSE);
  };

  await read();
  loaded.changed(show, signal);
  onChange((changes) => {
    const isUnlisted = loaded.value === "all" && gone.hidden && !own().length;
    if (isUnlisted || changes.some(({ entry }) => entry.session.agent_id === agent.agent_id)) void refresh();
  }, signal);
  tick.changed((second) => second % 5 === 0 && show(), signal);
  onMove(() => [.../** @type {NodeListOf<HTMLElement>} */ (list.node.querySelectorAll(".row-link"))], signal);
  show();
  const first = own().slice(0, 8).map(({ created }) => created);
  if (first.length) timeline.reach(Math.min(...first));
  return { node, title: new Signal(plain(name)) };
}

/**
 * @param {Agent} agent
 * @param {HTMLElement} seen
 */
function facts(agent, seen) {
  return h(
    "dl",
    { class: "facts inline" },
    agent.name && agent.name !== agent.agent_id ? [h("dt", {}, t("session.agent")), h("dd", {}, said(agent.agent_id))] : null,
    agent.source ? [h("dt", {}, t("agent.source")), h("dd", {}, said(agent.source))] : null,
    h("dt", {}, t("agent.registered")),
    h("dd", {}, dateTime(Date.parse(agent.registered))),
    h("dt", {}, t("agent.seen")),
    seen,
  );
}
