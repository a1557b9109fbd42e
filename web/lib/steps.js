// What a history means: how long each status lasted, and what it is in Markdown. Pure: the time is an
// argument.

import { kindOfStatus } from "./session.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./session.js").Status} Status */
/** @typedef {import("./session.js").Kind} Kind */

/**
 * A status and how long it lasted.
 *
 * @typedef {{ status: Status, kind: Kind, from: number, to: number | null }} Step
 */

/**
 * The steps of a history, newest first: each lasts until the next one begins.
 *
 * @param {Status[]} statuses newest first
 * @returns {Step[]}
 */
export function steps(statuses) {
  return statuses.map((status, place) => ({
    status,
    kind: kindOfStatus(status),
    from: Date.parse(status.timestamp),
    to: place ? Date.parse(statuses[place - 1].timestamp) : null,
  }));
}

/**
 * Spells of one kind, oldest first. The last one of a running session ends when it counts as silent;
 * of one that is over nothing is left.
 *
 * @typedef {{ kind: Kind, from: number, to: number, reason?: string }} Spell
 */

/**
 * @param {Status[]} statuses newest first
 * @param {number} expires when the session expires
 * @param {number} now
 * @returns {Spell[]}
 */
export function spells(statuses, expires, now) {
  /** @type {Spell[]} */
  const found = [];
  for (const { status, kind, from, to } of steps(statuses).reverse()) {
    const last = found[found.length - 1];
    const over = kind === "done" || kind === "failed" || kind === "stopped";
    // What is over leaves a mark, and the time until a next run is nobody's.
    const end = over ? from : (to ?? Math.max(from, Math.min(now, expires)));
    if (last && last.kind === kind && last.to === from) last.to = end;
    else found.push({ kind, from, to: end, reason: status.reason });
  }
  const newest = found[found.length - 1];
  if (newest?.kind === "working" && now > expires) found.push({ kind: "silent", from: expires, to: now });
  return found;
}

/**
 * A session in Markdown, for an issue or a chat.
 *
 * @param {Session} session
 * @param {string} words the present status in words
 * @param {Status[]} statuses newest first
 */
export function markdown(session, words, statuses) {
  const context = Object.entries(session.context ?? {}).map(([name, value]) => `- ${name}: ${code(value)}`);
  const lines = statuses.map(({ timestamp, status, reason, message, content }) => {
    const head = `- ${timestamp} **${status}**${reason ? ` (${reason})` : ""}${message ? `: ${inline(message)}` : ""}`;
    return content ? `${head}\n\n${block(content)}\n` : head;
  });
  return [
    `# ${inline(session.title || session.session_topic)}`,
    "",
    `${words}, since ${session.status_since}`,
    "",
    `- agent: ${code(session.agent_id)}`,
    `- session: ${code(session.session_topic)}`,
    ...context,
    "",
    "## Timeline",
    "",
    ...lines,
    "",
  ].join("\n");
}

/**
 * Text in which Markdown has no meaning.
 *
 * @param {string} text
 */
function inline(text) {
  return text.replace(/\s+/g, " ").replace(/[\\`*_[\]<>#|~]/g, "\\$&");
}

/** @param {string} text */
function code(text) {
  const fence = "`".repeat(longestRun(text) + 1);
  return `${fence} ${text.replace(/\s+/g, " ")} ${fence}`;
}

/** @param {string} text */
function block(text) {
  const fence = "`".repeat(Math.max(3, longestRun(text) + 1));
  return `${fence}\n${text}\n${fence}`.replace(/^/gm, "  ");
}

/** @param {string} text */
function longestRun(text) {
  return Math.max(0, ...(text.match(/`+/g) ?? []).map((run) => run.length));
}
