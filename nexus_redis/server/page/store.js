// What the page knows, kept up to date by the events of the stream.

const KEPT = 600; // seconds of the charts
/** The lines of the charts, and the fields of a budget that they show. */
const FIGURES = [
  ["rate", "rate"],
  ["granted", "granted_per_s"],
  ["load", "load"],
  ["level", "level"],
];

export class Store {
  at = 0; // of the newest event, in seconds since 1970, as the server has it
  hasList = false;
  budgets = new Map();
  trouble = { text: "", since: null };
  detail = null; // of one budget

  /** Forget all figures: nobody is signed in any more. */
  clear() {
    this.at = 0;
    this.hasList = false;
    this.budgets = new Map();
    this.trouble = { text: "", since: null };
    this.watch(this.detail?.name ?? null);
  }

  /** Begin with another budget, or with none. */
  watch(name) {
    this.detail = name === null ? null : new Detail(name);
  }

  apply(name, data) {
    if (name === "trouble") {
      this.trouble = data;
      if (data.text) this.detail?.interrupt(data.since);
    } else if (name === "budgets") {
      this.at = data.at;
      this.hasList = true;
      merge(this.budgets, data.budgets, data.gone, "name", data.is_whole);
      this.detail?.look(data.at, this.budgets.get(this.detail.name));
    } else if (this.detail && name === "series") {
      this.detail.begin(data);
    } else if (this.detail && name === "budget") {
      this.at = data.at;
      this.detail.apply(data);
    }
  }
}

class Detail {
  isKnown = false; // whether anything has been heard of it
  budget = null;
  consumers = new Map();
  producers = new Map();
  because = [];
  remedies = [];
  history = [];
  waiting = [];
  denials = [];
  series = { at: [], rate: [], granted: [], load: [], level: [] };

  constructor(name) {
    this.name = name;
  }

  apply(data) {
    this.isKnown = true;
    this.budget = data.budget;
    merge(this.consumers, data.consumers, data.gone_consumers, "id", data.is_whole);
    merge(this.producers, data.producers, data.gone_producers, "id", data.is_whole);
    this.because = data.because;
    this.remedies = data.remedies;
    this.waiting = data.waiting;
    this.denials = data.denials;
    if (data.history) this.history = data.history;
    this.#sample(data.at, data.budget);
  }

  /** Take the past that the server remembers. What this page saw before, of a server that has ended, stays. */
  begin(series) {
    const first = series.at[0] ?? Infinity;
    const older = this.series.at.findIndex((at) => at >= first);
    const kept = older < 0 ? this.series.at.length : older;
    for (const [name, values] of Object.entries(this.series)) {
      this.series[name] = values.slice(0, kept);
    }
    if (series.at.length && older < 0) this.interrupt(this.series.at.at(-1));
    for (const [name, values] of Object.entries(this.series)) values.push(...series[name]);
  }

  /** Nothing is known from this instant on, until the next look: the lines have a gap. */
  interrupt(at) {
    if ((this.series.rate.at(-1) ?? null) !== null) this.#push(at, {});
  }

  /** Take what the list says of this budget: it comes sooner than the members, and once a second. */
  look(at, row) {
    if (!row || row.damaged) return;
    if (this.budget && !this.budget.damaged) Object.assign(this.budget, row);
    this.#sample(at, row);
  }

  /** Have the charts end with these figures, which stand above them. */
  #sample(at, row) {
    if (!row || row.damaged) return;
    const { series } = this;
    const last = series.at.length - 1;
    if (at - (series.at[last] ?? 0) < 0.5 && series.rate[last] !== null) {
      for (const [name, field] of FIGURES) series[name][last] = row[field];
    } else {
      this.#push(at, row);
    }
  }

  #push(at, row) {
    const { series } = this;
    series.at.push(at);
    for (const [name, field] of FIGURES) series[name].push(row[field] ?? null);
    const stale = series.at.findIndex((each) => each >= at - KEPT);
    if (stale > 60) for (const values of Object.values(series)) values.splice(0, stale);
  }
}

function merge(rows, changed, gone, key, isWhole) {
  const missing = isWhole ? new Set(rows.keys()) : new Set();
  for (const row of changed) {
    missing.delete(row[key]);
    const known = rows.get(row[key]);
    if (!known || isWhole) rows.set(row[key], row);
    else Object.assign(known, row);
  }
  for (const name of [...gone, ...missing]) rows.delete(name);
}
