// Logs a person in.

import { logIn, user } from "../lib/auth.js";
import { h } from "../lib/dom.js";
import { ApiError } from "../lib/http.js";
import { go } from "../lib/router.js";
import { t } from "../lib/text.js";
import { door, emailField, form, passwordField } from "../parts/form.js";
import { resend } from "../parts/resend.js";

/** @type {import("../lib/router.js").MakeView} */
export function view({ query, signal }) {
  const next = () => {
    const wanted = query.value.get("next") ?? "/";
    // Only addresses of the page itself.
    return go(/^\/(?![/\\])/.test(wanted) ? wanted : "/", { replace: true });
  };
  // A tab beside this one may have logged in, or do so.
  if (user.value) queueMicrotask(next);
  user.changed((person) => person && void next(), signal);
  const email = emailField();
  const unverified = (/** @type {unknown} */ error) =>
    error instanceof ApiError && error.code === "email_not_verified" ? resend(() => email.input.value) : null;
  const work = async (/** @type {Record<string, string>} */ values) => {
    await logIn("/api/auth/login", values);
  };
  return door(
    t("login.title"),
    form([email.node, passwordField().node], t("login.submit"), work, { failed: unverified }),
    h("p", {}, h("a", { href: "/forgot" }, t("login.forgot"))),
    h("p", {}, t("login.new"), " ", h("a", { href: "/register" }, t("login.register"))),
  );
}
