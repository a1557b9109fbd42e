// The history of a session: what has been read of it, and how it is laid out. Pure but for `History`.

import { get } from "./api.js";
import { kindOfStatus } from "./session.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./session.js").Status} Status */
/** @typedef {import("./session.js").Kind} Kind */

const PAGE = 200;
/** How many statuses are read after an event: mostly there is one that is new. */
const NEWS = 20;

/**
 * A status and how long it lasted.
 *
 * @typedef {{ status: Status, kind: Kind, from: number, to: number | null }} Step
 */

/** The statuses of a session, newest first, as far as they have been read. */
export class History {
  /** @type {Status[]} */
  statuses = [];
  /** @type {Session | null} */
  session = null;
  /** @type {string | undefined} */
  next;
  #path;
  #signal;

  /**
   * @param {string} key
   * @param {AbortSignal} signal
   */
  constructor(key, signal) {
    const [agent, topic] = key.split("/");
    this.#path = `/api/agents/${agent}/sessions/${topic}`;
    this.#signal = signal;
  }

  /** @param {string} query */
  async #read(query) {
    const path = `${this.#path}?${query}`;
    const body = /** @type {{ session: Session, status_history: Status[], next_cursor?: string }} */ (await get(path, this.#signal));
    this.session = body.session;
    return body;
  }

  /** Reads the newest statuses: all that are new where that is possible, else the newest page. */
  async refresh() {
    const known = this.statuses[0];
    if (known) {
      const { status_history } = await this.#read(`limit=${NEWS}`);
      const place = status_history.findIndex((status) => isSame(status, known));
      if (place >= 0) {
        this.statuses = [...status_history.slice(0, place), ...this.statuses];
        return;
      }
    }
    const body = await this.#read(`limit=${PAGE}`);
    this.statuses = body.status_history;
    this.next = body.next_cursor;
  }

  /** Reads the next older page. */
  async older() {
    if (!this.next) return;
    const body = await this.#read(`limit=${PAGE}&cursor=${encodeURIComponent(this.next)}`);
    this.statuses = [...this.statuses, ...body.status_history];
    this.next = body.next_cursor;
  }
}

/**
 * @param {Status} a
 * @param {Status} b
 */
function isSame(a, b) {
  return a.timestamp === b.timestamp && a.status === b.status && a.message === b.message;
}

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
