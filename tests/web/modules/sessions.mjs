// Sessions to test with.

import { entryOf } from "../../../web/lib/session.js";

export const NOW = Date.parse("2026-01-01T12:00:00.000000Z");
export const MINUTE = 60_000;

/** A time some minutes after the present. */
export const at = (minutes) => new Date(NOW + minutes * MINUTE).toISOString().replace("Z", "000Z");

/** A session that has been as it is for some minutes. */
export function session(topic, status, minutes, more = {}) {
  const { ttl = 60, ...rest } = more;
  return entryOf({
    agent_id: "a",
    session_topic: topic,
    created: at(-600),
    last_updated: at(-minutes),
    status_since: at(-minutes),
    expires_at: at(ttl - minutes),
    expired: minutes >= ttl,
    ttl_minutes: ttl,
    state: "active",
    current_status: status,
    ...rest,
  });
}
