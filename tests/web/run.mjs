// Plays every scenario in a browser, or those that `--test-name-pattern` of node names.
//
// PAGE_SERVER is the program that serves the page; or PAGE_URL is a server in open mode that runs
// already, where only what needs no other state is played. PAGE_CHROMIUM is the browser.

import { readdirSync } from "node:fs";

import { playAll } from "./browser.mjs";

const scenarios = new URL("scenarios/", import.meta.url);
for (const file of readdirSync(scenarios).sort()) await import(new URL(file, scenarios));
// Node takes what it has run for all there is: what is still to be imported would come too late.
playAll();
