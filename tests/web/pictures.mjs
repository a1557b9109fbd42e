// Takes the pictures of the README, of what `kubeagents demo` shows. PAGE_SERVER is the program.

import { fileURLToPath } from "node:url";

import { launch } from "./chromium.mjs";
import { OwnServer } from "./server.mjs";

const PICTURES = [
  { name: "overview", path: "/", colorScheme: "light" },
  { name: "agent", path: "/agents/claude-code%40atlas", colorScheme: "dark" },
];

const server = await OwnServer.start(process.env.PAGE_SERVER, {}, ["demo"]);
const browser = await launch();
try {
  for (const { name, path, colorScheme } of PICTURES) {
    const viewport = { width: 1200, height: 750 };
    const page = await browser.newPage({ baseURL: server.url, locale: "en-US", colorScheme, viewport });
    await page.goto(path);
    await page.locator(".row").first().waitFor();
    await page.evaluate(() => document.fonts.ready);
    const file = new URL(`../../docs/images/${name}.png`, import.meta.url);
    await page.screenshot({ path: fileURLToPath(file) });
  }
} finally {
  await browser.close();
  await server.stop();
}
