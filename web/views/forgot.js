// Asks for a link to set a new password.

import { fill, h } from "../lib/dom.js";
import { json, send } from "../lib/http.js";
import { t } from "../lib/text.js";
import { door, emailField, form } from "../parts/form.js";

/** @type {import("../lib/router.js").MakeView} */
export function view() {
  const content = h("div", {});
  const work = async (/** @type {Record<string, string>} */ values) => {
    await send("/api/auth/forgot", json("POST", values));
    fill(content, h("p", { role: "status" }, t("forgot.done")), h("p", { class: "hint" }, t("register.log")));
  };
  fill(content, h("p", {}, t("forgot.lead")), form([emailField().node], t("forgot.submit"), work));
  return door(t("forgot.title"), content, h("p", {}, h("a", { href: "/login" }, t("nav.login"))));
}
