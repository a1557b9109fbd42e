// How an agent is connected to this server: lines that a person copies.

import { h } from "../lib/dom.js";
import { t } from "../lib/text.js";
import { snippet } from "./copy.js";

/**
 * The ways to connect an agent, each with its lines.
 *
 * @param {string | null} key that the agent needs
 */
export function connect(key) {
  const server = location.origin;
  const local = ["http://localhost:8080", "http://127.0.0.1:8080"].includes(server);
  const setup = ["kubeagents setup", local ? "" : `--url ${server}`, key ? `--key ${key}` : ""].filter(Boolean).join(" ");
  const headers = key ? { headers: { Authorization: `Bearer ${key}` } } : {};
  const mcp = JSON.stringify({ mcpServers: { kubeagents: { type: "http", url: `${server}/mcp`, ...headers } } }, null, 2);
  const curl = [
    `curl ${server}/webhook/status`,
    ...(key ? [`-H "Authorization: Bearer ${key}"`] : []),
    `-d '{"agent_id": "me", "session_topic": "my first session", "status": "running", "message": "hello", "timestamp": "'"$(date -u +%FT%TZ)"'"}'`,
  ].join(" \\\n  ");
  return h("ol", { class: "ways" }, way("setup", setup), way("mcp", mcp), way("curl", curl));
}

/**
 * @param {"setup" | "mcp" | "curl"} name
 * @param {string} text
 */
function way(name, text) {
  return h("li", {}, h("h3", {}, t(`welcome.${name}`)), h("p", { class: "hint" }, t(`welcome.${name}.hint`)), snippet(text));
}
