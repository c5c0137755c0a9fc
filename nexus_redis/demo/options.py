"""What a caller may choose; everything else is measured or fixed beside its reason."""

from dataclasses import dataclass
from pathlib import Path

SECONDS = (2.0, 300.0)  # a shorter run has no middle to slow down in, a longer one fills the disk with its index
PROCESSES = (1, 64)


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
        if not SECONDS[0] <= self.seconds <= SECONDS[1]:
            raise ValueError(f"seconds={self.seconds:g} must be {SECONDS[0]:g} to {SECONDS[1]:g}")
        for name, count in (("producers", self.producers), ("consumers", self.consumers)):
            if not PROCESSES[0] <= count <= PROCESSES[1]:
                raise ValueError(f"{name}={count} must be {PROCESSES[0]} to {PROCESSES[1]}")
