// The page opens, and what it is made of.

import assert from "node:assert/strict";

import { look, scenario } from "../browser.mjs";

scenario("the page shows a session, and its next status without being loaded again", { anywhere: true }, async ({ server, page }) => {
  const topic = `shell ${Date.now()}`;
  const report = (status, message) => server.report({ session_topic: topic, session_title: topic, status, message });
  await report("running", "reading the code");
  await page.goto("/");
  const row = page.locator(".row").filter({ hasText: topic });
  await row.getByText("reading the code").waitFor();
  await report("pending", "may I delete it?");
  await row.getByText("may I delete it?").waitFor();
  await look(page, "overview");
});

scenario("an address is shown again when it is loaded again", { anywhere: true }, async ({ server, page }) => {
  await server.report({ agent_id: "a/b", session_topic: "50% & more", session_title: "Half of it" });
  await page.goto(`/sessions/${encodeURIComponent("a/b")}/${encodeURIComponent("50% & more")}`);
  await page.getByRole("heading", { name: "Half of it" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Half of it" }).waitFor();
});

scenario("an address that names nothing says so", { anywhere: true }, async ({ page }) => {
  await page.goto("/settings/nothing");
  await page.getByRole("heading", { name: "There is nothing at this address" }).waitFor();
});

scenario("the modules of the first view are asked for by the page itself", {}, async ({ server, page }) => {
  // It would load the other views, for when there is no network.
  await page.addInitScript(() => delete Navigator.prototype.serviceWorker);
  await server.report({});
  const asked = [];
  page.on("request", (request) => request.resourceType() === "script" && asked.push(request.url()));
  await page.goto("/");
  await page.locator(".row").waitFor();
  const listed = await page
    .locator("link[rel=modulepreload], script[src]")
    .evaluateAll((nodes) => nodes.map((node) => node.href || node.src));
  // The texts of the person's language are known only in the browser.
  const unlisted = asked.filter((address) => !listed.includes(address) && !address.includes("/texts/"));
  assert.deepEqual(unlisted, []);
});

scenario("the first view is small", {}, async ({ server, page }) => {
  // It would load the other views, for when there is no network.
  await page.addInitScript(() => delete Navigator.prototype.serviceWorker);
  await server.report({});
  const answers = [];
  page.on("response", (answer) => answers.push(answer));
  await page.goto("/");
  await page.locator(".row").waitFor();
  const files = answers.filter((answer) => !new URL(answer.url()).pathname.startsWith("/api/"));
  let bytes = 0;
  for (const file of files) bytes += (await file.request().sizes()).responseBodySize;
  assert.ok(files.length > 10 && bytes < 60_000, `the first view takes ${bytes} bytes in ${files.length} files`);
  console.log(`the first view takes ${bytes} bytes in ${files.length} files`);
});

scenario("a page whose files are not found, as below a path of a proxy, says so", { unreachable: true }, async ({ page }) => {
  // It would have them.
  await page.addInitScript(() => delete Navigator.prototype.serviceWorker);
  const words = page.getByText("The files of this page are not where it looks for them.");
  await page.goto("/");
  await page.getByRole("banner").waitFor();
  assert.equal(await words.isVisible(), false);
  await page.route("**/assets/**", (route) => route.abort());
  await page.goto("/board");
  await words.waitFor();
});
