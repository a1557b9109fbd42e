// The newest statuses of the workspace, as they come.

import { clockTime, dateTime } from "../lib/clock.js";
import { each, h } from "../lib/dom.js";
import { History } from "../lib/history.js";
import { onMove } from "../lib/keys.js";
import { addressOf, keyOf, kindOfStatus, pathOf } from "../lib/session.js";
import { loaded, onChange, sessions } from "../lib/sessions.js";
import { t } from "../lib/text.js";
import { empty } from "../parts/empty.js";
import { icon } from "../parts/icon.js";
import { said } from "../parts/said.js";
import { statusWords } from "../parts/status.js";

/** @typedef {import("../lib/session.js").Status} Status */
/** @typedef {import("../lib/session.js").Session} Session */

/** What happened, and of which session. */
/** @typedef {{ key: string, at: number, status: Pick<Status, "status" | "reason" | "message">, session: string, fresh: boolean }} Moment */

const SHOWN = 200;
/** Agents whose history is read at the start: those that were seen last. */
const AGENTS = 8;
const STATUSES = 50;

/** @type {import("../lib/router.js").MakeView} */
export function view({ signal }) {
  const list = h("ol", { class: "moments" });
  const nothing = empty(t("activity.empty"));
  const node = h("div", { class: "activity" }, h("h1", {}, t("activity.title")), h("p", { class: "soft" }, t("activity.lead")), nothing, list);
  /** @type {Map<string, Moment>} */
  let moments = new Map();

  /** @param {Omit<Moment, "key">} moment */
  const add = (moment) => {
    const key = `${moment.session} ${moment.at} ${moment.status.status}`;
    if (!moments.has(key)) moments.set(key, { key, ...moment });
  };
  const show = () => {
    const newest = [...moments.values()].sort((a, b) => b.at - a.at).slice(0, SHOWN);
    moments = new Map(newest.map((moment) => [moment.key, moment]));
    nothing.hidden = newest.length > 0 || loaded.value === "nothing";
    each(list, newest, (moment) => moment.key, line);
  };
  const addSessions = () => {
    for (const { key, updated, session } of sessions.values()) add({ at: updated, status: ofSession(session), session: key, fresh: false });
    show();
  };
  const readHistories = async () => {
    const agents = new Set([...sessions.values()].sort((a, b) => b.updated - a.updated).map(({ session }) => session.agent_id));
    const reads = [...agents].slice(0, AGENTS).map(async (agent) => {
      const history = new History(pathOf("/api/agents/{agent_id}/history", { agent_id: agent }), STATUSES, signal);
      await history.refresh();
      for (const status of history.statuses) {
        add({ at: Date.parse(status.timestamp), status, session: keyOf(agent, status.session_topic), fresh: false });
      }
    });
    // What could not be read is missing here, and stands in its session.
    await Promise.allSettled(reads);
    if (!signal.aborted) show();
  };

  loaded.watch((state) => {
    if (state === "nothing") return;
    addSessions();
    if (state === "all") void readHistories();
  }, signal);
  onChange((changes) => {
    for (const { entry, fresh } of changes) add({ at: entry.updated, status: ofSession(entry.session), session: entry.key, fresh });
    show();
  }, signal);
  onMove(() => [...list.querySelectorAll("a")], signal);
  return { node, title: t("activity.title") };
}

/** @param {Session} session */
function ofSession({ current_status, reason, message }) {
  return { status: current_status, reason, message };
}

/** @param {Moment} moment */
function line({ at, status, session, fresh }) {
  const entry = sessions.get(session);
  const kind = kindOfStatus(status);
  return h(
    "li",
    { class: `moment ${kind}${fresh ? " fresh" : ""}` },
    h("time", { datetime: new Date(at).toISOString(), title: dateTime(at) }, clockTime(at)),
    h("span", { class: "moment-kind" }, icon(kind), statusWords(kind, status.reason)),
    h(
      "span",
      { class: "moment-text" },
      h("a", { href: addressOf({ key: session }) }, said(entry?.title ?? decodeURIComponent(session.split("/")[1]))),
      status.message ? h("span", { class: "moment-message" }, said(status.message.slice(0, 300))) : null,
    ),
  );
}
