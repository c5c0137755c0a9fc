"""The recent past of one budget: samples of its rate, its grants, its load and its level."""

from __future__ import annotations

import math
from array import array
from typing import Final, TypedDict

LENGTH: Final = 600.0  # seconds that are kept
FIELDS: Final = ("at", "rate", "granted", "load", "level")
_SLACK: Final = 60  # samples: the oldest go together, because a deletion at the front moves the rest


class SeriesJson(TypedDict):
    """The samples, oldest first: seconds since 1970, tokens per second (rate, granted), percent, and 0 to 3.

    What was not known is null: all of a sample from when Redis did not answer, what was granted until the second look,
    and the load while no consumer reports.
    """

    at: list[float]
    rate: list[float | None]
    granted: list[float | None]
    load: list[float | None]
    level: list[float | None]


class Series:
    """The samples of one budget, in 40 bytes each, and the state of the counter from which grants per second follow."""

    def __init__(self) -> None:
        self._values = array("d")
        self._birth, self._total, self._counted_at = "", 0, 0.0
        self._is_interrupted = False
        self.granted_per_s: float | None = None

    def add(self, at: float, rate: float, load: float | None, level: int, granted_total: int, birth: str) -> None:
        """Add a sample. `granted_total` counts since `birth`: 500 and one second later 600 are 100/s."""
        passed = at - self._counted_at
        is_known = birth == self._birth and granted_total >= self._total and passed > 0
        self.granted_per_s = (granted_total - self._total) / passed if is_known else None
        self._birth, self._total, self._counted_at = birth, granted_total, at
        self._append(at, rate, self.granted_per_s, load, level)
        self._is_interrupted = False

    def interrupt(self, at: float) -> None:
        """Note that nothing is known until the next sample, so that the lines have a gap."""
        if self._values and not self._is_interrupted:
            self._append(at, None, None, None, None)
            self._is_interrupted = True

    @property
    def newest(self) -> float:
        """Return when the newest sample was added, 0 if there is none."""
        return self._counted_at

    def json(self) -> SeriesJson:
        """Return the samples of the last ten minutes."""
        at, rate, granted, load, level = (self._values[i :: len(FIELDS)].tolist() for i in range(len(FIELDS)))
        return {
            "at": [round(x, 2) for x in at], "rate": _shortened(rate, 6), "granted": _shortened(granted, 4),
            "load": _shortened(load, 4), "level": _shortened(level, 1),
        }  # fmt: skip

    def _append(self, at: float, *sample: float | None) -> None:
        self._values.extend((at, *(math.nan if each is None else each for each in sample)))
        width = len(FIELDS)
        if self._values[min(_SLACK * width, len(self._values) - width)] < at - LENGTH:
            del self._values[: _SLACK * width]


def _shortened(values: list[float], digits: int) -> list[float | None]:
    return [None if math.isnan(x) else float(f"{x:.{digits}g}") for x in values]
