"""What a caller may choose; everything else is measured or fixed beside its reason."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nexus_redis.errors import InvalidSetting, Range

SECONDS: Final = Range(
    2.0, 300.0, "seconds"
)  # a shorter run has no middle to slow down in, a longer one fills the disk with its index
PROCESSES: Final = Range(1, 64, "processes")


class DemoFailed(RuntimeError):
    """A process of the demo ended before its time, or the records don't add up. The message says which and why."""


@dataclass(frozen=True, slots=True)
class Options:
    """`url=None` starts a private embedded server; `json` keeps stdout for the JSON and moves all else to stderr."""

    input: tuple[Path, ...] = ()
    seconds: float = 10.0
    producers: int = 8
    consumers: int = 2
    url: str | None = None
    namespace: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        for name, value, span in (
            ("seconds", self.seconds, SECONDS), ("producers", self.producers, PROCESSES),
            ("consumers", self.consumers, PROCESSES),
        ):  # fmt: skip
            if not span.holds(value):
                raise InvalidSetting(name, value, span.remedy)
