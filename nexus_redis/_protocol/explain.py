"""Why a budget's rate is what it is: `budget.explain()`, and `nexus-redis explain NAME`.

A script made the decision and stored its reason; this module only explains it. Each reason has one function. Its
sentences say whose report, ceiling, pause or silence it was, and what would raise the rate. Sentences about everything
else that limits the budget (values of an operator, a window, silent consumers) follow. The history says since when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from nexus_redis._protocol.calls import LEASE, LONGEST_TRIP, REFRESH
from nexus_redis._protocol.damage import read_keys
from nexus_redis._protocol.fields import instant
from nexus_redis._protocol.history import HISTORY, Event, before_the_last, event_of, events
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command, Plan
from nexus_redis._protocol.snapshot import BudgetSnapshot, ConsumerSnapshot, snapshot
from nexus_redis._values.formatting import counted, number, percent, printable, rate, seconds

FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the rate is what it is: `because` and `remedies` are sentences, and `str()` is the whole explanation.

    The reason has been the same for `since` seconds, None if the history does not tell. `consumer` is the consumer that
    determines the rate, if one does. `history` has the newest entry first.
    """

    budget: BudgetSnapshot
    because: tuple[str, ...]
    remedies: tuple[str, ...]
    since: float | None
    consumer: ConsumerSnapshot | None
    history: tuple[Event, ...]

    @property
    def headline(self) -> str:
        """Return the budget in one line."""
        seen = self.budget
        how_full = f", load {percent(seen.load)}" if seen.consumers else ""
        since = f", for {seconds(self.since)}" if self.since is not None else ""
        return f"{seen.name}: {rate(seen.rate)}, level {seen.level}{how_full}, reason {seen.reason}{since}"

    def __str__(self) -> str:
        remedies = ("", "To raise it:", *(f"  {remedy}" for remedy in self.remedies)) if self.remedies else ()
        return "\n".join((self.headline, *(f"  {sentence}" for sentence in self.because), *remedies))


def explain(keys: BudgetKeys, server: str, clock: Callable[[], float]) -> Plan[Explanation]:
    """Return the plan that explains a budget; its result is an `Explanation`."""
    seen: BudgetSnapshot = yield from snapshot(keys, server)
    asked_at = clock()
    time = Command(("TIME",), lambda reply: int(reply[0]) + int(reply[1]) / 1e6)
    now, found = yield from read_keys(keys, [time, events(keys)], server)
    trip = clock() - asked_at
    return explained(seen, tuple(event_of(keys, entry, now) for entry in found), now, trip)


def explained(seen: BudgetSnapshot, history: tuple[Event, ...], now: float, trip: float = 0.0) -> Explanation:
    """Return the explanation of a snapshot and a history. `trip` is the seconds that Redis took to answer. No I/O."""
    ruler = _ruler(seen) if seen.reason in ("load", "rate", "paused") else None
    because, remedies = _REASONS.get(seen.reason, _other)(_Case(seen, ruler, history, now))
    return Explanation(
        budget=seen,
        because=(*because, *_beside(seen), *_far_away(seen, trip)) if seen.exists else tuple(because),
        remedies=tuple(remedies),
        since=_since(seen, history),
        consumer=ruler,
        history=history,
    )


@dataclass(frozen=True, slots=True)
class _Case:
    seen: BudgetSnapshot
    ruler: ConsumerSnapshot | None
    history: tuple[Event, ...]
    now: float

    def set_(self, option: str) -> str:
        return f"`nexus-redis set {self.seen.name} {option}`"

    @property
    def live(self) -> list[ConsumerSnapshot]:
        return [each for each in self.seen.consumers if each.is_live]


Sentences = tuple[list[str], list[str]]


def _by_ceiling(case: _Case) -> Sentences:
    seen = case.seen
    value, source = seen.settings.get("rate", ("0", "code"))
    who = "an operator set" if source == "operator" else "code gives"
    because = [f"The rate is the ceiling: {who} rate {rate(float(value))}{_whose(case, 'rate')}."]
    if case.live:
        because.append(f"The consumers could take as much or more: {_many(case.live)} live, {_how(seen)}.")
        if case.ruler is not None:
            because.append(_report_of(case.ruler))
    elif seen.last_consumer_end == "overruled":
        because.append("The last consumer fell silent, and an operator has set something since: the ceiling stands in.")
    elif seen.last_consumer_end:
        because.append(f"No consumer reports: the last one {_END[seen.last_consumer_end]}.")
    else:
        because.append("No consumer has ever reported, so it is a fixed limit.")
    remedies = [f"a higher ceiling: {case.set_('--rate RATE')}"]
    if source == "operator":
        remedies.append(f"the value in code instead, if there is one: {case.set_('--unset rate')}")
    return because, remedies


def _whose(case: _Case, field: str) -> str:
    """Return, in brackets, the operator who set a setting, when, the value before, and the reason."""
    by = case.seen.set_by.get(field)
    if by is None:
        return ""
    told = [printable(by.who), f"{seconds(by.age)} ago"]
    before = before_the_last(case.history, field)
    if before:
        told.append(f"before {before}")
    why = f': "{printable(by.why)}"' if by.why else ""
    return f" ({', '.join(told)}{why})"


def _by_load(case: _Case) -> Sentences:
    seen, ruler = case.seen, case.ruler
    if not case.live:
        grace = float(seen.settings.get("grace", (GRACE, ""))[0])
        because = [
            JUST_LEFT.format(grace=seconds(grace)),
            "Until that time is over (the setting grace), the rate is no more than that consumer could take.",
        ]
        return because, ["a report of a consumer", f"the ceiling without waiting: {case.set_('--grace 0')}"]
    because = [f"The consumers decide the rate: {_many(case.live)} live, {_how(seen)}."]
    remedies: list[str] = []
    if paused := _paused(case):
        because += paused
        remedies.append(END_OF_PAUSES)
    if ruler is not None:
        because.append(_report_of(ruler))
        is_easy = ruler.law == "range" and ruler.load <= EASY
        remedy = MORE_CAPACITY if is_easy else LAW_REMEDIES.get(ruler.law, "a report that says that it can take more")
        remedies.append(remedy.format(id=ruler.id))
    floor = float(seen.settings.get("min_rate", ("0", ""))[0])
    if 0 < floor == seen.rate:
        because.append(f"The floor holds it up: min-rate {rate(floor)}.")
        remedies.append(f"a higher floor: {case.set_('--min-rate RATE')}")
    if seen.settings.get("combine", ("sum", ""))[0] == "sum":
        remedies.append("another consumer: what each can take is added up")
    return because, remedies


def _by_pause(case: _Case) -> Sentences:
    seen = case.seen
    if seen.paused_for is not None:
        who = "An operator" if seen.pause_by == "operator" else "Code"
        if seen.pause_who:
            who += f" ({printable(seen.pause_who)})"
        how_long = "until it is resumed" if seen.paused_for == FOREVER else f"for another {seconds(seen.paused_for)}"
        why = f": {printable(seen.pause_reason)}" if seen.pause_reason else ""
        return (
            [BUDGET_PAUSED.format(who=who, how_long=how_long, why=why)],
            [f"the end of the pause: `nexus-redis resume {seen.name}`"],
        )
    return ["The consumers have taken their parts out.", *_paused(case)], [END_OF_PAUSES]


def _paused(case: _Case) -> list[str]:
    return [
        CONSUMER_PAUSED.format(id=each.id, left=seconds(left))
        for each in case.live
        if "paused_until" in each.fields and (left := instant(each.fields["paused_until"]) - case.now) > 0
    ]


def _by_silence(case: _Case) -> Sentences:
    seen = case.seen
    silent = [each for each in seen.consumers if not each.is_live]
    if case.live and silent:
        because = [f"Every item touches all consumers (combine min), and {_names(silent)} fell silent."]
    elif silent:
        because = [f"The consumers that were there fell silent: {_names(silent)}."]
    else:
        because = [f"The last consumer {_END.get(seen.last_consumer_end, 'has gone')}, and no other reports."]
    floor = float(seen.settings.get("min_rate", ("0", ""))[0])
    because.append(f"So the rate is the floor: min-rate {rate(floor)}.")
    remedies = ["a report of a consumer"]
    if "rate" in seen.settings or case.live:  # without both, the budget has no rate to fall back to
        forget = f"not to count on it any more: `nexus-redis forget {seen.name}"
        remedies += [f"{forget} {each.id}`" for each in silent[:_NAMED]]
    if "rate" in seen.settings:
        if not case.live:
            remedies.append(f"an operator's word instead of the report: {case.set_('--rate RATE')}")
    else:
        remedies.append(f"a fixed rate: {case.set_('--rate RATE')}")
    return because, remedies


def _by_nothing(case: _Case) -> Sentences:
    if not case.seen.exists:
        because = [NO_BUDGET.format(name=case.seen.name)]
    else:
        because = ["No rate is set and no consumer has ever reported, so nothing is granted."]
    return because, [f"a fixed rate: rate= in code, or {case.set_('--rate RATE')}", "a consumer that reports"]


def _by_window(case: _Case) -> Sentences:
    because = ["It is lossless, so no more is granted than its consumers say that they can hold, and none reports."]
    remedies = ["a consumer that reports queue_limit, queue_depth, done, errors and in_flight"]
    return because, [*remedies, f"without that promise: {case.set_('--no-lossless')}"]


def _other(case: _Case) -> Sentences:
    return [f"The scripts say {case.seen.reason}, which this release does not know."], []


_REASONS: Final = {
    "rate": _by_ceiling,
    "load": _by_load,
    "paused": _by_pause,
    "no_consumers": _by_silence,
    "unset": _by_nothing,
    "window": _by_window,
}
_END: Final = {
    "left": "left",
    "silent": "fell silent",
    "forgotten": "was forgotten by an operator",
    "overruled": "fell silent",
}
LAW_REMEDIES: Final = {
    "range": "less load on {id} (it takes all that it can below 80 %), or a higher capacity",
    "drain": "{id} doing more per second, or a shorter queue there: the law learns from what gets done",
    "aimd": "fewer errors or less latency at {id}: the law then climbs by itself",
}
GRACE: Final = 10  # seconds, as in lua/lib/times.lua
EASY: Final = 80  # percent, as in lua/lib/range.lua
MORE_CAPACITY: Final = "a higher capacity at {id}: below 80 % load it gives all that it has"
BUDGET_PAUSED: Final = "{who} has paused the whole budget, {how_long}{why}."
CONSUMER_PAUSED: Final = "{id} is paused for another {left}."
JUST_LEFT: Final = "The last consumer left less than {grace} ago, as it does in a restart."
GIVEN: Final = "law {law} gives it {rate}."
MISSING: Final = " It found no {missing}."
NO_BUDGET: Final = (
    "There is no budget {name}: no acquire, report or configure has opened it yet, or its state was lost."
)
FAR_AWAY: Final = (
    "Redis took {trip} to answer just now, and a lease lasts {lease}: tokens expire on their way to a process as far "
    "away, and most of the budget is not used. Use a Redis that is nearer."
)
END_OF_PAUSES: Final = "the end of their pauses: `consumer.pause(0)`, or `nexus-redis report ... --pause 0`"
_NAMED: Final = 5  # members by name in a sentence


def _beside(seen: BudgetSnapshot) -> Iterator[str]:
    """Yield sentences on everything else that limits the budget, whatever its reason."""
    silent = [each for each in seen.consumers if not each.is_live]
    if silent and seen.reason in ("load", "rate"):
        yield f"Silent, so without a part in it: {_names(silent)}."
    told = "rate" if seen.reason == "rate" else None  # by `_by_ceiling`
    overridden = [
        field.replace("_", "-")
        for field, (_, source) in seen.settings.items()
        if source == "operator" and field != told
    ]
    if overridden:
        yield f"Set by an operator, whatever code says: {', '.join(overridden)}."
    if seen.reason != "window" and seen.settings.get("lossless", ("0", ""))[0] == "1":
        yield "It is lossless: beside the rate, no more is granted than the consumers have room for."
    elif any(each.is_live and each.law == "drain" and not each.capacity for each in seen.consumers):
        yield (
            "A capacity is still being learned from what is counted as done: until then no more is granted than there "
            "is room for. Where nothing counts it, wrap the work in `work()` or give a `capacity`."
        )
    if seen.producers:
        wanted = sum(each.demand for each in seen.producers)
        verb, together = (
            ("shares it, and wants", "") if seen.producer_count == 1 else ("share it, and want", " together")
        )
        yield f"{counted(seen.producer_count, 'producer')} {verb} {rate(wanted)}{together}."


def _far_away(seen: BudgetSnapshot, trip: float) -> Iterator[str]:
    is_lossless = seen.settings.get("lossless", ("0", ""))[0] == "1"
    lease = LEASE / REFRESH * seen.refresh + (0.0 if is_lossless else LONGEST_TRIP)  # `lease_of` in answer.lua
    if trip >= lease:
        yield FAR_AWAY.format(trip=seconds(trip), lease=seconds(lease))


def _ruler(seen: BudgetSnapshot) -> ConsumerSnapshot | None:
    """Return the consumer that determines the rate: in a pool the one that withholds most, else the lowest one."""
    live = [each for each in seen.consumers if each.is_live and each.rate > 0]  # a paused consumer determines nothing
    combine = seen.settings.get("combine", ("sum", ""))[0]
    if not live:
        return None
    if combine == "min":
        return min(live, key=lambda each: each.rate)
    if combine == "spread":
        arrivals = {each.id: float(each.fields.get("arrivals_per_s", 0)) for each in live}
        return min(live, key=lambda each: each.rate / arrivals[each.id] if arrivals[each.id] else FOREVER)
    return max(live, key=lambda each: (max(0.0, (each.capacity or 0.0) - each.rate), each.law != "range", each.load))


def _report_of(each: ConsumerSnapshot) -> str:
    said = [f"load {percent(each.load)}"]
    if each.capacity:
        said.append(f"capacity {rate(each.capacity)}")
    said += [
        f"{words} {number(float(each.fields[field]))}"
        for field, words in (
            ("queue_depth", "queue"), ("in_flight", "in flight"), ("errors", "errors"), ("latency_ms", "latency in ms"),
        )
        if each.fields.get(field)
    ]  # fmt: skip
    missing = _missing(each.fields.get("labels", ""))
    return (
        f"{each.id} reported {seconds(float(each.fields['age_s']))} ago ({', '.join(said)}); "
        f"{GIVEN.format(law=each.law, rate=rate(each.rate))}{MISSING.format(missing=missing) if missing else ''}"
    )


def _missing(labels: str) -> str:
    """Return the name of the work that a report did not find in Redis."""
    try:
        said = json.loads(labels)
    except (ValueError, RecursionError):  # a consumer may report any text as its labels
        return ""
    missing = said.get("missing") if isinstance(said, dict) else None
    return missing if isinstance(missing, str) else ""


def _how(seen: BudgetSnapshot) -> str:
    return {
        "sum": "what each can take is added up",
        "spread": "work is pushed to them, so the fullest one rules",
        "min": "every item touches all, so the slowest one rules",
    }.get(seen.settings.get("combine", ("sum", ""))[0], "")


def _many(consumers: list[ConsumerSnapshot]) -> str:
    return counted(len(consumers), "consumer")


def _names(consumers: list[ConsumerSnapshot]) -> str:
    named = [f"{each.id} (last report {seconds(float(each.fields['age_s']))} ago)" for each in consumers[:_NAMED]]
    if len(consumers) > _NAMED:
        named.append(f"{number(len(consumers) - _NAMED)} more")
    return ", ".join(named)


def _since(seen: BudgetSnapshot, history: tuple[Event, ...]) -> float | None:
    since = None
    for event in history:
        if event.reason != seen.reason:
            return since
        since = event.age
    return since if len(history) < HISTORY else None  # the reason is older than the entries that were read
