// What members of a team see of each other.

import assert from "node:assert/strict";

import { logIn, look, scenario } from "../browser.mjs";
import { live, row } from "../day.mjs";

const TEAM = { AUTH_MODE: "required", SHARED_WORKSPACE_MEMBERS: "@example.com" };

/** A member, with a key by which agents report to the team. */
async function member(server, name) {
  const account = await server.account(`${name.toLowerCase()}@example.com`, name);
  const body = { name: "Laptop", workspace: "shared" };
  const { key } = await server.send("POST", "/api/apikeys", { body, token: account.token });
  return { ...account, key };
}

scenario("members see whose sessions the team's are, and choose and group by person", { variables: TEAM, refused: [404] }, async ({ server, page }) => {
  const ann = await member(server, "Ann");
  const ben = await member(server, "Ben");
  await server.report({ session_topic: "own", session_title: "Try something out" }, ann.token);
  await server.report({ session_topic: "search", session_title: "Speed up the search" }, ann.key);
  await server.report({ session_topic: "login", session_title: "Fix the login page", status: "pending" }, ben.key);
  await logIn(page, ann.email);
  await row(page, "Try something out").waitFor();
  await page.getByRole("button", { name: "Team", exact: true }).click();
  await row(page, "Speed up the search").getByText("Ann").waitFor();
  await row(page, "Fix the login page").getByText("Ben").waitFor();
  assert.equal(await row(page, "Try something out").count(), 0);
  await look(page, "team");
  await page.getByRole("combobox", { name: "Person", exact: true }).selectOption("Ben");
  await row(page, "Speed up the search").waitFor({ state: "detached" });
  assert.equal(new URL(page.url()).search, "?workspace=shared&user=Ben");
  await page.reload();
  await row(page, "Fix the login page").waitFor();
  assert.equal(await row(page, "Speed up the search").count(), 0);
  await page.getByRole("button", { name: "Clear filters" }).click();
  await page.getByRole("combobox", { name: "Group by", exact: true }).selectOption("Person");
  for (const name of ["Ann", "Ben"]) await page.getByRole("heading", { level: 2, name }).waitFor();
  await live(page);
  await server.report({ session_topic: "search", message: "told to the whole team" }, ann.key);
  await row(page, "Speed up the search").getByText("told to the whole team").waitFor();
  // An address says which workspace it is of.
  await page.getByRole("link", { name: "Fix the login page" }).click();
  await page.getByRole("heading", { level: 1, name: "Fix the login page" }).waitFor();
  assert.equal(new URL(page.url()).search, "?workspace=shared");
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Fix the login page" }).waitFor();
  await page.getByRole("button", { name: "Mine", exact: true }).click();
  await page.getByRole("heading", { name: "There is nothing at this address" }).waitFor();
  await page.getByRole("link", { name: "Overview", exact: true }).click();
  await row(page, "Try something out").waitFor();
});

scenario("who is no member sees nothing of the team", { variables: TEAM, refused: [403] }, async ({ server, page }) => {
  const ann = await member(server, "Ann");
  await server.report({ session_title: "Fix the login page" }, ann.key);
  const eve = await server.account("eve@elsewhere.example", "Eve");
  await logIn(page, eve.email);
  await page.getByRole("heading", { name: "Connect your first agent" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Team", exact: true }).count(), 0);
  await page.goto("/?workspace=shared");
  await page.getByRole("heading", { name: "This view could not be shown" }).waitFor();
  assert.equal(await page.getByText("Fix the login page").count(), 0);
});
