// What is shown at an address that names nothing.

import { h } from "../lib/dom.js";
import { t } from "../lib/text.js";
import { empty } from "../parts/empty.js";

/** @type {import("../lib/router.js").MakeView} */
export function view() {
  return {
    title: t("app.notFound"),
    node: h("div", {}, empty(t("app.notFound"), t("app.notFound.hint"), h("a", { class: "button", href: "/" }, t("app.home")))),
  };
}
