// Puts the official TypeScript clients, of every line that is in use, to a kubeagents MCP server.
//
//     check.mjs REST_URL                reports by REST_URL/mcp
//     check.mjs REST_URL COMMAND...     reports by the server that COMMAND starts
//
// MCP_TOKEN holds the bearer token, if there is one. What is reported is read back by REST_URL.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [baseUrl, ...command] = process.argv.slice(2);
const token = process.env.MCP_TOKEN;
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const tools = ["start_session", "report_status", "end_session", "list_agents", "list_sessions", "get_session"];

// The packages are installed where the script is started, not where it is kept.
const require = createRequire(pathToFileURL(`${process.cwd()}/package.json`));
const load = (name) => import(pathToFileURL(require.resolve(name)));

async function rest(...segments) {
  const path = segments.map(encodeURIComponent).join("/");
  const answer = await fetch(`${baseUrl}/${path}`, { headers });
  assert.equal(answer.status, 200);
  return answer.json();
}

async function check(connection, version, structured) {
  const { client, connect, negotiated } = connection;
  const agent_id = `typescript-${randomUUID()}`;
  const session_topic = "审查 a/b & c";
  const call = (name, more) =>
    client.callTool({ name, arguments: { agent_id, session_topic, ...more } });
  const text = (result) => result.content.map((block) => block.text).join("");

  await connect();
  assert.equal(negotiated(), version);
  assert.equal(client.getServerVersion().name, "kubeagents");
  assert.match(client.getInstructions(), /start_session/);
  const listed = (await client.listTools()).tools;
  assert.deepEqual(listed.map((tool) => tool.name), tools);

  for (const [tool, more] of [
    ["start_session", { agent_name: "TypeScript", ttl_minutes: 5 }],
    ["report_status", { status: "pending", message: "waiting" }],
    ["end_session", { status: "success", content: "all done" }],
  ]) {
    const result = await call(tool, more);
    assert.deepEqual([result.isError, text(result)], [false, "Status reported successfully"]);
  }

  const broken = await call("start_session", { agent_id: undefined });
  assert.deepEqual([broken.isError, text(broken)], [true, "agent_id is required"]);
  await assert.rejects(
    client.callTool({ name: "no_such_tool", arguments: {} }),
    (error) => error.code === -32602,
  );

  const shown = await call("get_session");
  const detail = await rest("api", "agents", agent_id, "sessions", session_topic);
  const statuses = detail.status_history.map((entry) => entry.status);
  assert.deepEqual(statuses, ["success", "pending", "running"]);
  assert.equal(detail.session.ttl_minutes, 5);
  assert.deepEqual(JSON.parse(text(shown)), detail);
  assert.deepEqual(shown.structuredContent, structured ? detail : undefined);

  const sessions = await client.callTool({ name: "list_sessions", arguments: { agent_id } });
  assert.deepEqual(JSON.parse(text(sessions)), await rest("api", "agents", agent_id, "sessions"));

  if (command.length > 0) {
    // Over HTTP, requests that are under way at once have no order.
    const session = { session_topic: "at once" };
    await Promise.all([
      call("start_session", { ...session, message: "1" }),
      call("report_status", { ...session, message: "2", status: "pending" }),
      call("end_session", { ...session, message: "3", status: "success" }),
    ]);
    const stored = await rest("api", "agents", agent_id, "sessions", "at once");
    assert.deepEqual(stored.status_history.map((entry) => entry.message), ["3", "2", "1"]);
  }
  await client.close();
}

const url = () => new URL(`${baseUrl}/mcp`);
const options = () => ({ requestInit: { headers } });
const stdio = () => ({ command: command[0], args: command.slice(1), env: process.env });
const info = { name: "check", version: "1" };

// The first line, `@modelcontextprotocol/sdk`: each version asks for the newest revision it knows.
async function first(alias) {
  const { Client } = await load(`${alias}/client/index.js`);
  const client = new Client(info);
  let version;
  const request = client.request.bind(client);
  client.request = async (message, ...rest) => {
    const result = await request(message, ...rest);
    version = message.method === "initialize" ? result.protocolVersion : version;
    return result;
  };
  let transport;
  if (command.length > 0) {
    const { StdioClientTransport } = await load(`${alias}/client/stdio.js`);
    transport = new StdioClientTransport(stdio());
  } else {
    const { StreamableHTTPClientTransport } = await load(`${alias}/client/streamableHttp.js`);
    transport = new StreamableHTTPClientTransport(url(), options());
  }
  return { client, connect: () => client.connect(transport), negotiated: () => version };
}

// The second line, `@modelcontextprotocol/client`, with and without the handshake.
async function second(mode) {
  const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");
  const client = new Client(info, { versionNegotiation: { mode } });
  const transport =
    command.length > 0
      ? new StdioClientTransport(stdio())
      : new StreamableHTTPClientTransport(url(), options());
  const negotiated = () => client.getNegotiatedProtocolVersion();
  return { client, connect: () => client.connect(transport), negotiated };
}

// A client that could authorise its user, but was given no key, says that the key is missing.
async function checkWithoutKey(alias) {
  const { Client } = await load(`${alias}/client/index.js`);
  const { StreamableHTTPClientTransport } = await load(`${alias}/client/streamableHttp.js`);
  const redirectUrl = "http://localhost/callback";
  const authProvider = {
    redirectUrl,
    clientMetadata: { client_name: "check", redirect_uris: [redirectUrl] },
    clientInformation: () => undefined,
    saveClientInformation: () => {},
    tokens: () => undefined,
  };
  const transport = new StreamableHTTPClientTransport(url(), { authProvider });
  await assert.rejects(new Client(info).connect(transport), /API key missing/);
}

for (const [name, connection, version] of [
  ["client", () => second("auto"), "2026-07-28"],
  ["client", () => second("legacy"), "2025-11-25"],
  ["sdk 1.32", () => first("sdk-2025-11-25"), "2025-11-25"],
  ["sdk 1.20", () => first("sdk-2025-06-18"), "2025-06-18"],
  ["sdk 1.12", () => first("sdk-2025-03-26"), "2025-03-26"],
]) {
  // Without structured output there is only its text.
  const structured = version !== "2025-03-26";
  await check(await connection(), version, structured);
  console.log(`typescript ${name} ${version}`);
}

if (token && command.length === 0) {
  for (const alias of ["sdk-2025-11-25", "sdk-2025-06-18"]) {
    await checkWithoutKey(alias);
    console.log(`typescript ${alias} without a key`);
  }
}
