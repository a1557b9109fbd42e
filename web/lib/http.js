// One request to the server, and what can go wrong with it.

import { learn } from "./clock.js";

/** An answer that is no success, or none at all. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 when the server was not reached
   * @param {string} code
   * @param {string} message for a person
   * @param {number} [retryAfter] seconds
   */
  constructor(status, code, message, retryAfter) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/**
 * Whether the server does not have what was asked for.
 *
 * @param {unknown} error
 */
export function isMissing(error) {
  return error instanceof ApiError && error.status === 404;
}

/**
 * Sends a request, and gives back an answer of success or 304.
 *
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 * @throws {ApiError} for every other answer, and when there is none
 */
export async function send(path, init) {
  let response;
  try {
    // The page keeps answers itself, by their ETag: the browser's cache would hold them on disk.
    response = await fetch(path, { ...init, cache: "no-store" });
  } catch (cause) {
    if (init?.signal?.aborted) throw cause;
    throw new ApiError(0, "unreachable", String(cause));
  }
  learn(response.headers.get("date"));
  if (response.ok || response.status === 304) return response;
  const body = await response.json().catch(() => ({}));
  const wait = Number(response.headers.get("retry-after") ?? NaN);
  throw new ApiError(
    response.status,
    String(body.code ?? "error"),
    String(body.message ?? response.statusText),
    Number.isNaN(wait) ? undefined : wait,
  );
}

/**
 * What a `fetch` needs to send JSON.
 *
 * @param {string} method
 * @param {unknown} body
 * @returns {RequestInit}
 */
export function json(method, body) {
  return { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}
