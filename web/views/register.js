// Makes an account.

import { fill, h } from "../lib/dom.js";
import { json, send } from "../lib/http.js";
import { t } from "../lib/text.js";
import { door, emailField, field, form, newPasswordField } from "../parts/form.js";
import { resend } from "../parts/resend.js";

/** @type {import("../lib/router.js").MakeView} */
export function view() {
  const name = field(t("account.name"), { name: "name", autocomplete: "name", maxlength: 200 }, t("register.name.hint"));
  const content = h("div", {});
  const work = async (/** @type {Record<string, string>} */ values) => {
    await send("/api/auth/register", json("POST", values));
    fill(
      content,
      h("p", { role: "status" }, t("register.done", { email: values.email })),
      h("p", { class: "hint" }, t("register.log")),
      resend(() => values.email),
    );
  };
  fill(content, form([name.node, emailField().node, newPasswordField().node], t("register.submit"), work));
  return door(t("register.title"), content, h("p", {}, t("register.known"), " ", h("a", { href: "/login" }, t("nav.login"))));
}
