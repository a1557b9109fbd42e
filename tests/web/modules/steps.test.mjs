// What a history means.

import assert from "node:assert/strict";
import { test } from "node:test";

import { markdown, spells } from "../../../web/lib/steps.js";
import { MINUTE, NOW, at, session } from "./sessions.mjs";

test("spells last until the next status, and work until it counts as silent", () => {
  const status = (name, minutes, reason) => ({ agent_id: "a", session_topic: "s", status: name, timestamp: at(-minutes), reason });
  const history = [status("running", 10), status("success", 20), status("pending", 25), status("running", 30), status("running", 40)];
  const found = spells(history, NOW - 5 * MINUTE, NOW).map(({ kind, from, to }) => [kind, (from - NOW) / MINUTE, (to - NOW) / MINUTE]);
  assert.deepEqual(found, [["working", -40, -25], ["waiting", -25, -20], ["done", -20, -20], ["working", -10, -5], ["silent", -5, 0]]);
});

test("what is copied as Markdown has no markup but its own", () => {
  const entry = session("s", "failed", 1, { title: "# <b>*x*\ny", context: { repo: "``` `" } });
  const text = markdown(entry.session, "Failed", [
    { agent_id: "a", session_topic: "s", status: "failed", timestamp: at(0), message: "[x](javascript:y)", content: "```\nend" },
  ]);
  assert.match(text, /^# \\# \\<b\\>\\\*x\\\* y\n/);
  assert.ok(text.includes("\\[x\\](javascript:y)"), text);
  assert.ok(text.includes("  ````\n  ```\n  end\n  ````"), text);
  assert.ok(text.includes("- repo: ```` ``` ` ````"), text);
});
