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
    const path = `${this.#path}${this.#path.includes("?") ? "&" : "?"}${query}`;
    const body = /** @type {{ session?: Session, status_history: Status[], next_cursor?: string }} */ (await get(path, this.#signal));
    this.session = body.session ?? null;
    return body;
  }

  /** Reads the newest statuses, as far back as where they connect to what is known. */
  async refresh() {
    const known = this.statuses.length < LIMIT ? this.statuses : [];
    /** @type {Status[]} */
    const read = [];
    let query = `limit=${known.length ? NEWS : this.#page}`;
    for (;;) {
      const { status_history, next_cursor: next } = await this.#read(query);
      read.push(...status_history);
      const place = placeOf(known, read);
      if (place >= 0) {
        // Older ones may have been read meanwhile.
        this.statuses = [...read.slice(0, place), ...this.statuses];
        return;
      }
      if (!known.length || !next || read.length >= LIMIT) {
        this.statuses = read;
        this.next = next;
        return;
      }
      query = `limit=${this.#page}&cursor=${encodeURIComponent(next)}`;
    }
  }

  /** Reads the next older page. */
  async older() {
    const { next } = this;
    if (!next) return;
    const body = await this.#read(`limit=${this.#page}&cursor=${encodeURIComponent(next)}`);
    // The history may have been read afresh meanwhile.
    if (this.next !== next) return;
    this.statuses = [...this.statuses, ...body.status_history];
    this.next = body.next_cursor;
  }
}

/**
 * Where what is known begins in what has been read; -1 where it does not.
 *
 * @param {Status[]} known
 * @param {Status[]} read
 */
function placeOf(known, read) {
  if (!known.length) return -1;
  // Two statuses may be alike to the letter: those that follow tell them apart.
  return read.findIndex(
    (status, place) => isSame(status, known[0]) && known.slice(0, read.length - place).every((one, at) => isSame(one, read[place + at])),
  );
}

/**
 * @param {Status} a
 * @param {Status} b
 */
function isSame(a, b) {
  return a.timestamp === b.timestamp && a.session_topic === b.session_topic && a.status === b.status && a.message === b.message;
}
