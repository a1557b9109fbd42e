// What must be in the sources of the page, and what must not.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { texts } from "../../../web/texts/en.js";

const WEB = fileURLToPath(new URL("../../../web/", import.meta.url));
const files = readdirSync(WEB, { recursive: true }).filter((name) => /\.(js|css|html)$/.test(name));
const read = (name) => readFileSync(join(WEB, name), "utf8");

test("every text is used", () => {
  const code = files.filter((name) => name.endsWith(".js") && !name.startsWith("texts")).map(read).join("\n");
  for (const key of Object.keys(texts)) {
    const name = key.replace(/\.(one|other)$/, "");
    // The last parts may be a value: `kind.${kind}`.
    const isFamily = name.split(".").some((_, n, parts) => n && code.includes(`\`${parts.slice(0, n).join(".")}.\${`));
    const outer = new RegExp(`\`${name.split(".")[0].replace("$", "\\$")}\\.\\$\\{[^}]*\\}\\.`);
    assert.ok(code.includes(`"${name}"`) || isFamily || outer.test(code), `nothing says ${key}`);
  }
});

test("nothing in the page parses HTML or evaluates text", () => {
  for (const name of files.filter((name) => name.endsWith(".js"))) {
    const found = read(name).match(/\.(innerHTML|outerHTML|insertAdjacentHTML|cssText)\b|\beval\(|new Function|document\.write|DOMParser|setHTMLUnsafe|srcdoc/);
    assert.equal(found, null, name);
  }
  assert.doesNotMatch(read("index.html"), /\sstyle=|\son\w+=|<style|<script>/);
});
