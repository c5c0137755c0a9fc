"""The stream of one subscriber, as server-sent events: first everything, then what has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from nexus_redis.server.live.looks import Detail, Look
from nexus_redis.server.live.repeated import Bell, Repeated
from nexus_redis.server.live.rows import changes
from nexus_redis.server.live.series import SeriesJson

HEARTBEAT: Final = 2.0  # seconds without an event until a comment shows that the server lives; see SILENCE in feed.js
RETRY: Final = b"retry: 1000\n\n"
STILL_HERE: Final = b": still here\n\n"
NOTHING: Final = Look(0.0)
_NO_DETAIL: Final = Detail(0.0, None)
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Subscriber:
    """What one subscriber has been sent, and the events that bring it up to date.

    A subscriber that reads slowly misses looks, and its next event has all that changed meanwhile. So a slow subscriber
    costs no memory.
    """

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self._allowed = allowed
        self._look, self._detail, self._trouble = NOTHING, _NO_DETAIL, ""

    def trouble(self, *looks: Repeated[Any]) -> Iterator[bytes]:
        """Yield an event when trouble begins or ends. An empty text says that it is over."""
        at_fault = next((each for each in looks if each.trouble), None)
        text = "" if at_fault is None else at_fault.trouble
        if bool(text) != bool(self._trouble):
            yield event("trouble", {"text": text, "since": None if at_fault is None else round(at_fault.since, 1)})
        self._trouble = text

    def budgets(self, newest: Look | None) -> Iterator[bytes]:
        """Yield what has changed in the list of all budgets. A look without a change is an event as well."""
        if newest is None or newest is self._look:
            return
        changed, gone = _budgets(self._look, newest)
        rows = ",".join(text for name, text in changed.items() if self._allowed(name))
        is_whole = self._look is NOTHING
        gone = [name for name in gone if self._allowed(name)]
        head = f'"at":{newest.at:.2f},"is_whole":{_encode(is_whole)},"gone":{_encode(gone)}'
        self._look = newest
        yield _framed("budgets", newest.at, f'{{{head},"budgets":[{rows}]}}')

    def budget(self, newest: Detail | None, series: Callable[[], SeriesJson]) -> Iterator[bytes]:
        """Yield what has changed in one budget, and first its recent past."""
        if newest is None or newest is self._detail:
            return
        if self._detail is _NO_DETAIL:
            yield event("series", series())
        yield _framed("budget", newest.at, _budget(self._detail, newest))
        self._detail = newest


async def stream(
    bell: Bell,
    allowed: Callable[[str], bool],
    looks: Repeated[Look],
    details: Repeated[Detail] | None,
    series: Callable[[], SeriesJson],
    is_stopped: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """Yield the events of one subscriber until the watcher stops."""
    subscriber = Subscriber(allowed)
    yield RETRY
    while not is_stopped():
        ring = bell.next_ring
        parts = [*subscriber.trouble(looks, *([] if details is None else [details]))]
        parts += subscriber.budgets(looks.newest)
        if details is not None:
            parts += subscriber.budget(details.newest, series)
        if parts:
            yield b"".join(parts)
        try:
            await asyncio.wait_for(ring.wait(), HEARTBEAT)
        except TimeoutError:
            yield STILL_HERE


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return one event without an id."""
    return f"event: {name}\ndata: {_encode(data)}\n\n".encode()


def _framed(name: str, at: float, data: str) -> bytes:
    return f"event: {name}\nid: {at:.3f}\ndata: {data}\n\n".encode()


@lru_cache(maxsize=4)
def _budgets(old: Look, new: Look) -> tuple[dict[str, str], list[str]]:
    """Return the changed rows as JSON. Nearly all subscribers are at the same look, so this is done once for them."""
    changed, gone = changes(old.rows, new.rows, "name")
    return {name: _encode(row) for name, row in changed.items()}, gone


@lru_cache(maxsize=4)
def _budget(old: Detail, new: Detail) -> str:
    is_whole = old is _NO_DETAIL or (old.budget is None) != (new.budget is None)
    before = _NO_DETAIL if is_whole else old
    consumers, gone_consumers = changes(before.consumers, new.consumers, "id")
    producers, gone_producers = changes(before.producers, new.producers, "id")
    data: dict[str, Any] = {
        "at": round(new.at, 2), "is_whole": is_whole, "budget": new.budget,
        "consumers": [*consumers.values()], "producers": [*producers.values()],
        "gone_consumers": gone_consumers, "gone_producers": gone_producers,
        "because": new.because, "remedies": new.remedies, "waiting": new.waiting, "denials": new.denials,
    }  # fmt: skip
    if is_whole or new.history != old.history:
        data["history"] = new.history
    return _encode(data)
