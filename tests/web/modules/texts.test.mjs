// Both languages say everything.

import assert from "node:assert/strict";
import { test } from "node:test";

import { texts as en } from "../../../web/texts/en.js";
import { texts as zh } from "../../../web/texts/zh.js";

const places = (text) => [...text.matchAll(/\{\w+\}/g)].map(([place]) => place).sort();

test("Chinese has the texts of English, and no others", () => {
  // It has no plural: `.other` stands for every number.
  const singular = (key) => key.endsWith(".one") && key.replace(/one$/, "other") in en;
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).filter((key) => !singular(key)).sort());
});

test("a text has the same places for values in both languages", () => {
  for (const [key, text] of Object.entries(zh)) assert.deepEqual(places(text), places(en[key]), key);
});

test("no text is empty, and none is left in English", () => {
  const same = ["title.needs", "webhook.url", "channels.url", "welcome.key.place"];
  for (const [key, text] of Object.entries(zh)) {
    assert.notEqual(text.trim(), "", key);
    if (!same.includes(key)) assert.match(text, /[\u4e00-\u9fff]/, key);
  }
});
