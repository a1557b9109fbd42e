// The keys that agents of the person report with.

import { change, get } from "../../lib/api.js";
import { user } from "../../lib/auth.js";
import { now, timeNode } from "../../lib/clock.js";
import { each, fill, h } from "../../lib/dom.js";
import { t } from "../../lib/text.js";
import { announce } from "../../parts/announce.js";
import { connect } from "../../parts/connect.js";
import { snippet } from "../../parts/copy.js";
import { confirmed, field, form, section, words } from "../../parts/form.js";
import { said } from "../../parts/said.js";

/** @typedef {"report" | "read"} Scope */
/**
 * @typedef {object} ApiKey
 * @property {string} id
 * @property {string} name
 * @property {string} key_prefix
 * @property {Scope[]} scopes
 * @property {string | null} expires_at
 * @property {string | null} last_used_at
 * @property {string} created_at
 * @property {boolean} revoked
 * @property {"own" | "shared"} [workspace]
 */

const SCOPES = /** @type {const} */ (["report", "read"]);
/** After how many days a key may end; 0: never. */
const EXPIRIES = /** @type {const} */ ([0, 30, 90, 365]);

export async function part() {
  const list = h("ul", { class: "key-list" });
  const none = h("p", { class: "hint" }, t("keys.none"));
  const made = h("div", {});
  const show = async () => {
    const keys = (await load()).filter(works);
    none.hidden = keys.length > 0;
    each(list, keys, ({ id }) => id, (key) => line(key, show));
  };
  await show();
  return h("div", { class: "panels" }, section(t("keys.new"), maker(made, show), made), section(t("settings.keys"), none, list));
}

/** @returns {Promise<ApiKey[]>} all keys of the account, newest first */
async function load() {
  const keys = [];
  /** @type {string | undefined} */
  let cursor;
  do {
    const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
    /** @type {{ api_keys: ApiKey[], next_cursor?: string }} */
    const page = await get(`/api/apikeys${query}`);
    keys.push(...page.api_keys);
    cursor = page.next_cursor;
  } while (cursor);
  return keys;
}

/** @param {ApiKey} key */
function works({ revoked, expires_at: end }) {
  return !revoked && (end === null || Date.parse(end) > now());
}

/**
 * @param {HTMLElement} made where the new key is shown
 * @param {() => Promise<void>} changed
 */
function maker(made, changed) {
  const name = field(t("keys.name"), { name: "name", required: true, maxlength: 100, autocomplete: "off", placeholder: t("keys.name.example") });
  const expiry = h("select", { name: "expires_in", class: "input", id: "key-expiry" }, ...EXPIRIES.map((days) => h("option", { value: days }, days ? t("keys.days", { n: days }) : t("keys.never"))));
  const scopes = SCOPES.map((scope) =>
    h("label", { class: "check" }, h("input", { type: "checkbox", name: scope, checked: scope === "report" }), t(`keys.${scope}`)),
  );
  const shared = user.value?.shared_workspace
    ? h("label", { class: "check" }, h("input", { type: "checkbox", name: "shared" }), t("keys.shared"))
    : null;
  const work = async (/** @type {Record<string, string>} */ values) => {
    /** @type {ApiKey & { key: string }} */
    const key = await change("POST", "/api/apikeys", {
      name: values.name,
      expires_in: Number(values.expires_in),
      scopes: SCOPES.filter((scope) => scope in values),
      ...("shared" in values ? { workspace: "shared" } : {}),
    });
    node.reset();
    announce(t("keys.made"));
    fill(
      made,
      h("div", { class: "made" }, h("h3", {}, t("keys.made")), h("p", {}, t("keys.once")), snippet(key.key)),
      key.scopes.includes("report") ? connect(key.key) : null,
    );
    await changed();
  };
  const node = form(
    [
      name.node,
      h("fieldset", {}, h("legend", {}, t("keys.scopes")), ...scopes),
      shared,
      h("div", { class: "form-field" }, h("label", { for: "key-expiry" }, t("keys.expires")), expiry),
    ],
    t("keys.submit"),
    work,
  );
  return node;
}

/**
 * @param {ApiKey} key
 * @param {() => Promise<void>} changed
 */
function line(key, changed) {
  const alert = h("p", { class: "form-alert", role: "alert" });
  const revoke = async () => {
    if (!(await confirmed(t("keys.question", { name: key.name }), t("keys.revoke")))) return;
    try {
      await change("DELETE", `/api/apikeys/${encodeURIComponent(key.id)}`);
      announce(t("keys.revoked"));
      await changed();
    } catch (error) {
      alert.textContent = words(error);
    }
  };
  const facts = [
    h("code", {}, `${key.key_prefix}…`),
    h("span", {}, key.scopes.map((scope) => t(`keys.${scope}`)).join(", ")),
    key.workspace === "shared" ? h("span", {}, t("workspace.shared")) : null,
    h("span", {}, t("keys.used"), " ", key.last_used_at ? timeNode("ago", Date.parse(key.last_used_at)) : t("keys.unused")),
    key.expires_at ? h("span", {}, t("keys.ends"), " ", timeNode("left", Date.parse(key.expires_at))) : null,
  ];
  return h(
    "li",
    {},
    h("div", {}, h("strong", {}, said(key.name)), h("p", { class: "key-facts" }, ...facts), alert),
    h("button", { type: "button", class: "button small", onclick: revoke, "aria-label": t("keys.revokeNamed", { name: key.name }) }, t("keys.revoke")),
  );
}
