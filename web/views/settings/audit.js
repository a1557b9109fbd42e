// The audit: who did what to the account, or to the channels of the shared workspace.

import { get, workspace } from "../../lib/api.js";
import { timeNode } from "../../lib/clock.js";
import { h } from "../../lib/dom.js";
import { t } from "../../lib/text.js";
import { section, words } from "../../parts/form.js";
import { said } from "../../parts/said.js";

/**
 * @typedef {"account.registered" | "account.verified" | "login.succeeded" | "login.failed" | "login.ended"
 *   | "token.reused" | "password.changed" | "password.refused" | "password.forgotten" | "password.reset"
 *   | "key.created" | "key.first_used" | "key.revoked" | "webhook.changed" | "webhook.removed"
 *   | "channel.created" | "channel.changed" | "channel.removed" | "channel.disabled"} AuditEvent
 */
/** @typedef {"anyone" | "password" | "mailed_link" | "access_token" | "refresh_token" | "api_key" | "static_key" | "receiver" | "operator"} Actor */
/**
 * @typedef {object} Entry
 * @property {string} at
 * @property {AuditEvent} event
 * @property {Actor} actor
 * @property {string} [user]
 * @property {string} [client_address]
 * @property {string} [user_agent]
 * @property {string} [target]
 * @property {number} [count]
 */

/** How many entries are shown at first, and are added at a time. */
const AT_A_TIME = 50;

export async function part() {
  const list = h("ul", { class: "key-list" });
  const none = h("p", { class: "hint" }, t("audit.none"));
  const alert = h("p", { class: "form-alert", role: "alert" });
  /** @type {string | undefined} */
  let cursor;
  const load = async () => {
    const query = new URLSearchParams({ limit: String(AT_A_TIME), ...(cursor ? { cursor } : {}) });
    /** @type {{ entries: Entry[], next_cursor?: string }} */
    const page = await get(`/api/audit?${query}`);
    list.append(...page.entries.map(line));
    cursor = page.next_cursor;
    more.hidden = !cursor;
    none.hidden = list.childElementCount > 0;
  };
  const loadMore = async () => {
    alert.textContent = "";
    more.disabled = true;
    try {
      await load();
    } catch (error) {
      alert.textContent = words(error);
    }
    more.disabled = false;
  };
  const more = h("button", { type: "button", class: "button small", onclick: loadMore }, t("audit.more"));
  await load();
  const lead = t(workspace.value === "shared" ? "audit.lead.shared" : "audit.lead");
  return h("div", { class: "panels" }, section(t("settings.audit"), h("p", { class: "hint" }, lead), none, list, alert, h("p", { class: "actions" }, more)));
}

/** @param {Entry} entry */
function line({ at, event, actor, user, client_address: address, user_agent: agent, target, count }) {
  const times = count && count > 1 ? h("span", {}, t("audit.count", { n: count })) : null;
  return h(
    "li",
    {},
    h(
      "div",
      {},
      h("strong", {}, t(`audit.event.${event}`)),
      target ? [" ", said(target)] : null,
      h(
        "p",
        { class: "key-facts" },
        timeNode("ago", Date.parse(at)),
        times,
        h("span", {}, t(`audit.actor.${actor}`)),
        user ? h("span", {}, said(user)) : null,
        address ? h("code", {}, address) : null,
        agent ? h("span", {}, said(agent)) : null,
      ),
    ),
  );
}
