// Settings: the parts, and the one that the address names.

import { mode, user } from "../lib/auth.js";
import { h } from "../lib/dom.js";
import { t } from "../lib/text.js";
import { view as missing } from "./missing.js";

const PARTS = /** @type {const} */ (["channels", "keys", "account", "audit"]);

/** @type {Record<string, () => Promise<{ part: () => Node | Promise<Node> }>>} */
const LOAD = {
  channels: () => import("./settings/channels.js"),
  account: () => import("./settings/account.js"),
  keys: () => import("./settings/keys.js"),
  audit: () => import("./settings/audit.js"),
};

/** @type {import("../lib/router.js").MakeView} */
export async function view(context) {
  const name = context.params.part ?? PARTS[0];
  if (!Object.hasOwn(LOAD, name)) return missing(context);
  const { part } = await LOAD[name]();
  const links = PARTS.map((each) =>
    h("a", { href: `/settings/${each}`, "aria-current": each === name ? "page" : undefined }, t(`settings.${each}`)),
  );
  return {
    title: t("nav.settings"),
    node: h(
      "div",
      { class: "settings" },
      h("h1", {}, t("nav.settings")),
      h("nav", { class: "parts", "aria-label": t("settings.parts") }, ...links),
      // The shared workspace of an open server is everybody's.
      user.value || (name === "channels" && mode.value === "open") ? await part() : stranger(),
    ),
  };
}

/** What stands where only an account has something to set. */
function stranger() {
  return h(
    "div",
    { class: "panel" },
    h("p", {}, t(mode.value === "open" ? "settings.open" : "settings.stranger")),
    h(
      "p",
      { class: "actions" },
      h("a", { class: "button primary", href: `/login?next=${encodeURIComponent(location.pathname)}` }, t("nav.login")),
      h("a", { class: "button", href: "/register" }, t("login.register")),
    ),
  );
}
