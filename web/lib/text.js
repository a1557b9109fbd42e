// What the page says, in the language of the person. Every text has a key in `texts/`.

import { read, write } from "./preferences.js";

/** @typedef {import("../texts/en.js").Key} Key */
/** @typedef {"en" | "zh"} Language */
/** @typedef {Record<string, string | number>} Values */

/** @type {Record<Language, string>} The languages, each by its own name. */
export const LANGUAGES = { en: "English", zh: "中文" };

/** @type {Record<string, string>} */
let texts = {};
/** @type {Language} */
let current = "en";
let plural = new Intl.PluralRules("en");
let number = new Intl.NumberFormat("en");

/** @returns {Language} */
export function language() {
  return current;
}

/** @returns {Language} The language that was chosen, else the first of the browser's that there is. */
function wanted() {
  for (const candidate of [read("language"), ...navigator.languages]) {
    const short = candidate?.slice(0, 2).toLowerCase();
    if (short === "en" || short === "zh") return short;
  }
  return "en";
}

/**
 * Loads the texts of a language, by default the wanted one.
 *
 * @param {Language} [chosen] is kept as the person's choice
 */
export async function loadTexts(chosen) {
  const language = chosen ?? wanted();
  const module = language === "zh" ? await import("../texts/zh.js") : await import("../texts/en.js");
  if (chosen) write("language", chosen);
  current = language;
  texts = module.texts;
  const locale = current === "zh" ? "zh-CN" : regional("en");
  plural = new Intl.PluralRules(locale);
  number = new Intl.NumberFormat(locale);
  document.documentElement.lang = locale;
}

/**
 * @param {string} prefix
 * @returns {string} The browser's own variety of a language, which knows the order of a date.
 */
function regional(prefix) {
  return navigator.languages.find((tag) => tag.toLowerCase().startsWith(prefix)) ?? prefix;
}

/** @returns {string} The tag by which dates are written. */
export function locale() {
  return document.documentElement.lang;
}

/**
 * The text of a key. `{name}` in it stands for a value; with a value `n`, the text may be under
 * `key.one` and `key.other`.
 *
 * @param {Key} key
 * @param {Values} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  return pieces(key, values).join("");
}

/**
 * The text of a key with nodes in it.
 *
 * @param {Key} key
 * @param {Record<string, string | number | Node>} values
 * @returns {(string | Node)[]}
 */
export function pieces(key, values) {
  const { n } = values;
  const form = typeof n === "number" ? texts[`${key}.${plural.select(n)}`] ?? texts[`${key}.other`] : undefined;
  const text = form ?? texts[key];
  if (text === undefined) throw new Error(`no text for ${key} in ${current}`);
  return text.split(/(\{\w+\})/).map((part) => {
    if (!/^\{\w+\}$/.test(part)) return part;
    const value = values[part.slice(1, -1)] ?? "";
    return typeof value === "number" ? number.format(value) : value;
  });
}

/** @param {number} value */
export function count(value) {
  return number.format(value);
}

/**
 * The text of a key that may not exist: reasons and statuses are open lists.
 *
 * @param {string} key
 * @returns {string | undefined}
 */
export function known(key) {
  return texts[key];
}
