// The dialogs in which an operator confirms a change. Each names the budget and what happens, and asks for a reason.

import * as api from "./api.js";
import { el, newId, setText } from "./dom.js";
import { counted, printable, rate, seconds } from "./format.js";
import { name } from "./parts.js";
import { SETTINGS, editable, entered, settingOf } from "./settings.js";

const UNITS = { seconds: 1, minutes: 60, hours: 3600 };

/** Show a dialog and resolve to what `act` returned, or to null if the person has cancelled. */
function confirm({ title, effect, fields = [], submit, act, isDangerous = false, needsReason = true }) {
  const heading = newId("title");
  const text = newId("effect");
  const error = el("p", { class: "error", role: "alert" });
  const reason = el("input", { id: newId("reason"), name: "reason", required: true, maxlength: 200, autocomplete: "off" });
  const confirmButton = el("button", { class: isDangerous ? "danger" : "primary" }, submit);
  const form = el("form", { method: "dialog" },
    el("h2", { id: heading }, ...title),
    el("div", { id: text, class: "effect" }, ...effect.map((each) => el("p", {}, ...[each].flat()))),
    ...fields,
    ...(needsReason ? [el("label", { for: reason.id }, "Reason, which the history keeps"), reason] : []),
    error,
    el("div", { class: "buttons" },
      el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), confirmButton));
  const dialog = el("dialog", { "aria-labelledby": heading, "aria-describedby": text }, form);
  const before = document.activeElement;
  return new Promise((resolve) => {
    let result = null;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      setText(error, "");
      confirmButton.disabled = true;
      try {
        result = (await act(reason.value.trim())) ?? true;
        dialog.close();
      } catch (problem) {
        if (!(problem instanceof api.Problem)) throw problem;
        setText(error, problem.message);
      } finally {
        confirmButton.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before?.isConnected) before.focus();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

const users = (budget) => counted(budget.producer_count, "producer");

export function askPause(budget) {
  const forever = el("input", { type: "radio", name: "until", id: newId("until"), value: "resumed", checked: true });
  const limited = el("input", { type: "radio", name: "until", id: newId("until"), value: "time" });
  const length = el("input", { type: "number", id: newId("length"), min: "0.001", step: "any", value: "5", "aria-label": "Length of the pause" });
  const unit = el("select", { "aria-label": "Unit of the length" }, ...Object.keys(UNITS).map((each) =>
    el("option", { selected: each === "minutes" }, each)));
  const choose = () => {
    limited.checked = true;
  };
  length.addEventListener("input", choose);
  unit.addEventListener("change", choose);
  return confirm({
    title: ["Pause ", name(budget.name), "?"],
    effect: [
      `Its rate goes from ${rate(budget.rate)} to 0/s. Within about a tenth of a second, no producer on any host gets tokens (${users(budget)} now).`,
      "Callers that wait go on waiting until their own timeouts, and go on when the pause is over.",
    ],
    fields: [el("fieldset", {}, el("legend", {}, "How long"),
      el("div", { class: "choice" }, forever, el("label", { for: forever.id }, "Until somebody resumes it")),
      el("div", { class: "choice" }, limited, el("label", { for: limited.id }, "For"), length, unit))],
    submit: "Pause the budget",
    isDangerous: true,
    act: (reason) => api.pause(budget.name, limited.checked ? Number(length.value) * UNITS[unit.value] : null, reason),
  });
}

export function askResume(budget, now) {
  const by = budget.pause_who ? ` by ${printable(budget.pause_who)}` : "";
  const why = budget.pause_reason ? `: "${printable(budget.pause_reason)}"` : "";
  const end = budget.paused_until ? ` The pause would end by itself in ${seconds(Math.max(0, budget.paused_until - now))}.` : "";
  return confirm({
    title: ["Resume ", name(budget.name), "?"],
    effect: [
      `It was paused${by}${why}.${end}`,
      `Its producers on all hosts (${users(budget)} now) go on at once, up to the rate that settings and consumers allow.`,
    ],
    submit: "Resume the budget",
    act: (reason) => api.resume(budget.name, reason),
  });
}

export function askSet(budget, field) {
  const setting = settingOf(budget, field);
  const { kind, effect, hint } = SETTINGS[field];
  const input = inputFor(kind, editable(field, setting));
  input.id = newId("value");
  const hinted = hint ? el("p", { class: "hint", id: newId("hint") }, hint) : null;
  if (hinted) input.setAttribute("aria-describedby", hinted.id);
  return confirm({
    title: [`Change ${field} of `, name(budget.name), "?"],
    effect: [
      `It is ${setting.value} now${setting.source ? `, set by ${setting.isOperators ? printable(setting.who || "an operator") : setting.source}` : ""}. ${effect}`,
      `The new value holds at once for its producers on all hosts (${users(budget)} now). It wins over the value in code until an operator takes it away.`,
    ],
    fields: [el("label", { for: input.id }, `New value of ${field}`), input, ...(hinted ? [hinted] : [])],
    submit: `Change ${field}`,
    act: (reason) => api.set(budget.name, { [field]: entered(field, input.value) }, reason),
  });
}

export function askUnset(budget, field) {
  const setting = settingOf(budget, field);
  return confirm({
    title: [`Take away the operator's ${field} of `, name(budget.name), "?"],
    effect: [
      `It is ${setting.value} now, set by ${printable(setting.who || "an operator")}.`,
      "Afterwards the value in code holds, or the default if code has none.",
    ],
    submit: "Take it away",
    act: (reason) => api.set(budget.name, { [field]: null }, reason),
  });
}

function inputFor(kind, value) {
  const words = kind === "yes or no" ? ["yes", "no"] : kind;
  if (Array.isArray(words)) {
    return el("select", {}, ...words.map((word) => el("option", { selected: word === value }, word)));
  }
  const isNumber = kind === "seconds" || kind === "milliseconds";
  return el("input", { type: isNumber ? "number" : "text", step: "any", min: isNumber ? "0" : null, required: true, autocomplete: "off", value });
}

/** Ask for a token, and keep it for this tab. */
export function askToken(why) {
  const input = el("input", { id: newId("token"), type: "password", autocomplete: "off", required: true });
  return confirm({
    title: ["Sign in"],
    effect: [why, "The token stays in this tab, and is forgotten when you close it."],
    fields: [el("label", { for: input.id }, "Token"), input],
    submit: "Sign in",
    needsReason: false,
    act: async () => {
      const last = api.token.get();
      api.token.set(input.value.trim());
      try {
        return await api.whoami();
      } catch (problem) {
        api.token.set(last);
        throw problem;
      }
    },
  });
}
