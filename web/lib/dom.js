// Makes and changes DOM nodes. What comes from outside only ever becomes a text node or an attribute:
// nothing here, or anywhere in the page, parses HTML.

/** @typedef {Node | string | number | false | null | undefined} Child */
/** @typedef {Child | Child[]} Children */
/**
 * @typedef {Record<string, unknown> & {
 *   class?: string, style?: Record<string, string>, dataset?: Record<string, string | undefined>,
 * }} Props
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an HTML element. A function under `on…` listens, `true` is an attribute without a value, and
 * `false`, `null` and `undefined` leave an attribute out.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Props} [props]
 * @param {...Children} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  if (props) set(node, props);
  append(node, children);
  return node;
}

/**
 * Makes an SVG element, by the same rules.
 *
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Props} [props]
 * @param {...Children} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function s(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  if (props) set(node, props);
  append(node, children);
  return node;
}

/**
 * Sets attributes, listeners, styles and data of a node.
 *
 * @param {HTMLElement | SVGElement} node
 * @param {Props} props
 */
export function set(node, props) {
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") {
      node.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (name === "style") {
      for (const [property, given] of Object.entries(props.style ?? {})) {
        node.style.setProperty(property, given);
      }
    } else if (name === "dataset") {
      Object.assign(node.dataset, props.dataset);
    } else if (value === false || value === null || value === undefined) {
      node.removeAttribute(name);
    } else if (name === "href" && !isAddress(String(value))) {
      node.removeAttribute(name);
    } else {
      const text = value === true ? "" : String(value);
      if (node.getAttribute(name) !== text) node.setAttribute(name, text);
    }
  }
}

/**
 * Whether something may be followed as a link: a path of this page, or the web. `javascript:` and the
 * like are not.
 *
 * @param {string} address
 */
export function isAddress(address) {
  return /^(https?:\/\/|\/(?!\/)|#|\?)/i.test(address);
}

/**
 * @param {Node} node
 * @param {Children[]} children
 */
function append(node, children) {
  for (const child of children.flat()) {
    if (child === false || child === null || child === undefined) continue;
    node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Replaces what a node contains.
 *
 * @param {Element} node
 * @param {...Children} children
 */
export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

/**
 * Sets the text of a node, and does not touch it when it says that already.
 *
 * @param {Node} node
 * @param {string} text
 */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @type {WeakMap<Element, Map<string, Element>>} */
const kept = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. A node lives as long as its key is
 * in the list: what is the same is neither made again nor moved, and keeps focus and selection.
 *
 * @template T
 * @template {Element} N
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => N} make
 * @param {(node: N, item: T) => void} [update]
 */
export function each(parent, items, key, make, update) {
  const before = /** @type {Map<string, N>} */ (kept.get(parent) ?? new Map());
  /** @type {Map<string, N>} */
  const after = new Map();
  for (const item of items) {
    const name = key(item);
    const known = before.get(name);
    if (known) update?.(known, item);
    after.set(name, known ?? make(item));
  }
  const focused = document.activeElement;
  for (const [name, node] of before) if (!after.has(name)) node.remove();
  /** @type {ChildNode | null} */
  let place = parent.firstChild;
  for (const node of after.values()) {
    if (node === place) {
      place = node.nextSibling;
    } else if (place && node === place.nextSibling) {
      // The one in front has gone further down: moving it is one move instead of one for each that follows.
      const gone = place;
      place = node.nextSibling;
      parent.appendChild(gone);
    } else {
      parent.insertBefore(node, place);
    }
  }
  // A node that is moved loses the focus.
  if (focused !== document.activeElement && focused instanceof HTMLElement && parent.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
  kept.set(parent, after);
}

/**
 * A value that tells when it changes.
 *
 * @template T
 */
export class Signal {
  /** @type {T} */
  #value;
  /** @type {Set<(value: T) => void>} */
  #listeners = new Set();

  /** @param {T} value */
  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener(value);
  }

  /**
   * Calls back now and after every change, until `signal` is aborted.
   *
   * @param {(value: T) => void} listener
   * @param {AbortSignal} [signal]
   */
  watch(listener, signal) {
    this.changed(listener, signal);
    listener(this.#value);
  }

  /**
   * Calls back after every change, until `signal` is aborted.
   *
   * @param {(value: T) => void} listener
   * @param {AbortSignal} [signal]
   */
  changed(listener, signal) {
    if (signal?.aborted) return;
    this.#listeners.add(listener);
    signal?.addEventListener("abort", () => this.#listeners.delete(listener), { once: true });
  }
}
