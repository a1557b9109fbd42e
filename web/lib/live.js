// Keeps the sessions up to date. Of all tabs of a browser one reads the stream, and tells the others.
// An event is a session's state after a change, never a delta: merging, repeating and resuming are
// always right.

import { ApiError, request, workspace } from "./api.js";
import { user } from "./auth.js";
import { Signal } from "./dom.js";
import { alone, channel } from "./locks.js";
import { catchUp, clear, loadAll, passes, take } from "./sessions.js";
import { events } from "./stream.js";

/** @typedef {import("./session.js").Session} Session */

/** The longest silence of a stream that lives, in milliseconds: it says something every 15 s. */
const SILENCE = 40_000;
/** How often a tab that leads says so. */
const BEAT = 10_000;
const POLL_VISIBLE = 3_000;
const POLL_HIDDEN = 30_000;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

/**
 * How the page learns of changes: by the stream, by asking again and again, or not at all for now.
 *
 * @typedef {"connecting" | "live" | "polling" | "offline"} Connection
 */

/** How the page learns of changes. */
export const connection = new Signal(/** @type {Connection} */ ("connecting"));

/** Why there is nothing to show, as long as that is so. */
export const trouble = new Signal(/** @type {unknown} */ (null));

/** Whether this is the tab that reads for all. */
export const leads = new Signal(false);

/** @type {AbortController | null} */
let running = null;

/** Loads the sessions of the workspace, and keeps them up to date from then on. */
export function startLive() {
  stopLive();
  running = new AbortController();
  void keep(running.signal);
}

/** Forgets the sessions: nobody is logged in. */
export function stopLive() {
  running?.abort();
  running = null;
  clear();
  trouble.value = null;
  connection.value = "connecting";
}

/**
 * What a tab that leads does with what it reads.
 *
 * @typedef {object} Reader
 * @property {() => string} last the id to go on from; empty when there is none
 * @property {(list: Session[], id?: string) => void} take
 * @property {(id: string) => void} reset
 * @property {() => Promise<void>} complete waits for the lists
 */

/** @param {AbortSignal} signal */
async function keep(signal) {
  const name = `live.${user.value?.id ?? "open"}.${workspace.value}`;
  let last = "";
  let heard = performance.now();
  let complete = load(signal);
  const quiet = () => performance.now() - heard > SILENCE;

  const tabs = channel(name, (message) => {
    if (message.asks) return beat();
    heard = performance.now();
    if (message.id) last = message.id;
    if (message.sessions) take(message.sessions, true);
    if (message.connection) connection.value = message.connection;
    if (message.reset) complete = load(signal);
  });
  const beat = () => {
    if (leads.value) tabs.send({ connection: connection.value });
  };
  // A tab that leads answers at once.
  tabs.send({ asks: true });
  connection.changed(beat, signal);
  const beats = setInterval(beat, BEAT);
  signal.addEventListener("abort", () => {
    clearInterval(beats);
    tabs.close();
  });

  /** @type {Reader} */
  const reader = {
    last: () => last,
    take: (list, id) => {
      if (id) last = id;
      tabs.send({ id, sessions: list });
    },
    reset: (id) => {
      last = id;
      tabs.send({ id, reset: true });
      complete = load(signal);
    },
    complete: () => complete,
  };

  for (let steal = false; !signal.aborted; ) {
    const turn = new AbortController();
    const either = AbortSignal.any([signal, turn.signal]);
    // A tab that leads may be put to sleep by the browser: one that is looked at then takes over.
    const impatience = setInterval(() => {
      if (!leads.value && !document.hidden && quiet()) turn.abort();
    }, BEAT / 2);
    try {
      await alone(name, steal ? { steal } : { signal: either }, async () => {
        leads.value = true;
        beat();
        await follow(reader, either);
      });
    } catch (error) {
      // The lock was taken away, or the wait for it was given up.
      if (!(error instanceof DOMException)) throw error;
    } finally {
      clearInterval(impatience);
      turn.abort();
      leads.value = false;
    }
    steal = quiet();
    heard = performance.now();
  }
}

/** @param {AbortSignal} signal */
async function load(signal) {
  await retry(signal, async () => {
    await loadAll(signal);
    trouble.value = null;
  });
}

/**
 * Tries until it works, with growing pauses, or until trying again cannot help.
 *
 * @param {AbortSignal} signal
 * @param {() => Promise<void>} work
 */
async function retry(signal, work) {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted) return;
      trouble.value = error;
      if (!passes(error)) return;
      await pause(failures, signal, error.retryAfter);
    }
  }
}

/**
 * Reads the stream, again and again, or polls where there is none.
 *
 * @param {Reader} reader
 * @param {AbortSignal} signal
 */
async function follow(reader, signal) {
  // Where tabs cannot agree on one stream for all, a stream each would take every connection that a browser
  // makes to one server.
  if (!navigator.locks) return poll(reader, signal);
  for (let failures = 0; !signal.aborted; ) {
    const attempt = new AbortController();
    try {
      await readStream(reader, AbortSignal.any([signal, attempt.signal]), attempt, () => (failures = 0));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [404, 501].includes(error.status)) return poll(reader, signal);
      if (error instanceof ApiError && !passes(error)) {
        trouble.value = error;
        connection.value = "offline";
        return new Promise((resolve) => signal.addEventListener("abort", () => resolve(undefined)));
      }
      connection.value = "offline";
    } finally {
      attempt.abort();
    }
    await pause(failures++, signal);
  }
}

/**
 * Reads one stream to its end.
 *
 * @param {Reader} reader
 * @param {AbortSignal} signal
 * @param {AbortController} attempt is aborted when the stream seems to be dead
 * @param {() => void} opened
 */
async function readStream(reader, signal, attempt, opened) {
  let silence = setTimeout(() => attempt.abort(), SILENCE);
  const after = reader.last();
  const headers = { Accept: "text/event-stream", ...(after ? { "Last-Event-ID": after } : {}) };
  try {
    const response = await request("/api/events", { signal, headers });
    opened();
    connection.value = "live";
    // Without an id the stream tells nothing of the time before it was opened.
    if (!after) void retry(signal, () => readMissed(reader, signal));
    for await (const { id, event, data } of events(response)) {
      clearTimeout(silence);
      silence = setTimeout(() => attempt.abort(), SILENCE);
      if (event === "session") {
        const session = JSON.parse(data);
        take([session], true);
        reader.take([session], id);
      } else if (event === "reset") {
        reader.reset(id);
      } else if (event === "id") {
        reader.take([], id);
      }
    }
  } finally {
    clearTimeout(silence);
  }
}

/**
 * Takes what has changed since the lists were read.
 *
 * @param {Reader} reader
 * @param {AbortSignal} signal
 */
async function readMissed(reader, signal) {
  await reader.complete();
  const read = await catchUp(signal);
  if (read.length) reader.take(read);
}

/**
 * Asks again and again, seldom while nobody looks.
 *
 * @param {Reader} reader
 * @param {AbortSignal} signal
 */
async function poll(reader, signal) {
  for (let failures = 0; !signal.aborted; ) {
    try {
      await readMissed(reader, signal);
      failures = 0;
      trouble.value = null;
      connection.value = "polling";
      await wait(document.hidden ? POLL_HIDDEN : POLL_VISIBLE, signal);
    } catch (error) {
      if (signal.aborted) return;
      connection.value = "offline";
      if (!passes(error)) trouble.value = error;
      await pause(failures++, signal);
    }
  }
}

/**
 * Waits longer after every failure, and never as long as another client.
 *
 * @param {number} failures
 * @param {AbortSignal} signal
 * @param {number} [retryAfter] seconds
 */
function pause(failures, signal, retryAfter = 0) {
  const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
  return wait(Math.max(retryAfter * 1000, longest * (0.5 + Math.random() / 2)), signal);
}

/**
 * Waits, but not when the network comes back or the person does.
 *
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const done = () => {
      clearTimeout(timer);
      over.abort();
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    if (signal.aborted) done();
    signal.addEventListener("abort", done, { signal: over.signal });
    window.addEventListener("online", done, { signal: over.signal });
    document.addEventListener("visibilitychange", () => document.hidden || done(), { signal: over.signal });
  });
}
