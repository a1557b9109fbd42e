// The end of the link in a verification mail.

import { logIn } from "../lib/auth.js";
import { h } from "../lib/dom.js";
import { go } from "../lib/router.js";
import { t } from "../lib/text.js";
import { door, form } from "../parts/form.js";

/** @type {import("../lib/router.js").MakeView} */
export function view({ query }) {
  const token = query.value.get("token") ?? "";
  // Programs that look at links in mails do not press buttons: the link stays the person's.
  const work = async () => {
    await logIn("/api/auth/verify", { token });
    await go("/", { replace: true });
  };
  const failed = () => h("p", {}, t("verify.failed"), " ", h("a", { href: "/login" }, t("nav.login")));
  return door(t("verify.title"), h("p", {}, t("verify.lead")), form([], t("verify.submit"), work, { failed }));
}
