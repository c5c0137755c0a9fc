"""The recent past of one budget: samples of its rate, its grants, its load and its level."""

from __future__ import annotations

from array import array
from typing import Final, TypedDict

LENGTH: Final = 600.0  # seconds that are kept
FIELDS: Final = ("at", "rate", "granted", "load", "level")
_SLACK: Final = 60  # samples: the oldest go together, because a deletion at the front moves the rest


class SeriesJson(TypedDict):
    """The samples, oldest first: seconds since 1970, tokens per second (rate, granted), percent, and 0 to 3."""

    at: list[float]
    rate: list[float]
    granted: list[float | None]  # None: not known, because counting had just begun
    load: list[float]
    level: list[float]


class Series:
    """The samples of one budget, in 40 bytes each, and the state of the counter from which grants per second follow."""

    def __init__(self) -> None:
        self._values = array("d")
        self._birth, self._total, self._counted_at = "", 0, 0.0
        self.granted_per_s: float | None = None

    def add(self, at: float, rate: float, load: float, level: int, granted_total: int, birth: str) -> None:
        """Add a sample. `granted_total` counts since `birth`: 500 and one second later 600 are 100/s."""
        passed = at - self._counted_at
        is_known = birth == self._birth and granted_total >= self._total and passed > 0
        self.granted_per_s = (granted_total - self._total) / passed if is_known else None
        self._birth, self._total, self._counted_at = birth, granted_total, at
        granted = float("nan") if self.granted_per_s is None else self.granted_per_s
        self._values.extend((at, rate, granted, load, level))
        width = len(FIELDS)
        if self._values[min(_SLACK * width, len(self._values) - width)] < at - LENGTH:
            del self._values[: _SLACK * width]

    @property
    def newest(self) -> float:
        """Return when the newest sample was added, 0 if there is none."""
        return self._counted_at

    def json(self) -> SeriesJson:
        """Return the samples of the last ten minutes."""
        at, rate, granted, load, level = (self._values[i :: len(FIELDS)].tolist() for i in range(len(FIELDS)))
        return {
            "at": [round(x, 2) for x in at], "rate": [float(f"{x:.6g}") for x in rate],
            "granted": [None if x != x else float(f"{x:.4g}") for x in granted],  # noqa: PLR0124  # NaN: not known
            "load": [round(x, 1) for x in load], "level": level,
        }  # fmt: skip
