// The charts of one budget, drawn by uPlot, each with a sentence and a table that say the same.

import { el, setText, sync } from "./dom.js";
import { clock, number, percent, rate } from "./format.js";

const SPAN = 600; // seconds
const LEAST_SPAN = 120;
const HEIGHT = 165;
const { uPlot } = globalThis;

const FLOW = {
  title: "Rate and granted",
  unit: "tokens per second",
  series: [
    { name: "rate", label: "Rate", color: "--line-1", step: true, format: rate },
    { name: "granted", label: "Granted", color: "--line-2", dash: [5, 3], format: rate },
  ],
  axis: rate,
  top: (most) => most * 1.1 || 1,
};
const PRESSURE = {
  title: "Load and level",
  unit: "load in percent, level from 0 to 3",
  series: [
    { name: "load", label: "Load", color: "--line-1", format: percent },
    { name: "level", label: "Level", color: "--line-3", dash: [2, 3], step: true, format: number, scale: "level" },
  ],
  axis: (value) => `${value} %`,
  top: (most) => Math.max(100, most),
};

export class Charts {
  #charts = [new Chart(FLOW), new Chart(PRESSURE)];
  node = el(
    "section",
    { class: "charts", "aria-labelledby": "charts-title" },
    el("h2", { id: "charts-title" }, "The last ten minutes"),
    ...this.#charts.map((chart) => chart.node),
  );

  /** Show the series up to `at`, in seconds since 1970. */
  update(series, at) {
    for (const chart of this.#charts) chart.update(series, at);
  }

  close() {
    for (const chart of this.#charts) chart.close();
  }
}

class Chart {
  #plot = null;
  #series = null;
  #at = 0;

  constructor(kind) {
    this.kind = kind;
    this.summary = el("p", { class: "says" });
    this.canvas = el("div", { class: "plot", role: "img" });
    this.rows = el("tbody");
    this.details = el(
      "details",
      {},
      el("summary", {}, "As a table, by the minute"),
      el(
        "table",
        {},
        el("caption", { class: "unseen" }, `${kind.title}, by the minute`),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("th", { scope: "col" }, "Time"),
            ...kind.series.map((each) => el("th", { scope: "col", class: "number" }, each.label)),
          ),
        ),
        this.rows,
      ),
    );
    this.details.addEventListener("toggle", () => this.#table());
    this.node = el(
      "figure",
      {},
      el("figcaption", {}, el("h3", {}, kind.title, el("span", { class: "unit" }, kind.unit)), this.summary),
      this.canvas,
      this.details,
    );
    this.resized = new ResizeObserver(() => this.#plot?.setSize(this.#size()));
    this.resized.observe(this.canvas);
    this.again = () => this.#draw();
    document.addEventListener("themechange", this.again);
  }

  close() {
    document.removeEventListener("themechange", this.again);
    this.resized.disconnect();
    this.#plot?.destroy();
  }

  update(series, at) {
    this.#series = series;
    this.#at = at;
    const last = series.rate.findLastIndex((value) => value !== null); // after it, nothing was known
    const when = last === series.at.length - 1 ? "now" : `at ${clock(series.at[last])}`;
    const told = this.kind.series.map((each) => said(each, series[each.name], last, when)).join(" ");
    setText(this.summary, told);
    this.canvas.setAttribute("aria-label", `${this.kind.title} in the last ten minutes. ${told}`);
    if (this.#plot) this.#plot.setData(this.#data());
    else if (this.canvas.clientWidth) this.#draw();
    this.#table();
  }

  #data() {
    return [this.#series.at, ...this.kind.series.map((each) => this.#series[each.name])];
  }

  #size() {
    return { width: Math.max(200, this.canvas.clientWidth), height: HEIGHT };
  }

  /** Return the ten minutes before now, or fewer while less is known. */
  #range() {
    const known = this.#at - (this.#series.at[0] ?? this.#at);
    return [this.#at - Math.min(SPAN, Math.max(LEAST_SPAN, known)), this.#at];
  }

  #draw() {
    if (!this.#series || !this.canvas.clientWidth) return;
    this.#plot?.destroy();
    const style = getComputedStyle(this.canvas);
    const resolved = (name) => colour(this.canvas, style.getPropertyValue(name));
    const quiet = { stroke: resolved("--quiet"), font: `12px ${style.fontFamily}`, ticks: { show: false } };
    const grid = { stroke: resolved("--rule"), width: 1 };
    const hasLevel = this.kind.series.some((each) => each.scale);
    this.#plot = new uPlot(
      {
        ...this.#size(),
        padding: [8, hasLevel ? 0 : 12, 0, 0],
        cursor: { y: false, points: { size: 6 } },
        legend: { markers: { width: 2, dash: (_, i) => (this.kind.series[i - 1]?.dash ? "dashed" : "solid") } },
        scales: {
          x: { time: true, range: () => this.#range() },
          y: { range: (_, least, most) => [0, this.kind.top(most ?? 0)] },
          ...(hasLevel ? { level: { range: [0, 3.3] } } : {}),
        },
        axes: [
          {
            ...quiet,
            grid: { show: false },
            space: 80,
            values: (_, splits) => splits.map((t) => clock(t).slice(0, 5)),
            incrs: [30, 60, 120, 300],
            size: 26,
          },
          { ...quiet, grid, size: 66, space: 36, values: (_, splits) => splits.map(this.kind.axis) },
          ...(hasLevel
            ? [
                {
                  ...quiet,
                  grid: { show: false },
                  scale: "level",
                  side: 1,
                  size: 28,
                  values: (_, splits) => splits,
                  splits: () => [0, 1, 2, 3],
                },
              ]
            : []),
        ],
        series: [
          { label: "Time", value: (_, t) => (t === null ? "-" : clock(t)) },
          ...this.kind.series.map((each) => ({
            label: each.label,
            scale: each.scale ?? "y",
            stroke: resolved(each.color),
            width: 1.75,
            dash: each.dash,
            points: { show: false },
            paths: each.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
            value: (_, value) => (value === null || value === undefined ? "-" : each.format(value)),
          })),
        ],
      },
      this.#data(),
      this.canvas,
    );
  }

  #table() {
    if (!this.details.open || !this.#series) return;
    const { at } = this.#series;
    const rows = [];
    let minute = -1;
    for (let i = at.length - 1; i >= 0; i -= 1) {
      if (Math.floor(at[i] / 60) === minute) continue;
      minute = Math.floor(at[i] / 60);
      rows.push(
        el(
          "tr",
          {},
          el("th", { scope: "row" }, clock(at[i])),
          ...this.kind.series.map((each) => {
            const value = this.#series[each.name][i];
            return el("td", { class: "number" }, value === null ? "-" : each.format(value));
          }),
        ),
      );
    }
    sync(this.rows, rows);
  }
}

function said(each, values, last, when) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return `${each.label}: not known yet.`;
  let least = Infinity;
  let most = -Infinity;
  for (const value of known) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const range = least === most ? "unchanged" : `between ${each.format(least)} and ${each.format(most)}`;
  const value = values[last] === null ? "not known" : each.format(values[last]);
  return `${each.label}: ${value} ${when}, ${range}.`;
}

/** Return a colour as the canvas takes it, whichever function the style sheet wrote it with. */
function colour(near, value) {
  const probe = el("span", { hidden: true });
  probe.style.color = value;
  near.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
