// What is chosen on the overview and the board, as the address has it.

import { BANDS } from "./bands.js";
import { FACETS } from "./session.js";

/** @typedef {import("./session.js").Facet} Facet */

/**
 * @param {URLSearchParams} query
 * @param {ReadonlySet<string>} open
 * @returns {import("./bands.js").Choice}
 */
export function choiceOf(query, open) {
  const band = query.get("status") ?? "";
  const group = query.get("group") ?? "";
  return {
    search: query.get("search") ?? "",
    band: BANDS.some((known) => known === band) ? band : "",
    facets: {
      agent: query.get("agent") ?? "",
      repo: query.get("repo") ?? "",
      host: query.get("host") ?? "",
      user: query.get("user") ?? "",
    },
    group: Object.hasOwn(FACETS, group) ? /** @type {Facet} */ (group) : "",
    open,
  };
}

/** Every field of the query that chooses. */
export const FIELDS = ["search", "status", "agent", "repo", "host", "user"];
