// Making an account, coming in and going out.

import assert from "node:assert/strict";

import { fill, logIn, look, scenario } from "../browser.mjs";
import { row } from "../day.mjs";
import { PASSWORD, until } from "../server.mjs";

const REQUIRED = { AUTH_MODE: "required" };
const EMAIL = "ann@example.com";

const overview = (page) => page.getByRole("heading", { name: "Connect your first agent" }).waitFor();
const alert = (page, words) => page.getByRole("alert").filter({ hasText: words }).waitFor();

scenario("a person registers, follows the link and is logged in, also after a reload", { variables: REQUIRED }, async ({ server, page }) => {
  await page.goto("/board");
  await page.waitForURL(/\/login\?next=/);
  await look(page, "login");
  await page.getByRole("link", { name: "Create an account" }).click();
  await fill(page, { Name: "Ann", Email: EMAIL, Password: PASSWORD });
  await look(page, "register");
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByText(`We sent an email to ${EMAIL}`).waitFor();
  await page.getByRole("button", { name: "Send the link again" }).click();
  await page.getByText("a new email is on its way").waitFor();
  await page.goto(`/verify?token=${await server.token("verify", EMAIL)}`);
  await page.getByRole("button", { name: "Verify and log in" }).click();
  await overview(page);
  await page.reload();
  await overview(page);
});

scenario("a wrong password is said to be one, and the right one leads to where the person wanted to go", { variables: REQUIRED }, async ({ server, page }) => {
  await server.account(EMAIL);
  await page.goto("/settings/keys");
  await page.waitForURL(/\/login\?next=/);
  await fill(page, { Email: EMAIL, Password: "not the password" });
  await page.getByRole("button", { name: "Log in" }).click();
  await alert(page, "Wrong email or password.");
  await fill(page, { Password: PASSWORD });
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("**/settings/keys");
  await page.getByRole("heading", { name: "New API key" }).waitFor();
});

scenario("after the log-in a link leads only to where it may", { variables: REQUIRED }, async ({ server, page }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  for (const [next, address] of [
    ["/board?agent=codex", "/board?agent=codex"],
    ["//elsewhere.example/board", "/"],
    ["/\\elsewhere.example", "/"],
    ["https://elsewhere.example/", "/"],
    ["javascript:alert(1)", "/"],
    ["/.//elsewhere.example", "/elsewhere.example"],
  ]) {
    await page.goto(`/login?next=${encodeURIComponent(next)}`);
    await until(`the page after ${next}`, () => page.url() === server.url + address);
  }
});

scenario("who has not verified their address can have the link sent again", { variables: REQUIRED, refused: [403] }, async ({ server, page }) => {
  await server.send("POST", "/api/auth/register", { body: { email: EMAIL, password: PASSWORD } });
  await page.goto("/login");
  await fill(page, { Email: EMAIL, Password: PASSWORD });
  await page.getByRole("button", { name: "Log in" }).click();
  await alert(page, "This address has not been verified yet");
  await page.getByRole("button", { name: "Send the link again" }).click();
  await page.getByText("a new email is on its way").waitFor();
});

scenario("too many wrong passwords: the page says when to try again", { variables: { ...REQUIRED, LOGIN_ATTEMPTS_PER_MINUTE: "1" }, refused: [429] }, async ({ server, page }) => {
  await server.account(EMAIL);
  await page.goto("/login");
  await fill(page, { Email: EMAIL, Password: "not the password" });
  await page.getByRole("button", { name: "Log in" }).click();
  await alert(page, "Wrong email or password.");
  await page.getByRole("button", { name: "Log in" }).click();
  await alert(page, /Too many attempts\. Try again in \d+ (s|min)/);
});

scenario("a forgotten password is set anew by the link in a mail", { variables: REQUIRED, refused: [400] }, async ({ server, page }) => {
  await server.account(EMAIL);
  await page.goto("/login");
  await page.getByRole("link", { name: "Forgot your password?" }).click();
  // Both views ask for an address.
  await page.getByRole("heading", { name: "Reset your password" }).waitFor();
  await fill(page, { Email: EMAIL });
  await look(page, "forgot");
  await page.getByRole("button", { name: "Send the link" }).click();
  await page.getByText("If this address is registered, an email is on its way.").waitFor();
  const token = await server.token("reset", EMAIL);
  await page.goto(`/reset?token=${token}`);
  await fill(page, { "New password": "another horse battery" });
  await look(page, "reset");
  await page.getByRole("button", { name: "Set password and log in" }).click();
  await overview(page);
  // The link works once.
  await page.goto(`/reset?token=${token}`);
  await fill(page, { "New password": "a third horse battery" });
  await page.getByRole("button", { name: "Set password and log in" }).click();
  await alert(page, "This link has been used or has expired.");
});

scenario("a server that takes no accounts says so", { variables: { ...REQUIRED, REGISTRATION_ENABLED: "false" }, refused: [403] }, async ({ page }) => {
  await page.goto("/register");
  await fill(page, { Email: EMAIL, Password: PASSWORD });
  await page.getByRole("button", { name: "Create account" }).click();
  await alert(page, "This server does not accept new accounts.");
});

scenario("two tabs whose access has ended renew it at once, and both go on", { variables: { ...REQUIRED, JWT_ACCESS_TOKEN_EXPIRY: "40s" } }, async ({ server, page, context }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  const other = await context.newPage();
  await other.goto("/settings/keys");
  await other.getByRole("heading", { name: "New API key" }).waitFor();
  const renewals = [];
  context.on("response", (answer) => answer.url().endsWith("/api/auth/refresh") && renewals.push(answer.status()));
  // Less than half a minute before its end the token is not used any more.
  const renewed = context.waitForEvent("response", (answer) => answer.url().endsWith("/api/auth/refresh"));
  await renewed;
  for (const tab of [page, other]) await tab.goto("/settings/account");
  for (const tab of [page, other]) await tab.getByRole("heading", { name: "Password" }).waitFor();
  assert.deepEqual(renewals.filter((status) => status !== 200), []);
});

scenario("who logs out everywhere is out in every tab", { variables: REQUIRED }, async ({ server, page, context }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  const other = await context.newPage();
  await other.goto("/settings/account");
  await other.getByRole("heading", { name: "Password" }).waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL(/\/login/);
  await other.waitForURL(/\/login/);
  await other.reload();
  await other.getByRole("heading", { name: "Log in" }).waitFor();
  assert.deepEqual(await context.cookies(`${server.url}/api/auth/refresh`), []);
});

scenario("who has logged in at an open server is logged in after a reload, until they log out", {}, async ({ server, page }) => {
  await server.account(EMAIL);
  await logIn(page, EMAIL);
  const logOut = page.getByRole("button", { name: "Log out" });
  await logOut.waitFor();
  await page.reload();
  await logOut.click();
  await logOut.waitFor({ state: "detached" });
  await page.reload();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  assert.equal(await logOut.count(), 0);
});

scenario("who logs in beside an open page is shown their own there, and nothing of who was there before", { variables: REQUIRED, refused: [404] }, async ({ server, page, context }) => {
  const ann = await server.account(EMAIL);
  await server.report({ session_topic: "search", session_title: "Speed up the search" }, ann.token);
  await logIn(page, EMAIL);
  await row(page, "Speed up the search").waitFor();
  const session = await context.newPage();
  await session.goto("/sessions/alice-laptop/search");
  await session.getByRole("heading", { name: "Speed up the search" }).waitFor();
  const email = "ben@example.com";
  await server.send("POST", "/api/auth/register", { body: { email, password: PASSWORD } });
  const other = await context.newPage();
  await other.goto(`/verify?token=${await server.token("verify", email)}`);
  await other.getByRole("button", { name: "Verify and log in" }).click();
  for (const tab of [other, page]) await overview(tab);
  await session.getByRole("heading", { name: "There is nothing at this address" }).waitFor();
  for (const tab of [page, session]) assert.equal(await tab.getByText("Speed up the search").count(), 0);
});
