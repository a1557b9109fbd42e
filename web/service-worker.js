// Keeps the page's own files, so that it opens where the server cannot be reached. Answers of the
// server are never kept: they belong to who asked, and would be old.

const ASSETS = "{assets}/";
/** What only the browser knows whether it needs. */
const TEXTS = ["en", "zh"].map((language) => `${ASSETS}texts/${language}.js`);
const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));

/**
 * Keeps the page, and what it needs for its first view. A tab that is open may still need files of its
 * version, which the server has no longer: the new worker waits until the last of them is closed.
 */
async function install() {
  const cache = await caches.open(ASSETS);
  const page = await fetch("/", { cache: "no-store" });
  if (!page.ok) throw new Error(`the page answers ${page.status}`);
  const needed = (await page.clone().text()).matchAll(/(?:src|href)="(\/[^"]+)"/g);
  await cache.put("/", page);
  await cache.addAll([...new Set([...needed].map(([, path]) => path)), ...TEXTS]);
}

/** Forgets the files of older versions, and answers for the tab that was open before there was a worker. */
async function activate() {
  const old = (await caches.keys()).filter((name) => name !== ASSETS);
  await Promise.all(old.map((name) => caches.delete(name)));
  await worker.clients.claim();
}

/**
 * An asset never changes under its name.
 *
 * @param {Request} request
 */
async function asset(request) {
  const cache = await caches.open(ASSETS);
  // The server's answers vary by origin, these do not.
  const known = await cache.match(request, { ignoreVary: true });
  if (known) return known;
  const answer = await fetch(request);
  if (answer.ok) await cache.put(request, answer.clone());
  return answer;
}

/**
 * The page comes from the server, and from here only when the server is not there.
 *
 * @param {Request} request
 */
async function page(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const known = await (await caches.open(ASSETS)).match("/", { ignoreVary: true });
    if (known) return known;
    throw error;
  }
}

worker.addEventListener("install", (event) => event.waitUntil(install()));
worker.addEventListener("activate", (event) => event.waitUntil(activate()));
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin) return;
  if (request.mode === "navigate") event.respondWith(page(request));
  else if (pathname.startsWith(ASSETS)) event.respondWith(asset(request));
});
