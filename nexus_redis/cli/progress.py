"""What `pace` shows on a terminal, as pv does: one line on stderr, drawn again a few times a second.

elasticsearch  12,400 lines  498/s, share 500/s  level 1  waits for tokens (contended)
"""

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from nexus_redis.cli.output import number, rate

if TYPE_CHECKING:
    from nexus_redis.client import Producer

NARROW: Final = 80  # columns, of a terminal that does not know its size
DRAWN_EACH: Final = 0.25  # seconds
MEASURED_OVER: Final = 8  # drawings: the rate of the last two seconds
UNITS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Gauge:
    """Counts, and knows what is being waited for; draws nothing."""

    def __init__(self) -> None:
        self.done = 0
        self.waiting = "input"

    def waits_for(self, what: str) -> None:
        """input, tokens, Redis or output"""
        self.waiting = what

    def count(self, tokens: int) -> None:
        """So much was written."""
        self.done += tokens


@contextmanager
def gauge(name: str, unit: str, producer: "Producer", *, quiet: bool) -> Iterator[Gauge]:
    """A gauge, and a thread that draws it where there is a terminal to draw on."""
    shown = Gauge()
    if quiet:
        logging.getLogger("nexus_redis").setLevel(logging.ERROR)
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield shown
        return
    ends = threading.Event()
    drawing = threading.Thread(target=_draw, args=(shown, name, unit, producer, ends), daemon=True)
    drawing.start()
    try:
        yield shown
    finally:
        ends.set()
        drawing.join(1.0)


def _draw(shown: Gauge, name: str, unit: str, producer: "Producer", ends: threading.Event) -> None:
    seen = deque([(time.monotonic(), 0)], maxlen=MEASURED_OVER)
    is_last = False
    while not is_last:
        is_last = ends.wait(DRAWN_EACH)
        now, (since, before) = time.monotonic(), seen[0]
        seen.append((now, shown.done))
        text = line(shown, name, unit, producer, (shown.done - before) / max(now - since, 1e-3), is_last=is_last)
        width = os.get_terminal_size(2).columns or NARROW
        print(f"\r{text[: width - 1]:<{width - 1}}", end="\n" if is_last else "", file=sys.stderr, flush=True)


def line(shown: Gauge, name: str, unit: str, producer: "Producer", per_s: float, *, is_last: bool = False) -> str:
    """The line, as wide as it is."""
    flow = producer.flow
    told = [f"{name}  {_amount(shown.done, unit)}  {_rate(per_s, unit)}"]
    if flow is not None:
        told.append(f", share {_rate(flow.recommended_rate, unit)}  level {flow.backpressure_level}")
    if not is_last:
        why = flow.reason if shown.waiting == "tokens" and flow is not None else ""
        reason = f" ({why})" if why not in ("", "ok") else ""
        told.append(f"  waits for {shown.waiting}{reason}")
    return "".join(told)


def _amount(count: float, unit: str) -> str:
    if unit == "lines":
        return f"{number(count)} lines"
    for size, name in UNITS:
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:.0f} B"


def _rate(per_s: float, unit: str) -> str:
    return rate(per_s) if unit == "lines" else f"{_amount(per_s, unit)}/s"
