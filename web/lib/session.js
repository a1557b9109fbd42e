// What the page knows of a session. Pure: the time is an argument.

/** @typedef {"running" | "success" | "failed" | "pending"} StatusName */

/**
 * A session as `/api/sessions` and `/api/events` have it.
 *
 * @typedef {object} Session
 * @property {string} agent_id
 * @property {string} [agent_name]
 * @property {string} session_topic
 * @property {string} [title]
 * @property {string} created
 * @property {string} last_updated
 * @property {string} expires_at
 * @property {boolean} expired
 * @property {number} ttl_minutes
 * @property {string} state
 * @property {StatusName} current_status
 * @property {string} status_since
 * @property {string} [reason]
 * @property {string} [message]
 * @property {Record<string, string>} [context]
 */

/**
 * An entry of a session's history.
 *
 * @typedef {object} Status
 * @property {string} agent_id
 * @property {string} session_topic
 * @property {StatusName} status
 * @property {string} timestamp
 * @property {string} [reason]
 * @property {string} [message]
 * @property {string} [content]
 */

/**
 * What a session is to a person who looks at it.
 *
 * @typedef {"waiting" | "failed" | "silent" | "turn" | "working" | "done" | "stopped"} Kind
 */

/**
 * A session, with what is needed again and again worked out once.
 *
 * @typedef {object} Entry
 * @property {string} key see `keyOf`
 * @property {Session} session
 * @property {string} title
 * @property {number} created
 * @property {number} updated
 * @property {number} since
 * @property {number} expires
 * @property {boolean} headless
 * @property {string} haystack what a search looks in
 */

/**
 * The name of a session among all.
 *
 * @param {string} agent
 * @param {string} topic
 */
export function keyOf(agent, topic) {
  return `${encodeURIComponent(agent)}/${encodeURIComponent(topic)}`;
}

/**
 * A path with names in the places of its braces. Browsers resolve `.` and `..` in paths, encoded too,
 * before anybody is asked: what is called so stands in the query, and a blank in its place.
 *
 * @param {string} pattern
 * @param {Record<string, string>} names
 */
export function pathOf(pattern, names) {
  const query = new URLSearchParams();
  const path = pattern.replace(/\{(\w+)\}/g, (_, place) => {
    const name = names[place];
    if (name !== "." && name !== "..") return encodeURIComponent(name);
    query.set(place, name);
    return "%20";
  });
  return query.size ? `${path}?${query}` : path;
}

/** @param {{ key: string }} entry */
export function addressOf({ key }) {
  const [agent_id, session_topic] = key.split("/").map(decodeURIComponent);
  return pathOf("/sessions/{agent_id}/{session_topic}", { agent_id, session_topic });
}

/** @param {string} agent_id */
export function agentAddress(agent_id) {
  return pathOf("/agents/{agent_id}", { agent_id });
}

/**
 * @param {Session} session
 * @returns {Entry}
 */
export function entryOf(session) {
  const { agent_id, agent_name, session_topic, context = {} } = session;
  const title = session.title || session_topic;
  return {
    key: keyOf(agent_id, session_topic),
    session,
    title,
    created: Date.parse(session.created),
    updated: Date.parse(session.last_updated),
    since: Date.parse(session.status_since),
    expires: Date.parse(session.expires_at),
    headless: context.mode === "headless",
    haystack: [title, session_topic, agent_id, agent_name, session.message, ...Object.values(context)]
      .join("\n")
      .toLowerCase(),
  };
}

/**
 * @param {Entry} entry
 * @param {number} now
 * @returns {Kind}
 */
export function kindOf({ session, expires }, now) {
  const over = now >= expires;
  switch (session.current_status) {
    case "running":
      return over ? "silent" : "working";
    case "pending":
      return "waiting";
    case "failed":
      return session.reason === "stopped" ? "stopped" : "failed";
    default:
      return session.reason === "turn" && !over ? "turn" : "done";
  }
}

/**
 * The kind of a status in a history: what follows it says that it was not silent.
 *
 * @param {{ status: StatusName, reason?: string }} status
 * @returns {Exclude<Kind, "silent">}
 */
export function kindOfStatus({ status, reason }) {
  if (status === "running") return "working";
  if (status === "pending") return "waiting";
  if (status === "failed") return reason === "stopped" ? "stopped" : "failed";
  return reason === "turn" ? "turn" : "done";
}

/**
 * What people call the agent.
 *
 * @param {Session} session
 */
export function agentOf(session) {
  return session.agent_name || session.agent_id;
}

/**
 * Repository and branch, or the folder where no repository is known.
 *
 * @param {Session} session
 */
export function placeOf({ context = {} }) {
  if (context.repo) return context.branch ? `${context.repo}@${context.branch}` : context.repo;
  return context.cwd ?? "";
}

/** Fields that people filter and group by, and where they are found. */
export const FACETS = {
  agent: (/** @type {Session} */ session) => session.agent_id,
  repo: (/** @type {Session} */ session) => session.context?.repo ?? "",
  host: (/** @type {Session} */ session) => session.context?.host ?? "",
  user: (/** @type {Session} */ session) => session.context?.user ?? "",
};

/** @typedef {keyof typeof FACETS} Facet */
