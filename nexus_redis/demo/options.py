"""The options of the demo. Everything else is measured, or fixed with a comment that gives the reason."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nexus_redis.errors import InvalidSetting, Range

SECONDS: Final = Range(
    2.0, 300.0, "seconds"
)  # a shorter run has no time for a slow worker, and a longer one fills the disk with its index
PROCESSES: Final = Range(1, 64, "processes")


class DemoFailed(RuntimeError):
    """A process of the demo ended too early, or the records do not add up. The message says which and why."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options. `url=None` starts a private embedded server; with `json`, stdout has only the JSON."""

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
