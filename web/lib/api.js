// The HTTP API, as who the person is, in the workspace they look at.

import { accessToken, mode, renew, user } from "./auth.js";
import { Signal } from "./dom.js";
import { ApiError, json, send } from "./http.js";

export { ApiError } from "./http.js";

/** @typedef {"own" | "shared"} Workspace */

/** The workspace that requests go to. */
export const workspace = new Signal(/** @type {Workspace} */ ("own"));

/** How many answers are kept with their ETag. */
const KEPT = 8;

/** @type {Map<string, { etag: string, body: unknown }>} */
const answers = new Map();

// An answer belongs to who asked for it.
workspace.changed(() => answers.clear());
user.changed(() => answers.clear());

/**
 * Sends a request with the person's credentials. When they are refused, they are renewed once.
 *
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function request(path, init = {}) {
  const bearer = await accessToken();
  try {
    return await send(path, as(bearer, init));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401 || !bearer) throw error;
    // The credentials are good. Trying again would count as another attempt.
    if (error.message === "invalid password") throw error;
    // An open server takes who is logged in no longer as anybody.
    if (!(await renew()) && mode.value !== "open") throw error;
    return send(path, as(await accessToken(), init));
  }
}

/**
 * @param {string | null} bearer
 * @param {RequestInit} init
 * @returns {RequestInit}
 */
function as(bearer, init) {
  const headers = new Headers(init.headers);
  if (bearer) headers.set("Authorization", `Bearer ${bearer}`);
  if (workspace.value === "shared") headers.set("X-Workspace", "shared");
  return { ...init, headers };
}

/**
 * Reads JSON. What has not changed since the last time is not sent again.
 *
 * @template T
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function get(path, signal) {
  const known = answers.get(path);
  const response = await request(path, { signal, headers: known ? { "If-None-Match": known.etag } : {} });
  if (response.status === 304 && known) return /** @type {T} */ (known.body);
  const body = await response.json();
  const etag = response.headers.get("etag");
  answers.delete(path);
  if (etag) answers.set(path, { etag, body });
  for (const oldest of answers.keys()) {
    if (answers.size <= KEPT) break;
    answers.delete(oldest);
  }
  return body;
}

/**
 * Changes something, and gives back what the server answers.
 *
 * @template T
 * @param {"POST" | "PUT" | "DELETE"} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<T>}
 */
export async function change(method, path, body) {
  const response = await request(path, body === undefined ? { method } : json(method, body));
  return response.json();
}
