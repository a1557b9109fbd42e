// Sets a new password, at the end of the link in a mail.

import { logIn } from "../lib/auth.js";
import { h } from "../lib/dom.js";
import { go } from "../lib/router.js";
import { t } from "../lib/text.js";
import { door, form, newPasswordField, owner } from "../parts/form.js";

/** @type {import("../lib/router.js").MakeView} */
export function view({ query }) {
  const token = query.value.get("token") ?? "";
  const work = async (/** @type {Record<string, string>} */ { password }) => {
    await logIn("/api/auth/reset", { token, password });
    await go("/", { replace: true });
  };
  const failed = () => h("p", {}, h("a", { href: "/forgot" }, t("reset.again")));
  const password = newPasswordField("password", t("account.newPassword"));
  return door(t("reset.title"), form([owner(), password.node], t("reset.submit"), work, { failed }));
}
