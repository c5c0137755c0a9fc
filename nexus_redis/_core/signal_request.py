"""The request of a caller of `signal`, which takes no tokens and asks what rate it may run at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_redis._core.waiter import Waiter
from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import Answer

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl


class SignalRequest(Waiter):
    """One such caller. `rate`: what it wants, in micro-tokens per second. `answer` is there when it is settled."""

    __slots__ = ("answer", "rate", "seq")

    def __init__(self, rate: int, since: float) -> None:
        super().__init__(0, since)
        self.rate = rate
        self.seq = 0  # the number of the claim that asks for it; 0: none does
        self.answer: Answer | None = None


def flow_of(name: str, answer: Answer) -> FlowControl:
    """Return a claim's answer as the protocol's message."""
    from nexus_redis.messages import FlowControl  # pydantic takes 10 ms to build it, and few callers need it

    return FlowControl.of(**calls.flow_fields(name, answer))
