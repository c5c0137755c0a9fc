// The page: which view is shown, whether the connection is there, and who is signed in.

import { Announcer } from "./announcer.js";
import * as api from "./api.js";
import { BudgetView } from "./budget.js";
import { askToken } from "./dialogs.js";
import { el, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { clock, seconds } from "./format.js";
import { ListView } from "./list.js";
import { Store } from "./store.js";

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const connection = document.getElementById("connection");
const tokenButton = document.getElementById("token");

const announcer = new Announcer(document.getElementById("announcer"));
const store = new Store();
const feed = new Feed(onEvent, onState);
let view = null;
let caller = null; // the answer of whoami
let link = { kind: "connecting" };
let isDrawing = false;

const canAct = () => caller?.roles?.includes("operator") ?? false;

function onEvent(name, data) {
  const before = store.trouble.text;
  store.apply(name, data);
  if (name === "budgets") announcer.look(store.budgets);
  if (name === "trouble" && Boolean(before) !== Boolean(data.text)) {
    announcer.say(data.text ? "Redis does not answer. The server tries again." : "Redis answers again.");
  }
  draw();
}

function onState(state) {
  const before = link.kind;
  link = state;
  if (state.kind === before && state.kind === "live") return;
  if (state.kind === "lost" && before !== "lost")
    announcer.say("The connection to the server is lost. The page tries again.");
  if (state.kind === "live" && before === "lost") {
    announcer.say("The connection to the server is back.");
    learn();
  }
  if (state.kind === "refused") {
    announcer.say(state.text);
    if (state.status === 401) store.clear();
    learn();
  }
  draw();
}

function render() {
  view?.render({ canAct: canAct(), isRefused: link.kind === "refused" });
}

/** Draw once for all events of a frame. In a hidden tab nothing is drawn. */
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    render();
    document.title = `${view?.title ?? ""} - nexus-redis`;
    drawConnection();
  });
}

function drawConnection() {
  const problem = problemText();
  banner.hidden = !problem;
  if (problem) setText(banner, problem);
  const isStale = link.kind !== "live" || store.trouble.text;
  connection.dataset.state = link.kind === "live" ? (store.trouble.text ? "lost" : "live") : link.kind;
  const words = {
    connecting: "Connecting",
    lost: "Not live",
    refused: "Not live",
    live: isStale ? "Not live" : `Live, ${clock(store.at)}`,
  };
  setText(connection.lastChild, store.at || link.kind !== "live" ? words[link.kind] : "Connecting");
  setText(
    tokenButton,
    caller?.name ? `Signed in as ${caller.name}` : caller && !caller.needs_token ? "No token needed" : "Sign in",
  );
  tokenButton.hidden = Boolean(caller && !caller.needs_token && !api.token.get());
}

function problemText() {
  const old = store.at ? `The figures are those of ${clock(store.at)}.` : "";
  if (link.kind === "refused") return link.text;
  if (link.kind === "lost") {
    const now = Date.now();
    const next = link.nextTry > now + 500 ? ` Next try in ${seconds(Math.ceil((link.nextTry - now) / 1000))}.` : "";
    const since = clock(link.since / 1000);
    return `The connection to the server has been lost since ${since}. The page tries again.${next} ${old}`;
  }
  if (store.trouble.text) {
    const { text, since } = store.trouble;
    return `Redis has not answered since ${clock(since)}. The server tries again. ${old} (${text})`;
  }
  return "";
}

function route() {
  const match = location.hash.match(/^#\/budget\/(.+)$/);
  if (location.hash === "#main") return; // the skip link
  const name = match ? decoded(match[1]) : null;
  const isFirst = view === null;
  const from = view instanceof BudgetView ? view.name : null;
  view?.close();
  link = link.kind === "refused" ? { kind: "connecting" } : link;
  store.watch(name);
  view = name === null ? new ListView(store) : new BudgetView(store, name, (text) => announcer.say(text));
  main.replaceChildren(view.node);
  render();
  feed.watch(name);
  draw();
  if (isFirst) return; // a browser begins at the top by itself
  scrollTo(0, 0);
  if (from === null || !view.goBackTo?.(from)) main.querySelector("h1").focus({ preventScroll: true });
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function learn() {
  try {
    caller = await api.whoami();
  } catch (problem) {
    if (!(problem instanceof api.Problem)) throw problem;
    caller = problem.status === 401 ? { name: "", roles: [], needs_token: true } : caller;
  }
  draw();
}

async function signIn() {
  const why =
    link.kind === "refused"
      ? link.text
      : "A token says who you are. With an operator's token you can pause and change budgets.";
  const found = await askToken(why);
  if (!found) return;
  caller = found === true ? null : found; // or the token was forgotten
  if (found === true) await learn();
  feed.watch(view instanceof BudgetView ? view.name : null);
  draw();
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash says which view is shown
  main.focus();
});
tokenButton.addEventListener("click", signIn);
history.scrollRestoration = "manual"; // the views know better: their rows come later
addEventListener("hashchange", route);
setInterval(() => link.kind === "lost" && draw(), 1000);
learn();
route();
