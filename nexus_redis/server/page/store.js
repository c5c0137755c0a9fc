// What the page knows, kept up to date by the events of the stream.

const KEPT = 600; // seconds of the charts

export class Store {
  at = 0; // of the newest event, in seconds since 1970, as the server has it
  hasList = false;
  budgets = new Map();
  trouble = { text: "", since: null };
  detail = null; // of one budget

  /** Begin with another budget, or with none. */
  watch(name) {
    this.detail = name === null ? null : new Detail(name);
  }

  apply(name, data) {
    if (name === "trouble") {
      this.trouble = data;
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
    this.denials = data.denials;
    if (data.history) this.history = data.history;
  }

  /** Take the past that the server remembers. What this page saw before, of a server that has ended, stays. */
  begin(series) {
    const first = series.at[0] ?? Infinity;
    const older = this.series.at.findIndex((at) => at >= first);
    const kept = older < 0 ? this.series.at.length : older;
    for (const [name, values] of Object.entries(this.series)) {
      this.series[name] = [...values.slice(0, kept), ...series[name]];
    }
  }

  /** Take what the list says of this budget: it comes sooner than the members, and once a second. */
  look(at, row) {
    const { series } = this;
    if (!row || row.damaged) return;
    if (this.budget && !this.budget.damaged) Object.assign(this.budget, row);
    if (at - (series.at.at(-1) ?? 0) < 0.5) return;
    series.at.push(at);
    series.rate.push(row.rate);
    series.granted.push(row.granted_per_s);
    series.load.push(row.load);
    series.level.push(row.level);
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
