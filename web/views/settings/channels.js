// Channels: who else is told of what, and in which form.

import { change, get } from "../../lib/api.js";
import { timeNode } from "../../lib/clock.js";
import { each, fill, h } from "../../lib/dom.js";
import { addressOf, keyOf } from "../../lib/session.js";
import { t } from "../../lib/text.js";
import { announce } from "../../parts/announce.js";
import { confirmed, field, form, section, words } from "../../parts/form.js";
import { said } from "../../parts/said.js";

/** @typedef {"started" | "waiting" | "failed" | "finished" | "silent" | "recovered"} ChannelEvent */
/** @typedef {"full" | "title" | "none"} Detail */
/**
 * @typedef {object} Channel
 * @property {string} id
 * @property {string} name
 * @property {string} url_hint
 * @property {string} format
 * @property {boolean} has_secret
 * @property {ChannelEvent[]} events
 * @property {number} [delay_seconds]
 * @property {Detail} detail
 * @property {boolean} enabled
 * @property {boolean} [gone]
 */
/**
 * @typedef {object} Delivery
 * @property {ChannelEvent} event
 * @property {string} agent_id
 * @property {string} session_topic
 * @property {number} attempts
 * @property {number} [status]
 * @property {string} [error]
 * @property {"pending" | "delivered" | "failed" | "dropped"} state
 * @property {string} created_at
 */

const EVENTS = /** @type {const} */ (["started", "waiting", "failed", "finished", "silent", "recovered"]);
const DETAILS = /** @type {const} */ (["full", "title", "none"]);
/** @type {Record<string, string>} the formats, by the names that their makers give them */
const FORMATS = {
  slack: "Slack",
  discord: "Discord",
  teams: "Microsoft Teams",
  feishu: "飞书 / Lark",
  dingtalk: "钉钉 DingTalk",
  wecom: "企业微信 WeCom",
  telegram: "Telegram",
  ntfy: "ntfy",
  pagerduty: "PagerDuty",
  webhook: "Webhook",
};

/** @param {{ id: string }} channel */
const path = ({ id }) => `/api/channels/${encodeURIComponent(id)}`;

export async function part() {
  const list = h("ul", { class: "key-list" });
  const none = h("p", { class: "hint" }, t("channels.none"));
  const show = async () => {
    /** @type {{ channels: Channel[] }} */
    const { channels } = await get("/api/channels");
    none.hidden = channels.length > 0;
    // What a channel shows changes with it.
    each(list, channels, (channel) => JSON.stringify(channel), (channel) => line(channel, show));
  };
  await show();
  const add = async (/** @type {Record<string, unknown>} */ fields) => {
    await change("POST", "/api/channels", fields);
    announce(t("channels.added"));
    await show();
  };
  return h(
    "div",
    { class: "panels" },
    section(t("settings.channels"), h("p", { class: "hint" }, t("channels.lead")), none, list),
    section(t("channels.new"), editor(null, t("channels.add"), add)),
  );
}

/**
 * The form of a channel. What is secret is never shown: an empty field keeps it.
 *
 * @param {Channel | null} channel
 * @param {string} label
 * @param {(fields: Record<string, unknown>) => Promise<void>} work
 */
function editor(channel, label, work) {
  const name = field(t("channels.name"), { name: "name", required: true, maxlength: 100, value: channel?.name, autocomplete: "off" });
  const url = field(
    t("channels.url"),
    { name: "url", required: !channel, placeholder: channel?.url_hint ?? "https://", autocomplete: "off", spellcheck: "false" },
    channel ? t("channels.keep") : t("channels.url.hint"),
  );
  const secret = field(
    t("channels.secret"),
    { name: "secret", type: "password", autocomplete: "off", maxlength: 200 },
    channel?.has_secret ? t("channels.keep") : t("channels.secret.hint"),
  );
  const delay = field(
    t("channels.delay"),
    { name: "delay", type: "number", min: 0, max: 3600, value: channel?.delay_seconds },
    t("channels.delay.hint"),
  );
  const events = EVENTS.map((event) =>
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", name: event, checked: channel ? channel.events.includes(event) : event !== "started" }),
      t(`channels.event.${event}`),
    ),
  );
  const format = choice("format", t("channels.format"), [["", t("channels.format.found")], ...Object.entries(FORMATS), ["email", t("account.email")]], channel?.format ?? "");
  const detail = choice("detail", t("channels.detail"), DETAILS.map((value) => [value, t(`channels.detail.${value}`)]), channel?.detail ?? "full");
  const node = form(
    [name.node, url.node, format, h("fieldset", {}, h("legend", {}, t("channels.events")), ...events), detail, delay.node, secret.node],
    label,
    async (values) => {
      await work({
        name: values.name,
        ...(values.url ? { url: values.url } : {}),
        ...(values.format ? { format: values.format } : {}),
        ...(values.secret ? { secret: values.secret } : {}),
        events: EVENTS.filter((event) => event in values),
        detail: values.detail,
        delay_seconds: values.delay === "" ? null : Number(values.delay),
      });
      if (!channel) node.reset();
    },
  );
  return node;
}

let ids = 0;

/**
 * @param {string} name
 * @param {string} label
 * @param {[string, string][]} values
 * @param {string} present
 */
function choice(name, label, values, present) {
  const id = `choice-${++ids}`;
  const options = values.map(([value, text]) => h("option", { value, selected: value === present }, text));
  return h("div", { class: "form-field" }, h("label", { for: id }, label), h("select", { class: "input", name, id }, ...options));
}

/**
 * @param {Channel} channel
 * @param {() => Promise<void>} changed
 */
function line(channel, changed) {
  const outcome = h("p", { role: "status" });
  const more = h("div", {});
  /** @param {() => Promise<void>} work */
  const trying = (work) => async () => {
    outcome.textContent = "";
    try {
      await work();
    } catch (error) {
      outcome.textContent = words(error);
    }
  };
  const test = trying(async () => {
    outcome.textContent = t("channels.testing");
    /** @type {{ delivered: boolean, status?: number, error?: string }} */
    const result = await change("POST", `${path(channel)}/test`);
    outcome.textContent = result.delivered ? t("channels.tested") : t("channels.untested", { error: result.error ?? result.status ?? "" });
  });
  const edit = trying(async () => {
    const save = async (/** @type {Record<string, unknown>} */ fields) => {
      await change("PUT", path(channel), fields);
      announce(t("form.saved"));
      await changed();
    };
    fill(more, editor(channel, t("form.save"), save));
    more.querySelector("input")?.focus();
  });
  const look = trying(async () => fill(more, await deliveries(channel)));
  const toggle = trying(async () => {
    await change("PUT", path(channel), { enabled: !channel.enabled });
    await changed();
  });
  const remove = trying(async () => {
    if (!(await confirmed(t("channels.question", { name: channel.name }), t("channels.delete")))) return;
    await change("DELETE", path(channel));
    announce(t("channels.deleted"));
    await changed();
  });
  const state = channel.gone ? t("channels.gone") : channel.enabled ? null : t("channels.off");
  /** @type {(label: string, onclick: () => Promise<void>) => Node} */
  const button = (label, onclick) => h("button", { type: "button", class: "button small", onclick }, label);
  return h(
    "li",
    { class: "channel" },
    h("strong", {}, said(channel.name)),
    h(
      "p",
      { class: "key-facts" },
      h("span", {}, FORMATS[channel.format] ?? t("account.email")),
      h("code", {}, channel.url_hint),
      h("span", {}, channel.events.map((event) => t(`channels.event.${event}`)).join(", ")),
      state ? h("strong", {}, state) : null,
    ),
    h(
      "p",
      { class: "actions" },
      button(t("channels.test"), test),
      button(t("channels.deliveries"), look),
      button(t("channels.edit"), edit),
      button(t(channel.enabled ? "channels.disable" : "channels.enable"), toggle),
      button(t("channels.delete"), remove),
    ),
    outcome,
    more,
  );
}

/** @param {Channel} channel */
async function deliveries(channel) {
  /** @type {{ deliveries: Delivery[] }} */
  const { deliveries: rows } = await get(`${path(channel)}/deliveries`);
  if (!rows.length) return h("p", { class: "hint" }, t("channels.deliveries.none"));
  return h(
    "ul",
    { class: "key-list" },
    ...rows.map((row) =>
      h(
        "li",
        { class: "key-facts" },
        h("strong", {}, t(`channels.state.${row.state}`)),
        h("span", {}, t(`channels.event.${row.event}`)),
        h("a", { href: addressOf({ key: keyOf(row.agent_id, row.session_topic) }) }, said(row.session_topic)),
        timeNode("ago", Date.parse(row.created_at)),
        row.error ? h("span", {}, row.error) : null,
      ),
    ),
  );
}
