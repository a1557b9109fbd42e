// The browser that scenarios are played and pictures are taken in.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

/** Finds packages, which are installed where the script is started, not where it is kept. */
export const require = createRequire(pathToFileURL(`${process.cwd()}/package.json`));

const { chromium } = require("playwright-core");

/** Starts Chromium, Debian's or what PAGE_CHROMIUM names. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.PAGE_CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
