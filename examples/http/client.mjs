// Take a token of a budget before each piece of work:   node client.mjs stripe 3
const { NEXUS_HTTP: address = "http://127.0.0.1:8080", NEXUS_TOKEN: token } = process.env;
const server = address.replace(/\/+$/, "");
const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };

// Returns when it has the tokens, or throws an error that asking again does not mend.
async function acquire(budget, cost) {
  const body = JSON.stringify({ budget, cost, producer_id: "node" });
  for (;;) {
    const answer = await fetch(`${server}/v1/acquire`, { method: "POST", headers, body }).catch((error) => {
      throw new Error(`The server at ${server} does not answer: ${error.cause?.message ?? error.message}`);
    });
    const said = await answer.json().catch(() => ({ detail: "The answer is not JSON." }));
    if (answer.status === 200) return;
    if (answer.status !== 429 && answer.status !== 503)
      throw new Error(`The server refused ${cost} tokens of ${budget} with status ${answer.status}: ${said.detail}`);
    const seconds = Math.max(1, Number(answer.headers.get("Retry-After"))); // 1 if there is none
    console.error(`${said.detail} Asking again in ${seconds} s.`);
    await new Promise((goOn) => setTimeout(goOn, seconds * 1000));
  }
}

const [budget, count] = process.argv.slice(2);
if (!budget || !/^\d+$/.test(count)) {
  console.error("Give the name of a budget and the number of calls, as in: client stripe 3");
  process.exit(2);
}
try {
  for (let i = 1; i <= Number(count); i++) {
    await acquire(budget, 1);
    console.log("call", i); // the work
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
