// Scenarios: each has a server and a browser of its own kind, and fails on whatever a browser complains
// about.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { launch, require } from "./chromium.mjs";
import { OwnServer, PASSWORD, Server } from "./server.mjs";

const AXE = require.resolve("axe-core/axe.min.js");

const SCREENSHOTS = fileURLToPath(new URL("../../target/screenshots", import.meta.url));

/** Only what hangs takes so long. */
const DEADLINE = 60_000;

const { PAGE_SERVER: program, PAGE_URL: url } = process.env;

let launched;

function browser() {
  launched ??= launch();
  return launched;
}

/** @type {(() => void)[]} */
const scenarios = [];

/** Plays every scenario that there is by now, and closes the browser. */
export function playAll() {
  for (const register of scenarios) register();
  after(async () => (await launched)?.close());
}

/**
 * What a person does with the page, and sees.
 *
 * `variables` are those of the server; `context` is what Playwright takes for a browser context;
 * `refused` lists the statuses of answers with which the scenario means to be refused; with `unreachable` it
 * means to be without answers. On a server that
 * runs already, only scenarios with `anywhere` are played. `start` starts another server.
 */
export function scenario(name, { variables, context: options, refused = [], unreachable = false, anywhere = false }, play) {
  const skip = url && !anywhere ? "it needs a server of its own" : false;
  const work = async () => {
    const servers = [];
    const start = async () => {
      const started = await OwnServer.start(program, { AUTH_MODE: "open", ...variables });
      servers.push(started);
      return started;
    };
    const server = url ? new Server(url) : await start();
    const context = await (await browser()).newContext({ locale: "en-US", baseURL: server.url, ...options });
    context.setDefaultTimeout(DEADLINE);
    const complaints = [];
    // Who has not logged in yet is told so by the first answer.
    listen(context, { refused: [401, ...refused], unreachable }, complaints);
    try {
      const page = await context.newPage();
      await play({ server, page, context, start });
      assert.deepEqual(complaints, []);
    } finally {
      await context.close();
      await Promise.all(servers.map((started) => started.stop()));
    }
  };
  scenarios.push(() => test(name, { skip, timeout: 4 * DEADLINE }, work));
}

function listen(context, { refused, unreachable }, complaints) {
  context.on("console", (message) => {
    const status = /^Failed to load resource: the server responded with a status of (\d+)/.exec(message.text());
    if (status && refused.includes(Number(status[1]))) return;
    if (unreachable && /^Failed to load resource: net::ERR_/.test(message.text())) return;
    // A host that does not stream says so, and the page asks from time to time.
    if (status?.[1] === "501" && message.location().url.endsWith("/api/events")) return;
    complaints.push(`${message.type()}: ${message.text()} (${message.location().url})`);
  });
  context.on("weberror", (error) => complaints.push(`error: ${error.error().stack}`));
}

/** Fills a form by the labels of its fields. */
export async function fill(page, fields) {
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(value);
}

/** Logs in by the form. */
export async function logIn(page, email, password = PASSWORD) {
  await page.goto("/login");
  await fill(page, { Email: email, Password: password });
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
}

/** Checks the view that is shown with axe, and keeps a picture of it. */
export async function look(page, name) {
  await page.getByRole("heading", { level: 1 }).waitFor({ state: "attached" });
  await page.screenshot({ path: `${folder()}/${name}.png` });
  const surplus = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(surplus <= 0, `${name} is ${surplus} px wider than its window`);
  // The page's own policy keeps a script from being added to it.
  await page.evaluate(readFileSync(AXE, "utf8"));
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const violations = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join("\n")}`);
  assert.deepEqual(violations, [], name);
}

function folder() {
  mkdirSync(SCREENSHOTS, { recursive: true });
  return SCREENSHOTS;
}
