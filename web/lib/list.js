// A list of which only the lines near the screen exist, so that 10,000 cost no more than fifty.

import { each } from "./dom.js";

/** How much is made above and below the screen, in pixels. */
const MARGIN = 600;

/**
 * @template T
 * @typedef {object} Lines
 * @property {(item: T) => string} key
 * @property {(item: T) => string} kind names the custom property with its height: `--height-kind`
 * @property {(item: T) => HTMLElement} make
 * @property {(node: HTMLElement, item: T) => void} update
 */

/** @template T */
export class LongList {
  node = document.createElement("div");
  /** @type {T[]} */
  #items = [];
  /** @type {number[]} */
  #tops = [0];
  /** @type {Map<string, number>} */
  #heights = new Map();
  /** @type {Map<string, number>} */
  #places = new Map();
  /** @type {Lines<T>} */
  #lines;
  #drawn = { from: -1, to: -1 };

  /**
   * @param {Lines<T>} lines
   * @param {AbortSignal} signal
   */
  constructor(lines, signal) {
    this.#lines = lines;
    this.node.className = "long-list";
    const draw = () => this.#draw(false);
    document.addEventListener("scroll", draw, { signal, passive: true });
    const resized = new ResizeObserver(() => {
      const before = [...this.#heights];
      this.#heights.clear();
      // Another width or size of letters may give lines another height.
      if (before.every(([kind, height]) => this.#height(kind) === height)) return draw();
      this.show(this.#items);
    });
    resized.observe(this.node);
    signal.addEventListener("abort", () => resized.disconnect(), { once: true });
  }

  get items() {
    return this.#items;
  }

  /** @param {T[]} items */
  show(items) {
    const anchor = this.#anchor();
    this.#items = items;
    this.#measure();
    // What the person looks at stays where it is when something comes or goes above it.
    const place = anchor ? this.#places.get(anchor.key) : undefined;
    this.node.style.height = `${this.#tops[items.length]}px`;
    if (anchor && place !== undefined) {
      const moved = this.#tops[place] - anchor.top;
      if (moved) scrollBy({ top: moved, behavior: "instant" });
    }
    this.#draw(true);
  }

  /**
   * Brings a line onto the screen, and gives its node.
   *
   * @param {string} key
   * @returns {HTMLElement | undefined}
   */
  reveal(key) {
    const place = this.#places.get(key);
    if (place === undefined) return undefined;
    const top = this.#top() + this.#tops[place];
    const bottom = this.#top() + this.#tops[place + 1];
    const head = 120;
    if (top < head) scrollBy({ top: top - head, behavior: "instant" });
    else if (bottom > innerHeight - 80) scrollBy({ top: bottom - innerHeight + 80, behavior: "instant" });
    this.#draw(false);
    const lines = /** @type {HTMLElement[]} */ ([...this.node.children]);
    return lines.find((line) => line.dataset.line === key);
  }

  #top() {
    return this.node.getBoundingClientRect().top;
  }

  /** The first line on the screen, once the list is scrolled. */
  #anchor() {
    const top = this.#top();
    if (top >= 0 || !this.#items.length) return null;
    const place = this.#at(-top);
    return { key: this.#lines.key(this.#items[place]), top: this.#tops[place] };
  }

  #measure() {
    const { key, kind } = this.#lines;
    this.#places = new Map();
    this.#tops = [0];
    this.#items.forEach((item, place) => {
      this.#places.set(key(item), place);
      this.#tops.push(this.#tops[place] + this.#height(kind(item)));
    });
  }

  /** @param {string} kind */
  #height(kind) {
    let height = this.#heights.get(kind);
    if (height === undefined) {
      const probe = document.createElement("div");
      probe.style.height = `var(--height-${kind})`;
      document.body.append(probe);
      height = probe.getBoundingClientRect().height;
      probe.remove();
      this.#heights.set(kind, height);
    }
    return height;
  }

  /**
   * The line at a height, by halving.
   *
   * @param {number} height
   */
  #at(height) {
    let low = 0;
    let high = Math.max(0, this.#items.length - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#tops[middle] <= height) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** @param {boolean} changed */
  #draw(changed) {
    const top = this.#top();
    const from = this.#at(Math.max(0, -top - MARGIN));
    const to = Math.min(this.#items.length, this.#at(Math.max(0, innerHeight - top + MARGIN)) + 1);
    if (!changed && from === this.#drawn.from && to === this.#drawn.to) return;
    this.#drawn = { from, to };
    this.node.style.setProperty("padding-top", `${this.#tops[from]}px`);
    const { key, make, update } = this.#lines;
    const makeLine = (/** @type {T} */ item) => {
      const node = make(item);
      node.dataset.line = key(item);
      return node;
    };
    // Scrolling shows what is there already: only new data changes a line.
    each(this.node, this.#items.slice(from, to), key, makeLine, changed ? update : undefined);
  }
}
