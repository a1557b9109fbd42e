// A time axis with bars: moved and zoomed by mouse, touch and keyboard.

import { locale, t } from "../lib/text.js";
import { now, tick } from "../lib/clock.js";
import { fill, h, s, set } from "../lib/dom.js";
import { bar, textures } from "./textures.js";

/** @typedef {import("../lib/steps.js").Spell} Spell */
/** @typedef {{ title: string, href: string, spells: Spell[] }} Lane */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Distances between lines of the axis. */
const GRIDS = [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 28 * DAY];
const SHORTEST = 2 * MINUTE;
const LONGEST = 120 * DAY;
/** What can be seen at first. */
const FIRST = { shortest: 30 * MINUTE, longest: 3 * DAY };
/** Pixels between two labels, at least. */
const APART = 90;
const HEAD = 26;
const LANE = 34;
const BAR = 16;
/** How much of the width lies behind the present. */
const FUTURE = 0.06;
/** How much of the width lies before the first bar where the axis can be moved no further. */
const PAST = 0.1;

/**
 * @param {AbortSignal} signal
 */
export function axis(signal) {
  let length = 6 * HOUR;
  let end = latest();
  let follows = true;
  /** What is to be seen at first begins here. */
  let home = now() - length;
  /** @type {Lane[]} */
  let lanes = [];
  let width = 0;

  const names = h("ul", { class: "axis-names" });
  const canvas = s("svg", { class: "axis-canvas", tabindex: "0", role: "group", "aria-label": t("agent.timeline"), "aria-describedby": "axis-help" });
  /**
   * @param {string} label
   * @param {string} sign
   * @param {() => void} action
   */
  const button = (label, sign, action) =>
    h("button", { type: "button", class: "button small", "aria-label": label, title: label, onclick: action }, sign);
  const node = h(
    "div",
    { class: "axis" },
    h(
      "div",
      { class: "axis-tools" },
      button(t("agent.earlier"), "←", () => move(-0.4)),
      button(t("agent.zoomOut"), "−", () => zoom(1.6, 0.5)),
      h("button", { type: "button", class: "button small", onclick: () => reset() }, t("agent.today")),
      button(t("agent.zoomIn"), "+", () => zoom(1 / 1.6, 0.5)),
      button(t("agent.later"), "→", () => move(0.4)),
      h("span", { class: "hint", id: "axis-help" }, t("agent.timelineHelp")),
    ),
    h("div", { class: "axis-body" }, names, canvas),
  );

  let queued = 0;
  const draw = () => {
    queued ||= requestAnimationFrame(() => {
      queued = 0;
      paint();
    });
  };

  function paint() {
    if (follows) end = latest();
    const start = end - length;
    const height = HEAD + lanes.length * LANE;
    const x = (/** @type {number} */ at) => ((at - start) / length) * width;
    set(canvas, { height, viewBox: `0 0 ${Math.max(width, 1)} ${height}` });
    const grid = GRIDS.find((step) => (step / length) * width >= APART) ?? GRIDS[GRIDS.length - 1];
    // Lines stand at whole hours and days of the person's own time.
    const offset = new Date(end).getTimezoneOffset() * MINUTE;
    const first = Math.ceil((start - offset) / grid) * grid + offset;
    /** @type {Node[]} */
    const marks = [];
    for (let at = first; at < end; at += grid) {
      marks.push(s("line", { class: "axis-line", x1: x(at), x2: x(at), y1: HEAD - 6, y2: height }));
      marks.push(s("text", { class: "axis-label", x: x(at) + 4, y: 15 }, label(at, grid)));
    }
    const bars = lanes.map(({ spells, href, title }, place) => {
      const y = HEAD + place * LANE + (LANE - BAR) / 2;
      const shown = spells.filter(({ from, to }) => to >= start && from <= end);
      return s(
        "a",
        { href, tabindex: "-1", "aria-hidden": "true" },
        s("line", { class: "axis-lane", x1: 0, x2: width, y1: HEAD + place * LANE, y2: HEAD + place * LANE }),
        ...shown.map(({ kind, from, to }) => {
          const left = Math.max(x(from), -8);
          const rect = bar(kind, left, y, Math.min(x(to), width + 8) - left, BAR);
          rect.append(s("title", {}, `${title}: ${t(`kind.${kind}`)}`));
          return rect;
        }),
      );
    });
    const here = x(now());
    const line = here >= 0 && here <= width ? [s("line", { class: "axis-now", x1: here, x2: here, y1: HEAD - 8, y2: height })] : [];
    canvas.replaceChildren(textures(), ...marks, ...bars, ...line);
  }

  /** The end of the axis that shows the present. */
  function latest() {
    return now() + length * FUTURE;
  }

  /** @param {number} part of the width */
  function move(part) {
    goTo(end + part * length);
  }

  /**
   * Moves the axis, but not to where nothing was and nothing can be. At the present it follows it.
   *
   * @param {number} wanted end
   */
  function goTo(wanted) {
    const first = Math.min(...lanes.flatMap(({ spells }) => spells.map(({ from }) => from)));
    const earliest = first + length * (1 - PAST);
    follows = wanted >= latest() || earliest >= latest();
    end = Math.max(wanted, earliest);
    draw();
  }

  /**
   * @param {number} factor
   * @param {number} place of what stays, as a part of the width
   */
  function zoom(factor, place) {
    const next = Math.min(Math.max(length * factor, SHORTEST), LONGEST);
    const at = end - length * (1 - place);
    length = next;
    // Who looks at the present goes on doing so.
    if (follows) draw();
    else goTo(at + next * (1 - place));
  }

  /** Shows what was to be seen at first. */
  function reset() {
    follows = true;
    length = Math.min(Math.max((now() - home) * 1.15, FIRST.shortest), FIRST.longest);
    draw();
  }

  /** @type {Map<number, { x: number, y: number }>} */
  const pointers = new Map();
  let dragged = 0;
  const listen = /** @type {{ signal: AbortSignal }} */ ({ signal });
  canvas.addEventListener(
    "pointerdown",
    (event) => {
      if (event.pointerType === "mouse" && event.button) return;
      dragged = 0;
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    },
    listen,
  );
  canvas.addEventListener(
    "pointermove",
    (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const after = { x: event.clientX, y: event.clientY };
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const distance = (/** @type {{ x: number }} */ point) => Math.max(20, Math.abs(point.x - other.x));
        const middle = (after.x + other.x) / 2 - canvas.getBoundingClientRect().left;
        zoom(distance(before) / distance(after), middle / width);
      } else {
        dragged += Math.abs(after.x - before.x);
        // A press that trembles is still a press.
        if (dragged > 4) {
          if (!canvas.hasPointerCapture(event.pointerId)) canvas.setPointerCapture(event.pointerId);
          move((before.x - after.x) / width);
        }
      }
      pointers.set(event.pointerId, after);
    },
    listen,
  );
  const leave = (/** @type {PointerEvent} */ event) => pointers.delete(event.pointerId);
  canvas.addEventListener("pointerup", leave, listen);
  canvas.addEventListener("pointercancel", leave, listen);
  canvas.addEventListener("lostpointercapture", leave, listen);
  canvas.addEventListener(
    "click",
    (event) => {
      if (dragged > 4) event.preventDefault();
    },
    { signal, capture: true },
  );
  canvas.addEventListener("dragstart", (event) => event.preventDefault(), listen);
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom(Math.exp(event.deltaY / 300), (event.clientX - canvas.getBoundingClientRect().left) / width);
      } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        move(event.deltaX / width);
      }
    },
    { signal, passive: false },
  );
  const KEYS = /** @type {Record<string, () => void>} */ ({
    ArrowLeft: () => move(-0.1),
    ArrowRight: () => move(0.1),
    "+": () => zoom(1 / 1.4, 0.5),
    "=": () => zoom(1 / 1.4, 0.5),
    "-": () => zoom(1.4, 0.5),
    0: reset,
  });
  canvas.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || !KEYS[event.key]) return;
      event.preventDefault();
      KEYS[event.key]();
    },
    listen,
  );
  const resized = new ResizeObserver(() => {
    width = canvas.clientWidth;
    draw();
  });
  resized.observe(canvas);
  signal.addEventListener("abort", () => {
    resized.disconnect();
    cancelAnimationFrame(queued);
  });
  tick.changed(() => follows && draw(), signal);

  return {
    node,
    /** Shows these lanes, with the names that belong to them. */
    /**
     * @param {Lane[]} next
     * @param {Node[]} links
     */
    show: (next, links) => {
      lanes = next;
      fill(names, ...links.map((link) => h("li", {}, link)));
      draw();
    },
    /** Zooms so that a time and what followed it can be seen. */
    /** @param {number} from */
    reach: (from) => {
      home = from;
      reset();
    },
  };
}

/**
 * @param {number} at
 * @param {number} grid
 */
function label(at, grid) {
  const date = new Date(at);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  return date.toLocaleString(
    locale(),
    grid >= DAY || midnight ? { month: "short", day: "numeric" } : { hour: "numeric", minute: "2-digit" },
  );
}
