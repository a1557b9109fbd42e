// Who the person is. The access token lives in memory only; the refresh token is a cookie that no
// script can read.

import { Signal } from "./dom.js";
import { ApiError, json, send } from "./http.js";
import { alone, channel } from "./locks.js";
import { read, write } from "./preferences.js";

/**
 * @typedef {object} User
 * @property {string} id
 * @property {string} email
 * @property {string} [name]
 * @property {string} [notification_webhook_url]
 * @property {boolean} email_verified
 * @property {boolean} [shared_workspace] whether the account may work in the shared workspace
 */

/** @typedef {{ user: User, access_token: string, expires_in: number }} Tokens */

/** Renew this long before the token's end, in milliseconds. */
const MARGIN = 30_000;

/** Whether requests need credentials: unknown before the first answer. */
export const mode = new Signal(/** @type {"unknown" | "open" | "required"} */ ("unknown"));

/** The person who is logged in. */
export const user = new Signal(/** @type {User | null} */ (null));

/** @type {{ value: string, until: number } | null} */
let token = null;

const tabs = channel("auth", (message) => {
  if (message.type === "tokens") take(message.tokens);
  if (message.type === "logout") forget();
});

/** @param {Tokens} tokens */
function take(tokens) {
  write("account", "yes");
  token = { value: tokens.access_token, until: performance.now() + tokens.expires_in * 1000 };
  const before = user.value;
  if (!before || JSON.stringify(before) !== JSON.stringify(tokens.user)) user.value = tokens.user;
}

function forget() {
  write("account", null);
  token = null;
  user.value = null;
}

/**
 * Finds out whether the server is open, and who the person is. What it was at the last visit is tried
 * first: that saves a question, and mostly holds.
 *
 * @throws {ApiError} when the server cannot be reached
 */
export async function start() {
  const last = read("mode");
  if (last === "open") return enterOpen();
  if (last === "required" && (await renew())) return become("required");
  await ask();
}

/** An open server asks nobody who they are, but who has logged in there stays so. */
async function enterOpen() {
  if (read("account")) await renew();
  become("open");
}

/** Asks the server whether it is open. */
async function ask() {
  try {
    await send("/api/sessions?limit=1");
    await enterOpen();
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    // At a server that needed it the last time, that has been tried.
    if (read("mode") !== "required") await renew();
    become("required");
  }
}

/** @param {"open" | "required"} found */
function become(found) {
  write("mode", found);
  mode.value = found;
}

/** Takes a refusal: the person is logged out, or the server is open no more. */
export async function refused() {
  if (mode.value === "open") {
    await renew();
    become("required");
  } else {
    forgetEverywhere();
  }
}

/**
 * An access token that still works for a while; `null` when nobody is logged in.
 *
 * @returns {Promise<string | null>}
 */
export async function accessToken() {
  if (token && token.until - performance.now() < MARGIN) await renew();
  return token?.value ?? null;
}

/**
 * Gets a new access token by the cookie. Of several tabs one asks, and tells the others.
 *
 * @returns {Promise<boolean>} whether there is one now
 */
export async function renew() {
  const known = token?.value;
  return alone("refresh", {}, async () => {
    // Another tab may have renewed it while this one waited.
    if (token && token.value !== known) return true;
    for (let attempt = 0; ; attempt++) {
      try {
        await logIn("/api/auth/refresh", {});
        return true;
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 401) throw error;
        // Without locks two tabs may spend one cookie: the second finds the new one in its place.
        if (attempt === 0 && known) continue;
        forget();
        return false;
      }
    }
  });
}

/**
 * Asks for tokens, by a password, a link from a mail or the cookie, and takes them for all tabs.
 *
 * @param {"/api/auth/login" | "/api/auth/reset" | "/api/auth/verify" | "/api/auth/refresh"} path
 * @param {Record<string, string>} fields
 */
export async function logIn(path, fields) {
  const answer = await send(path, json("POST", { ...fields, cookie: true }));
  const tokens = /** @type {Tokens} */ (await answer.json());
  take(tokens);
  tabs.send({ type: "tokens", tokens });
}

/** Ends every session of the account, here and in all tabs. */
export async function logOut() {
  const init = json("POST", { cookie: true });
  const bearer = await accessToken();
  await send("/api/auth/logout", { ...init, headers: { ...init.headers, Authorization: `Bearer ${bearer}` } });
  forgetEverywhere();
}

/** Forgets who is logged in, in all tabs, where the server knows already. */
export function forgetEverywhere() {
  forget();
  tabs.send({ type: "logout" });
}
