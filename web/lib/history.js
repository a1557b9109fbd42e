// The history of a session, as far as it has been read.

import { get } from "./api.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./session.js").Status} Status */

const PAGE = 200;
/** How many statuses are read after an event: mostly there is one that is new. */
const NEWS = 20;

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
