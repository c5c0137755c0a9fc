"""The producers that want to hear of drops and rises, by channel. push.py does the listening. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from nexus_redis._protocol.calls import Drop, dropped

log = logging.getLogger("nexus_redis")


class Hearer(Protocol):
    """Whoever wants to know."""

    def heed(self, drop: Drop, now: float) -> None:
        """A budget's rate has fallen."""


class Channels:
    """Which channels matter, and to whom. Under the hub's lock, all of it; `changed` is called when the names do."""

    def __init__(self) -> None:
        self._hearers: dict[str, set[Hearer]] = {}
        self.changed: Callable[[], None] = lambda: None

    @property
    def names(self) -> Collection[str]:
        """To be subscribed to."""
        return self._hearers.keys()

    def join(self, name: str, hearer: Hearer) -> None:
        """Let `hearer` know from now on."""
        hearers = self._hearers.get(name)
        if hearers is None:
            self._hearers[name] = {hearer}
            self.changed()
        else:
            hearers.add(hearer)

    def leave(self, name: str, hearer: Hearer) -> None:
        """No longer."""
        hearers = self._hearers.get(name, set())
        hearers.discard(hearer)
        if not hearers and self._hearers.pop(name, None) is not None:
            self.changed()

    def clear(self) -> None:
        """Nobody is there any more: a forked child begins."""
        self._hearers.clear()

    def deliver(self, name: str, message: bytes | str, now: float) -> None:
        """Tell those whom it concerns. Never raises: it may be anything, from anybody."""
        try:
            drop = dropped(message)
        except (ValueError, LookupError):
            log.debug("no message of ours on %s", name)
            return
        for hearer in list(self._hearers.get(name, ())):
            try:
                hearer.heed(drop, now)
            except Exception:
                log.exception("a bug in what %r heard; its next claim tells it again", hearer)
