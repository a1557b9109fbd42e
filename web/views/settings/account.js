// The person's account.

import { change } from "../../lib/api.js";
import { forgetEverywhere, logIn, logOut, user } from "../../lib/auth.js";
import { h } from "../../lib/dom.js";
import { go } from "../../lib/router.js";
import { t } from "../../lib/text.js";
import { announce } from "../../parts/announce.js";
import { confirmed, field, form, newPasswordField, owner, passwordField, section } from "../../parts/form.js";
import { said } from "../../parts/said.js";

/** @typedef {import("../../lib/auth.js").User} User */

export function part() {
  const account = /** @type {User} */ (user.value);
  return h("div", { class: "panels" }, person(account), webhook(account), password(account), leave(), deletion(account));
}

/** @param {User} account */
function person({ name, email }) {
  return section(
    t("settings.account"),
    h(
      "dl",
      { class: "facts" },
      h("dt", {}, t("account.email")),
      h("dd", {}, said(email)),
      name ? [h("dt", {}, t("account.name")), h("dd", {}, said(name))] : null,
    ),
  );
}

/** @param {User} account */
function webhook(account) {
  const url = field(
    t("webhook.url"),
    { name: "notification_webhook_url", type: "url", placeholder: "https://", value: account.notification_webhook_url, autocomplete: "off" },
    t("webhook.hint"),
  );
  const work = async (/** @type {Record<string, string>} */ values) => {
    user.value = await change("PUT", "/api/auth/me", values);
    announce(t("form.saved"));
    saved.textContent = t("form.saved");
  };
  const saved = h("p", { class: "hint" });
  return section(t("webhook.title"), form([url.node], t("form.save"), work), saved);
}

/** @param {User} account */
function password({ email }) {
  const done = h("p", { role: "status" });
  const work = async (/** @type {Record<string, string>} */ values) => {
    done.textContent = "";
    await change("POST", "/api/auth/password", values);
    // The change has ended every session of the account: this browser begins a new one.
    await logIn("/api/auth/login", { email, password: values.new_password });
    node.reset();
    done.textContent = t("password.done");
  };
  const present = passwordField("current_password", t("password.current"));
  const next = newPasswordField("new_password", t("account.newPassword"));
  const node = form([owner(email), present.node, next.node], t("password.submit"), work);
  return section(t("password.title"), h("p", { class: "hint" }, t("password.hint")), node, done);
}

function leave() {
  const work = async () => {
    await logOut();
    await go("/login");
  };
  return section(t("nav.logout"), h("p", { class: "hint" }, t("logout.hint")), form([], t("logout.submit"), work));
}

/** @param {User} account */
function deletion({ email }) {
  const work = async (/** @type {Record<string, string>} */ values) => {
    if (!(await confirmed(t("delete.question"), t("delete.submit")))) return;
    await change("DELETE", "/api/auth/me", values);
    forgetEverywhere();
    await go("/login");
  };
  const node = form([owner(email), passwordField("password", t("password.current")).node], t("delete.submit"), work, { danger: true });
  return section(t("delete.title"), h("p", { class: "hint" }, t("delete.hint")), node);
}
