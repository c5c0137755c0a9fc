// The live stream: server-sent events through fetch, because EventSource cannot send a token. It never gives up.

import { headers, problemOf } from "./api.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;
const REFUSALS = [400, 401, 403, 422]; // another try would have the same answer
const SILENCE = 6000; // the server sends something each 2 s

export class Feed {
  #budget;
  #running = null;
  #heardAt = null; // when the server last sent anything
  #wake = () => {};

  /**
   * `onEvent(name, data)` gets each event; `onState(state)` gets { kind: "live" | "lost" | "refused", ... }.
   * A connection is lost `since` the server last sent anything.
   */
  constructor(onEvent, onState) {
    this.onEvent = onEvent;
    this.onState = onState;
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake());
  }

  /** Watch all budgets, and one with its members if it is given. */
  watch(budget) {
    this.#running?.abort();
    this.#budget = budget;
    this.#running = new AbortController();
    this.#run(this.#running.signal);
  }

  async #run(signal) {
    let since = null;
    let wait = FIRST_WAIT;
    while (!signal.aborted) {
      const attempt = new AbortController();
      const stop = () => attempt.abort();
      signal.addEventListener("abort", stop);
      try {
        const end = await this.#connect(attempt, () => {
          since = null;
          wait = FIRST_WAIT;
        });
        if (end) {
          if (!signal.aborted) this.onState(end);
          return;
        }
      } catch {
        // The connection broke, or nobody listens there. The state says so.
      } finally {
        signal.removeEventListener("abort", stop);
        attempt.abort();
      }
      if (signal.aborted) return;
      since ??= this.#heardAt ?? Date.now();
      const pause = wait * (0.75 + Math.random() / 2);
      this.onState({ kind: "lost", since, nextTry: Date.now() + pause });
      await this.#rest(pause);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    }
  }

  #rest(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #connect(attempt, whenLive) {
    const query = this.#budget === null ? "" : `?budget=${encodeURIComponent(this.#budget)}`;
    let silence = 0;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => attempt.abort(), SILENCE);
    };
    listen();
    try {
      const answer = await fetch(`v1/events${query}`, {
        headers: headers(),
        cache: "no-store",
        signal: attempt.signal,
      });
      if (REFUSALS.includes(answer.status)) {
        const problem = await problemOf(answer);
        return { kind: "refused", status: answer.status, text: problem.message };
      }
      if (!answer.ok) return null;
      const heard = () => {
        this.#heardAt = Date.now();
        listen();
      };
      await read(answer.body, heard, (name, data) => {
        if (attempt.signal.aborted) return;
        whenLive();
        this.onState({ kind: "live" });
        this.onEvent(name, data);
      });
      return null;
    } finally {
      clearTimeout(silence);
    }
  }
}

export async function read(body, onBytes, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onBytes();
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block.split("\n").map((line) => {
          const colon = line.indexOf(": ");
          return [line.slice(0, colon), line.slice(colon + 2)];
        }),
      );
      if (fields.event) onEvent(fields.event, JSON.parse(fields.data));
    }
  }
}
