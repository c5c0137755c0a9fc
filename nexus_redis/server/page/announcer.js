// What a screen reader is told: changes that somebody should know of, and no figures.

import { printable } from "./format.js";

const MOST = 3; // budgets that are named at once

export class Announcer {
  #known = null; // by budget, the word of its state

  constructor(node) {
    this.node = node;
  }

  say(text) {
    this.node.textContent = text;
  }

  /** Tell of the budgets that have got into trouble, or out of it. */
  look(budgets) {
    const now = new Map(
      [...budgets].map(([name, row]) => [name, { word: row.state, isBad: row.is_trouble }]),
    );
    const before = this.#known;
    this.#known = now;
    if (!before) return;
    const told = [];
    for (const [name, state] of now) {
      const was = before.get(name);
      if (was?.word !== state.word && (state.isBad || was?.isBad)) told.push(`${printable(name)}: ${state.word}`);
    }
    if (told.length)
      this.say(`${told.slice(0, MOST).join(". ")}${told.length > MOST ? `, and ${told.length - MOST} others` : ""}.`);
  }
}
