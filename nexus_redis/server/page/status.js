// The marks of the states of budgets. The server says the state: _protocol/states.py.

/** By state, the shape of its mark. All others are serious. */
const SHAPES = { Paused: "pause", "Nearly full": "warn", Busy: "note", "Not set": "idle", OK: "ok" };

/** Return the state of a budget as `fillState` takes it. */
export const stateOf = (row) => ({ word: row.state, shape: SHAPES[row.state] ?? "stop" });
