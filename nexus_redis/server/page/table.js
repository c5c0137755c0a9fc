// A table whose cells are updated in place. Of a long one, only the rows in view are in the document.

import { el, setText, sync } from "./dom.js";
import { number } from "./format.js";

const ALL = 80; // rows up to which all are in the document
const BEYOND = 15; // rows above and below those in view
const HEIGHT = 32; // pixels, until a row has been measured

const naturals = new Map();

/** Return a text that sorts `p2` before `p10`. Digits among letters, as in a hash, are letters. */
export function natural(text) {
  let found = naturals.get(text);
  if (found === undefined) {
    if (naturals.size > 20000) naturals.clear();
    found = text.toLowerCase().replace(/\d+(?![a-z\d])/g, (digits) => digits.padStart(12, "0"));
    naturals.set(text, found);
  }
  return found;
}

/**
 * A column is { id, label, text(row), value(row)?, fill(cell, row)?, numeric?, first?: "down", optional?, width? }.
 * `value` is what rows are sorted by. `fill` is called when `text` has changed, and writes the cell itself. A `width`,
 * in rem, counts where the layout of the table is fixed.
 */
export class LiveTable {
  #rows = new Map();
  #order = [];
  #nodes = new Map(); // by key, those in the document: { tr, cells, texts }
  #spacers = [];
  #height = HEIGHT;
  #isAsked = false;
  #wanted = null; // the key of a row that is in the document wherever it stands
  #isSorted = false;

  constructor({ caption, columns, sort, isDown = false, scroller = null, empty }) {
    this.columns = columns;
    this.sort = columns.find((column) => column.id === sort);
    this.isDown = isDown;
    this.scroller = scroller;
    this.body = el("tbody");
    this.heads = columns.map((column) => this.#head(column));
    this.table = el(
      "table",
      { class: "live" },
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, ...this.heads)),
      this.body,
    );
    this.none = el("p", { class: "none" }, empty);
    this.node = el("div", {}, this.table, this.none);
    const ask = () => this.#ask();
    (scroller ?? window).addEventListener("scroll", ask, { passive: true });
    addEventListener("resize", ask);
    this.close = () => {
      (scroller ?? window).removeEventListener("scroll", ask);
      removeEventListener("resize", ask);
    };
    this.#mark();
  }

  /** Show these rows, a Map by key. Rows under the pointer, or with the focus, do not change places. */
  update(rows) {
    this.#rows = rows;
    const isHeld = this.#isSorted && (this.body.matches(":hover") || this.body.contains(document.activeElement));
    if (isHeld) {
      const known = new Set(this.#order);
      this.#order = [
        ...this.#order.filter((key) => rows.has(key)),
        ...[...rows.keys()].filter((key) => !known.has(key)),
      ];
    } else {
      this.#arrange();
    }
    this.#paint();
  }

  /** Return the row of this key, which then is in the document, or null if no row has it. */
  find(key) {
    this.#wanted = key;
    this.#paint();
    this.#wanted = null;
    return this.#nodes.get(key)?.tr ?? null;
  }

  #head(column) {
    const sorts = () => {
      this.isDown = this.sort === column ? !this.isDown : column.first === "down";
      this.sort = column;
      this.#mark();
      this.#arrange();
      this.#paint();
    };
    const classes = [column.numeric && "number", column.optional && `optional-${column.optional}`].filter(Boolean);
    const head = el(
      "th",
      { scope: "col", class: classes.join(" ") || null },
      el(
        "button",
        { type: "button", onclick: sorts, title: column.title },
        column.label,
        el("span", { class: "arrow", "aria-hidden": "true" }),
      ),
    );
    if (column.width) head.style.width = `${column.width}rem`;
    return head;
  }

  #mark() {
    this.columns.forEach((column, i) => {
      if (column === this.sort) this.heads[i].setAttribute("aria-sort", this.isDown ? "descending" : "ascending");
      else this.heads[i].removeAttribute("aria-sort");
    });
  }

  #arrange() {
    const value = this.sort.value ?? this.sort.text;
    const sign = this.isDown ? -1 : 1;
    const entries = [...this.#rows].map(([key, row]) => [key, value(row), natural(key)]);
    entries.sort((a, b) => (a[1] < b[1] ? -sign : a[1] > b[1] ? sign : a[2] < b[2] ? -1 : a[2] > b[2] ? 1 : 0));
    this.#order = entries.map(([key]) => key);
    this.#isSorted = true;
  }

  #ask() {
    if (this.#isAsked || this.#order.length <= ALL) return;
    this.#isAsked = true;
    requestAnimationFrame(() => {
      this.#isAsked = false;
      if (this.table.isConnected) this.#paint();
    });
  }

  #paint() {
    const total = this.#order.length;
    this.none.hidden = total > 0;
    this.table.hidden = total === 0;
    this.table.setAttribute("aria-rowcount", total + 1);
    const shown = this.#inView(total);
    const nodes = [];
    const used = new Map();
    let next = 0;
    let gaps = 0;
    const gap = (rows) => {
      if (rows > 0) nodes.push(this.#spacer(gaps++, rows));
    };
    for (const index of shown) {
      gap(index - next);
      const key = this.#order[index];
      const node = this.#nodes.get(key) ?? this.#make();
      used.set(key, node);
      this.#fill(node, this.#rows.get(key), index);
      nodes.push(node.tr);
      next = index + 1;
    }
    gap(total - next);
    this.#nodes = used;
    sync(this.body, nodes);
    const first = nodes.find((node) => node.className !== "spacer");
    if (total > ALL && first) this.#height = first.getBoundingClientRect().height || this.#height;
  }

  /** Return the indexes of the rows to have in the document: those near the view, and the one with the focus. */
  #inView(total) {
    if (total <= ALL) return Array.from({ length: total }, (_, i) => i);
    const box = this.body.getBoundingClientRect();
    const frame = this.scroller?.getBoundingClientRect() ?? { top: 0, bottom: innerHeight };
    const first = Math.max(0, Math.floor((frame.top - box.top) / this.#height) - BEYOND);
    const last = Math.min(total, Math.ceil((frame.bottom - box.top) / this.#height) + BEYOND);
    const shown = Array.from({ length: Math.max(0, last - first) }, (_, i) => Math.min(first, total) + i);
    const focused = [...this.#nodes].find(([, node]) => node.tr.contains(document.activeElement));
    const at = this.#order.indexOf(this.#wanted ?? focused?.[0]);
    if (at >= 0 && (at < first || at >= last)) shown.push(at);
    return shown.sort((a, b) => a - b);
  }

  #spacer(which, rows) {
    this.#spacers[which] ??= el(
      "tr",
      { class: "spacer", "aria-hidden": "true" },
      el("td", { colspan: this.columns.length }),
    );
    this.#spacers[which].firstChild.style.height = `${rows * this.#height}px`;
    return this.#spacers[which];
  }

  #make() {
    const cells = this.columns.map((column, i) => {
      const classes = [column.numeric && "number", column.optional && `optional-${column.optional}`].filter(Boolean);
      return el(i === this.#headAt() ? "th" : "td", {
        scope: i === this.#headAt() ? "row" : null,
        class: [`cell-${column.id}`, ...classes].join(" "),
        "data-label": column.label,
      });
    });
    return { tr: el("tr", {}, ...cells), cells, texts: [] };
  }

  #headAt() {
    return Math.max(
      0,
      this.columns.findIndex((column) => column.isHead),
    );
  }

  #fill(node, row, index) {
    if (node.index !== index) {
      node.index = index;
      node.tr.setAttribute("aria-rowindex", index + 2);
    }
    this.columns.forEach((column, i) => {
      const text = column.text(row);
      if (node.texts[i] === text) return;
      node.texts[i] = text;
      if (column.fill) column.fill(node.cells[i], row, text);
      else setText(node.cells[i], text);
    });
  }
}

/** Return "3 of 1,000 producers", or "1,000 producers". */
export function howMany(shown, total, what) {
  const all = `${number(total)} ${what}${total === 1 ? "" : "s"}`;
  return shown === total ? all : `${number(shown)} of ${all}`;
}
