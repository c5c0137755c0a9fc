// The columns of the tables of one budget: consumers, producers, and those that were denied.

import { ago, clock, number, percent, printable, rate } from "./format.js";
import { fillLoad, fillState, name } from "./parts.js";
import { natural } from "./table.js";

const id = (label) => ({
  id: "id",
  label,
  isHead: true,
  value: (row) => natural(row.id),
  text: (row) => row.id,
  fill: (cell, row) => cell.replaceChildren(name(row.id)),
});

const LIVE = { word: "Live", shape: "ok" };
const STALE = { word: "Stale", shape: "stop" };
const RESTS = { word: "Paused", shape: "pause" };
const consumerState = (row) => (!row.is_live ? STALE : row.paused_until ? RESTS : LIVE);

export const CONSUMERS = [
  {
    id: "status",
    label: "Status",
    text: (row) => consumerState(row).word,
    fill: (cell, row) => fillState(cell, consumerState(row)),
  },
  id("Consumer"),
  {
    id: "load",
    label: "Load",
    first: "down",
    title: "As it reports",
    value: (row) => row.load,
    text: (row) => percent(row.load),
    fill: (cell, row) => fillLoad(cell, row.load),
  },
  { id: "reports", label: "It also reports", text: reports },
  {
    id: "capacity",
    label: "Capacity",
    numeric: true,
    first: "down",
    value: (row) => row.capacity ?? -1,
    text: (row) => (row.capacity === null ? "-" : rate(row.capacity)),
  },
  { id: "law", label: "Law", text: (row) => printable(row.law) },
  {
    id: "rate",
    label: "It can take",
    numeric: true,
    first: "down",
    title: "What the law made of its report",
    value: (row) => row.rate,
    text: (row) => rate(row.rate),
  },
  {
    id: "age",
    label: "Last report",
    numeric: true,
    value: (row) => row.age,
    text: (row) => ago(row.age),
  },
];

function reports(row) {
  const { queue_depth: depth, queue_limit: limit, in_flight: flying, latency_ms: latency, done, errors } = row.reported;
  const parts = [
    depth === undefined ? "" : `queue ${number(depth)}${limit ? ` of ${number(limit)}` : ""}`,
    flying === undefined ? "" : `${number(flying)} in flight`,
    latency ? `${number(latency)} ms` : "",
    done ? `${number(done)} done` : "",
    errors ? `${number(errors)} errors` : "",
    row.paused_until ? `pauses until ${clock(Date.parse(row.paused_until) / 1000)}` : "",
    row.labels ? printable(row.labels) : "",
  ];
  return parts.filter(Boolean).join(", ") || "-";
}

const unmet = (row) => Math.max(0, row.demand - row.share);
const amount = (field, label, title) => ({
  id: field,
  label,
  title,
  numeric: true,
  first: "down",
  value: (row) => row[field],
  text: (row) => rate(row[field]),
});

export const PRODUCERS = [
  id("Producer"),
  amount("demand", "Demand", "What it wants"),
  amount("share", "Share", "What it may use if it asks for it"),
  {
    id: "unmet",
    label: "Unmet",
    numeric: true,
    first: "down",
    title: "Demand that its share does not cover",
    value: unmet,
    text: (row) => (unmet(row) > 0.001 * row.demand ? rate(unmet(row)) : "-"),
  },
  {
    id: "held",
    label: "Held",
    numeric: true,
    first: "down",
    title: "Tokens that it may still spend",
    value: (row) => row.held,
    text: (row) => number(Math.floor(row.held)),
  },
  {
    id: "waiting",
    label: "Waiting",
    numeric: true,
    first: "down",
    title: "Callers in this server that wait. Other processes do not say how many wait there.",
    value: (row) => row.waiting ?? -1,
    text: (row) => (row.waiting === undefined || row.waiting === null ? "-" : number(row.waiting)),
  },
  {
    id: "weight",
    label: "Weight",
    numeric: true,
    first: "down",
    value: (row) => row.weight,
    text: (row) => number(row.weight),
  },
  {
    id: "priority",
    label: "Priority",
    value: (row) => ["high", "normal", "low"].indexOf(row.priority),
    text: (row) => printable(row.priority),
  },
  {
    id: "age",
    label: "Last claim",
    numeric: true,
    value: (row) => row.age,
    text: (row) => ago(row.age),
  },
];

/** A caller of this server, by the id that it gave. */
const CALLER = {
  ...id("Producer"),
  value: (row) => natural(row.producer_id),
  text: (row) => row.producer_id,
  fill: (cell, row) => cell.replaceChildren(name(row.producer_id)),
};
const count = (label) => ({
  id: "count",
  label,
  numeric: true,
  first: "down",
  value: (row) => row.count,
  text: (row) => number(row.count),
});

export const WAITING = [CALLER, count("Waiting")];

export const DENIALS = [
  CALLER,
  { id: "reason", label: "Reason", text: (row) => printable(row.reason) },
  count("Denied"),
];
