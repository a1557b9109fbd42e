// Settings of an account.

import assert from "node:assert/strict";
import { createServer } from "node:http";

import { fill, logIn, look, scenario } from "../browser.mjs";
import { PASSWORD } from "../server.mjs";

const REQUIRED = { AUTH_MODE: "required" };
const EMAIL = "ann@example.com";

const alert = (page, words) => page.getByRole("alert").filter({ hasText: words }).waitFor();

scenario("a key is made, shown once with what an agent needs, works, and is revoked", { variables: REQUIRED, context: { permissions: ["clipboard-read", "clipboard-write"] } }, async ({ server, page }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  await page.getByRole("link", { name: "Settings" }).click();
  await page.getByRole("link", { name: "API keys" }).click();
  await page.getByText("No API keys yet.").waitFor();
  await fill(page, { Name: "Laptop <b>" });
  await page.getByLabel("Read").check();
  await page.getByLabel("Expires").selectOption("30");
  await page.getByRole("button", { name: "Create key" }).click();
  await page.getByRole("heading", { name: "Your new API key" }).waitFor();
  await page.getByRole("button", { name: "Copy" }).first().click();
  const key = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(key, /^[\w-]{43}=$/);
  await page.getByText(`kubeagents setup --url ${server.url} --key ${key}`).waitFor();
  await look(page, "keys");
  await server.report({}, key);
  const row = page.getByRole("listitem").filter({ hasText: "Laptop <b>" });
  await row.getByText("Report, Read").waitFor();
  await row.getByRole("button", { name: "Revoke Laptop <b>" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await row.waitFor({ state: "detached" });
  await assert.rejects(server.report({}, key), /401/);
  await page.reload();
  await page.getByText("No API keys yet.").waitFor();
  assert.equal(await page.getByText(key).count(), 0);
});

scenario("a key needs something that it may do", { variables: REQUIRED, refused: [400] }, async ({ server, page }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  await page.goto("/settings/keys");
  await fill(page, { Name: "Laptop" });
  await page.getByLabel("Report").uncheck();
  await page.getByRole("button", { name: "Create key" }).click();
  await alert(page, "Choose at least one permission.");
});

scenario("the plain webhook is set, refused and cleared", { variables: REQUIRED, refused: [400] }, async ({ server, page }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  await page.goto("/settings/account");
  const save = page.getByRole("button", { name: "Save" });
  await fill(page, { URL: "ftp://example.com" });
  await save.click();
  await alert(page, "notification_webhook_url");
  await fill(page, { URL: "https://example.com/hook" });
  await save.click();
  await page.getByText("Saved").first().waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Plain webhook" }).waitFor();
  assert.equal(await page.getByLabel("URL").inputValue(), "https://example.com/hook");
  await look(page, "account");
});

scenario("a changed password keeps this browser in, and is the one that counts", { variables: REQUIRED }, async ({ server, page }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  await page.goto("/settings/account");
  const form = page.locator("form").filter({ hasText: "New password" });
  await form.getByLabel("Current password").fill("not the password");
  await form.getByLabel("New password").fill("another horse battery");
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(new URL(request.url()).pathname));
  await form.getByRole("button").click();
  await alert(page, "Your current password is wrong.");
  // Each try counts.
  assert.deepEqual(sent, ["/api/auth/password"]);
  await form.getByLabel("Current password").fill(PASSWORD);
  await form.getByRole("button").click();
  await page.getByText("Your password has been changed.").waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Plain webhook" }).waitFor();
  await assert.rejects(server.send("POST", "/api/auth/login", { body: { email: EMAIL, password: PASSWORD } }), /401/);
  await server.send("POST", "/api/auth/login", { body: { email: EMAIL, password: "another horse battery" } });
});

scenario("a deleted account is gone", { variables: REQUIRED }, async ({ server, page }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  await page.goto("/settings/account");
  const form = page.locator("form").filter({ hasText: "Delete account" });
  await form.getByLabel("Current password").fill(PASSWORD);
  await form.getByRole("button").click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await form.getByRole("button").click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete account" }).click();
  await page.waitForURL(/\/login/);
  await assert.rejects(server.send("POST", "/api/auth/login", { body: { email: EMAIL, password: PASSWORD } }), /401/);
});

scenario("a channel is added, tested, looked at, changed, turned off and deleted", {}, async ({ page }) => {
  const received = [];
  const receiver = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8");
    request.on("data", (piece) => (text += piece)).on("end", () => received.push(text));
    response.end("ok");
  });
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  try {
    await page.goto("/settings/channels");
    await page.getByText("No channels yet.").waitFor();
    const secret = "very-secret-path";
    await fill(page, { Name: "Phone", URL: `http://127.0.0.1:${receiver.address().port}/${secret}` });
    await page.getByRole("button", { name: "Add channel" }).click();
    const channel = page.getByRole("listitem").filter({ hasText: "Phone" });
    await channel.getByRole("button", { name: "Send a test" }).click();
    await channel.getByText("The test was delivered.").waitFor();
    assert.equal(received.length, 1);
    assert.equal(await page.getByText(secret).count(), 0, "the address is shown");
    await channel.getByRole("button", { name: "Deliveries" }).click();
    await channel.getByText("Nothing has been sent yet.").waitFor();
    await look(page, "channels");
    await channel.getByRole("button", { name: "Edit" }).click();
    await channel.getByLabel("Name", { exact: true }).fill("Phone of Ann");
    await channel.getByRole("button", { name: "Save" }).click();
    await page.getByText("Phone of Ann").waitFor();
    await channel.getByRole("button", { name: "Turn off" }).click();
    await channel.getByText("Turned off").waitFor();
    await channel.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await page.getByText("No channels yet.").waitFor();
  } finally {
    receiver.close();
  }
});

scenario("the audit shows who tried to log in, what changed, and from where", { variables: REQUIRED }, async ({ server, page }) => {
  const { token } = await server.account(EMAIL);
  await assert.rejects(server.send("POST", "/api/auth/login", { body: { email: EMAIL, password: "a guess" } }), /401/);
  await logIn(page, EMAIL);
  for (let n = 1; n <= 50; n++) {
    const name = n === 1 ? "Laptop <b>" : `Key ${n}`;
    await server.send("POST", "/api/apikeys", { body: { name }, token });
  }
  await page.goto("/settings");
  await page.getByRole("link", { name: "Audit log" }).click();
  const row = (words) => page.getByRole("listitem").filter({ hasText: words });
  await row("API key created: Key 50").getByText("127.0.0.1").waitFor();
  await look(page, "audit");
  assert.equal(await row("Login failed").count(), 0);
  await page.getByRole("button", { name: "Show older entries" }).click();
  await row("Login failed: wrong password").getByText("with the password").waitFor();
  await row("Logged in").filter({ hasText: "Chrome" }).getByText("127.0.0.1").waitFor();
  assert.ok(await page.getByRole("button", { name: "Show older entries" }).isHidden());
});

scenario("an open server says what an account is for", {}, async ({ page }) => {
  await page.goto("/settings/account");
  await page.getByText("This server is open").waitFor();
  await look(page, "settings-open");
});

scenario("settings are there in Chinese, in the dark and on a phone", { variables: REQUIRED, context: { locale: "zh-CN", colorScheme: "dark", viewport: { width: 390, height: 844 } } }, async ({ server, page }) => {
  await server.account(EMAIL);
  await page.goto("/login");
  await fill(page, { 邮箱: EMAIL, 密码: PASSWORD });
  await look(page, "login-zh");
  await page.getByRole("button", { name: "登录" }).click();
  await page.getByRole("link", { name: "设置" }).click();
  await page.getByRole("heading", { name: "新建通知渠道" }).waitFor();
  await look(page, "channels-zh");
  await page.getByRole("link", { name: "账户" }).click();
  await page.getByRole("heading", { name: "普通 Webhook" }).waitFor();
  await look(page, "account-zh");
  await page.getByRole("link", { name: "API 密钥" }).click();
  await page.getByRole("heading", { name: "新建 API 密钥" }).waitFor();
  await look(page, "keys-zh");
  await page.getByRole("link", { name: "审计日志" }).click();
  await page.getByText("使用密码").first().waitFor();
  await look(page, "audit-zh");
});
