// The first visit: how to connect an agent.

import { mode } from "../lib/auth.js";
import { h } from "../lib/dom.js";
import { t } from "../lib/text.js";
import { snippet } from "./copy.js";

/** What a person copies, for the server that this page comes from. */
export function welcome() {
  const server = location.origin;
  const secret = mode.value === "required";
  const key = t("welcome.key.place");
  const local = ["http://localhost:8080", "http://127.0.0.1:8080"].includes(server);
  const setup = ["kubeagents setup", local ? "" : `--url ${server}`, secret ? `--key ${key}` : ""].filter(Boolean).join(" ");
  const mcp = JSON.stringify(
    {
      mcpServers: {
        kubeagents: { type: "http", url: `${server}/mcp`, ...(secret ? { headers: { Authorization: `Bearer ${key}` } } : {}) },
      },
    },
    null,
    2,
  );
  const curl = [
    `curl ${server}/webhook/status`,
    ...(secret ? [`-H "Authorization: Bearer ${key}"`] : []),
    `-d '{"agent_id": "me", "session_topic": "my first session", "status": "running", "message": "hello", "timestamp": "'"$(date -u +%FT%TZ)"'"}'`,
  ].join(" \\\n  ");
  return h(
    "section",
    { class: "welcome", "aria-labelledby": "welcome" },
    h("h2", { id: "welcome" }, t("welcome.title")),
    h("p", { class: "lead" }, t("welcome.lead")),
    secret ? h("p", { class: "notice" }, t("welcome.key"), " ", h("a", { href: "/settings/keys" }, t("welcome.key.make"))) : null,
    h(
      "ol",
      { class: "ways" },
      way("setup", setup),
      way("mcp", mcp),
      way("curl", curl),
    ),
    h("p", { class: "waits", role: "status" }, h("span", { class: "pulse", "aria-hidden": "true" }), t("welcome.waiting")),
  );
}

/**
 * @param {"setup" | "mcp" | "curl"} name
 * @param {string} text
 */
function way(name, text) {
  return h("li", {}, h("h3", {}, t(`welcome.${name}`)), h("p", { class: "hint" }, t(`welcome.${name}.hint`)), snippet(text));
}
