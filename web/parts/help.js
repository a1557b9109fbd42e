// The dialog that lists the keys.

import { h } from "../lib/dom.js";
import { t } from "../lib/text.js";
import { icon } from "./icon.js";

/** Shows which keys do what. */
export function showHelp() {
  if (document.querySelector("dialog[open]")) return;
  /**
   * @param {string} words
   * @param {...string} keys
   */
  const line = (words, ...keys) => [
    h("dt", {}, ...keys.flatMap((key, place) => [place ? " " : null, h("kbd", {}, key)])),
    h("dd", {}, words),
  ];
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "help-title" },
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: "help-title" }, t("help.title")),
      h("button", { type: "button", class: "button quiet", "aria-label": t("options.close"), onclick: () => dialog.close() }, icon("close")),
    ),
    h(
      "dl",
      { class: "keys" },
      line(t("help.search"), "/"),
      line(t("help.move"), "j", "k"),
      line(t("help.open"), "Enter"),
      line(t("help.overview"), "g", "o"),
      line(t("help.board"), "g", "b"),
      line(t("help.activity"), "g", "a"),
      line(t("help.settings"), "g", "s"),
      line(t("help.close"), "Esc"),
      line(t("help.help"), "?"),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  // A press beside the dialog closes it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
