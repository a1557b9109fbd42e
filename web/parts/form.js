// Forms: fields with labels, one button, and what the server says.

import { duration } from "../lib/clock.js";
import { h, say, set } from "../lib/dom.js";
import { ApiError } from "../lib/http.js";
import { known, t } from "../lib/text.js";

/** @typedef {{ node: HTMLElement, input: HTMLInputElement }} Field */

let ids = 0;

/**
 * A field with its label.
 *
 * @param {string} label
 * @param {import("../lib/dom.js").Props} props of the input; with a name, its value is handed to the form
 * @param {string} [hint]
 * @returns {Field}
 */
export function field(label, props, hint) {
  const id = `field-${++ids}`;
  const input = h("input", { class: "input", id, "aria-describedby": hint ? `${id}-hint` : undefined, ...props });
  return {
    input,
    node: h(
      "div",
      { class: "form-field" },
      h("label", { for: id }, label),
      input,
      hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null,
    ),
  };
}

/** @param {string} [value] */
export function emailField(value) {
  return field(t("account.email"), { name: "email", type: "email", autocomplete: "username", required: true, maxlength: 255, value });
}

/**
 * What tells a browser's password manager whose password a form is about.
 *
 * @param {string} [email]
 */
export function owner(email = "") {
  return h("input", { type: "email", autocomplete: "username", value: email, hidden: true, readonly: true });
}

/** A field for the password that an account has. */
export function passwordField(name = "password", label = t("account.password")) {
  return field(label, { name, type: "password", autocomplete: "current-password", required: true });
}

/** A field for a password that an account is to have. */
export function newPasswordField(name = "password", label = t("account.password")) {
  return field(label, { name, type: "password", autocomplete: "new-password", required: true, minlength: 8 }, t("account.password.hint"));
}

/**
 * A form. Its button rests while the work is under way; when the work fails, the form says why.
 *
 * @param {(Node | null)[]} content
 * @param {string} label of the button
 * @param {(values: Record<string, string>) => Promise<void>} work gets the values of the named fields
 * @param {{ danger?: boolean, failed?: (error: unknown) => Node | null }} [options] `failed` makes what is shown
 *   beside the words
 */
export function form(content, label, work, { danger = false, failed } = {}) {
  const button = h("button", { class: `button primary${danger ? " danger" : ""}` }, label);
  const alert = h("p", { class: "form-alert", role: "alert" });
  const more = h("div", {});
  const node = h("form", { class: "form" }, ...content, h("p", { class: "actions" }, button), alert, more);
  node.addEventListener("submit", async (event) => {
    event.preventDefault();
    set(button, { disabled: true });
    say(alert, "");
    more.replaceChildren();
    try {
      const values = Object.fromEntries([...new FormData(node)].map(([name, value]) => [name, String(value)]));
      await work(values);
    } catch (error) {
      say(alert, words(error));
      const extra = failed?.(error);
      if (extra) more.replaceChildren(extra);
      if (!(error instanceof ApiError)) throw error;
    } finally {
      set(button, { disabled: false });
    }
  });
  return node;
}

/**
 * What went wrong, for a person.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function words(error) {
  if (!(error instanceof ApiError)) return t("app.error");
  if (error.status === 0) return t("error.unreachable");
  if (error.status === 429) return t("error.limited", { time: duration((error.retryAfter ?? 60) * 1000) });
  // What the server says most often is known in the person's language.
  return known(`error.${error.message}`) ?? error.message;
}

/**
 * A section of a view of settings, under a heading.
 *
 * @param {string} title
 * @param {...import("../lib/dom.js").Children} content
 */
export function section(title, ...content) {
  return h("section", { class: "panel" }, h("h2", {}, title), ...content);
}

/**
 * A view that is a form in the middle of the page.
 *
 * @param {string} title
 * @param {...import("../lib/dom.js").Children} content
 * @returns {import("../lib/router.js").View}
 */
export function door(title, ...content) {
  const brand = h("a", { class: "brand", href: "/" }, "kubeagents");
  return { title, node: h("div", { class: "door" }, h("p", {}, brand), h("h1", {}, title), ...content) };
}

/**
 * Asks whether to do something that cannot be undone.
 *
 * @param {string} question
 * @param {string} label of the button that does it
 * @returns {Promise<boolean>}
 */
export function confirmed(question, label) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-label": question },
      h("p", {}, question),
      h(
        "form",
        { method: "dialog", class: "actions" },
        h("button", { class: "button", value: "" }, t("form.cancel")),
        h("button", { class: "button primary danger", value: "yes" }, label),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
