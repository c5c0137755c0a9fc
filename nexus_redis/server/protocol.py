"""`POST /v1/signal`, `/v1/report` and `/v1/leave`: the protocol over HTTP, one call of a script for each message.

A producer or a consumer of these messages is a member of the budget by its own id, as if it spoke to Redis itself. One
that asks for tokens by `/v1/signal` does what docs/protocol.md says of a client.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypedDict

from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import LIST_EACH, listed
from nexus_redis._protocol.calls import REPORTED, Claim
from nexus_redis._protocol.fields import instant
from nexus_redis._protocol.json_forms import ReportJson, report_of
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command
from nexus_redis._values.parse import micro, micro_rate
from nexus_redis.errors import InvalidSetting
from nexus_redis.messages import CapacitySignal, LoadReport
from nexus_redis.server import texts
from nexus_redis.server.access import CONSUMER, PRODUCER
from nexus_redis.server.batch import Batch
from nexus_redis.server.call import Call, Reply
from nexus_redis.server.known_budgets import KnownBudgets, Latest
from nexus_redis.server.requests import LeaveRequest

INTERVAL_MS: Final = 60_000.0  # of a report that does not say when the next one comes
MISSED_REPORTS: Final = 3
SHORTEST_LIFE: Final = 2.0  # seconds that a report counts, however short the interval is


class ReceivedJson(ReportJson):
    """The answer to a report. `kept` is false if it came too soon after the one before to be counted."""

    kept: bool


class LeftJson(TypedDict):
    """The answer to a producer or consumer that has left: the tokens that went back, and whether it was there."""

    left: bool
    returned: float


class Protocol:
    """The three operations, and the budgets that this process has put on the list of all."""

    def __init__(self, batch: Batch, namespace: str, known: KnownBudgets, clock: Any) -> None:
        self._batch, self._namespace, self._known, self._clock = batch, namespace, known, clock
        self._listed: Latest[float] = Latest()

    async def signal(self, call: Call) -> Reply:
        """Answer a CapacitySignal with a FlowControl."""
        said = CapacitySignal(**await call.fields())
        name = said.consumer_id
        call.caller.require(PRODUCER, name)
        await self._known.require(name)
        keys = BudgetKeys(self._namespace, name)
        claim = calls.claim(keys, said.producer_id, claim_of(said), with_all_keys=True)
        # A claim with a number is never charged twice. One that asks for no tokens may be repeated, too.
        is_repeatable = not said.tokens or bool(said.seq and said.incarnation)
        found = await self._batch.ask(claim, *self._list(name), is_repeatable=is_repeatable)
        return Reply({"action": "FlowControl", **calls.flow_fields(name, found[0])})

    async def report(self, call: Call) -> Reply:
        """Take a LoadReport, and answer with the rate that follows from it. The first one creates its budget."""
        said = LoadReport(**await call.fields())
        name = said.consumer_id
        call.caller.require(CONSUMER, name)
        if said.interval_ms is None:
            said = said.model_copy(update={"interval_ms": INTERVAL_MS})
        measures = {field: getattr(said, field) for field in REPORTED}
        if all(value is None for field, value in measures.items() if field not in ("interval_ms", "uptime_ms")):
            raise InvalidSetting("load", remedy=texts.NOTHING_REPORTED)
        keys = BudgetKeys(self._namespace, name)
        labels = json.dumps(said.labels) if said.labels else ""
        report = calls.report(keys, said.instance_id, measures, said.incarnation or "", said.seq or 0, labels)
        now = Command(("TIME",), lambda reply: int(reply[0]) + int(reply[1]) // 1000 / 1000)
        when = Command(("HGET", keys.consumer(said.instance_id), "reported_at"), _instant)
        began, standing, *_ = await self._batch.ask(now, report, *self._list(name))
        # In a round trip of its own: a script that Redis does not know yet is sent again, after all other calls.
        reported_at = (await self._batch.ask(when))[0]
        lives = max(MISSED_REPORTS * (said.interval_ms or 0) / 1e3, SHORTEST_LIFE)
        answer: ReceivedJson = {**report_of(said, standing, lives), "kept": reported_at >= began - 0.0005}
        return Reply(answer)

    async def leave(self, call: Call) -> Reply:
        """Have a producer hand its tokens back and leave, or a consumer leave."""
        said = LeaveRequest(**await call.fields())
        if (said.producer_id is None) == (said.instance_id is None):
            raise InvalidSetting("producer_id", remedy=texts.ONE_ID)
        name, keys = said.consumer_id, BudgetKeys(self._namespace, said.consumer_id)
        incarnation = said.incarnation or ""
        if said.producer_id is not None:
            call.caller.require(PRODUCER, name)
            await self._known.require(name)
            left = calls.leave_producer(keys, said.producer_id, incarnation, micro(said.unused), micro(said.burned))
            returned: int = (await self._batch.ask(left, is_repeatable=False))[0]
            answer: LeftJson = {"left": True, "returned": returned / 1e6}
        else:
            assert said.instance_id is not None
            call.caller.require(CONSUMER, name)
            await self._known.require(name)
            was_there: bool = (await self._batch.ask(calls.leave_consumer(keys, said.instance_id, incarnation)))[0]
            answer = {"left": was_there, "returned": 0}
        return Reply(answer)

    def _list(self, name: str) -> list[Command[Any]]:
        """Return the command that puts a budget on the list of all, once a day."""
        now: float = self._clock()
        if (self._listed.use(name) or -LIST_EACH) + LIST_EACH > now:
            return []
        self._listed.add(name, now)
        return [listed(self._namespace, name)]


def claim_of(said: CapacitySignal) -> Claim:
    """Return the arguments of the claim that a signal is."""
    return Claim(
        need=micro(said.need or 0), tokens=micro(said.tokens or 0), requested_rate=micro_rate(said.requested_rate),
        whole=bool(said.whole), held=micro(said.held or 0), unused=micro(said.unused or 0),
        burned=micro(said.burned or 0), weight=micro(said.weight if said.weight is not None else 1),
        priority=said.priority or "normal", incarnation=said.incarnation or "", seq=said.seq or 0,
        birth=said.birth or "", granted_total=said.granted_total or 0,
        fallback_rate=micro_rate(said.fallback_rate or 0), degraded=micro(said.degraded or 0),
    )  # fmt: skip


def _instant(reply: Any) -> float:
    return instant(calls.text(reply)) if reply is not None else 0.0
