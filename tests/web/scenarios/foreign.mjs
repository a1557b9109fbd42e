// Pages of other sites, which a person's browser shows as well.

import assert from "node:assert/strict";

import { scenario } from "../browser.mjs";

const FOREIGN = "https://evil.example/";

scenario("in open mode a page of another site changes nothing", { refused: [403] }, async ({ server, page, context }) => {
  // Chromium asks first, other browsers do not.
  await context.grantPermissions(["local-network-access"], { origin: FOREIGN });
  await page.route(FOREIGN, (route) => route.fulfill({ contentType: "text/html", body: "<h1>Evil</h1>" }));
  await page.goto(FOREIGN);
  for (const [path, body] of [
    ["/webhook/status", { agent_id: "a", session_topic: "t", status: "failed", timestamp: new Date().toISOString() }],
    ["/api/auth/register", { email: "eve@example.com", password: "correct horse battery" }],
    ["/api/channels", { name: "theirs", url: "https://evil.example/", events: ["waiting"] }],
  ]) {
    const answered = page.waitForResponse(server.url + path);
    // Without a preflight, as a form would send it.
    const send = ([url, text]) => fetch(url, { method: "POST", mode: "no-cors", body: text }).then(() => true);
    await page.evaluate(send, [server.url + path, JSON.stringify(body)]);
    assert.equal((await answered).status(), 403, path);
  }
  assert.deepEqual((await server.send("GET", "/api/agents")).agents, []);
  assert.deepEqual((await server.send("GET", "/api/channels")).channels, []);
});
