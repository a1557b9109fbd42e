// One session: what it is, how it stands, and how it came there.

import { isMuted, muted, toggleMuted } from "../lib/attention.js";
import { clockTime, dateTime, duration, now, refreshTimes, tick, timeNode } from "../lib/clock.js";
import { Signal, each, fill, h, s, say } from "../lib/dom.js";
import { History } from "../lib/history.js";
import { isMissing } from "../lib/http.js";
import { onMove } from "../lib/keys.js";
import { addressOf, agentAddress, agentOf, entryOf, keyOf, kindOf, pathOf } from "../lib/session.js";
import { loaded, onChange, sessions } from "../lib/sessions.js";
import { markdown, spells, steps } from "../lib/steps.js";
import { pieces, t } from "../lib/text.js";
import { contextList } from "../parts/context.js";
import { copyButton } from "../parts/copy.js";
import { icon } from "../parts/icon.js";
import { plain, said, sayAgain } from "../parts/said.js";
import { badge, changeBadge, statusWords } from "../parts/status.js";
import { bar, textures } from "../parts/textures.js";

/** @typedef {import("../lib/session.js").Entry} Entry */
/** @typedef {import("../lib/steps.js").Step} Step */

/** How many statuses are read at once. */
const PAGE = 200;
/** Longer texts fold. */
const LONG = 600;
/** So many steps of work after each other fold into the newest. */
const REPEATS = 3;
/** The least width of a spell, of 1000. */
const MARK = 5;
/** An agent may report many times a second: the history is read this often at most. */
const PAUSE = 1000;
/** How often the strip moves on, in seconds. */
const STRIP = 5;

/** @type {import("../lib/router.js").MakeView} */
export async function view({ params, signal }) {
  const key = keyOf(params.agent_id, params.session_topic);
  const path = pathOf("/api/agents/{agent_id}/sessions/{session_topic}", params);
  const history = new History(path, PAGE, signal);
  await history.refresh();
  let entry = entryNow(history, key);

  const title = new Signal(plain(entry.title));
  const agent = said(agentOf(entry.session));
  const heading = h("h1", {}, said(entry.title));
  let status = /** @type {Element} */ (badge(kindOf(entry, now()), entry.session.reason));
  const spell = h("span", { class: "soft" });
  const message = h("p", { class: "session-message", dir: "auto" });
  const gone = h("p", { class: "notice", role: "status", hidden: true }, t("app.gone"));
  const mute = h("button", { type: "button", class: "button small", onclick: () => toggleMuted(key) }, icon("mute"), h("span", {}));
  const strip = h("div", { class: "strip" });
  const facts = h("dl", { class: "facts" });
  const children = h("ul", { class: "family" });
  const childrenBox = h("section", { hidden: true }, h("h2", {}, t("session.children")), children);
  const timeline = h("ol", { class: "timeline" });
  const older = h("button", { type: "button", class: "button", onclick: () => void readOlder() }, t("session.older"));

  const node = h(
    "div",
    { class: "session" },
    h(
      "header",
      { class: "session-head" },
      h("p", { class: "soft" }, h("a", { href: agentAddress(params.agent_id) }, agent)),
      heading,
      gone,
      h("p", { class: "session-status" }, status, spell),
      message,
      h(
        "p",
        { class: "actions" },
        copyButton(t("session.copyMarkdown"), () =>
          markdown(entry.session, statusWords(kindOf(entry, now()), entry.session.reason), history.statuses),
        ),
        copyButton(t("session.copyJson"), () =>
          JSON.stringify({ session: entry.session, status_history: history.statuses }, null, 2),
        ),
        mute,
      ),
    ),
    strip,
    h(
      "div",
      { class: "session-body" },
      h("section", { "aria-labelledby": "timeline" }, h("h2", { id: "timeline" }, t("session.timeline")), timeline, older),
      h(
        "aside",
        { "aria-labelledby": "context" },
        h("section", {}, h("h2", { id: "context" }, t("session.context")), facts),
        childrenBox,
      ),
    ),
  );

  let kind = kindOf(entry, now());
  const show = () => {
    kind = kindOf(entry, now());
    const { session } = entry;
    title.value = plain(entry.title);
    sayAgain(agent, agentOf(session));
    say(/** @type {Node} */ (heading.firstChild), title.value);
    status = changeBadge(status, kind, session.reason);
    say(message, plain(session.message ?? ""));
    fill(spell, timeNode("age", entry.since));
    fill(facts, ...expiry(entry, kind), ...fixed(entry), ...contextList(session.context ?? {}));
    showStrip();
    showChildren();
    const groups = folded(steps(history.statuses));
    each(timeline, groups, keyOfGroup, (group) => step(group), updateStep);
    older.hidden = !history.next;
  };

  const showStrip = () => {
    const present = now();
    const all = spells(history.statuses, entry.expires, present);
    const from = all[0]?.from ?? 0;
    const end = all[all.length - 1]?.to ?? 0;
    const to = Math.max(end, from + 1000);
    const x = (/** @type {number} */ at) => ((at - from) / (to - from)) * 1000;
    const words = all.map(({ kind, from, to }) => `${t(`kind.${kind}`)} ${duration(to - from)}`).slice(-8).join(", ");
    fill(
      strip,
      s(
        "svg",
        { viewBox: "0 0 1000 16", preserveAspectRatio: "none", role: "img", "aria-label": `${t("session.strip")}: ${words}` },
        textures(),
        ...all.map(({ kind, from, to }) => bar(kind, Math.min(x(from), 1000 - MARK), 0, Math.max(x(to) - x(from), MARK), 16)),
      ),
      h("p", { class: "strip-scale" }, h("span", {}, clockTime(from)), h("span", {}, end === present ? t("agent.today") : clockTime(end))),
    );
  };

  const showChildren = () => {
    const family = [...sessions.values()].filter(
      ({ key: other, session }) => session.context?.parent === entry.session.session_topic && other !== key,
    );
    family.sort((a, b) => b.updated - a.updated);
    childrenBox.hidden = !family.length;
    each(
      children,
      family.slice(0, 50),
      (child) => child.key,
      (child) => h("li", {}, badge(kindOf(child, now()), child.session.reason), h("a", { href: addressOf(child) }, said(child.title))),
      (line, child) => changeBadge(/** @type {Element} */ (line.firstElementChild), kindOf(child, now()), child.session.reason),
    );
  };

  async function readOlder() {
    older.disabled = true;
    try {
      await history.older();
      show();
    } finally {
      older.disabled = false;
    }
  }

  let reading = false;
  let again = false;
  const refresh = async () => {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    try {
      await history.refresh();
      entry = entryNow(history, key);
      gone.hidden = true;
      show();
    } catch (error) {
      // A server in memory that was started again may hear of it again. After other failures the next event
      // tries again, and the frame says when nothing is live.
      if (isMissing(error)) gone.hidden = false;
    }
    setTimeout(() => {
      reading = false;
      if (again && !signal.aborted) {
        again = false;
        void refresh();
      }
    }, PAUSE);
  };
  onChange((changes) => {
    const isUnlisted = loaded.value === "all" && !sessions.has(key);
    if (changes.some((change) => change.entry.key === key && change.entry.updated > entry.updated)) void refresh();
    else if (isUnlisted && gone.hidden) void refresh();
    else if (changes.some((change) => change.entry.session.context?.parent === entry.session.session_topic)) showChildren();
  }, signal);
  tick.changed((second) => {
    if (kindOf(entry, now()) !== kind) show();
    else if (second % STRIP === 0) showStrip();
  }, signal);
  muted.watch(() => say(/** @type {Node} */ (mute.lastChild), t(isMuted(key) ? "session.unmute" : "session.mute")), signal);
  onMove(() => [...timeline.querySelectorAll("summary")], signal);
  show();
  refreshTimes(node);
  return { node, title };
}

/**
 * The session as the newer of the two sources has it.
 *
 * @param {History} history
 * @param {string} key
 * @returns {Entry}
 */
function entryNow(history, key) {
  const read = entryOf(/** @type {import("../lib/session.js").Session} */ (history.session));
  const live = sessions.get(key);
  if (live && live.session.last_updated >= read.session.last_updated) return live;
  // Only lists have the agent's name.
  if (live?.session.agent_name) read.session.agent_name = live.session.agent_name;
  return read;
}

/**
 * When the session counts as silent, or no longer as somebody's turn.
 *
 * @param {Entry} entry
 * @param {import("../lib/session.js").Kind} kind
 */
function expiry(entry, kind) {
  const whole = h("span", { class: "soft" }, t("session.ttl", { n: entry.session.ttl_minutes }));
  if (kind === "working") return countdown(t("session.expires"), timeNode("left", entry.expires), whole);
  if (kind === "turn") return countdown(t("session.kept"), timeNode("left", entry.expires), whole);
  if (kind === "silent") return countdown(t("session.expired"), timeNode("age", entry.updated));
  return [];
}

/**
 * @param {string} name
 * @param {...Node} value
 */
function countdown(name, ...value) {
  return [h("dt", {}, name), h("dd", { class: "countdown" }, ...value)];
}

/** @param {Entry} entry */
function fixed(entry) {
  const { session } = entry;
  const parent = session.context?.parent;
  const parentEntry = parent ? [...sessions.values()].find((other) => other.session.session_topic === parent) : undefined;
  return [
    ...(parent
      ? [
          h("dt", {}, t("session.parent")),
          h("dd", {}, parentEntry ? h("a", { href: addressOf(parentEntry) }, said(parentEntry.title)) : said(parent)),
        ]
      : []),
    h("dt", {}, t("session.started")),
    h("dd", {}, dateTime(entry.created)),
    h("dt", {}, t("session.updated")),
    h("dd", {}, timeNode("ago", entry.updated)),
    ...(session.title && session.title !== session.session_topic
      ? [h("dt", {}, t("session.topic")), h("dd", {}, said(session.session_topic))]
      : []),
  ];
}

/**
 * Steps, newest first, with those that only say that work goes on folded into the newest of them.
 *
 * @param {Step[]} all
 * @returns {Step[][]}
 */
function folded(all) {
  /** @type {Step[][]} */
  const groups = [];
  for (const one of all) {
    const last = groups[groups.length - 1];
    if (last && last[0].kind === "working" && one.kind === "working" && !one.status.content && !last[0].status.content) last.push(one);
    else groups.push([one]);
  }
  return groups.flatMap((group) => (group.length > REPEATS ? [group] : group.map((one) => [one])));
}

/**
 * The oldest step names a group: it grows at its other end.
 *
 * @param {Step[]} group
 */
function keyOfGroup(group) {
  const { timestamp, status, message } = group[group.length - 1].status;
  return `${timestamp} ${status} ${message ?? ""} ${group.length > REPEATS ? "many" : "one"}`;
}

/** @param {Step[]} group */
function step(group) {
  const node = h("li", { class: `step ${group[0].kind}` });
  updateStep(node, group);
  return node;
}

/** @type {WeakMap<HTMLElement, string>} */
const drawn = new WeakMap();

/**
 * @param {HTMLElement} node
 * @param {Step[]} group
 */
function updateStep(node, group) {
  const [newest] = group;
  const state = `${newest.status.timestamp} ${newest.to} ${group.length}`;
  if (drawn.get(node) === state) return;
  drawn.set(node, state);
  const open = node.querySelector("details.steps")?.hasAttribute("open");
  fill(
    node,
    h("span", { class: "step-mark" }, icon(newest.kind)),
    ...line(newest, group[group.length - 1].from),
    group.length > 1
      ? h(
          "details",
          { class: "steps", open },
          h("summary", {}, t("session.repeats", { n: group.length - 1 })),
          h("ol", {}, ...group.slice(1).map((one) => h("li", {}, ...line(one, one.from, false)))),
        )
      : null,
  );
}

/**
 * @param {Step} step
 * @param {number} from when what it stands for began
 * @param {boolean} [withStatus]
 */
function line({ status, kind, from: at, to }, from, withStatus = true) {
  const length = to === null ? lastsStill(kind, from) : pieces("session.lasted", { time: duration(to - from) });
  return [
    h(
      "div",
      { class: "step-head" },
      withStatus ? h("strong", {}, statusWords(kind, status.reason)) : null,
      h("time", { datetime: status.timestamp, title: dateTime(at) }, clockTime(at)),
      h("span", { class: "step-length" }, ...length),
    ),
    status.message ? h("p", { class: "step-message", dir: "auto" }, plain(status.message)) : null,
    status.content ? content(plain(status.content)) : null,
  ];
}

/**
 * What is over lasts no longer: it is so long ago.
 *
 * @param {import("../lib/session.js").Kind} kind
 * @param {number} from
 */
function lastsStill(kind, from) {
  if (["done", "failed", "stopped"].includes(kind)) return [timeNode("ago", from)];
  return pieces("session.sofar", { time: timeNode("age", from) });
}

/** @param {string} text */
function content(text) {
  const whole = h("pre", { class: "content", dir: "auto", tabindex: "0" }, text);
  if (text.length <= LONG) return whole;
  return h("details", { class: "content-fold" }, h("summary", {}, t("session.content")), whole);
}
