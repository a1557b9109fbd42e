// Search, the bands as buttons, and the fields to filter and group by. What is chosen is in the address.

import { BANDS, valuesOf } from "../lib/bands.js";
import { FIELDS } from "../lib/choice.js";
import { each, h, say, set } from "../lib/dom.js";
import { onKey } from "../lib/keys.js";
import { setQuery } from "../lib/router.js";
import { FACETS, agentOf } from "../lib/session.js";
import { sessions } from "../lib/sessions.js";
import { count, t } from "../lib/text.js";
import { icon } from "./icon.js";
import { plain } from "./said.js";

/** @typedef {import("../lib/session.js").Facet} Facet */
/** @typedef {import("../lib/bands.js").Band} Band */

/** How many values a field offers; the search finds the others. */
const OFFERED = 200;
const ICONS = /** @type {const} */ ({ needs: "waiting", turn: "turn", working: "working", done: "done" });
const FACET_NAMES = /** @type {Facet[]} */ (Object.keys(FACETS));

/**
 * @param {import("../lib/router.js").Context} context
 * @param {{ bands: boolean }} which
 */
export function filters({ query, signal }, { bands }) {
  const search = h("input", {
    type: "search",
    class: "search",
    "aria-label": t("overview.search"),
    placeholder: t("overview.searchHint"),
    autocomplete: "off",
    spellcheck: "false",
    "aria-keyshortcuts": "/",
    oninput: () => void setQuery({ search: search.value }, { replace: true }),
  });
  onKey("/", () => search.focus(), signal);
  onKey(
    "Escape",
    (event) => {
      if (event.target !== search) return;
      search.value = "";
      void setQuery({ search: "" }, { replace: true });
      search.blur();
    },
    signal,
  );
  const tiles = Object.fromEntries(BANDS.map((band) => [band, tile(band)]));
  const selects = Object.fromEntries(FACET_NAMES.map((facet) => [facet, select(facet, t(`overview.${facet}`), t("overview.all"))]));
  const group = select("group", t("overview.group"), t("overview.group.none"));
  const clear = h(
    "button",
    { type: "button", class: "button quiet", onclick: () => void setQuery(Object.fromEntries(FIELDS.map((field) => [field, ""]))) },
    icon("close"),
    t("overview.clear"),
  );
  const more = h(
    "details",
    { class: "filters-more" },
    h("summary", {}, t("overview.filters")),
    h("div", { class: "filters-fields" }, ...Object.values(selects).map(({ label }) => label), bands ? group.label : null, clear),
  );
  // Wide screens show the fields at once, and have no summary to open them with.
  const wide = matchMedia("(min-width: 60rem)");
  const unfold = () => (more.open = wide.matches);
  unfold();
  wide.addEventListener("change", unfold, { signal });

  const node = h(
    "search",
    { class: "filters" },
    bands ? h("div", { class: "tiles" }, ...Object.values(tiles).map(({ node }) => node)) : null,
    h("div", { class: "filters-line" }, h("div", { class: "search-box" }, icon("search"), search, h("kbd", { "aria-hidden": "true" }, "/")), more),
  );

  query.watch((now) => {
    if (document.activeElement !== search) search.value = now.get("search") ?? "";
    clear.hidden = !FIELDS.some((field) => now.get(field));
    offer();
    group.offer(FACET_NAMES.map((facet) => [facet, t(`overview.${facet}`)]), now.get("group") ?? "");
    for (const band of BANDS) set(tiles[band].node, { "aria-pressed": String(now.get("status") === band) });
  }, signal);

  /** Offers what occurs. A field that nothing has is left out. */
  function offer() {
    /** @type {Map<string, string>} */
    const names = new Map();
    for (const { session } of sessions.values()) names.set(session.agent_id, agentOf(session));
    for (const facet of FACET_NAMES) {
      const values = valuesOf(sessions.values(), facet, OFFERED);
      const chosen = query.value.get(facet) ?? "";
      if (chosen && !values.includes(chosen)) values.unshift(chosen);
      selects[facet].label.hidden = values.length < 2 && !chosen;
      selects[facet].offer(values.map((value) => [value, plain(facet === "agent" ? (names.get(value) ?? value) : value)]), chosen);
    }
  }

  return {
    node,
    offer,
    /** @param {Record<Band, number>} counts */
    count: (counts) => {
      for (const band of BANDS) {
        say(tiles[band].number, count(counts[band]));
        tiles[band].node.classList.toggle("none", !counts[band]);
      }
    },
  };
}

/** @param {Band} band */
function tile(band) {
  const number = h("span", { class: "tile-number" }, "0");
  const node = h(
    "button",
    {
      type: "button",
      class: `tile ${band}`,
      "aria-pressed": "false",
      onclick: () => void setQuery({ status: node.getAttribute("aria-pressed") === "true" ? "" : band }),
    },
    icon(ICONS[band]),
    number,
    h("span", { class: "tile-label" }, t(`band.${band}`)),
  );
  return { node, number };
}

/**
 * @param {string} field of the query
 * @param {string} name
 * @param {string} none the words for no choice
 */
function select(field, name, none) {
  const box = h("select", { onchange: () => void setQuery({ [field]: box.value }) });
  return {
    label: h("label", { class: "field" }, h("span", {}, name), box),
    /**
     * @param {[string, string][]} values
     * @param {string} chosen
     */
    offer: (values, chosen) => {
      each(
        box,
        [["", none], ...values],
        ([value]) => value,
        ([value, words]) => h("option", { value }, words),
        (option, [, words]) => say(option, words),
      );
      if (box.value !== chosen) box.value = chosen;
    },
  };
}
