// Cells and marks that both views use.

import { el, setText } from "./dom.js";
import { percent, printable } from "./format.js";

/** Write the state of a budget or a consumer: a shape, which colour only supports, and a word. */
export function fillState(cell, { word, shape }) {
  if (!cell.firstElementChild) cell.replaceChildren(el("span", { class: "shape", "aria-hidden": "true" }), el("span"));
  cell.firstChild.dataset.shape = shape;
  setText(cell.lastChild, word);
}

/** Write a load as a number with a bar. */
export function fillLoad(cell, load) {
  if (!cell.firstElementChild) {
    cell.replaceChildren(el("span", { class: "bar", "aria-hidden": "true" }, el("span")), el("span"));
  }
  const bar = cell.firstChild.firstChild;
  bar.style.width = `${Math.min(100, Math.max(0, load))}%`;
  cell.firstChild.dataset.level = load >= 100 ? 3 : load >= 90 ? 2 : load >= 70 ? 1 : 0;
  setText(cell.lastChild, percent(load));
}

/** Write a backpressure level, 0 to 3, as a number with three blocks. */
export function fillLevel(cell, level) {
  if (!cell.firstElementChild) {
    cell.replaceChildren(el("span", { class: "blocks", "aria-hidden": "true" }, el("i"), el("i"), el("i")), el("span"));
  }
  cell.firstChild.dataset.level = level;
  setText(cell.lastChild, String(level));
}

/** Return a name of somebody's choosing, which keeps to itself whichever direction its letters run. */
export function name(text) {
  return el("bdi", { title: printable(text) }, printable(text));
}
