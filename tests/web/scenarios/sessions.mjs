// What a person sees of sessions, and does with them.

import assert from "node:assert/strict";

import { look, scenario } from "../browser.mjs";
import { day, row } from "../day.mjs";
import { until } from "../server.mjs";

const VIEWS = [
  ["/", "overview"],
  ["/?group=repo", "overview-groups"],
  ["/board", "board"],
  ["/activity", "activity"],
  ["/sessions/alice-laptop/login", "session"],
  ["/sessions/codex/broken", "session-failed"],
  ["/agents/alice-laptop", "agent"],
];

for (const [name, context] of Object.entries({
  light: {},
  dark: { colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true },
  chinese: { locale: "zh-CN" },
})) {
  scenario(`every view can be used by everyone: ${name}`, { context }, async ({ server, page }) => {
    await day(server);
    for (const [path, view] of VIEWS) {
      await page.goto(path);
      await page.getByText("Fix the login page").or(page.getByText("Upgrade the parser")).first().waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.equal(wide, false, `${view} is wider than the screen`);
      await look(page, `${view}-${name}`);
    }
  });
}

scenario("a report changes its own row and no other, without a reload", {}, async ({ server, page }) => {
  await day(server);
  await page.goto("/");
  await row(page, "Speed up the search").waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  await page.evaluate(() => document.querySelectorAll(".row").forEach((node) => (node.mine = node.querySelector("h3").textContent)));
  await server.report({ session_topic: "parent", message: "Edit: index.rs" });
  await row(page, "Speed up the search").getByText("Edit: index.rs").waitFor();
  const kept = await page.evaluate(() => [...document.querySelectorAll(".row")].every((node) => node.mine === node.querySelector("h3").textContent));
  assert.ok(kept, "rows were made again");
  await server.report({ session_topic: "parent", status: "pending", reason: "question", message: "which index?" });
  await row(page, "Speed up the search").getByText("Has a question").waitFor();
  await until("the new count in the title", async () => (await page.title()).startsWith("(3) "));
  assert.match(await page.locator("link[rel=icon]").getAttribute("href"), /^data:image\/png/);
});

scenario("who visits first learns how to begin, and sees the first report arrive", {}, async ({ server, page }) => {
  await page.goto("/");
  await page.getByRole("heading", { name: "Connect your first agent" }).waitFor();
  await page.getByText(`kubeagents setup --url ${server.url}`).waitFor();
  await look(page, "welcome");
  await server.report({ session_title: "My first session" });
  await row(page, "My first session").waitFor();
  assert.equal(await page.getByText("Connect your first agent").count(), 0);
});

scenario("whatever is reported stays text", {}, async ({ server, page }) => {
  const hostile = {
    html: "<img src=x onerror=alert(1)><script>alert(2)</script>\"><svg onload=alert(3)>",
    address: "javascript:alert(4)",
    direction: "safe\u202egnp.exe\u2066\u200f",
    controls: "bell\u0007 \u001b[31mred\u001b[0m \u0085",
    long: "x".repeat(10_000),
    marks: `Z${"\u0301\u0353\u0322".repeat(30)}algo`,
    braces: "{{7*7}} ${7*7} {n}",
  };
  page.on("dialog", (dialog) => assert.fail(`a dialog says ${dialog.message()}`));
  for (const [name, text] of Object.entries(hostile)) {
    const cut = (length) => text.slice(0, length);
    await server.report({
      agent_id: `${name} ${cut(80)}`,
      agent_name: cut(200),
      agent_source: cut(200),
      session_topic: `${name} ${cut(400)}`,
      session_title: cut(200),
      status: "pending",
      reason: name,
      message: cut(1000),
      content: cut(10_000),
      context: Object.fromEntries(["host", "cwd", "repo", "branch", "tool", "model", "pr", "user", "parent", "else"].map((key) => [key, cut(200)])),
    });
    const agent = encodeURIComponent(`${name} ${cut(80)}`);
    const topic = encodeURIComponent(`${name} ${cut(400)}`);
    for (const path of ["/", "/?group=repo", "/board", "/activity", `/agents/${agent}`, `/sessions/${agent}/${topic}`]) {
      await page.goto(path);
      await page.locator(".row, .card, .moment, .step").first().waitFor();
      const found = await page.evaluate(() => ({
        made: document.querySelectorAll("main img, main script, main iframe, main svg svg").length,
        links: [...document.querySelectorAll("a[href]")].map((link) => new URL(link.getAttribute("href"), location).protocol).filter((protocol) => !/^https?:$/.test(protocol)),
        hidden: /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200f\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent + document.title),
        wide: document.documentElement.scrollWidth > innerWidth,
      }));
      assert.deepEqual(found, { made: 0, links: [], hidden: false, wide: false }, `${name} at ${path}`);
    }
  }
  await page.goto("/?search=script");
  await page.getByRole("article").getByText("<script>alert(2)</script>").first().waitFor();
});

scenario("the keyboard is enough", {}, async ({ server, page }) => {
  await day(server);
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  await page.goto("/");
  await row(page, "Fix the login page").waitFor();
  await page.keyboard.press("j");
  assert.equal(await focused(), "Fix the login page");
  await page.keyboard.press("j");
  assert.equal(await focused(), "Upgrade the parser");
  await page.keyboard.press("k");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Fix the login page" }).waitFor();
  await until("the focus on the heading", async () => (await focused()) === "Fix the login page");
  for (const [key, heading] of [["b", "Board"], ["a", "Activity"], ["o", "Overview"]]) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await page.getByRole("heading", { level: 1, name: heading }).waitFor();
  }
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("/");
  await page.keyboard.type("guide");
  await row(page, "Fix the login page").waitFor({ state: "detached" });
  assert.equal(new URL(page.url()).search, "?search=guide");
  await page.keyboard.press("Escape");
  await row(page, "Fix the login page").waitFor();
  assert.equal(new URL(page.url()).search, "");
});

scenario("what is filtered stands in the address", {}, async ({ server, page }) => {
  await day(server);
  await page.goto("/");
  await row(page, "Fix the login page").waitFor();
  await page.getByRole("combobox", { name: "Repository", exact: true }).selectOption("acme/docs");
  await row(page, "Fix the login page").waitFor({ state: "detached" });
  await page.getByRole("button", { name: /Needs you/ }).click();
  await page.getByRole("heading", { name: "No matching sessions" }).waitFor();
  assert.equal(new URL(page.url()).search, "?repo=acme%2Fdocs&status=needs");
  await page.reload();
  await page.getByRole("heading", { name: "No matching sessions" }).waitFor();
  await page.goBack();
  await row(page, "Write the guide").waitFor();
  await page.getByRole("button", { name: "Clear filters" }).click();
  await row(page, "Fix the login page").waitFor();
  await page.getByRole("combobox", { name: "Group by", exact: true }).selectOption("Agent");
  await page.getByRole("heading", { level: 2, name: /alice-laptop/ }).waitFor();
  // What an address says that means nothing chooses nothing.
  await page.goto("/?group=constructor&status=toString&workspace=__proto__");
  await page.getByRole("heading", { level: 2, name: /Needs you/ }).waitFor();
});

scenario("what is named like a step of a path is reached as everything else", {}, async ({ server, page }) => {
  await server.report({ agent_id: "..", session_topic: ".", session_title: "A dot", message: "the first" });
  await server.report({ agent_id: "..", session_topic: "..", session_title: "Two dots", message: "the other" });
  for (const path of ["/", "/board"]) {
    await page.goto(path);
    await page.getByRole("link", { name: "A dot", exact: true }).waitFor();
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    await page.keyboard.press("k");
    await until("the first link to have the focus", () => page.evaluate(() => document.activeElement === document.querySelector(".row-link")));
  }
  await page.getByRole("link", { name: "A dot", exact: true }).click();
  await page.getByRole("listitem").getByText("the first").waitFor();
  await page.reload();
  await page.getByRole("listitem").getByText("the first").waitFor();
  await server.report({ agent_id: "..", session_topic: ".", message: "the next" });
  await page.getByRole("listitem").getByText("the next").waitFor();
  await page.getByRole("link", { name: "..", exact: true }).click();
  await page.getByRole("heading", { level: 2, name: "Sessions over time" }).waitFor();
  await page.reload();
  await page.getByRole("article").getByRole("link", { name: "Two dots" }).click();
  await page.getByRole("listitem").getByText("the other").waitFor();
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "..", exact: true }).waitFor();
});

scenario("subsessions stand under their parent, and headless ones fold", {}, async ({ server, page }) => {
  await day(server);
  await page.goto("/");
  await row(page, "Speed up the search").waitFor();
  const titles = () => page.locator(".row h3").allTextContents();
  const shown = await titles();
  assert.equal(shown[shown.findIndex((title) => title.startsWith("Speed up")) + 1].startsWith("Profile the tokenizer"), true);
  assert.ok(!shown.some((title) => title.startsWith("Nightly")));
  // What needs a person is not folded away.
  await server.report({ agent_id: "ci", session_topic: "nightly", status: "failed" });
  await row(page, "Nightly lint").waitFor();
  await server.report({ agent_id: "ci", session_topic: "nightly" });
  await row(page, "Nightly lint").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "1 headless session" }).click();
  await row(page, "Nightly lint").waitFor();
  await server.report({ session_topic: "child", status: "pending", reason: "question" });
  await until("the child among what needs a person", async () => (await titles()).findIndex((title) => title.startsWith("Profile")) < 3);
});

scenario("a session tells its story, and goes on telling it", { context: { permissions: ["clipboard-read", "clipboard-write"] } }, async ({ server, page }) => {
  await day(server);
  await page.goto("/sessions/codex/broken");
  await page.getByText("Failed: Rate limit").first().waitFor();
  const text = page.getByText("at line 1").first();
  assert.equal(await text.isVisible(), false);
  await page.getByText("Details").click();
  await text.waitFor();
  await page.getByRole("button", { name: "Copy as Markdown" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(copied, /^# Upgrade the parser\n/);
  assert.match(copied, /\*\*failed\*\* \(rate_limit\)/);
  await server.report({ agent_id: "codex", session_topic: "broken", message: "trying again" });
  await page.getByRole("listitem").getByText("trying again").waitFor();
  await page.getByText("Silent in").waitFor();
  const left = page.locator(".countdown time");
  const before = await left.textContent();
  await until("a countdown that moves", async () => (await left.textContent()) !== before);
  await page.getByRole("button", { name: "Mute", exact: true }).click();
  await page.goto("/");
  await row(page, "Upgrade the parser").getByText("Muted").waitFor();
});

scenario("the time axis is moved and zoomed, as far as there is something to be seen", {}, async ({ server, page }) => {
  await day(server);
  // The first status is forty minutes old, and half an hour is shown.
  await page.route("/api/agents/alice-laptop/history?**", async (route) => {
    const response = await route.fetch();
    const body = await response.json();
    const first = body.status_history.at(-1);
    if (first) first.timestamp = new Date(Date.parse(first.timestamp) - 40 * 60_000).toISOString();
    await route.fulfill({ response, json: body });
  });
  await page.goto("/agents/alice-laptop");
  const canvas = page.getByRole("group", { name: "Sessions over time" });
  await canvas.locator("rect.bar").first().waitFor();
  const present = () => canvas.evaluate((svg) => svg.querySelector(".axis-now")?.x1.baseVal.value ?? Infinity);
  // What a line stands for changes with the time, the distance of lines only with the zoom.
  const distance = () =>
    canvas.evaluate((svg) => {
      const [first, second] = [...svg.querySelectorAll(".axis-line")].map((line) => line.x1.baseVal.value);
      return Math.round(second - first);
    });
  const press = async (key, times = 1) => {
    for (let time = 0; time < times; time++) await page.keyboard.press(key);
  };
  const x = await present();
  const isBack = async () => Math.abs((await present()) - x) < 2;
  await canvas.focus();
  await press("ArrowLeft");
  await until("the axis to move", async () => (await present()) > x + 10);
  // There is nothing before the first bar, and nothing after the present.
  const left = () =>
    canvas.evaluate((svg) => Math.min(...[...svg.querySelectorAll("rect.bar")].map((bar) => bar.x.baseVal.value)) / svg.clientWidth);
  await press("ArrowLeft", 12);
  await until("the first bar to stop near the left edge", async () => Math.abs((await left()) - 0.1) < 0.01);
  await press("ArrowRight", 20);
  await until("the present to stop where it was", isBack);
  const before = await distance();
  await press("-", 4);
  await until("another zoom", async () => (await distance()) !== before);
  await press("0");
  await until("what was to be seen at first", async () => (await isBack()) && (await distance()) === before);
  const box = await canvas.boundingBox();
  await page.mouse.move(box.x + 300, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + 500, box.y + 40, { steps: 4 });
  await page.mouse.up();
  await until("the axis to follow the mouse", async () => (await present()) > x + 100);
  assert.equal(new URL(page.url()).pathname, "/agents/alice-laptop");
});

scenario("thousands of sessions cost no more than those on the screen", {}, async ({ server, page }) => {
  const total = 3000;
  let next = 0;
  const report = async () => {
    while (next < total) {
      const number = next++;
      await server.report({ agent_id: `agent-${number % 40}`, session_topic: `task ${number}`, status: "success", message: "done" });
    }
  };
  await Promise.all(Array.from({ length: 16 }, report));
  await page.goto("/");
  await page.getByRole("button", { name: /3,000 Done/ }).waitFor();
  const rows = () => page.getByRole("article").count();
  assert.ok((await rows()) < 60, `${await rows()} rows exist`);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await row(page, "task 0").or(row(page, "task 15")).first().waitFor();
  assert.ok((await rows()) < 60, `${await rows()} rows exist`);
  await page.evaluate(() => scrollTo(0, 40_000));
  const first = () => page.evaluate(() => document.elementFromPoint(innerWidth / 2, innerHeight / 2).closest(".row")?.textContent.replace(/\d+ (s|min)$/, ""));
  await until("rows in the middle", first);
  const before = await first();
  // What is on the screen stays there when something comes above it.
  await server.report({ session_topic: "above", status: "pending" });
  await until("the new count", async () => (await page.title()).startsWith("(1) "));
  assert.equal(await first(), before);
});

scenario("a page that is open for long keeps nothing of what is gone", {}, async ({ server, page, context }) => {
  await day(server);
  const session = await context.newCDPSession(page);
  await session.send("Performance.enable");
  const measure = async () => {
    await session.send("HeapProfiler.collectGarbage");
    const { metrics } = await session.send("Performance.getMetrics");
    const of = (name) => metrics.find((metric) => metric.name === name).value;
    return { nodes: of("Nodes"), listeners: of("JSEventListeners") };
  };
  const visit = async () => {
    for (const name of ["Board", "Activity", "Overview"]) {
      await page.getByRole("navigation").getByRole("link", { name }).click();
      await page.getByRole("heading", { level: 1, name }).waitFor();
      if (name === "Overview") continue;
      await page.getByRole("link", { name: "Fix the login page" }).first().click();
      await page.getByRole("heading", { level: 1, name: "Fix the login page" }).waitFor();
      await page.getByRole("link", { name: "alice-laptop" }).click();
      await page.getByRole("heading", { level: 1, name: "alice-laptop" }).waitFor();
    }
    await row(page, "Fix the login page").waitFor();
  };
  await page.goto("/");
  await visit();
  await visit();
  const before = await measure();
  for (let round = 0; round < 6; round++) {
    for (let number = 0; number < 50; number++) await server.report({ session_topic: "login", message: `step ${round}-${number}` });
    await visit();
  }
  await row(page, "Fix the login page").getByText("step 5-49").waitFor();
  const after = await measure();
  assert.ok(after.listeners <= before.listeners + 5, JSON.stringify({ before, after }));
  assert.ok(after.nodes <= before.nodes * 1.3, JSON.stringify({ before, after }));
});
