// Numbers as the command line writes them: `5,000/s`, `10/min`, `95 %`. The same rules as _values/formatting.py.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const PER = [
  [1, "s"],
  [60, "min"],
  [3600, "h"],
  [86400, "d"],
];
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;

/** Return a text without characters that would hide or turn round what stands beside it. Names come from anybody. */
export function printable(text) {
  return String(text ?? "").replace(UNPRINTABLE, "\ufffd");
}

/** 12345.6 is "12,346", 2500.5 is "2,500.5", 0.25 is "0.25". */
export function number(x) {
  const size = Math.abs(x);
  if (size >= 10000) return WHOLE.format(x);
  return size >= 1000 ? TENTHS.format(x) : digits(x, 4);
}

function digits(x, count) {
  const short = Number(x.toPrecision(count));
  const text = String(short);
  return text.includes("e") ? short.toFixed(12).replace(/\.?0+$/, "") : text;
}

/** 1 is "1 token", 4 is "4 tokens". */
export function counted(x, what) {
  return `${number(x)} ${what}${x === 1 ? "" : "s"}`;
}

/** 5000 is "5,000/s", 1/6 is "10/min". */
export function rate(perSecond) {
  for (const [seconds, unit] of PER) {
    if (perSecond * seconds >= 0.9999) return `${number(perSecond * seconds)}/${unit}`;
  }
  return perSecond ? `${number(perSecond * 86400)}/d` : "0/s";
}

/** 0.25 is "0.25 s", 90 is "90 s", 7200 is "2 h". */
export function seconds(x) {
  if (x < 120) return x >= 10 ? `${Math.round(x)} s` : `${digits(x, 2)} s`;
  return x < 7200 ? `${number(tenth(x / 60))} min` : `${number(tenth(x / 3600))} h`;
}

export function percent(x) {
  return `${number(tenth(x))} %`;
}

function tenth(x) {
  return Number(x.toFixed(1));
}

/** An age in the steps of live/rows.py: "now", or "30 s ago". */
export function ago(age) {
  return age < 2 ? "now" : `${seconds(age)} ago`;
}

/** Seconds since 1970 as the time of day here, 24 hours. */
export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

/** The same with the day, unless that is today. */
export function instant(at, now) {
  const day = (t) => new Date(t * 1000).toLocaleDateString("sv-SE");
  return day(at) === day(now) ? clock(at) : `${day(at)} ${clock(at)}`;
}

/** The value of a setting with its unit. */
export function settingValue(field, value) {
  switch (field) {
    case "rate":
    case "min_rate":
      return rate(Number(value));
    case "burst":
    case "transit":
    case "grace":
      return `${number(Number(value))} s`;
    case "latency_target_ms":
      return `${number(Number(value))} ms`;
    case "lossless":
      return Number(value) === 1 ? "yes" : "no";
    default:
      return printable(value);
  }
}
