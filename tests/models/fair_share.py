"""The referee: the budget's arithmetic again, slow and clear, in exact fractions, to judge the scripts by."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

MICRO = 1_000_000


class Meter:
    """G1 and G2 in one: an ideal bucket as deep as allowed. What overflows it is a window that was granted too much.

    Say what was granted with `take`, when the rate changed with `set_rate`; `worst` is the most that any window of any
    length held above `depth` + the integral of the rate over it (and `extra_s` seconds more): above 0 a bound broke.
    """

    def __init__(self, rate_micro: int, depth: Fraction | int, extra_s: Fraction | int = 0) -> None:
        self.extra_us = Fraction(extra_s) * MICRO
        self.depth = Fraction(depth)
        self.rates: list[tuple[int, int]] = [(0, rate_micro)]
        self.events: list[tuple[int, Fraction]] = []

    def set_rate(self, at_us: int, rate_micro: int) -> None:
        """From `at_us` on."""
        self.rates.append((at_us, rate_micro))

    def take(self, at_us: int, tokens_micro: int) -> None:
        """Granted or spent then; negative where it was handed back."""
        self.events.append((at_us, Fraction(tokens_micro)))

    def earned(self, at_us: Fraction) -> Fraction:
        """Micro-tokens that the rates make from 0 until `at_us`."""
        total = Fraction(0)
        ends = [start for start, _ in self.rates[1:]] + [None]
        for (start, rate), end in zip(self.rates, ends, strict=True):
            until = at_us if end is None else min(at_us, Fraction(end))
            if until > start:
                total += (until - start) * rate / MICRO
        return total

    @property
    def worst(self) -> Fraction:
        """Micro-tokens over the bound, in the worst window."""
        lowest: Fraction | None = None
        total, worst = Fraction(0), -self.depth
        for at_us, tokens in sorted(self.events, key=lambda event: event[0]):
            before = total - self.earned(Fraction(at_us) - self.extra_us)
            lowest = before if lowest is None else min(lowest, before)
            total += tokens
            worst = max(worst, total - self.earned(Fraction(at_us)) - lowest - self.depth)
        return worst


def burst_micro(rate_micro: int, burst_s: Fraction = Fraction(1, 4)) -> int:
    """How deep a bucket is: a token and the burst's seconds of the rate."""
    return MICRO + int(rate_micro * burst_s) if rate_micro else 0


def max_min(rate: float, demands: Iterable[tuple[float, float]]) -> list[float]:
    """Weighted max-min shares of (demand, weight), by filling up: the slow way that cannot be wrong.

    >>> max_min(120, [(1000, 1), (50, 1), (10, 1)])
    [60.0, 50.0, 10.0]
    """
    wants = list(demands)
    shares = [0.0] * len(wants)
    open_ = {i for i, (demand, _) in enumerate(wants) if demand > 0}
    left = float(rate)
    while open_:
        level = left / sum(wants[i][1] for i in open_)
        full = [i for i in open_ if wants[i][0] <= level * wants[i][1]]
        if not full:
            for i in open_:
                shares[i] = level * wants[i][1]
            break
        for i in full:
            shares[i] = float(wants[i][0])
            left -= wants[i][0]
            open_.discard(i)
    return shares


def fair_by_class(rate: float, wants: list[tuple[float, float, str]]) -> list[float]:
    """The same for (demand, weight, class): strict in order, each class in demand keeping 5 %."""
    classes = ("high", "normal", "low")
    total = {c: sum(demand for demand, _, cls in wants if cls == c) for c in classes}
    left, shares = rate, [0.0] * len(wants)
    for k, c in enumerate(classes):
        kept = sum(min(0.05 * rate, total[lower]) for lower in classes[k + 1 :])
        room = max(min(0.05 * rate, total[c]), left - kept)
        members = [i for i, want in enumerate(wants) if want[2] == c]
        for i, share in zip(members, max_min(room, [(wants[i][0], wants[i][1]) for i in members]), strict=True):
            shares[i] = share
        left -= min(total[c], room)
    return shares
