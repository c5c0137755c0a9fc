// How a budget does, in one word, and which budgets need somebody's eyes first.

const STATES = {
  damaged: { rank: 7, word: "Damaged", shape: "stop" },
  no_consumers: { rank: 6, word: "No consumers", shape: "stop" },
  unset: { rank: 5, word: "No rate", shape: "stop" },
  window: { rank: 5, word: "Blocked", shape: "stop" },
  full: { rank: 5, word: "Full", shape: "stop" },
  paused: { rank: 4, word: "Paused", shape: "pause" },
  near: { rank: 3, word: "Nearly full", shape: "warn" },
  busy: { rank: 2, word: "Busy", shape: "note" },
  unused: { rank: 1, word: "Not set", shape: "idle" },
  ok: { rank: 0, word: "OK", shape: "ok" },
};
const TROUBLE = 4; // from this rank on, producers get nothing, or next to nothing

/** Return the state of a budget: { rank, word, shape }. */
export function stateOf(row) {
  if (row.damaged) return STATES.damaged;
  if (row.is_paused) return STATES.paused;
  if (row.reason === "no_consumers") return STATES.no_consumers;
  if (row.reason === "unset") return row.producer_count ? STATES.unset : STATES.unused;
  if (row.reason === "window") return STATES.window;
  if (row.reason === "paused") return STATES.paused; // all consumers pause
  return [STATES.ok, STATES.busy, STATES.near, STATES.full][row.level] ?? STATES.ok;
}

export function isInTrouble(row) {
  return stateOf(row).rank >= TROUBLE;
}

/** What the word of a reason means, as in the tables of the command line. */
export const REASONS = {
  rate: "the ceiling that was set",
  load: "what the consumers can take",
  paused: "stopped by an operator, by code or by all consumers",
  no_consumers: "the consumers that were there are gone",
  window: "it is lossless, and no consumer says what it can hold",
  unset: "no rate is set and no consumer has reported",
};
