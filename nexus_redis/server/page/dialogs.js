// The dialogs in which an operator confirms a change. Each names the budget and what happens, and asks for a reason.

import * as api from "./api.js";
import { el, newId, setText } from "./dom.js";
import { clock, counted, printable, rate } from "./format.js";
import { name } from "./parts.js";
import { SETTINGS, editable, entered, settingOf } from "./settings.js";

const UNITS = { seconds: 1, minutes: 60, hours: 3600 };

let open = null; // the dialog that is shown

/** Tell the open dialog how its budget is now. If that is not what the dialog says, it says so and asks again. */
export function refresh(budget) {
  open?.(budget);
}

/**
 * Show a dialog and resolve to what `act` returned, or to null if the person has cancelled.
 * `standing` says how things are, and `effect` what will happen. Both are functions of the budget.
 */
function confirm(asked) {
  const { title, budget, standing, effect, fields = [], submit, act, isDangerous, needsReason = true, other } = asked;
  const heading = newId("title");
  const text = newId("effect");
  const error = el("p", { class: "error", role: "alert" });
  const reason = el("input", {
    id: newId("reason"),
    name: "reason",
    required: true,
    pattern: ".*\\S.*", // not spaces only
    title: "Say why.",
    maxlength: 200,
    autocomplete: "off",
  });
  const said = el("div", { id: text, class: "effect" });
  const before = el("p");
  const again = el("input", { type: "checkbox", id: newId("again") });
  const meanwhile = el(
    "div",
    { class: "meanwhile", role: "alert", hidden: true },
    before,
    el("div", { class: "choice" }, again, el("label", { for: again.id }, `${submit} all the same`)),
  );
  let last = null;
  const tell = (now) => {
    const stands = standing(now);
    if (stands === last) return;
    if (last !== null) {
      setText(before, `This has changed while the dialog was open. Before: "${last}"`);
      meanwhile.hidden = false;
      again.checked = false;
      again.required = true;
    }
    last = stands;
    said.replaceChildren(...[stands, ...effect(now)].filter(Boolean).map((each) => el("p", {}, each)));
  };
  tell(budget);
  const confirmButton = el("button", { class: isDangerous ? "danger" : "primary" }, submit);
  const form = el(
    "form",
    { method: "dialog" },
    el("h2", { id: heading }, ...title),
    said,
    ...fields,
    ...(needsReason ? [el("label", { for: reason.id }, "Reason, which the history keeps"), reason] : []),
    meanwhile,
    error,
    el(
      "div",
      { class: "buttons" },
      other ? el("button", { type: "button", onclick: () => finish(other.act()) }, other.label) : null,
      el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      confirmButton,
    ),
  );
  const dialog = el("dialog", { "aria-labelledby": heading, "aria-describedby": text }, form);
  let result = null;
  const finish = (found) => {
    result = found ?? true;
    dialog.close();
  };
  return new Promise((resolve) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      setText(error, "");
      confirmButton.disabled = true;
      try {
        finish(await act(reason.value.trim()));
      } catch (problem) {
        if (!(problem instanceof api.Problem)) throw problem;
        setText(error, problem.message);
      } finally {
        confirmButton.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      open = null;
      dialog.remove();
      resolve(result);
    });
    open = tell;
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Return who has paused a budget, why, and until when. */
function pauseOf(budget) {
  const by = budget.pause_who ? ` by ${printable(budget.pause_who)}` : "";
  const why = budget.pause_reason ? `: "${printable(budget.pause_reason)}"` : "";
  const end = budget.paused_until ? `ends by itself at ${clock(budget.paused_until)}` : "has no end";
  return `It is paused${by}${why}. This pause ${end}.`;
}

const users = (budget) => counted(budget.producer_count, "producer");

export function askPause(budget) {
  const forever = el("input", { type: "radio", name: "until", id: newId("until"), value: "resumed", checked: true });
  const limited = el("input", { type: "radio", name: "until", id: newId("until"), value: "time" });
  const length = el("input", {
    type: "number",
    id: newId("length"),
    required: true,
    min: "0.001", // 0 would end a pause
    step: "any",
    value: "5",
    "aria-label": "Length of the pause",
  });
  const unit = el(
    "select",
    { "aria-label": "Unit of the length" },
    ...Object.keys(UNITS).map((each) => el("option", { selected: each === "minutes" }, each)),
  );
  const choose = () => {
    limited.checked = true;
  };
  forever.addEventListener("change", () => {
    if (!length.checkValidity()) length.value = "5"; // it does not count, and must not be in the way
  });
  length.addEventListener("input", choose);
  unit.addEventListener("change", choose);
  return confirm({
    title: ["Pause ", name(budget.name), "?"],
    budget,
    standing: (now) => (now.is_paused ? `${pauseOf(now)} Yours takes its place.` : "It is not paused."),
    effect: (now) => [
      `Its rate goes from ${rate(now.rate)} to 0/s.
      Within about a tenth of a second, no producer on any host gets tokens (${users(now)} now).`,
      "Callers that wait go on waiting until their own timeouts, and go on when the pause is over.",
    ],
    fields: [
      el(
        "fieldset",
        {},
        el("legend", {}, "How long"),
        el("div", { class: "choice" }, forever, el("label", { for: forever.id }, "Until somebody resumes it")),
        el("div", { class: "choice" }, limited, el("label", { for: limited.id }, "For"), length, unit),
      ),
    ],
    submit: "Pause the budget",
    isDangerous: true,
    act: (reason) => api.pause(budget.name, limited.checked ? Number(length.value) * UNITS[unit.value] : null, reason),
  });
}

export function askResume(budget) {
  return confirm({
    title: ["Resume ", name(budget.name), "?"],
    budget,
    standing: (now) => (now.is_paused ? pauseOf(now) : "It is not paused any more."),
    effect: (now) => [
      `Its producers on all hosts (${users(now)} now) go on at once,
      up to the rate that settings and consumers allow.`,
    ],
    submit: "Resume the budget",
    act: (reason) => api.resume(budget.name, reason),
  });
}

export function askSet(budget, field) {
  const { kind, effect, hint } = SETTINGS[field];
  const input = inputFor(kind, editable(field, settingOf(budget, field)));
  input.id = newId("value");
  const hinted = hint ? el("p", { class: "hint", id: newId("hint") }, hint) : null;
  if (hinted) input.setAttribute("aria-describedby", hinted.id);
  return confirm({
    title: [`Change ${field} of `, name(budget.name), "?"],
    budget,
    standing: (now) => settingNow(now, field),
    effect: (now) => [
      effect,
      `The new value holds at once for its producers on all hosts (${users(now)} now).
      It wins over the value in code until an operator removes the override.`,
    ],
    fields: [el("label", { for: input.id }, `New value of ${field}`), input, ...(hinted ? [hinted] : [])],
    submit: `Change ${field}`,
    act: (reason) => api.set(budget.name, { [field]: entered(field, input.value) }, reason),
  });
}

export function askUnset(budget, field) {
  return confirm({
    title: [`Remove the override of ${field} of `, name(budget.name), "?"],
    budget,
    standing: (now) => settingNow(now, field),
    effect: () => ["Afterwards the value in code holds, or the default if code has none."],
    submit: "Remove the override",
    act: (reason) => api.set(budget.name, { [field]: null }, reason),
  });
}

/** Return what a setting is, and who has set it. */
function settingNow(budget, field) {
  const setting = settingOf(budget, field);
  const who = setting.isOperators ? printable(setting.who || "an operator") : setting.source;
  return `It is ${setting.value} now${setting.isSet ? `, set by ${who}` : ` (${setting.source})`}.`;
}

function inputFor(kind, value) {
  const words = kind === "yes or no" ? ["yes", "no"] : kind;
  if (Array.isArray(words)) {
    return el("select", {}, ...words.map((word) => el("option", { selected: word === value }, word)));
  }
  const isNumber = kind === "seconds" || kind === "milliseconds";
  return el("input", {
    type: isNumber ? "number" : "text",
    step: "any",
    min: isNumber ? "0" : null,
    required: true,
    autocomplete: "off",
    value,
  });
}

/**
 * Ask for a token, and keep it for this tab.
 * Resolve to the answer of whoami, or to true if the token was forgotten.
 */
export function askToken(why) {
  const input = el("input", { id: newId("token"), type: "password", autocomplete: "off", required: true });
  return confirm({
    title: ["Sign in"],
    standing: () => why,
    effect: () => ["The token stays in this tab, and is forgotten when you close it."],
    fields: [el("label", { for: input.id }, "Token"), input],
    submit: "Sign in",
    needsReason: false,
    other: api.token.get() && { label: "Sign out", act: () => api.token.set("") },
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
