// Icons, drawn on 16 by 16. Those of statuses differ by shape, not by colour alone.

import { s } from "../lib/dom.js";

const FILLED = {
  waiting: "M8 .8 15.2 8 8 15.2.8 8zM7.2 4.5v4.3h1.6V4.5zm0 5.6v1.6h1.6v-1.6z",
  failed: "M5 1h6l4 4v6l-4 4H5l-4-4V5zm.9 3.8L4.8 5.9 6.9 8l-2.1 2.1 1.1 1.1L8 9.1l2.1 2.1 1.1-1.1L9.1 8l2.1-2.1-1.1-1.1L8 6.9z",
  turn: "M2.5 2h11A1.5 1.5 0 0 1 15 3.5v7a1.5 1.5 0 0 1-1.5 1.5H8l-4 3.2V12H2.5A1.5 1.5 0 0 1 1 10.5v-7A1.5 1.5 0 0 1 2.5 2zM4 5v1.5h8V5zm0 3v1.5h5V8z",
  working: "M3.5 1.8 14 8 3.5 14.2z",
  stopped: "M3.5 2.5h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-9a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1z",
};
const DRAWN = {
  silent: "M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8M4.8 8h.01M8 8h.01M11.2 8h.01",
  done: "M2.5 8.5l3.8 3.8 7.2-8.3",
  search: "M7 2a5 5 0 1 1 0 10A5 5 0 0 1 7 2m3.6 8.6L14.5 14.5",
  fold: "M6 3.5 10.5 8 6 12.5",
  copy: "M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8z",
  mute: "M2.5 6h2.5l3.5-3v10L5 10H2.5zM11 6l3.5 4m0-4L11 10",
  options: "M2 4.5h5m4 0h3M2 11.5h3m4 0h5M9 2.7a1.8 1.8 0 1 1 0 3.6 1.8 1.8 0 0 1 0-3.6M7 9.7a1.8 1.8 0 1 1 0 3.6 1.8 1.8 0 0 1 0-3.6",
  overview: "M2 3.5h12M2 8h12M2 12.5h8",
  board: "M2.5 2.5h3v11h-3zm4.5 0h3v7H7zm4.5 0h2.5v4h-2.5z",
  activity: "M1 8.5h3L6 3l3.5 10L11.5 8.5H15",
  settings: "M8 5.6a2.4 2.4 0 1 1 0 4.8 2.4 2.4 0 0 1 0-4.8M8 1.5v2M8 12.5v2M1.5 8h2M12.5 8h2M3.4 3.4l1.4 1.4M11.2 11.2l1.4 1.4M12.6 3.4l-1.4 1.4M4.8 11.2l-1.4 1.4",
  child: "M4 2v6.5h8M9.5 5.8l2.7 2.7-2.7 2.7",
  close: "M3.5 3.5l9 9m0-9-9 9",
  person: "M8 2.2a2.9 2.9 0 1 1 0 5.8 2.9 2.9 0 0 1 0-5.8M2.5 14c.4-3 2.6-4.2 5.5-4.2s5.1 1.2 5.5 4.2",
};

/** @typedef {keyof typeof FILLED | keyof typeof DRAWN} IconName */

/**
 * An icon, for the eye only: what it means stands beside it, or in the label of its button.
 *
 * @param {IconName} name
 */
export function icon(name) {
  const filled = name in FILLED;
  const d = filled ? FILLED[/** @type {keyof typeof FILLED} */ (name)] : DRAWN[/** @type {keyof typeof DRAWN} */ (name)];
  return s(
    "svg",
    { class: `icon icon-${name}`, viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" },
    s("path", filled ? { d, "fill-rule": "evenodd", fill: "currentColor" } : { d, class: "drawn" }),
  );
}
