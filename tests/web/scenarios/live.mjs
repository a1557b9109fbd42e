// What the page does to show at every moment how things stand.

import assert from "node:assert/strict";

import { scenario } from "../browser.mjs";
import { complete, day, kept, live, row } from "../day.mjs";
import { Front } from "../front.mjs";
import { until } from "../server.mjs";

/** Plays with an address whose server can be cut off and replaced. */
async function behind(server, play) {
  const front = await Front.before(server);
  try {
    await play(front);
  } finally {
    front.stop();
  }
}

const withoutStream = (page) =>
  page.route("/api/events", (route) => route.fulfill({ status: 501, json: { error: "not_supported", code: "not_supported", message: "" } }));

scenario("two tabs share one stream, and the other goes on when the first is closed", {}, async ({ server, page, context }) => {
  await day(server);
  let streams = 0;
  context.on("request", (request) => {
    if (request.url().endsWith("/api/events")) streams++;
  });
  // What the second tab hears is an answer to its question, and not what the first says every ten seconds.
  await page.addInitScript(() => {
    const { setInterval } = globalThis;
    globalThis.setInterval = (work, pause) => setInterval(work, pause < 10_000 ? pause : 2 ** 31 - 1);
  });
  await page.goto("/");
  await live(page);
  const second = await context.newPage();
  await second.goto("/");
  await live(second);
  await server.report({ session_topic: "login", message: "seen in both" });
  await row(page, "Fix the login page").getByText("seen in both").waitFor();
  await row(second, "Fix the login page").getByText("seen in both").waitFor();
  assert.equal(streams, 1);
  await page.close();
  await until("a stream of the second tab", () => streams === 2);
  await server.report({ session_topic: "login", message: "seen in the second" });
  await row(second, "Fix the login page").getByText("seen in the second").waitFor();
});

scenario("a stream that breaks goes on where it was, and nothing is loaded again", { unreachable: true }, async ({ server, page }) => {
  await day(server);
  await behind(server, async (front) => {
    const lists = [];
    const resumed = [];
    page.on("request", (request) => {
      const { pathname } = new URL(request.url());
      if (pathname === "/api/sessions") lists.push(pathname);
      if (pathname === "/api/events") resumed.push(request.headers()["last-event-id"]);
    });
    await page.goto(front.url);
    await live(page);
    await server.report({ session_topic: "login", message: "before" });
    await row(page, "Fix the login page").getByText("before").waitFor();
    front.to(null);
    await page.getByText("Not live").waitFor();
    await server.report({ session_topic: "login", message: "meanwhile" });
    const known = lists.length;
    front.to(server);
    await row(page, "Fix the login page").getByText("meanwhile").waitFor();
    assert.ok(resumed.at(-1), `the last id was ${resumed.at(-1)}`);
    assert.equal(lists.length, known, "the list was loaded again");
  });
});

scenario("a session whose server has forgotten it stays to be read, and goes on with its next report", { unreachable: true, refused: [404] }, async ({ server, page, context, start }) => {
  await day(server);
  await behind(server, async (front) => {
    const agent = await context.newPage();
    await agent.goto(`${front.url}/agents/alice-laptop`);
    await agent.locator(".row").first().waitFor();
    await page.goto(`${front.url}/sessions/alice-laptop/login`);
    await page.getByText("Read: login.tsx").waitFor();
    await live(page);
    await server.stop();
    const next = await start();
    front.to(next);
    for (const tab of [page, agent]) await tab.getByText("The server no longer has this").waitFor();
    await page.getByText("Read: login.tsx").waitFor();
    await next.report({ session_topic: "login", message: "after the restart" });
    await page.getByRole("listitem").getByText("after the restart").waitFor();
    await row(agent, "login").waitFor();
    for (const tab of [page, agent]) await tab.getByText("The server no longer has this").waitFor({ state: "hidden" });
  });
});

scenario("however much comes at once, what was read of a session stays", {}, async ({ server, page }) => {
  const report = (message, fields) => server.report({ session_topic: "long", session_title: "A long one", message, ...fields });
  await report("the very first", { status: "pending" });
  for (let number = 0; number < 200; number++) await report(`step ${number}`);
  await page.goto("/sessions/alice-laptop/long");
  await page.getByRole("button", { name: "Show earlier" }).click();
  await page.getByText("the very first").waitFor();
  await live(page);
  const burst = Promise.withResolvers();
  await page.route(/\/sessions\/long\?/, async (route) => {
    await burst.promise;
    await route.continue();
  });
  for (let number = 200; number < 230; number++) await report(`step ${number}`);
  await report("the very last", { status: "failed" });
  burst.resolve();
  await page.getByRole("listitem").getByText("the very last").waitFor();
  await page.getByText("229 more steps").waitFor();
  await page.getByText("the very first").waitFor();
});

scenario("where there is no stream the page asks again, and is answered with little", { refused: [501] }, async ({ server, page }) => {
  await day(server);
  await withoutStream(page);
  const answers = [];
  page.on("response", (response) => response.url().includes("/api/sessions?") && answers.push(response.status()));
  await page.goto("/");
  await page.getByText("Every few seconds").waitFor();
  await until("an answer without a body", () => answers.includes(304));
  await server.report({ session_topic: "login", message: "asked for" });
  await row(page, "Fix the login page").getByText("asked for").waitFor();
});

scenario("a page that asks misses nothing of what came meanwhile, however much it was", { refused: [501], unreachable: true }, async ({ server, page }) => {
  await day(server);
  await withoutStream(page);
  await page.goto("/");
  await page.getByText("Every few seconds").waitFor();
  await page.route("/api/sessions?**", (route) => route.abort());
  await page.getByText("Not live").waitFor();
  await server.report({ session_topic: "login", message: "the first of many" });
  for (let number = 0; number < 220; number++) await server.report({ session_topic: `task ${number}`, status: "success" });
  await page.unroute("/api/sessions?**");
  await page.getByRole("button", { name: /221 Done/ }).waitFor();
  await row(page, "Fix the login page").getByText("the first of many").waitFor();
});

scenario("where tabs cannot agree on one stream, none is read", {}, async ({ server, page, context }) => {
  await day(server);
  const streams = [];
  context.on("request", (request) => request.url().endsWith("/api/events") && streams.push(request.url()));
  await context.addInitScript(() => delete Navigator.prototype.locks);
  const second = await context.newPage();
  for (const tab of [page, second]) {
    await tab.goto("/");
    await tab.getByText("Every few seconds").waitFor();
  }
  await server.report({ session_topic: "login", message: "asked for by both" });
  for (const tab of [page, second]) await row(tab, "Fix the login page").getByText("asked for by both").waitFor();
  assert.deepEqual(streams, []);
});

scenario("without a network the page says so, opens all the same, and catches up", { unreachable: true }, async ({ server, page, context }) => {
  await day(server);
  await page.goto("/");
  await row(page, "Fix the login page").waitFor();
  await live(page);
  await complete(page);
  await context.setOffline(true);
  await server.report({ session_topic: "login", message: "while you were away" });
  await page.reload();
  await page.getByText("Not live").waitFor();
  for (const name of ["Board", "Activity"]) {
    await page.getByRole("navigation").getByRole("link", { name }).click();
    await page.getByRole("heading", { level: 1, name }).waitFor();
  }
  await page.getByRole("navigation").getByRole("link", { name: "Settings" }).click();
  await page.getByRole("heading", { name: "Cannot reach the server" }).waitFor();
  await context.setOffline(false);
  await page.getByRole("heading", { level: 1, name: "Settings" }).waitFor();
  await page.getByRole("navigation").getByRole("link", { name: "Overview" }).click();
  await row(page, "Fix the login page").getByText("while you were away").waitFor();
  await live(page);
  assert.deepEqual((await kept(page)).filter((path) => path !== "/" && path !== "/manifest.webmanifest" && !path.startsWith("/assets/")), []);
});

scenario("a tab that is open while the server is upgraded goes on as it is, and is new when it is loaded again", {}, async ({ server, page, context }) => {
  await day(server);
  await behind(server, async (front) => {
    const version = (tab) => tab.locator("script[type=module]").getAttribute("src");
    await page.goto(front.url);
    await row(page, "Fix the login page").waitFor();
    await complete(page);
    await page.evaluate(() => (globalThis.isSame = true));
    const before = await version(page);
    await front.upgrade();
    const other = await context.newPage();
    await other.goto(front.url);
    await row(other, "Fix the login page").waitFor();
    assert.notEqual(await version(other), before);
    await until("a new worker that waits", () => other.evaluate(async () => Boolean((await navigator.serviceWorker.ready).waiting)));
    // The texts of the other language are loaded only now.
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByLabel("中文").check();
    await page.getByRole("link", { name: "看板" }).waitFor();
    assert.equal(await page.evaluate(() => globalThis.isSame), true, "the page was loaded again");
    await page.reload();
    await row(page, "Fix the login page").waitFor();
    assert.notEqual(await version(page), before);
  });
});

scenario("a view that the server has no longer in this version is shown in the next", { refused: [404] }, async ({ server, page }) => {
  // Without what it keeps: as in a private window.
  await page.addInitScript(() => delete Navigator.prototype.serviceWorker);
  await day(server);
  await behind(server, async (front) => {
    await page.goto(front.url);
    await row(page, "Fix the login page").waitFor();
    await front.upgrade();
    await page.getByRole("link", { name: "Board" }).click();
    await page.getByRole("heading", { level: 1, name: "Board" }).waitFor();
    assert.match(await page.locator("script[type=module]").getAttribute("src"), /0123456789abcdef/);
  });
});

scenario("a person is told what they asked to be told", { context: { permissions: ["notifications"] } }, async ({ server, page }) => {
  await page.addInitScript(() => {
    globalThis.told = [];
    globalThis.Notification = class {
      static permission = "granted";
      static requestPermission = async () => "granted";
      constructor(title, { body }) {
        globalThis.told.push(`${title}: ${body}`);
      }
    };
    document.hasFocus = () => false;
  });
  await day(server);
  await page.goto("/");
  await live(page);
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("Browser notifications").check();
  await page.keyboard.press("Escape");
  const told = () => page.evaluate(() => globalThis.told);
  await server.report({ session_topic: "parent", status: "pending", reason: "question", message: "which one?" });
  await until("a notification", async () => (await told()).length === 1);
  // A turn that is over is told only to who asks for it, and a run without a person waits for nobody.
  await server.report({ session_topic: "child", status: "success", reason: "turn" });
  await server.report({ agent_id: "ci", session_topic: "nightly", status: "pending" });
  await server.report({ agent_id: "codex", session_topic: "docs", status: "failed", reason: "crashed" });
  await until("a second notification", async () => (await told()).length === 2);
  await server.report({ agent_id: "ci", session_topic: "nightly", status: "failed" });
  await server.report({ session_topic: "hidden", session_title: "\u200b\u2060", status: "pending", message: "safe\u202egnp.exe" });
  await until("the last notification", async () => (await told()).length === 4);
  assert.deepEqual(await told(), [
    "Speed up the search: Has a question\nwhich one?",
    "Write the guide: Failed: Crashed",
    "Nightly lint: Failed",
    "��: Waiting for you\nsafe�gnp.exe",
  ]);
});
