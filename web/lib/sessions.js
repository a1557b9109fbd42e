// The sessions of the workspace that is looked at.

import { ApiError, request } from "./api.js";
import { Signal } from "./dom.js";
import { entryOf, keyOf } from "./session.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./session.js").Entry} Entry */

/** The first page is small, so that there is something to see at once. */
const FIRST_PAGE = 200;
const NEXT_PAGES = 2500;
/** How far the clocks of several servers may differ, in milliseconds. */
const SKEW = 10_000;

/** All sessions, by key. */
export const sessions = /** @type {Map<string, Entry>} */ (new Map());

/** How far the first load is. */
export const loaded = new Signal(/** @type {"nothing" | "some" | "all"} */ ("nothing"));

/**
 * A session that has changed, and what it was before. `fresh` when it has just happened.
 *
 * @typedef {{ entry: Entry, before: Entry | undefined, fresh: boolean }} Change
 */

/** @type {Set<(changes: Change[]) => void>} */
const listeners = new Set();
/** @type {Map<string, Change>} */
let untold = new Map();
let scheduled = false;
/** The newest change that the last complete walk has seen, and the ETag of the first page then. */
let horizon = -Infinity;
/** @type {string | undefined} */
let seen;

/**
 * Calls back once a frame, with what has changed since the last one.
 *
 * @param {(changes: Change[]) => void} listener
 * @param {AbortSignal} [signal]
 */
export function onChange(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener("abort", () => listeners.delete(listener), { once: true });
}

function schedule() {
  if (scheduled) return;
  scheduled = true;
  const tell = () => {
    scheduled = false;
    const changes = [...untold.values()];
    untold = new Map();
    for (const listener of [...listeners]) listener(changes);
  };
  // A hidden page has no frames.
  if (document.hidden) setTimeout(tell, 100);
  else requestAnimationFrame(tell);
}

/** Forgets everything: another workspace, or nobody, is looked at. */
export function clear() {
  sessions.clear();
  untold = new Map();
  horizon = -Infinity;
  seen = undefined;
  loaded.value = "nothing";
  schedule();
}

/**
 * Takes sessions in, but for what is older than what is known.
 *
 * @param {Session[]} list
 * @param {boolean} fresh
 */
export function take(list, fresh) {
  for (const session of list) {
    const key = keyOf(session.agent_id, session.session_topic);
    const before = sessions.get(key);
    const known = before?.session.last_updated ?? "";
    if (known > session.last_updated) continue;
    // Events of one session come in order, an expiry too; a list may have been read before the last one.
    if (known === session.last_updated && (!fresh || JSON.stringify(before?.session) === JSON.stringify(session))) continue;
    const entry = entryOf(session);
    sessions.set(key, entry);
    const waits = untold.get(key);
    untold.set(key, { entry, before: waits ? waits.before : before, fresh: fresh || (waits?.fresh ?? false) });
  }
  if (untold.size) schedule();
}

/**
 * A page of the list, newest first.
 *
 * @param {string} query
 * @param {AbortSignal} signal
 * @param {string} [etag]
 * @returns {Promise<{ list: Session[], next?: string, etag?: string }>}
 */
async function page(query, signal, etag) {
  const headers = etag ? { "If-None-Match": etag } : undefined;
  const response = await request(`/api/sessions?${query}`, { signal, headers });
  if (response.status === 304) return { list: [], etag };
  const body = await response.json();
  return { list: body.sessions, next: body.next_cursor, etag: response.headers.get("etag") ?? undefined };
}

/**
 * Loads every session, page by page.
 *
 * @param {AbortSignal} signal
 */
export async function loadAll(signal) {
  const before = new Set(sessions.keys());
  let query = `limit=${FIRST_PAGE}`;
  let newest = horizon;
  /** @type {string | undefined} */
  let first;
  for (;;) {
    const { list, next, etag } = await page(query, signal);
    if (signal.aborted) return;
    first ??= etag;
    take(list, false);
    for (const session of list) before.delete(keyOf(session.agent_id, session.session_topic));
    newest = Math.max(newest, Date.parse(list[0]?.last_updated ?? "") || newest);
    if (!next) break;
    if (loaded.value === "nothing") loaded.value = "some";
    query = `limit=${NEXT_PAGES}&cursor=${encodeURIComponent(next)}`;
  }
  // What was known and is in the list no more has been deleted.
  for (const key of before) sessions.delete(key);
  horizon = newest;
  seen = first;
  loaded.value = "all";
  schedule();
}

/**
 * Takes what has changed since the last complete walk.
 *
 * @param {AbortSignal} signal
 * @returns {Promise<Session[]>} what was read
 */
export async function catchUp(signal) {
  const first = await page(`limit=${FIRST_PAGE}`, signal, seen);
  const read = [...first.list];
  let { next } = first;
  while (next && Date.parse(read[read.length - 1].last_updated) > horizon - SKEW) {
    const more = await page(`limit=${NEXT_PAGES}&cursor=${encodeURIComponent(next)}`, signal);
    read.push(...more.list);
    next = more.next;
  }
  if (signal.aborted) return [];
  if (read.length) horizon = Date.parse(read[0].last_updated);
  seen = first.etag;
  // Not fresh where nothing was known before: then it is the first load that is told.
  take(read, loaded.value === "all");
  return read;
}

/**
 * Whether trying again may help.
 *
 * @param {unknown} error
 * @returns {error is ApiError}
 */
export function passes(error) {
  return error instanceof ApiError && (error.status === 0 || error.status >= 500 || [408, 429].includes(error.status));
}
