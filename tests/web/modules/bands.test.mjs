// Which sessions are shown, where and in which order.

import assert from "node:assert/strict";
import { test } from "node:test";

import { arrange, bandOf } from "../../../web/lib/bands.js";
import { addressOf, keyOf, kindOf } from "../../../web/lib/session.js";
import { MINUTE, NOW, session } from "./sessions.mjs";

const everything = { search: "", band: "", facets: { agent: "", repo: "", host: "", user: "" }, group: "", open: new Set() };
const shown = (entries, choice = {}) =>
  arrange(entries, { ...everything, ...choice }, NOW).items.map((item) =>
    item.type === "row" ? `${"  ".repeat(item.depth)}${item.entry.title}` : `${item.type} ${item.band ?? item.name ?? item.count}`,
  );

test("a session is in the band of what a person has to do with it", () => {
  const cases = [
    [session("s", "pending", 5), "waiting", "needs"],
    [session("s", "pending", 500), "waiting", "needs"],
    [session("s", "running", 59), "working", "working"],
    [session("s", "running", 60), "silent", "needs"],
    [session("s", "running", 25 * 60), "silent", "done"],
    [session("s", "failed", 5), "failed", "needs"],
    [session("s", "failed", 5, { reason: "stopped" }), "stopped", "done"],
    [session("s", "failed", 25 * 60), "failed", "done"],
    [session("s", "success", 5), "done", "done"],
    [session("s", "success", 59, { reason: "turn" }), "turn", "turn"],
    [session("s", "success", 60, { reason: "turn" }), "done", "done"],
  ];
  for (const [entry, kind, band] of cases) {
    assert.equal(kindOf(entry, NOW), kind, JSON.stringify(entry.session));
    assert.equal(bandOf(kind, entry, NOW), band, JSON.stringify(entry.session));
  }
});

test("who waits longest is first, and of what is done the newest", () => {
  const entries = [
    session("done long ago", "success", 50),
    session("asks", "pending", 2),
    session("done", "success", 3),
    session("works", "running", 1),
    session("asks for long", "pending", 40),
  ];
  assert.deepEqual(shown(entries), [
    "band needs", "asks for long", "asks", "band working", "works", "band done", "done", "done long ago",
  ]);
});

test("a subsession stands under its parent, unless it is more urgent", () => {
  const child = (topic, status) => session(topic, status, 1, { context: { parent: "parent" } });
  const entries = [session("parent", "running", 5), child("helps", "running"), child("asks", "pending"), child("is done", "success")];
  assert.deepEqual(shown(entries), ["band needs", "asks", "band working", "parent", "  helps", "fold 1"]);
  assert.deepEqual(shown(entries, { open: new Set(["children a/parent"]) }).at(-1), "  is done");
});

test("sessions that name each other as parents are all shown", () => {
  const entries = [
    session("one", "running", 1, { context: { parent: "two" } }),
    session("two", "running", 2, { context: { parent: "one" } }),
    session("self", "running", 3, { context: { parent: "self" } }),
  ];
  assert.equal(shown(entries).length, 4);
});

test("headless sessions fold, and are found by a search", () => {
  const entries = [session("mine", "running", 1), session("nightly", "running", 1, { context: { mode: "headless" } })];
  assert.deepEqual(shown(entries), ["band working", "mine", "fold 1"]);
  assert.deepEqual(shown(entries, { search: "NIGHT" }), ["band working", "fold 1", "nightly"]);
});

test("groups stand in the order of their most urgent session", () => {
  const entries = [
    session("a", "running", 9, { context: { repo: "calm" } }),
    session("b", "pending", 1, { context: { repo: "urgent" } }),
    session("c", "success", 1),
  ];
  assert.deepEqual(shown(entries, { group: "repo" }), ["group urgent", "b", "group calm", "a", "group ", "c"]);
});

test("counts are of what is filtered, whatever band is chosen", () => {
  const entries = [session("a", "pending", 1), session("b", "running", 1), session("other", "running", 1, { agent_id: "o" })];
  const choice = { ...everything, band: "needs", facets: { ...everything.facets, agent: "a" } };
  const { counts, items } = arrange(entries, choice, NOW);
  assert.deepEqual(counts, { needs: 1, turn: 0, working: 1, done: 0 });
  assert.equal(items.length, 2);
});

test("the arrangement says when it changes by itself", () => {
  assert.equal(arrange([session("a", "running", 10)], everything, NOW).next, NOW + 50 * MINUTE);
  assert.equal(arrange([session("a", "success", 10)], everything, NOW).next, Infinity);
});

test("an address names exactly one session, also where a browser would resolve its path", () => {
  const address = (agent, topic) => addressOf({ key: keyOf(agent, topic) });
  assert.equal(address("a/b", "50% of é?#"), "/sessions/a%2Fb/50%25%20of%20%C3%A9%3F%23");
  assert.equal(address("a", "..."), "/sessions/a/...");
  assert.equal(address("a", ".."), "/sessions/a/%20?session_topic=..");
  assert.equal(address(".", ".."), "/sessions/%20/%20?agent_id=.&session_topic=..");
});
