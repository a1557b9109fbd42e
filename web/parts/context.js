// What is known around a session: a list of names and values.

import { h } from "../lib/dom.js";
import { known } from "../lib/text.js";
import { plain, said } from "./said.js";

/** What is best read in this order; the rest follows by name. */
const ORDER = ["user", "repo", "branch", "pr", "host", "cwd", "tool", "tool_version", "model", "context_percent", "cost_usd", "tokens_in", "tokens_out"];

/** @param {Record<string, string>} context */
export function contextList(context) {
  const names = Object.keys(context).filter((name) => name !== "parent");
  names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  return names.flatMap((name) => [
    h("dt", {}, known(`context.${name}`) ?? plain(name)),
    h("dd", {}, value(context[name])),
  ]);
}

/** @param {string} name */
function rank(name) {
  const place = ORDER.indexOf(name);
  return place < 0 ? ORDER.length : place;
}

/**
 * An address of the web becomes a link that tells its target nothing of this page.
 *
 * @param {string} text
 */
function value(text) {
  if (!/^https:\/\/[^\s]+$/i.test(text) || plain(text) !== text) return said(text);
  return h("a", { href: text, target: "_blank", rel: "noopener noreferrer" }, said(text.replace(/^https:\/\/(www\.)?/i, "")));
}
