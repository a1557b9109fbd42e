// The entry: the frame around the views, and what runs as long as the page is open.

import { workspace } from "./lib/api.js";
import { badgeIcon, isNews, noticeLook, tell } from "./lib/attention.js";
import { logOut, mode, refused, start, user } from "./lib/auth.js";
import { bandOf } from "./lib/bands.js";
import { now, startClock, tick } from "./lib/clock.js";
import { Signal, fill, h, say, set } from "./lib/dom.js";
import { ApiError, isMissing } from "./lib/http.js";
import { onKey, startKeys } from "./lib/keys.js";
import { connection, leads, startLive, stopLive, trouble } from "./lib/live.js";
import { address, go, remake, setQuery, startRouter } from "./lib/router.js";
import { addressOf, kindOf } from "./lib/session.js";
import { onChange, sessions } from "./lib/sessions.js";
import { loadTexts, t } from "./lib/text.js";
import { followUpgrade, late } from "./lib/upgrade.js";
import { announce, announcer } from "./parts/announce.js";
import { empty } from "./parts/empty.js";
import { icon } from "./parts/icon.js";
import { statusWords } from "./parts/status.js";

/** @type {import("./lib/router.js").Route[]} */
const ROUTES = [
  { path: "/", load: () => import("./views/overview.js") },
  { path: "/board", load: () => import("./views/board.js") },
  { path: "/activity", load: () => import("./views/activity.js") },
  { path: "/agents/:agent_id", load: () => import("./views/agent.js") },
  { path: "/sessions/:agent_id/:session_topic", load: () => import("./views/session.js") },
  { path: "/settings", load: () => import("./views/settings.js") },
  { path: "/settings/:part", load: () => import("./views/settings.js") },
  { path: "/login", load: () => import("./views/login.js") },
  { path: "/register", load: () => import("./views/register.js") },
  { path: "/verify", load: () => import("./views/verify.js") },
  { path: "/forgot", load: () => import("./views/forgot.js") },
  { path: "/reset", load: () => import("./views/reset.js") },
  { path: "*", load: () => import("./views/missing.js") },
];

/** Views that need nobody to be logged in. */
const PUBLIC = ["/login", "/register", "/verify", "/forgot", "/reset"];

const main = h("main", { id: "main", tabindex: "-1" });
const header = h("header", { class: "top" });
/** How many sessions need the person. */
const needs = new Signal(0);
let title = new Signal("kubeagents");
/** Ends what belongs to the view that is shown. */
let shown = new AbortController();

/** @type {import("./lib/router.js").Stage} */
const stage = {
  show(view, first) {
    shown.abort();
    shown = new AbortController();
    title = typeof view.title === "string" ? new Signal(view.title) : view.title;
    title.watch(showTitle, shown.signal);
    fill(main, view.node);
    if (first) return;
    // Screen readers go on from the heading of the new view.
    const heading = main.querySelector("h1");
    if (heading) set(heading, { tabindex: "-1" });
    (heading ?? main).focus({ preventScroll: true });
  },
  failed(error) {
    // A view that cannot be loaded may be one of a server that has been replaced meanwhile.
    if (error instanceof TypeError) void followUpgrade();
    const home = h("a", { class: "button", href: "/" }, t("app.home"));
    if (isMissing(error)) {
      return { title: t("app.notFound"), node: h("div", {}, empty(t("app.notFound"), t("app.notFound.hint"), home)) };
    }
    if (error instanceof ApiError && error.status === 0) return unreachable();
    const retry = h("button", { type: "button", class: "button", onclick: () => void remake() }, t("app.retry"));
    const words = error instanceof Error ? error.message : String(error);
    return { title: t("app.error"), node: h("div", {}, empty(t("app.error"), words, retry, home)) };
  },
};

/**
 * A view in the place of one that needs the server, which it tries again as soon as the server answers.
 *
 * @returns {import("./lib/router.js").View}
 */
function unreachable() {
  const lifetime = new AbortController();
  connection.changed((now) => now !== "offline" && void remake(), lifetime.signal);
  return {
    title: t("app.unreachable"),
    node: h("div", {}, empty(t("app.unreachable"), t("app.unreachable.hint"))),
    dispose: () => lifetime.abort(),
  };
}

function showTitle() {
  const name = title.value === "kubeagents" ? title.value : `${title.value} · kubeagents`;
  document.title = needs.value ? t("title.needs", { n: needs.value, title: name }) : name;
}

/** Makes the frame in the present language. */
function frame() {
  const links = h(
    "nav",
    { class: "views", "aria-label": t("nav.label") },
    navLink("/", "overview"),
    navLink("/board", "board"),
    navLink("/activity", "activity"),
    navLink("/settings", "settings"),
  );
  const state = h("span", { class: "live-text" });
  const live = h("span", { class: "live", role: "status" }, h("span", { class: "live-dot" }), state);
  const person = h("div", { class: "person" });
  fill(
    header,
    h("a", { class: "skip", href: "#main" }, t("app.skip")),
    h("a", { class: "brand", href: "/", "aria-label": "kubeagents" }, mark(), h("span", {}, "kubeagents")),
    links,
    h("div", { class: "top-right" }, person, live, ...options()),
  );
  const lifetime = new AbortController();
  connection.watch((now) => {
    set(live, { class: `live ${now}`, title: t(`live.${now}`) });
    say(state, t(`live.${now}`));
  }, lifetime.signal);
  address.watch(() => {
    for (const link of links.querySelectorAll("a")) {
      const path = link.getAttribute("href") ?? "/";
      const here = path === "/" ? location.pathname === "/" : location.pathname.startsWith(path);
      set(link, { "aria-current": here ? "page" : undefined });
    }
    header.hidden = PUBLIC.includes(location.pathname);
  }, lifetime.signal);
  user.watch(() => fill(person, ...personNodes()), lifetime.signal);
  workspace.changed(() => fill(person, ...personNodes()), lifetime.signal);
  mode.changed(() => fill(person, ...personNodes()), lifetime.signal);
  return lifetime;
}

/** @returns {Node[]} the workspaces a person has, and the way in or out */
function personNodes() {
  /** @type {Node[]} */
  const nodes = [];
  if (user.value?.shared_workspace) {
    nodes.push(
      h(
        "div",
        { class: "segments", role: "group", "aria-label": t("workspace.label") },
        .../** @type {const} */ (["own", "shared"]).map((name) =>
          h(
            "button",
            {
              type: "button",
              "aria-pressed": String(workspace.value === name),
              onclick: () => void setQuery({ workspace: name === "shared" ? name : "" }),
            },
            t(`workspace.${name}`),
          ),
        ),
      ),
    );
  }
  if (user.value) {
    nodes.push(h("button", { type: "button", class: "button quiet", onclick: () => logOut().catch(() => announce(t("error.unreachable"))) }, t("nav.logout")));
  } else if (mode.value === "required") {
    nodes.push(h("a", { class: "button quiet", href: "/login" }, t("nav.login")));
  }
  return nodes;
}

/** The button for what can be chosen, and the panel that it opens. */
function options() {
  const panel = h("div", { id: "options", class: "popover", popover: "auto" });
  panel.addEventListener("beforetoggle", async (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "open") return;
    const part = await late(() => import("./parts/options.js"));
    part?.showOptions(panel, (language) => void speak(language));
  });
  const button = h("button", { type: "button", class: "button quiet", popovertarget: "options", "aria-label": t("nav.options") }, icon("options"));
  return [button, panel];
}

function mark() {
  return h("span", { class: "mark", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
}

/**
 * @param {string} href
 * @param {"overview" | "board" | "activity" | "settings"} name
 */
function navLink(href, name) {
  return h("a", { href }, icon(name), h("span", {}, t(`nav.${name}`)));
}

/** @type {AbortController} */
let framed;

/** @param {import("./lib/text.js").Language} language */
async function speak(language) {
  try {
    await loadTexts(language);
  } catch {
    return followUpgrade();
  }
  framed.abort();
  framed = frame();
  await remake();
}

/** Counts what needs the person, for the title and the icon. */
function countNeeds() {
  let number = 0;
  for (const entry of sessions.values()) {
    if (bandOf(kindOf(entry, now()), entry, now()) === "needs") number++;
  }
  if (number !== needs.value) {
    announce(number ? t("overview.announce", { n: number }) : t("overview.announce.none"));
  }
  needs.value = number;
}

/** @param {import("./lib/sessions.js").Change[]} changes */
function tellNews(changes) {
  // One tab tells for all.
  if (!leads.value) return;
  for (const change of changes) {
    if (!isNews(change)) continue;
    const { entry } = change;
    const kind = kindOf(entry, now());
    tell(entry, kind, statusWords(kind, entry.session.reason), () => void go(addressOf(entry)));
  }
}

/** Looks at the workspace that the address names, with what the person may see. */
function lookAtWorkspace() {
  const named = new URLSearchParams(location.search).get("workspace") === "shared" ? "shared" : "own";
  if (named === workspace.value) return;
  workspace.value = named;
  startLive();
  void remake();
}

/** Shows what the person may see now that they have come or gone. */
function lookAs() {
  if (mode.value === "open" || user.value) {
    startLive();
  } else {
    stopLive();
    if (!PUBLIC.includes(location.pathname)) void go(`/login?next=${encodeURIComponent(location.pathname + location.search)}`, { replace: true });
  }
}

async function open() {
  await loadTexts();
  framed = frame();
  document.body.append(header, main, announcer());
  startClock();
  startKeys();
  onKey("?", async () => (await late(() => import("./parts/help.js")))?.showHelp());
  onKey("g o", () => void go("/"));
  onKey("g b", () => void go("/board"));
  onKey("g a", () => void go("/activity"));
  onKey("g s", () => void go("/settings"));

  needs.changed((number) => {
    badgeIcon(number);
    showTitle();
  });
  onChange((changes) => {
    countNeeds();
    tellNews(changes);
  });
  tick.changed((second) => {
    noticeLook();
    if (second % 10 === 0) countNeeds();
  });
  trouble.changed((error) => {
    if (error instanceof ApiError && error.status === 401) void refused();
  });

  await enter();
  let person = user.value?.id;
  user.changed((value) => {
    if (value?.id === person) return;
    const other = person && value;
    person = value?.id;
    lookAs();
    // What one person was shown is nothing to act on as another.
    if (other) void remake();
  });
  mode.changed(lookAs);
  address.changed(lookAtWorkspace);
  lookAs();
  await startRouter(ROUTES, stage);
  if (isSecureContext && "serviceWorker" in navigator) {
    // The page does without: browsers refuse it in private windows, for one.
    navigator.serviceWorker.register("/service-worker.js").then(loadRest, () => {});
  }
}

/** Loads what is not there yet while there is time, so that it opens at once, and without a network too. */
async function loadRest() {
  await navigator.serviceWorker.ready;
  const rest = [
    ...ROUTES.map(({ load }) => load),
    () => import("./parts/options.js"),
    () => import("./parts/help.js"),
    () => import("./parts/welcome.js"),
    () => import("./views/settings/channels.js"),
    () => import("./views/settings/keys.js"),
    () => import("./views/settings/account.js"),
    () => import("./views/settings/audit.js"),
  ];
  for (const load of rest) await load().catch(() => {});
}

/** Asks who the person is, until the server answers. */
async function enter() {
  workspace.value = new URLSearchParams(location.search).get("workspace") === "shared" ? "shared" : "own";
  for (let pause = 1000; ; pause = Math.min(pause * 2, 30_000)) {
    try {
      return await start();
    } catch {
      connection.value = "offline";
      fill(main, empty(t("app.unreachable"), t("app.unreachable.hint")));
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

await open();
