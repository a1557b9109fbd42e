// What the tabs of a browser agree on. Locks exist only in secure contexts (HTTPS and localhost): on
// others every tab stands for itself.

/**
 * Runs something while no other tab runs what has the same name.
 *
 * @template T
 * @param {string} name
 * @param {LockOptions} options
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function alone(name, options, work) {
  return navigator.locks ? navigator.locks.request(`kubeagents.${name}`, options, work) : work();
}

/**
 * A channel to the other tabs.
 *
 * @param {string} name
 * @param {(message: any) => void} heard
 */
export function channel(name, heard) {
  const port = new BroadcastChannel(`kubeagents.${name}`);
  port.onmessage = (event) => heard(event.data);
  return {
    /** @param {unknown} message */
    send: (message) => port.postMessage(message),
    close: () => port.close(),
  };
}
