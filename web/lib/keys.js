// The keyboard: single keys, while nobody types.

/** @type {Map<string, (event: KeyboardEvent) => void>} */
const keys = new Map();
let prefix = "";
let timer = 0;

/**
 * Whether something takes what is typed itself.
 *
 * @param {EventTarget | null} target
 */
function takesKeys(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

/** Listens from now on. */
export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key !== "Escape" && (takesKeys(event.target) || document.querySelector("dialog[open]"))) return;
    const action = keys.get(prefix + event.key);
    prefix = "";
    clearTimeout(timer);
    if (action) {
      if (event.key !== "Escape") event.preventDefault();
      action(event);
    } else if (event.key === "g") {
      prefix = "g ";
      timer = setTimeout(() => (prefix = ""), 1500);
    }
  });
}

/**
 * Does something when a key is pressed, `g o` after each other too, until `signal` is aborted.
 *
 * @param {string} key
 * @param {(event: KeyboardEvent) => void} action
 * @param {AbortSignal} [signal]
 */
export function onKey(key, action, signal) {
  keys.set(key, action);
  signal?.addEventListener("abort", () => keys.get(key) === action && keys.delete(key), { once: true });
}

/**
 * Moves with `j` and `k` through links, and opens nothing: Enter does that by itself.
 *
 * @param {() => HTMLElement[]} links in their order
 * @param {AbortSignal} signal
 */
export function onMove(links, signal) {
  /** @param {number} step */
  const move = (step) => {
    const all = links();
    const at = all.findIndex((link) => link === document.activeElement);
    const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  onKey("j", () => move(1), signal);
  onKey("k", () => move(-1), signal);
}
