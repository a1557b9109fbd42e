// Asks for the person's attention where they allow it: the title and the icon of the tab, browser
// notifications, a sound.

import { plain } from "../parts/said.js";
import { Signal } from "./dom.js";
import { read, readList, write } from "./preferences.js";

/** @typedef {import("./session.js").Entry} Entry */
/** @typedef {import("./session.js").Kind} Kind */

/** What can be told, and whether it is before anything has been chosen. */
export const EVENTS = /** @type {const} */ ({ waiting: true, failed: true, silent: true, turn: false });
/** @typedef {keyof typeof EVENTS} AttentionEvent */

/** How many muted sessions are remembered. */
const MUTED = 500;

/** Changes when a session is muted or unmuted. */
export const muted = new Signal(new Set(readList("muted")));

/** @param {string} key */
export function isMuted(key) {
  return muted.value.has(key);
}

/** @param {string} key */
export function toggleMuted(key) {
  const next = new Set(muted.value);
  if (!next.delete(key)) next.add(key);
  muted.value = next;
  write("muted", JSON.stringify([...next].slice(-MUTED)));
}

/** @param {AttentionEvent} event */
export function isWanted(event) {
  return (read(`tell.${event}`) ?? (EVENTS[event] ? "yes" : "no")) === "yes";
}

/**
 * @param {AttentionEvent} event
 * @param {boolean} wanted
 */
export function setWanted(event, wanted) {
  write(`tell.${event}`, wanted ? "yes" : "no");
}

/** @returns {"on" | "off" | "denied" | "missing"} */
export function notifications() {
  if (!("Notification" in window) || !isSecureContext) return "missing";
  if (Notification.permission === "denied") return "denied";
  return read("notify") === "yes" && Notification.permission === "granted" ? "on" : "off";
}

/** @param {boolean} wanted */
export async function setNotifications(wanted) {
  if (wanted && (await Notification.requestPermission()) !== "granted") return;
  write("notify", wanted ? "yes" : null);
}

export function sound() {
  return read("sound") === "yes";
}

/** @param {boolean} wanted */
export function setSound(wanted) {
  write("sound", wanted ? "yes" : null);
  if (wanted) chime();
}

/** @type {AudioContext | undefined} */
let audio;

/** Two soft notes. */
function chime() {
  audio ??= new AudioContext();
  void audio.resume();
  const start = audio.currentTime;
  [659, 880].forEach((pitch, note) => {
    if (!audio) return;
    const begin = start + note * 0.16;
    const volume = audio.createGain();
    volume.gain.setValueAtTime(0, begin);
    volume.gain.linearRampToValueAtTime(0.12, begin + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.001, begin + 0.5);
    const tone = audio.createOscillator();
    tone.frequency.value = pitch;
    tone.connect(volume).connect(audio.destination);
    tone.start(begin);
    tone.stop(begin + 0.5);
  });
}

/** How long after a person has looked at any tab they count as looking, in milliseconds. */
const LOOKED = 4000;

/** Remembers, for all tabs, that the person looks at this one. To be called every second. */
export function noticeLook() {
  if (document.hasFocus()) write("looked", String(Date.now()));
}

/**
 * Tells of a session that has just become something that the person wants to know.
 *
 * @param {Entry} entry
 * @param {Kind} kind
 * @param {string} words what has happened
 * @param {() => void} open is called when the person follows the notification
 */
export function tell(entry, kind, words, open) {
  if (!(kind in EVENTS) || !isWanted(/** @type {AttentionEvent} */ (kind)) || isMuted(entry.key)) return;
  // A headless run is nobody's turn.
  if (entry.headless && kind !== "failed") return;
  if (sound()) chime();
  // Who looks at the page sees it there.
  if (notifications() !== "on" || document.hasFocus() || Date.now() - Number(read("looked")) < LOOKED) return;
  const note = new Notification(plain(entry.title), {
    body: [words, plain(entry.session.message ?? "")].filter(Boolean).join("\n"),
    tag: entry.key,
    lang: document.documentElement.lang,
  });
  note.onclick = () => {
    window.focus();
    note.close();
    open();
  };
}

/**
 * Whether a change is news: a new spell of a status, or an expiry.
 *
 * @param {{ entry: Entry, before: Entry | undefined, fresh: boolean }} change
 */
export function isNews({ entry, before, fresh }) {
  if (!fresh) return false;
  return !before || before.since !== entry.since || before.session.state !== entry.session.state;
}

/**
 * Puts a number on the icon of the tab.
 *
 * @param {number} number 0 for the plain icon
 */
export function badgeIcon(number) {
  const link = /** @type {HTMLLinkElement | null} */ (document.querySelector("link[rel=icon]"));
  if (!link) return;
  plainIcon ??= link.href;
  const wanted = number ? (drawn.get(number) ?? draw(number)) : plainIcon;
  if (link.href !== wanted) link.href = wanted;
}

/** @type {string | undefined} */
let plainIcon;
/** @type {Map<number, string>} */
const drawn = new Map();

/** @param {number} number */
function draw(number) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 64;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.fillStyle = "#c2410c";
  pen.beginPath();
  pen.roundRect(0, 0, 64, 64, 18);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.font = `bold ${number > 9 ? 36 : 46}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(number > 99 ? "99" : String(number), 32, 35);
  const picture = canvas.toDataURL("image/png");
  drawn.set(number, picture);
  return picture;
}
