"""The producers that want to hear of drops and rises, by channel. `_redis/pubsub.py` does the listening. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from nexus_redis._protocol.calls import Drop, dropped
from nexus_redis._values import log_texts
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields


class Subscriber(Protocol):
    """An object that wants to hear of drops and rises."""

    def on_rate_drop(self, drop: Drop, now: float) -> None:
        """Take note that a budget's rate has fallen, or is no longer 0."""


class Subscriptions:
    """The subscribers of each channel. Used under the scheduler's lock. `changed` is called when `names` changes."""

    def __init__(self) -> None:
        self._subscribers: dict[str, set[Subscriber]] = {}
        self.heard = 0  # messages
        self.lag: float | None = None  # seconds that the server's last confirmation took to be heard
        self.changed: Callable[[], None] = lambda: None

    @property
    def names(self) -> Collection[str]:
        """Return the channels to be subscribed to."""
        return self._subscribers.keys()

    def join(self, name: str, subscriber: Subscriber) -> None:
        """Tell a subscriber of the messages on a channel, from now on."""
        subscribers = self._subscribers.get(name)
        if subscribers is None:
            self._subscribers[name] = {subscriber}
            self.changed()
        else:
            subscribers.add(subscriber)

    def leave(self, name: str, subscriber: Subscriber) -> None:
        """Tell a subscriber nothing more."""
        subscribers = self._subscribers.get(name, set())
        subscribers.discard(subscriber)
        if not subscribers and self._subscribers.pop(name, None) is not None:
            self.changed()

    def clear(self) -> None:
        """Forget all subscribers: a forked child begins."""
        self._subscribers.clear()
        self.heard, self.lag = 0, None

    def deliver(self, name: str, message: bytes | str, now: float) -> None:
        """Tell the subscribers of a channel. Never raises: the message may be anything, from anybody."""
        try:
            drop = dropped(message)
        except (ValueError, LookupError):
            log.debug(log_texts.MESSAGE_UNREADABLE, name, extra=log_fields(channel=name))
            return
        self.heard += 1
        for subscriber in list(self._subscribers.get(name, ())):
            try:
                subscriber.on_rate_drop(drop, now)
            except Exception:
                log.exception(log_texts.SUBSCRIBER_BUG, subscriber)
