// The first visit: how to connect an agent.

import { mode } from "../lib/auth.js";
import { h } from "../lib/dom.js";
import { t } from "../lib/text.js";
import { connect } from "./connect.js";

/** What a person copies, for the server that this page comes from. */
export function welcome() {
  const secret = mode.value === "required";
  return h(
    "section",
    { class: "welcome", "aria-labelledby": "welcome" },
    h("h2", { id: "welcome" }, t("welcome.title")),
    h("p", { class: "lead" }, t("welcome.lead")),
    secret ? h("p", { class: "notice" }, t("welcome.key"), " ", h("a", { href: "/settings/keys" }, t("welcome.key.make"))) : null,
    connect(secret ? t("welcome.key.place") : null),
    h("p", { class: "waits", role: "status" }, h("span", { class: "pulse", "aria-hidden": "true" }), t("welcome.waiting")),
  );
}
