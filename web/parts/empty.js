// What a view shows when it has nothing to show.

import { h } from "../lib/dom.js";

/**
 * @param {string} title
 * @param {string} [hint]
 * @param {...Node} actions
 */
export function empty(title, hint, ...actions) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, title),
    hint ? h("p", { dir: "auto" }, hint) : null,
    actions.length ? h("p", { class: "actions" }, ...actions) : null,
  );
}
