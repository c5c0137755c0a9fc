// Calls to the server, with the token of this tab, and errors as sentences.

const KEY = "nexus-redis token";

export class Problem extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  },
};

export function headers() {
  return token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
}

const UNSURE = " It is not known whether the change was made: the history shows it.";

/** Send a request and return its JSON. Raise a `Problem` whose text says what happened. */
export async function call(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      cache: "no-store",
      headers: { ...headers(), ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
    });
  } catch {
    throw new Problem(0, `The server does not answer.${method === "GET" ? "" : UNSURE}`);
  }
  if (!answer.ok) {
    const problem = await problemOf(answer);
    if (method !== "GET" && answer.status >= 500) problem.message += UNSURE;
    throw problem;
  }
  return answer.status === 204 ? null : answer.json();
}

/** Return the `Problem` that an answer describes. */
export async function problemOf(answer) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // Something between this page and the server has answered, and not in JSON.
  }
  const detail = [said.detail ?? said.title].filter(Boolean).join(" ");
  return new Problem(answer.status, sentenceOf(answer.status, detail));
}

function sentenceOf(status, detail) {
  if (status === 401) {
    return token.get()
      ? "The server does not accept this token. Enter another one, or ask the person who runs the server."
      : "This server needs a token. Sign in with one that may read budgets.";
  }
  if (status === 403) return `Your token does not allow this. ${detail}`.trim();
  return detail || `The server answered with the status ${status}.`;
}

const at = (name) => `v1/budgets/${encodeURIComponent(name)}`;

export const whoami = () => call("GET", "v1/whoami");
export const set = (name, settings, reason) => call("PUT", at(name), { settings, reason });
export const pause = (name, seconds, reason) => call("POST", `${at(name)}/pause`, { seconds, reason });
export const resume = (name, reason) => call("POST", `${at(name)}/resume`, { reason });
