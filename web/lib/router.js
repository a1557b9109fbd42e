// Addresses and views. A view is made for a path; what changes in the query is told to it.

import { Signal } from "./dom.js";

/**
 * @typedef {object} Context
 * @property {Record<string, string>} params of the path
 * @property {Signal<URLSearchParams>} query
 * @property {AbortSignal} signal is aborted when the view goes
 */
/** @typedef {{ node: HTMLElement, title: string | Signal<string>, dispose?: () => void }} View */
/** @typedef {(context: Context) => View | Promise<View>} MakeView */
/** @typedef {{ path: string, load: () => Promise<{ view: MakeView }> }} Route */

/**
 * Where a view is shown, and what is told of it.
 *
 * @typedef {object} Stage
 * @property {(view: View, first: boolean) => void} show
 * @property {(error: unknown) => View} failed
 */

/** Query fields that hold for every view. */
const STAYS = ["workspace"];

/** The present address. */
export const address = new Signal(here());

/** @type {{ place: string, query: Signal<URLSearchParams>, view: View | null, lifetime: AbortController } | null} */
let present = null;
/** @type {Route[]} */
let routes = [];
/** @type {Stage} */
let stage;

function here() {
  return location.pathname + location.search;
}

/**
 * Shows the view of the present address, and follows links from then on.
 *
 * @param {Route[]} table the last row answers for every other path
 * @param {Stage} where
 */
export function startRouter(table, where) {
  routes = table;
  stage = where;
  history.scrollRestoration = "manual";
  document.addEventListener("click", follow);
  window.addEventListener("popstate", (event) => void render(Number(event.state?.scroll ?? 0)));
  return render(Number(history.state?.scroll ?? 0));
}

/** @param {MouseEvent} event */
function follow(event) {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
  if (!(link instanceof HTMLAnchorElement) || link.origin !== location.origin || link.target || link.hash) return;
  event.preventDefault();
  void go(link.pathname + link.search);
}

/**
 * Goes to an address of the page.
 *
 * @param {string} to
 * @param {{ replace?: boolean }} [how]
 */
export function go(to, how) {
  const url = new URL(to, location.origin);
  for (const name of STAYS) {
    const value = new URLSearchParams(location.search).get(name);
    if (value && !url.searchParams.has(name)) url.searchParams.set(name, value);
  }
  return show(url, how);
}

/**
 * @param {URL} url
 * @param {{ replace?: boolean }} [how]
 */
async function show(url, { replace = false } = {}) {
  // A path that begins with two slashes would be another host.
  const next = url.pathname.replace(/^\/+/, "/") + url.search;
  if (replace || next === here()) {
    history.replaceState(history.state, "", next);
  } else {
    history.replaceState({ scroll: scrollY }, "");
    history.pushState(null, "", next);
  }
  // Before the start there is nothing to show it with: the start shows it.
  if (routes.length) await render(0);
}

/**
 * Changes fields of the query; an empty one goes.
 *
 * @param {Record<string, string>} fields
 * @param {{ replace?: boolean }} [how]
 */
export function setQuery(fields, how) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(fields)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const url = new URL(location.href);
  url.search = query.toString();
  return show(url, how);
}

/** Makes the present view again: the language or the workspace has changed. */
export function remake() {
  leave();
  return render(scrollY);
}

function leave() {
  present?.lifetime.abort();
  present?.view?.dispose?.();
  present = null;
}

/** @param {number} scroll */
async function render(scroll) {
  const query = new URLSearchParams(location.search);
  const { route, params } = match(location.pathname, query);
  const place = JSON.stringify([location.pathname, params]);
  if (present?.place === place) {
    present.query.value = query;
    address.value = here();
    return;
  }
  const first = present === null;
  leave();
  const mine = { place, query: new Signal(query), view: /** @type {View | null} */ (null), lifetime: new AbortController() };
  present = mine;
  address.value = here();
  const { signal } = mine.lifetime;
  let view;
  try {
    const { view: make } = await route.load();
    if (signal.aborted) return;
    view = await make({ params, query: mine.query, signal });
  } catch (error) {
    if (signal.aborted) return;
    view = stage.failed(error);
  }
  if (signal.aborted) {
    view.dispose?.();
    return;
  }
  mine.view = view;
  stage.show(view, first);
  scrollTo(0, scroll);
}

/**
 * The route of a path, and the names in it. Where a name is blank, the query has it.
 *
 * @param {string} path
 * @param {URLSearchParams} query
 * @returns {{ route: Route, params: Record<string, string> }}
 */
function match(path, query) {
  const segments = path.split("/").map(decode);
  for (const route of routes) {
    const names = route.path.split("/");
    if (names.length !== segments.length) continue;
    /** @type {Record<string, string>} */
    const params = {};
    const fits = names.every((name, index) => {
      if (!name.startsWith(":")) return name === segments[index];
      const field = name.slice(1);
      params[field] = segments[index].trim() || (query.get(field) ?? "");
      return params[field] !== "";
    });
    if (fits) return { route, params };
  }
  return { route: routes[routes.length - 1], params: {} };
}

/** @param {string} segment */
function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
