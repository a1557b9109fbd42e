// What happens when the server is replaced by one with another version of the page.

/** Loads the page again where the server has another version of it. */
export async function followUpgrade() {
  const shell = await fetch("/", { cache: "no-cache" }).then((response) => response.text(), () => "");
  const own = new URL("../", import.meta.url).pathname;
  if (shell && !shell.includes(own)) location.reload();
}

/**
 * Loads a module that is needed only now.
 *
 * @template T
 * @param {() => Promise<T>} load
 * @returns {Promise<T | undefined>} nothing where it cannot be loaded
 */
export async function late(load) {
  try {
    return await load();
  } catch {
    await followUpgrade();
  }
}
