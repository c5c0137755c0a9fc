// The settings of a budget: what each does, and how a person enters it.

import { rate, settingValue } from "./format.js";

/** By name: `kind` is how it is entered, `usual` its default, `effect` what it does, `hint` how to write it. */
export const SETTINGS = {
  rate: {
    kind: "rate",
    hint: "For example 100/s, 6000/min or 10/h.",
    effect:
      "It is the ceiling for all producers together. Consumers can lower the rate, and never raise it above this.",
  },
  min_rate: {
    kind: "rate",
    usual: 0,
    hint: "For example 5/s.",
    effect: "It is the floor under what the consumers say. Only a pause and lossless go below it.",
  },
  burst: {
    kind: "seconds",
    usual: 0.25,
    hint: "Seconds of the rate, for example 0.25 or 60.",
    effect: "It says how many seconds of the rate may go at once, beside one token.",
  },
  law: {
    kind: ["range", "drain", "aimd"],
    effect: "It says how each consumer's reports become the rate that this consumer can take.",
  },
  combine: {
    kind: ["sum", "spread", "min"],
    usual: "sum",
    effect: "It says how the rates of several consumers become the rate of the budget.",
  },
  latency_target_ms: {
    kind: "milliseconds",
    hint: "Milliseconds, for example 200.",
    effect: "It is the latency above which the law aimd lowers the rate.",
  },
  lossless: {
    kind: "yes or no",
    usual: 0,
    effect:
      "With yes, the budget never admits more than the consumers can hold. This needs consumers with a queue limit.",
  },
  transit: {
    kind: "seconds",
    usual: 1,
    hint: "Seconds, for example 2.",
    effect:
      "It is the longest time from the spending of a token until a report shows its work. Lossless depends on it.",
  },
  grace: {
    kind: "seconds",
    usual: 10,
    hint: "Seconds, for example 10.",
    effect: "It says for how long the rate of the last consumer stays after that consumer has left.",
  },
};

/** What holds where there is no default. */
const UNSET = {
  rate: "no ceiling: the consumers decide",
  law: "chosen for each consumer by what it reports",
  latency_target_ms: "three times the usual latency counts as slow",
};

/** Return the fields of a row of the settings table. */
export function settingOf(budget, field) {
  const found = budget.settings?.[field];
  const { usual } = SETTINGS[field];
  return {
    field,
    isSet: Boolean(found),
    isOperators: found?.source === "operator",
    value: found ? settingValue(field, found.value) : usual === undefined ? "not set" : settingValue(field, usual),
    source: found?.source ?? (usual === undefined ? UNSET[field] : "default"),
    who: found?.who ?? "",
    why: found?.why ?? "",
    age: found?.age ?? null,
    raw: found?.value,
  };
}

/** Return what the server takes for an entered text. It checks the value, and its answer says what is wrong. */
export function entered(field, text) {
  const { kind } = SETTINGS[field];
  if (kind === "yes or no") return text === "yes";
  if (kind === "seconds" || kind === "milliseconds") {
    const value = Number(text);
    return text.trim() === "" || Number.isNaN(value) ? text : value;
  }
  return text.trim();
}

/** Return what to put into the field of the dialog before a person changes it. */
export function editable(field, setting) {
  if (!setting.isSet) return "";
  const { kind } = SETTINGS[field];
  if (kind === "rate") return rate(Number(setting.raw)).replaceAll(",", "");
  if (kind === "yes or no") return Number(setting.raw) === 1 ? "yes" : "no";
  return String(setting.raw);
}
