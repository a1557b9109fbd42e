// Buttons that copy.

import { h } from "../lib/dom.js";
import { t } from "../lib/text.js";
import { announce } from "./announce.js";
import { icon } from "./icon.js";

/**
 * A button that copies a text.
 *
 * @param {string} label
 * @param {() => string | Promise<string>} text
 */
export function copyButton(label, text) {
  const words = h("span", {}, label);
  let timer = 0;
  const copied = async () => {
    let answer = t("copy.copied");
    try {
      await write(await text());
    } catch {
      answer = t("copy.failed");
    }
    words.textContent = answer;
    announce(answer);
    clearTimeout(timer);
    timer = setTimeout(() => (words.textContent = label), 2000);
  };
  return h("button", { type: "button", class: "button small", onclick: copied }, icon("copy"), words);
}

/** @param {string} text */
async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without HTTPS there is no clipboard, but the old command.
  const area = h("textarea", { class: "hidden", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not copy");
}

/**
 * Lines to be copied into a terminal or a file.
 *
 * @param {string} text
 */
export function snippet(text) {
  return h(
    "div",
    { class: "snippet" },
    h("pre", { tabindex: "0" }, h("code", {}, text)),
    copyButton(t("copy.copy"), () => text),
  );
}
