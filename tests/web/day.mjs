// A day of a few agents, and where its sessions are on the page.

import { until } from "./server.mjs";

/** Something in every band, a subsession, a run without a person. */
export async function day(server) {
  const shop = { repo: "acme/shop", branch: "fix-login", host: "studio", user: "Ann" };
  await server.report({ session_topic: "parent", session_title: "Speed up the search", context: { ...shop, host: "laptop", user: "Ben" } });
  await server.report({ session_topic: "child", session_title: "Profile the tokenizer", context: { ...shop, parent: "parent" } });
  await server.report({ session_topic: "login", session_title: "Fix the login page", message: "Read: login.tsx", context: shop });
  await server.report({ session_topic: "login", status: "pending", reason: "permission", message: "Bash: npm ci" });
  await server.report({ agent_id: "codex", session_topic: "docs", session_title: "Write the guide", context: { repo: "acme/docs" } });
  await server.report({ agent_id: "codex", session_topic: "docs", status: "success", reason: "turn", message: "shall I publish it?" });
  await server.report({ agent_id: "codex", session_topic: "broken", session_title: "Upgrade the parser", status: "failed", reason: "rate_limit", content: "at line 1\n".repeat(200) });
  await server.report({ agent_id: "codex", session_topic: "old", session_title: "Remove old flags", status: "success", message: "42 removed" });
  await server.report({ agent_id: "ci", session_topic: "nightly", session_title: "Nightly lint", context: { mode: "headless" } });
}

/** The row of a session on the overview. */
export const row = (page, title) => page.getByRole("article").filter({ has: page.getByRole("link", { name: title, exact: true }) });

/** What the page keeps, by paths. */
export const kept = (page) =>
  page.evaluate(async () => {
    const names = await caches.keys();
    const requests = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
    return requests.flat().map(({ url }) => new URL(url).pathname);
  });

/** Waits until the page keeps all that it may need: the last thing that it loads is there. */
export const complete = (page) =>
  until("all that is kept", async () => (await kept(page)).some((path) => path.endsWith("/views/settings/account.js")));

/** Waits until the page is told of every change at once. */
export const live = (page) => page.getByText("Live", { exact: true }).waitFor();
