// What a person chooses for this browser: appearance, language, and what to be told.

import { EVENTS, isWanted, notifications, setNotifications, setSound, setWanted, sound } from "../lib/attention.js";
import { fill, h } from "../lib/dom.js";
import { setTheme, theme } from "../lib/preferences.js";
import { LANGUAGES, language, t } from "../lib/text.js";
import { showHelp } from "./help.js";

/** @typedef {import("../lib/attention.js").AttentionEvent} AttentionEvent */

/**
 * Puts what can be chosen into its panel.
 *
 * @param {HTMLElement} panel
 * @param {(language: import("../lib/text.js").Language) => void} speak
 */
export function showOptions(panel, speak) {
  fill(panel, ...content(panel, speak));
}

/**
 * @param {HTMLElement} panel
 * @param {(language: import("../lib/text.js").Language) => void} speak
 */
function content(panel, speak) {
  return [
    choice(t("options.theme"), "theme", ["system", "light", "dark"], theme(), (name) => t(`options.theme.${name}`), setTheme),
    choice(t("options.language"), "language", /** @type {const} */ (["en", "zh"]), language(), (name) => LANGUAGES[name], (name) => {
      panel.hidePopover();
      speak(name);
    }),
    h(
      "fieldset",
      {},
      h("legend", {}, t("options.attention")),
      .../** @type {AttentionEvent[]} */ (Object.keys(EVENTS)).map((event) =>
        check(t(`options.attention.${event}`), isWanted(event), (wanted) => setWanted(event, wanted)),
      ),
      h("hr"),
      notificationCheck(),
      check(t("options.sound"), sound(), setSound),
    ),
    h("button", { type: "button", class: "button quiet", onclick: () => (panel.hidePopover(), showHelp()) }, h("kbd", {}, "?"), t("options.help")),
  ];
}

function notificationCheck() {
  const state = notifications();
  if (state === "missing" || state === "denied") return h("p", { class: "hint" }, t(`options.notify.${state}`));
  const node = check(t("options.notify"), state === "on", async (wanted) => {
    await setNotifications(wanted);
    node.replaceWith(notificationCheck());
  });
  return node;
}

/**
 * @param {string} label
 * @param {boolean} checked
 * @param {(checked: boolean) => void} chosen
 */
function check(label, checked, chosen) {
  const box = h("input", { type: "checkbox", checked, onchange: () => chosen(box.checked) });
  return h("label", { class: "check" }, box, label);
}

/**
 * @template {string} T
 * @param {string} label
 * @param {string} name
 * @param {readonly T[]} values
 * @param {T} present
 * @param {(value: T) => string} words
 * @param {(value: T) => void} chosen
 */
function choice(label, name, values, present, words, chosen) {
  return h(
    "fieldset",
    {},
    h("legend", {}, label),
    h(
      "div",
      { class: "segments" },
      ...values.map((value) =>
        h(
          "label",
          {},
          h("input", { type: "radio", name, value, checked: value === present, onchange: () => chosen(value) }),
          h("span", { lang: value === "zh" ? "zh-CN" : undefined }, words(value)),
        ),
      ),
    ),
  );
}
