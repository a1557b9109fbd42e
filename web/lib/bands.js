// Which sessions are shown, under which heading and in which order. Pure: the time is an argument.

import { FACETS, kindOf } from "./session.js";

/** @typedef {import("./session.js").Entry} Entry */
/** @typedef {import("./session.js").Kind} Kind */
/** @typedef {import("./session.js").Facet} Facet */

/** @typedef {"needs" | "turn" | "working" | "done"} Band */

/** The bands, most urgent first. */
export const BANDS = /** @type {const} */ (["needs", "turn", "working", "done"]);

/** A failure is news for a day. */
const NEWS = 24 * 3600 * 1000;

/**
 * @param {Kind} kind
 * @param {Entry} entry
 * @param {number} now
 * @returns {Band}
 */
export function bandOf(kind, entry, now) {
  switch (kind) {
    case "waiting":
      return "needs";
    case "silent":
    case "failed":
      return now - entry.since < NEWS ? "needs" : "done";
    case "turn":
      return "turn";
    case "working":
      return "working";
    default:
      return "done";
  }
}

/**
 * The next moment at which a session changes its kind or band without a report.
 *
 * @param {Entry} entry
 * @param {number} now
 */
function turnsAt(entry, now) {
  const moments = [];
  if (entry.session.current_status === "running" || entry.session.reason === "turn") moments.push(entry.expires);
  if (entry.session.current_status === "running" || entry.session.current_status === "failed") {
    moments.push(entry.since + NEWS);
  }
  return Math.min(...moments.filter((moment) => moment > now), Infinity);
}

/**
 * What is chosen; an empty string chooses everything.
 *
 * @typedef {object} Choice
 * @property {string} search words that all must be found
 * @property {string} band
 * @property {Record<Facet, string>} facets
 * @property {Facet | ""} group
 * @property {ReadonlySet<string>} open keys of what is unfolded
 */

/**
 * A line of the list.
 *
 * @typedef {{ type: "band", key: string, band: Band, count: number }
 *   | { type: "group", key: string, facet: Facet, name: string, count: number, needs: number }
 *   | { type: "row", key: string, entry: Entry, kind: Kind, depth: number }
 *   | { type: "fold", key: string, of: "headless" | "children", count: number, open: boolean, depth: number }} Item
 */

/**
 * @typedef {object} Arranged
 * @property {Item[]} items
 * @property {Record<Band, number>} counts of what is chosen, whatever band is
 * @property {number} next when the arrangement changes by itself
 */

/**
 * @typedef {object} Placed
 * @property {Entry} entry
 * @property {Kind} kind
 * @property {Band} band
 */

/**
 * Arranges sessions in bands, or in groups.
 *
 * @param {Iterable<Entry>} entries
 * @param {Choice} choice
 * @param {number} now
 * @returns {Arranged}
 */
export function arrange(entries, choice, now) {
  const counts = { needs: 0, turn: 0, working: 0, done: 0 };
  const words = choice.search.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = Object.entries(choice.facets).filter(([, value]) => value);
  /** @type {Placed[]} */
  const shown = [];
  let next = Infinity;
  for (const entry of entries) {
    if (!words.every((word) => entry.haystack.includes(word))) continue;
    if (!wanted.every(([facet, value]) => FACETS[/** @type {Facet} */ (facet)](entry.session) === value)) continue;
    const kind = kindOf(entry, now);
    const band = bandOf(kind, entry, now);
    next = Math.min(next, turnsAt(entry, now));
    counts[band]++;
    if (!choice.band || choice.band === band) shown.push({ entry, kind, band });
  }
  shown.sort(byUrgency);
  const children = adopt(shown);
  const heads = shown.filter((placed) => !children.adopted.has(placed));
  /** @type {Item[]} */
  const items = [];
  if (choice.group) {
    for (const group of groups(heads, choice.group)) {
      items.push(group.item);
      lay(items, group.placed, children.of, choice, group.item.key);
    }
  } else {
    for (const band of BANDS) {
      const placed = heads.filter((head) => head.band === band);
      if (!placed.length) continue;
      items.push({ type: "band", key: `band ${band}`, band, count: counts[band] });
      lay(items, placed, children.of, choice, band);
    }
  }
  return { items, counts, next };
}

/**
 * Most urgent band first. Within one who waits longest is first; of what is done, the newest.
 *
 * @param {Placed} a
 * @param {Placed} b
 */
function byUrgency(a, b) {
  return (
    BANDS.indexOf(a.band) - BANDS.indexOf(b.band) ||
    (a.band === "done" ? b.entry.updated - a.entry.updated : a.entry.since - b.entry.since) ||
    (a.entry.key < b.entry.key ? -1 : 1)
  );
}

/**
 * Finds the sessions that stand under the one that started them. One that is more urgent than its
 * parent stands for itself, or it would be overlooked.
 *
 * @param {Placed[]} shown
 */
function adopt(shown) {
  /** @type {Map<string, Placed[]>} */
  const byTopic = new Map();
  const parents = new Set(shown.map(({ entry }) => entry.session.context?.parent).filter(Boolean));
  for (const placed of shown) {
    const topic = placed.entry.session.session_topic;
    if (parents.has(topic)) push(byTopic, topic, placed);
  }
  /** @type {Map<Placed, Placed[]>} */
  const of = new Map();
  /** @type {Set<Placed>} */
  const adopted = new Set();
  for (const placed of shown) {
    const { context, agent_id } = placed.entry.session;
    const candidates = (context?.parent ? byTopic.get(context.parent) : undefined) ?? [];
    const parent = candidates.find((one) => one.entry.session.agent_id === agent_id) ?? candidates[0];
    if (!parent || parent === placed || BANDS.indexOf(placed.band) < BANDS.indexOf(parent.band)) continue;
    // One level: a child of a child, or two that name each other, stay where they are.
    if (adopted.has(parent) || of.has(placed)) continue;
    adopted.add(placed);
    push(of, parent, placed);
  }
  return { of, adopted };
}

/**
 * @template K, V
 * @param {Map<K, V[]>} lists
 * @param {K} key
 * @param {V} value
 */
function push(lists, key, value) {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/**
 * Puts rows into the list: children under their parent, what is done of them and what ran headless
 * folded.
 *
 * @param {Item[]} items
 * @param {Placed[]} heads
 * @param {Map<Placed, Placed[]>} children
 * @param {Choice} choice
 * @param {string} place names the folds
 */
function lay(items, heads, children, choice, place) {
  // What needs the person is never folded away.
  const isFolded = (/** @type {Placed} */ { entry, band }) => entry.headless && band !== "needs";
  const headless = heads.filter(isFolded);
  for (const head of heads) {
    if (isFolded(head)) continue;
    items.push(row(head, 0));
    const family = children.get(head) ?? [];
    for (const child of family) if (child.band !== "done") items.push(row(child, 1));
    fold(items, family.filter(({ band }) => band === "done"), "children", 1, choice, head.entry.key);
  }
  fold(items, headless, "headless", 0, choice, place);
}

/**
 * @param {Item[]} items
 * @param {Placed[]} folded
 * @param {"headless" | "children"} of
 * @param {number} depth
 * @param {Choice} choice
 * @param {string} place
 */
function fold(items, folded, of, depth, choice, place) {
  if (!folded.length) return;
  const key = `${of} ${place}`;
  // Who searches wants to see what was found.
  const open = choice.open.has(key) || choice.search !== "";
  items.push({ type: "fold", key, of, count: folded.length, open, depth });
  if (open) for (const one of folded) items.push(row(one, depth));
}

/**
 * @param {Placed} placed
 * @param {number} depth
 * @returns {Item}
 */
function row({ entry, kind }, depth) {
  return { type: "row", key: entry.key, entry, kind, depth };
}

/**
 * Groups by a field, the group with the most urgent session first.
 *
 * @param {Placed[]} heads sorted
 * @param {Facet} facet
 */
function groups(heads, facet) {
  /** @type {Map<string, Placed[]>} */
  const found = new Map();
  for (const head of heads) {
    const name = FACETS[facet](head.entry.session);
    const group = found.get(name);
    if (group) group.push(head);
    else found.set(name, [head]);
  }
  return [...found].map(([name, placed]) => ({
    item: /** @type {Extract<Item, { type: "group" }>} */ ({
      type: "group",
      key: `group ${name}`,
      facet,
      name,
      count: placed.length,
      needs: placed.filter(({ band }) => band === "needs").length,
    }),
    placed,
  }));
}

/**
 * The values of a field that occur, most frequent first.
 *
 * @param {Iterable<Entry>} entries
 * @param {Facet} facet
 * @param {number} limit
 */
export function valuesOf(entries, facet, limit) {
  /** @type {Map<string, number>} */
  const found = new Map();
  for (const { session } of entries) {
    const value = FACETS[facet](session);
    if (value) found.set(value, (found.get(value) ?? 0) + 1);
  }
  return [...found]
    .sort(([a, many], [b, more]) => more - many || (a < b ? -1 : 1))
    .slice(0, limit)
    .map(([value]) => value);
}
