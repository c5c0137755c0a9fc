"""Who listens to which channel, and what a listener makes of what it hears: no connection, no waiting."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, cast

import pytest
from redis import exceptions

from nexus_redis._core.producer import IDLE_LEAVES
from nexus_redis._core.subscriptions import Subscriptions
from nexus_redis._protocol.calls import Drop
from nexus_redis._redis import pubsub
from nexus_redis._redis.pubsub import ALIVE_EACH, LONGEST_PAUSE, REFUSED_PAUSE
from nexus_redis._values import log_texts
from nexus_redis._values.parse import MICRO
from nexus_redis.errors import Closed
from tests.harness.logged import logged
from tests.harness.stepping import KEYS, Stepper, answered, fails, grants, is_balanced, join, producer
from tests.harness.support import PATIENCE, run

PAUSED = "1 0 0 3 paused"


class Ear:
    def __init__(self) -> None:
        self.heard: list[Drop] = []

    def on_rate_drop(self, drop: Drop, now: float) -> None:
        self.heard.append(drop)


# --- channels


def test_a_channel_has_a_first_and_a_last() -> None:
    """A channel matters from the first producer that joins to the last that leaves."""
    channels, changes = Subscriptions(), [0]

    def changed() -> None:
        changes[0] += 1

    channels.changed = changed
    one, other = Ear(), Ear()
    channels.join("a", one)
    channels.join("a", one)
    channels.join("a", other)
    assert (list(channels.names), changes[0]) == (["a"], 1)
    channels.leave("a", one)
    channels.leave("a", one)
    assert (list(channels.names), changes[0]) == (["a"], 1)
    channels.leave("a", other)
    channels.leave("a", other)
    channels.leave("b", other)
    assert (list(channels.names), changes[0]) == ([], 2)


def test_a_message_goes_to_those_of_its_channel() -> None:
    """A message goes to the producers of its channel."""
    channels, one, other = Subscriptions(), Ear(), Ear()
    channels.join("a", one)
    channels.join("b", other)
    channels.deliver("a", b"77 12 5000000 2 load", 0.0)
    channels.deliver("c", b"77 12 5000000 2 load", 0.0)
    assert one.heard == [Drop("77", 12, 5 * MICRO, 2, "load")]
    assert other.heard == []


def test_unknown_words_are_ignored() -> None:
    """Words that a later release may add are ignored."""
    channels, ear = Subscriptions(), Ear()
    channels.join("a", ear)
    channels.deliver("a", f"{PAUSED} more words", 0.0)
    assert ear.heard == [Drop("1", 0, 0, 3, "paused")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1 2 3",
        "1 a b c d",
        b"\xff\xfe",
        "1 2 3 4",
        '{"rate": 0}',
        "1 0 -5 0 x",
        "1 0 5 77 x",
        "1 0 5 -1 x",
        "1 0 1" + "0" * 400 + " 0 x",
    ],
)
def test_foreign_messages_are_ignored(text: str | bytes) -> None:
    """What is not a message of nexus_redis is ignored."""
    channels, ear = Subscriptions(), Ear()
    channels.join("a", ear)
    channels.deliver("a", text, 0.0)
    assert ear.heard == []


def test_a_failing_listener_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """A producer that fails at a message does not keep the message from the others."""

    class Broken(Ear):
        def on_rate_drop(self, drop: Drop, now: float) -> None:
            raise ZeroDivisionError

    channels, ear = Subscriptions(), Ear()
    for hearer in (Broken(), ear, Broken()):
        channels.join("a", hearer)
    channels.deliver("a", PAUSED, 0.0)
    assert len(ear.heard) == 1
    assert len(logged(caplog, log_texts.SUBSCRIBER_BUG, "ERROR")) == 2


# --- producers


@pytest.fixture
def stepper() -> Stepper:
    return Stepper()


def names(stepper: Stepper) -> list[str]:
    return list(stepper.scheduler.subscriptions.names)


def test_listening_begins_at_the_second_claim(stepper: Stepper) -> None:
    """A producer listens from its second claim until it has left."""
    account = producer(stepper)
    join(account)
    stepper.run()
    assert (stepper.kinds(), names(stepper)) == (["claim", "EVAL"], [])
    stepper.advance(0.2)
    join(account)
    stepper.run()
    assert names(stepper) == [KEYS.flow] == ["test:{stripe}:flow"]
    stepper.advance(IDLE_LEAVES - 1)
    assert names(stepper) == [KEYS.flow]
    stepper.advance(2)
    assert stepper.kinds()[-1] == "leave"
    assert names(stepper) == []


def test_a_short_life_never_listens(stepper: Stepper) -> None:
    """A producer that takes a token and leaves never listens."""
    changes: list[str] = []
    stepper.scheduler.subscriptions.changed = lambda: changes.append("changed")
    account = producer(stepper)
    join(account)
    stepper.run()
    account.leave(Closed("producer"), stepper.now)
    stepper.advance(1)
    assert stepper.kinds()[-1] == "leave"
    assert changes == []


def test_producers_share_a_channel(stepper: Stepper) -> None:
    """Several producers of a budget listen on one channel."""
    one, other = producer(stepper, "one"), producer(stepper, "other")
    for _ in range(5):
        join(one)
        join(other)
        stepper.advance(0.1)
    assert names(stepper) == [KEYS.flow]
    one.leave(Closed("producer"), stepper.now)
    stepper.advance(0.01)
    assert names(stepper) == [KEYS.flow]
    other.leave(Closed("producer"), stepper.now)
    stepper.advance(0.01)
    assert names(stepper) == []


def test_a_failed_leaving_ends_listening(stepper: Stepper) -> None:
    """A producer that cannot deregister listens no longer."""
    account = producer(stepper)
    for _ in range(3):
        join(account)
        stepper.advance(0.1)
    stepper.server = fails(exceptions.ConnectionError())
    account.leave(Closed("producer"), stepper.now)
    stepper.advance(5)
    assert names(stepper) == []


def test_in_a_forked_child_nobody_listens_yet(stepper: Stepper) -> None:
    """In a forked child nobody listens yet."""
    account = producer(stepper)
    for _ in range(3):
        join(account)
        stepper.advance(0.1)
    stepper.scheduler.after_fork()
    assert names(stepper) == []


def test_a_heard_pause_hands_back(stepper: Stepper) -> None:
    """A producer that hears of a pause spends nothing, and hands its tokens back with the next claim."""
    account = producer(stepper)
    stepper.server = grants(lambda ask: answered(ask.tokens and 30))
    for _ in range(30):
        join(account)
        stepper.advance(0.02)
    held = account.ledger.held
    assert held > 5 * MICRO
    stepper.server = grants(lambda _ask: answered(0, retry_after=1, budget_rate=0, reason="paused"))
    before = len(stepper.claims())
    stepper.scheduler.subscriptions.deliver(KEYS.flow, PAUSED, stepper.now)
    assert account.reason == "paused"
    line = join(account)
    assert not line.is_settled
    stepper.advance(0.2)
    assert stepper.claims()[before].unused == held
    assert len(stepper.claims()) == before + 1
    assert not line.is_settled
    assert is_balanced(account)


# --- listening


class Clock:
    now = 1000.0

    @classmethod
    def monotonic(cls) -> float:
        return cls.now


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pubsub, "time", Clock)
    monkeypatch.setattr(Clock, "now", 1000.0)
    listener = pubsub._Listener(Subscriptions())
    listener._begin()
    return listener


def test_changed_channels_are_followed(listener: Any) -> None:
    """Channels that changed are subscribed to or left."""
    ear = Ear()
    for name in ("c", "a", "b"):
        listener.subscriptions.join(name, ear)
    assert listener._changes() == (["a", "b", "c"], [])
    assert listener._changes() == ([], [])
    listener.subscriptions.leave("b", ear)
    listener.subscriptions.join("d", ear)
    assert listener._changes() == (["d"], ["b"])


def test_silence_needs_an_answer(listener: Any) -> None:
    """After a silence the server must answer, or the connection is given up."""
    listener.subscriptions.join("a", Ear())
    listener._changes()
    Clock.now += ALIVE_EACH - 0.1
    assert listener._ask_after() is None
    Clock.now += 0.1
    assert listener._ask_after() == "a"
    assert listener._ask_after() is None
    assert listener._hear({"type": "subscribe", "channel": b"a", "data": 1}) is None
    Clock.now += ALIVE_EACH
    assert listener._ask_after() == "a"
    Clock.now += ALIVE_EACH
    with pytest.raises(exceptions.ConnectionError):
        listener._ask_after()


def test_text_and_bytes_are_heard(listener: Any) -> None:
    """A message is heard, whatever the client makes of bytes."""
    assert listener._hear({"type": "message", "channel": b"a", "data": b"x"}) == ("a", b"x")
    assert listener._hear({"type": "message", "channel": "a", "data": "x"}) == ("a", "x")
    assert listener._hear({"type": "pong", "channel": None, "data": b""}) is None


def test_a_failed_listener_tries_rarely(listener: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The listener logs once that it does not listen, and tries again at growing intervals."""
    caplog.set_level(logging.DEBUG, "nexus_redis")
    pauses = [listener._seconds_until_next_try(exceptions.ConnectionError("gone")) for _ in range(12)]
    assert all(0 < pause <= LONGEST_PAUSE for pause in pauses)
    assert pauses[0] < 1
    assert pauses[-1] >= LONGEST_PAUSE / 2
    assert listener._seconds_until_next_try(exceptions.NoPermissionError("no")) == REFUSED_PAUSE
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert len(logged(caplog, log_texts.PUSH_UNAVAILABLE, "INFO")) == 1
    listener._hear({"type": "subscribe", "channel": b"a", "data": 1})
    assert listener._seconds_until_next_try(exceptions.ConnectionError("gone")) < 1
    assert len(caplog.records) == 2


def test_a_swallowed_cancellation_ends_the_task() -> None:
    """The task ends when it is cancelled, even if the client took the cancellation for a timeout."""

    async def main() -> None:
        begun = asyncio.Event()

        class Swallowing:
            async def subscribe(self, *_names: str) -> None:
                begun.set()
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)

            async def get_message(self, timeout: float) -> None:
                await asyncio.sleep(timeout)

            async def aclose(self) -> None:
                """Nothing is open."""

        class Client:
            def pubsub(self) -> Swallowing:
                return Swallowing()

        channels = Subscriptions()
        listening = pubsub.PushTask(lambda: cast("Any", Client()), channels)
        channels.changed = listening.changed
        channels.join("a", Ear())
        await begun.wait()
        task = listening._task
        assert task
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()

    run(main())
