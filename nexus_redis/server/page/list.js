// The view of all budgets, those in trouble first.

import { el, setText } from "./dom.js";
import { ago, number, percent, rate } from "./format.js";
import { fillLevel, fillLoad, fillState, name } from "./parts.js";
import { stateOf } from "./status.js";
import { LiveTable, howMany, natural } from "./table.js";

const NONE = "-";
const known = (row, write) => (row.damaged ? NONE : write(row));
const size = (row, value) => (row.damaged ? -1 : value(row));

/** Return the hash of a budget's view. */
export const hashOf = (budget) => `#/budget/${encodeURIComponent(budget)}`;

const COLUMNS = [
  {
    id: "status",
    label: "Status",
    width: 9,
    value: (row) => row.place,
    text: (row) => row.state,
    fill: (cell, row) => fillState(cell, stateOf(row)),
  },
  {
    id: "budget",
    label: "Budget",
    isHead: true,
    value: (row) => natural(row.name),
    text: (row) => row.name,
    fill: (cell, row) => cell.replaceChildren(el("a", { href: hashOf(row.name) }, name(row.name))),
  },
  {
    id: "rate",
    label: "Rate",
    numeric: true,
    first: "down",
    width: 6.5,
    title: "What all producers together may use",
    value: (row) => size(row, () => row.rate),
    text: (row) => known(row, () => rate(row.rate)),
  },
  {
    id: "granted",
    label: "Granted",
    numeric: true,
    first: "down",
    width: 6.5,
    title: "Tokens granted per second, between the last two looks",
    value: (row) => size(row, () => row.granted_per_s ?? -1),
    text: (row) => known(row, () => (row.granted_per_s === null ? NONE : rate(row.granted_per_s))),
  },
  {
    id: "level",
    label: "Level",
    first: "down",
    width: 5,
    title: "Backpressure, 0 to 3",
    value: (row) => size(row, () => row.level),
    text: (row) => known(row, () => String(row.level)),
    fill: (cell, row, text) => (row.damaged ? cell.replaceChildren(text) : fillLevel(cell, row.level)),
  },
  {
    id: "load",
    label: "Load",
    first: "down",
    width: 8,
    title: "The load that consumers report",
    value: (row) => size(row, () => row.load ?? -1),
    text: (row) => known(row, () => (row.load === null ? NONE : percent(row.load))),
    fill: (cell, row, text) => (text === NONE ? cell.replaceChildren(text) : fillLoad(cell, row.load)),
  },
  {
    id: "reason",
    label: "Reason",
    text: reasonOf,
    fill: (cell, row, text) => cell.replaceChildren(name(text)),
  },
  {
    id: "consumers",
    label: "Consumers",
    numeric: true,
    first: "down",
    optional: "large",
    width: 7,
    value: (row) => size(row, () => row.consumer_count),
    text: (row) => known(row, () => number(row.consumer_count)),
  },
  {
    id: "producers",
    label: "Producers",
    numeric: true,
    first: "down",
    optional: "medium",
    width: 7,
    value: (row) => size(row, () => row.producer_count),
    text: (row) => known(row, () => number(row.producer_count)),
  },
  {
    id: "age",
    label: "Last call",
    numeric: true,
    optional: "large",
    width: 7,
    title: "Since a producer or consumer last called",
    value: (row) => size(row, () => row.age),
    text: (row) => known(row, () => ago(row.age)),
  },
];

function reasonOf(row) {
  if (row.damaged) return row.damaged.join(" ");
  return row.is_paused && row.pause_reason ? `${row.reason}: ${row.pause_reason}` : row.reason;
}

const CHOICES = [
  ["all", "All"],
  ["trouble", "In trouble"],
  ["paused", "Paused"],
  ["used", "In use"],
];
const KEEPS = {
  all: () => true,
  trouble: (row) => row.is_trouble,
  paused: (row) => row.is_paused,
  used: (row) => row.producer_count > 0 || row.consumer_count > 0,
};

// What a person has typed and chosen stays while they look at one budget.
const chosen = { text: "", show: "all", sort: "status", isDown: false, scroll: 0 };

export class ListView {
  isRefused = false;
  constructor(store) {
    this.store = store;
    this.title = "Budgets";
    this.summary = el("p", { class: "summary", id: "summary" });
    const filter = el("input", {
      type: "search",
      id: "filter",
      autocomplete: "off",
      spellcheck: "false",
      value: chosen.text,
    });
    filter.addEventListener("input", () => {
      chosen.text = filter.value;
      this.render();
    });
    const show = el(
      "select",
      { id: "show" },
      ...CHOICES.map(([value, label]) => el("option", { value, selected: value === chosen.show }, label)),
    );
    show.addEventListener("change", () => {
      chosen.show = show.value;
      this.render();
    });
    this.table = new LiveTable({
      caption: "All budgets",
      columns: COLUMNS,
      sort: chosen.sort,
      isDown: chosen.isDown,
      empty: "",
    });
    this.node = el(
      "div",
      { class: "list" },
      el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Budgets"), this.summary),
      el(
        "form",
        { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        el("div", {}, el("label", { for: "filter" }, "Filter by name, status or reason"), filter),
        el("div", {}, el("label", { for: "show" }, "Show"), show),
      ),
      this.table.node,
    );
  }

  close() {
    chosen.sort = this.table.sort.id;
    chosen.isDown = this.table.isDown;
    chosen.scroll = scrollY;
    this.table.close();
  }

  /** Go to where the list was, and focus this budget. Return whether it is there. */
  goBackTo(budget) {
    scrollTo(0, chosen.scroll);
    const row = this.table.find(budget);
    row?.querySelector("a").focus();
    return Boolean(row);
  }

  render({ isRefused = this.isRefused } = {}) {
    this.isRefused = isRefused;
    const { budgets, hasList } = this.store;
    const wanted = chosen.text.trim().toLowerCase();
    const keeps = KEEPS[chosen.show];
    const rows = new Map();
    let troubled = 0;
    for (const [key, row] of budgets) {
      if (row.is_trouble) troubled += 1;
      const isFound =
        !wanted ||
        key.toLowerCase().includes(wanted) ||
        row.state.toLowerCase().includes(wanted) ||
        reasonOf(row).toLowerCase().includes(wanted);
      if (isFound && keeps(row)) rows.set(key, row);
    }
    const trouble = troubled ? `${number(troubled)} in trouble` : "none in trouble";
    setText(
      this.summary,
      hasList
        ? `${howMany(rows.size, budgets.size, "budget")}, ${trouble}`
        : isRefused
          ? "The server does not show its budgets."
          : "Reading the budgets",
    );
    setText(
      this.table.none,
      !hasList
        ? ""
        : budgets.size
          ? "No budget matches the filter."
          : "There is no budget yet. A budget appears here when a program opens it, or an operator sets it.",
    );
    this.table.update(rows);
    this.title = troubled ? `${number(troubled)} in trouble` : "Budgets";
  }
}
