// The view of one budget: how it does and why, its charts, settings, members, denials and history.

import { Charts } from "./charts.js";
import { askPause, askResume, askSet, askUnset, refresh } from "./dialogs.js";
import { el, sentence, setText, sync } from "./dom.js";
import { ago, instant, number, percent, printable, rate } from "./format.js";
import { CONSUMERS, DENIALS, PRODUCERS, WAITING } from "./members.js";
import { fillLevel, fillLoad, fillState, name } from "./parts.js";
import { SETTINGS, settingOf } from "./settings.js";
import { stateOf } from "./status.js";
import { LiveTable, howMany } from "./table.js";

const FACTS = ["Rate", "Granted", "Load", "Level", "Tokens at hand", "Consumers", "Producers", "Last call"];

export class BudgetView {
  #past = null; // the history that is shown
  #canAct = false;

  /** `canAct` tells whether the caller is an operator, and `onChange(text)` is told what a dialog has done. */
  constructor(store, budgetName, onChange) {
    this.store = store;
    this.name = budgetName;
    this.onChange = onChange;
    this.title = printable(budgetName);
    this.state = el("p", { class: "state" });
    this.pause = el(
      "button",
      { type: "button", class: "alarming", onclick: () => this.#ask(askPause, "paused") },
      "Pause…",
    );
    this.resume = el(
      "button",
      { type: "button", class: "primary", onclick: () => this.#ask(askResume, "resumed") },
      "Resume…",
    );
    this.lookOnly = el("p", { class: "hint" }, "To pause or change this budget, sign in with an operator's token.");
    this.facts = new Map(FACTS.map((label) => [label, el("dd")]));
    this.because = el("ul", { class: "because" });
    this.remedies = el("ul");
    this.remediesTitle = el("h3", {}, "To raise the rate");
    this.charts = new Charts();
    this.settings = new Map(Object.keys(SETTINGS).map((field) => [field, this.#settingRow(field)]));
    this.consumersRegion = region("Consumers");
    this.producersRegion = region("Producers");
    this.consumers = new LiveTable({
      caption: "Consumers",
      columns: CONSUMERS,
      sort: "load",
      isDown: true,
      scroller: this.consumersRegion,
      empty: "No consumer reports.",
    });
    this.producers = new LiveTable({
      caption: "Producers",
      columns: PRODUCERS,
      sort: "unmet",
      isDown: true,
      scroller: this.producersRegion,
      empty: "No producer claims.",
    });
    this.waiting = new LiveTable({
      caption: "Callers that wait here",
      columns: WAITING,
      sort: "count",
      isDown: true,
      empty: "No caller waits in this server for tokens of this budget.",
    });
    this.denials = new LiveTable({
      caption: "Top denials",
      columns: DENIALS,
      sort: "count",
      isDown: true,
      empty: "This server has denied no caller of this budget.",
    });
    this.consumersRegion.append(this.consumers.node);
    this.producersRegion.append(this.producers.node);
    this.consumersCount = el("span", { class: "unit" });
    this.producersCount = el("span", { class: "unit" });
    this.past = el("tbody");
    this.noPast = el("p", { class: "none" }, "Nothing has changed yet, as far as the history reaches back.");
    this.content = el("div", { class: "budget", hidden: true }, ...this.#sections());
    this.none = el("p", { class: "none" }, "Reading the budget");
    this.node = el(
      "div",
      {},
      el("nav", { "aria-label": "Way back" }, el("a", { href: "#/" }, "All budgets")),
      el(
        "div",
        { class: "head" },
        el("h1", { tabindex: "-1" }, name(budgetName)),
        this.state,
        el("div", { class: "actions" }, this.resume, this.pause),
        this.lookOnly,
      ),
      this.none,
      this.content,
    );
  }

  close() {
    for (const each of [this.charts, this.consumers, this.producers, this.waiting, this.denials]) each.close();
  }

  render({ canAct, isRefused }) {
    this.#canAct = canAct;
    const { detail } = this.store;
    const budget = detail?.budget;
    const isThere = Boolean(budget) && !budget.damaged;
    this.content.hidden = !isThere;
    this.none.hidden = isThere;
    this.#renderHead(isThere ? budget : null);
    if (isThere) this.#renderBudget(detail, budget);
    else setText(this.none, isRefused ? "The server does not show this budget." : absence(detail, budget));
    if (isThere) refresh(budget);
  }

  #renderHead(budget) {
    const isPaused = budget?.is_paused ?? false;
    const focused = document.activeElement;
    this.resume.hidden = !budget || !this.#canAct || !isPaused;
    this.pause.hidden = !budget || !this.#canAct || isPaused;
    if (focused === this.pause && this.pause.hidden) this.resume.focus();
    if (focused === this.resume && this.resume.hidden) this.pause.focus();
    this.lookOnly.hidden = this.#canAct;
    this.state.hidden = !budget;
    if (!budget) return;
    fillState(this.state, stateOf(budget));
    this.title = `${printable(this.name)}: ${budget.state}`;
  }

  #renderBudget(detail, budget) {
    const { at } = this.store;
    const fact = (label, text) => setText(this.facts.get(label), text);
    fact("Rate", rate(budget.rate));
    fact("Granted", budget.granted_per_s === null ? "-" : rate(budget.granted_per_s));
    if (budget.load === null) fact("Load", "-");
    else fillLoad(this.facts.get("Load"), budget.load);
    fillLevel(this.facts.get("Level"), budget.level);
    fact("Tokens at hand", number(Number(budget.tokens.toFixed(1))));
    fact("Consumers", number(budget.consumer_count));
    fact("Producers", number(budget.producer_count));
    fact("Last call", ago(budget.age));
    list(this.because, detail.because);
    list(this.remedies, detail.remedies);
    this.remediesTitle.hidden = !detail.remedies.length;
    this.charts.update(detail.series, at);
    for (const [field, row] of this.settings) this.#renderSetting(row, settingOf(budget, field));
    this.consumers.update(detail.consumers);
    this.producers.update(detail.producers);
    setText(this.consumersCount, howMany(detail.consumers.size, budget.consumer_count, "consumer"));
    setText(this.producersCount, howMany(detail.producers.size, budget.producer_count, "producer"));
    this.waiting.update(new Map(detail.waiting.map((row) => [row.producer_id, row])));
    this.denials.update(new Map(detail.denials.map((row) => [JSON.stringify([row.producer_id, row.reason]), row])));
    if (this.#past !== detail.history) {
      this.#past = detail.history;
      this.noPast.hidden = detail.history.length > 0;
      sync(
        this.past,
        detail.history.map((event) => pastRow(event, at)),
      );
    }
  }

  #sections() {
    const facts = [...this.facts].map(([label, value]) => el("div", {}, el("dt", {}, label), value));
    const left = [
      this.charts.node,
      section("consumers", ["Consumers", this.consumersCount], this.consumersRegion),
      section("producers", ["Producers", this.producersCount], this.producersRegion),
    ];
    const right = [
      section("why", "Why this rate", this.because, this.remediesTitle, this.remedies),
      section(
        "settings",
        "Settings",
        el(
          "table",
          {},
          el("caption", { class: "unseen" }, "Settings"),
          el("thead", {}, headRow("Setting", "Value, who set it, and why")),
          el("tbody", {}, ...[...this.settings.values()].map((row) => row.tr)),
        ),
      ),
      section("waiting", "Callers that wait here", this.waiting.node),
      section("denials", "Top denials", this.denials.node),
    ];
    return [
      el("dl", { class: "facts" }, ...facts),
      el("div", { class: "column" }, ...left),
      el("div", { class: "column" }, ...right),
      section(
        "history",
        "History",
        scrolled(
          "All entries of the history",
          el(
            "table",
            { class: "past" },
            el("caption", { class: "unseen" }, "History, the newest first"),
            el(
              "thead",
              {},
              headRow("When", "What, who and why", "Rate:number", "Level:number", "Load:number", "Reason"),
            ),
            this.past,
          ),
          this.noPast,
        ),
      ),
    ];
  }

  #settingRow(field) {
    const change = el(
      "button",
      { type: "button", "aria-label": `Change ${field}`, onclick: () => this.#ask(askSet, `changed: ${field}`, field) },
      "Change…",
    );
    const unset = el(
      "button",
      {
        type: "button",
        "aria-label": `Remove the override of ${field}`,
        onclick: () => this.#ask(askUnset, `changed: ${field}`, field),
      },
      "Remove override…",
    );
    const cells = { value: el("strong"), source: el("span", { class: "hint" }) };
    const said = el("span", { class: "said" }, cells.value, " ", cells.source);
    const buttons = el("span", { class: "buttons" }, change, unset);
    const tr = el(
      "tr",
      {},
      el("th", { scope: "row" }, el("code", {}, field)),
      el("td", {}, el("div", { class: "setting" }, said, buttons)),
    );
    return { tr, change, unset, ...cells };
  }

  #renderSetting(row, setting) {
    setText(row.value, setting.value);
    const when = setting.age === null ? "" : `, ${ago(setting.age)}`;
    const why = setting.why ? `: ${printable(setting.why)}` : "";
    const who = setting.who ? `${printable(setting.who)} (${setting.source})` : setting.source;
    setText(row.source, `${who}${when}${why}`);
    row.value.className = setting.isSet ? "" : "unset";
    if (document.activeElement === row.unset && !setting.isOperators) row.change.focus();
    row.change.hidden = !this.#canAct;
    row.unset.hidden = !this.#canAct || !setting.isOperators;
  }

  async #ask(dialog, done, field) {
    const budget = this.store.detail?.budget;
    if (!budget) return;
    const result = await dialog(budget, field);
    if (document.activeElement === document.body) {
      // the button that opened the dialog is hidden by now
      const buttons = field ? [this.settings.get(field).change] : [this.resume, this.pause];
      buttons.find((button) => !button.hidden)?.focus();
    }
    if (result) this.onChange(`${printable(this.name)}: ${done}.`);
  }
}

function absence(detail, budget) {
  if (budget?.damaged) return `This budget cannot be read. ${budget.damaged.map(printable).join(" ")}`;
  if (detail?.isKnown)
    return "There is no budget of this name. It appears here when a program opens it, or an operator sets it.";
  return "Reading the budget";
}

/** Have a list show these sentences. Items whose sentence is the same are not touched. */
function list(node, sentences) {
  sentences.forEach((text, i) => {
    const item = node.children[i] ?? node.appendChild(el("li"));
    if (item.said === text) return;
    item.said = text;
    item.replaceChildren(...sentence(text));
  });
  while (node.children.length > sentences.length) node.lastChild.remove();
}

function pastRow(event, now) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, instant(event.at, now)),
    el("td", { class: "what" }, el("bdi", {}, printable(event.text || event.what || event.by))),
    el("td", { class: "number" }, rate(event.rate)),
    el("td", { class: "number" }, String(event.level)),
    el("td", { class: "number" }, event.load ? percent(event.load) : "-"), // 0 without a consumer that reports
    el("td", {}, printable(event.reason)),
  );
}

/** Return a row of headings, each `Label` or `Label:classes`. */
function headRow(...headings) {
  const parts = headings.map((heading) => heading.split(":"));
  return el("tr", {}, ...parts.map(([label, classes]) => el("th", { scope: "col", class: classes }, label)));
}

function section(id, title, ...children) {
  return el(
    "section",
    { class: id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, ...[title].flat()),
    ...children,
  );
}

function region(label) {
  return el("div", { class: "scrolled", role: "region", "aria-label": label, tabindex: "0" });
}

function scrolled(label, ...children) {
  const node = region(label);
  node.append(...children);
  return node;
}
