// A history, of a session or of all sessions of an agent, as far as it has been read.

import { get } from "./api.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./session.js").Status} Status */

/** How many statuses are read after an event: mostly there is one that is new. */
const NEWS = 20;
/** With more than so many the newest page is read afresh: a page may be open for days. */
const LIMIT = 5000;

/** The statuses of a history, newest first. */
export class History {
  /** @type {Status[]} */
  statuses = [];
  /** @type {Session | null} the session whose history it is */
  session = null;
  /** @type {string | undefined} where it goes on */
  next;
  #path;
  #page;
  #signal;

  /**
   * @param {string} path
   * @param {number} page how many statuses are read at once
   * @param {AbortSignal} signal
   */
  constructor(path, page, signal) {
    this.#path = path;
    this.#page = page;
    this.#signal = signal;
  }

  /** @param {string} query */
  async #read(query) {
    const path = `${this.#path}?${query}`;
    const body = /** @type {{ session?: Session, status_history: Status[], next_cursor?: string }} */ (await get(path, this.#signal));
    this.session = body.session ?? null;
    return body;
  }

  /** Reads the newest statuses: only what is new where it connects to what is known. */
  async refresh() {
    const known = this.statuses[0];
    if (known && this.statuses.length < LIMIT) {
      const { status_history } = await this.#read(`limit=${NEWS}`);
      const place = status_history.findIndex((status) => isSame(status, known));
      if (place >= 0) {
        this.statuses = [...status_history.slice(0, place), ...this.statuses];
        return;
      }
    }
    const body = await this.#read(`limit=${this.#page}`);
    this.statuses = body.status_history;
    this.next = body.next_cursor;
  }

  /** Reads the next older page. */
  async older() {
    if (!this.next) return;
    const body = await this.#read(`limit=${this.#page}&cursor=${encodeURIComponent(this.next)}`);
    this.statuses = [...this.statuses, ...body.status_history];
    this.next = body.next_cursor;
  }
}

/**
 * @param {Status} a
 * @param {Status} b
 */
function isSame(a, b) {
  return a.timestamp === b.timestamp && a.session_topic === b.session_topic && a.status === b.status && a.message === b.message;
}
