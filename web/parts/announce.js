// What screen readers are told, without the focus moving: the last thing of a second, and no more.

import { h, say } from "../lib/dom.js";

const region = h("div", { class: "hidden", role: "status", "aria-live": "polite" });
let timer = 0;

/** The region, which has to be in the page before something is told. */
export function announcer() {
  return region;
}

/** @param {string} text */
export function announce(text) {
  clearTimeout(timer);
  timer = setTimeout(() => say(region, text), 1000);
}
