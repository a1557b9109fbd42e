// Asks for another mail with a link to verify an address.

import { h } from "../lib/dom.js";
import { json, send } from "../lib/http.js";
import { t } from "../lib/text.js";
import { words } from "./form.js";

/**
 * A button, and what has become of it.
 *
 * @param {() => string} email
 */
export function resend(email) {
  const said = h("p", { role: "status" });
  const ask = async () => {
    try {
      await send("/api/auth/resend-verify", json("POST", { email: email() }));
      said.textContent = t("register.resent");
    } catch (error) {
      said.textContent = words(error);
    }
  };
  return h("div", {}, h("button", { type: "button", class: "button", onclick: ask }, t("register.resend")), said);
}
