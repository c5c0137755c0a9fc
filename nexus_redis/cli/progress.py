"""The progress line of `pace` on a terminal, as pv has one: on stderr, drawn a few times a second.

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

from nexus_redis._values.formatting import number, rate

if TYPE_CHECKING:
    from nexus_redis.client import Producer

NARROW: Final = 80  # columns, for a terminal that does not know its size
DRAWN_EACH: Final = 0.25  # seconds
MEASURED_OVER: Final = 8  # drawings, so that the rate is that of the last two seconds
UNITS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Progress:
    """How many tokens have been written, and what the copy waits for."""

    def __init__(self) -> None:
        self.done = 0
        self.waiting = "input"

    def waits_for(self, what: str) -> None:
        """Note what the copy waits for now: input, tokens, Redis or output."""
        self.waiting = what

    def count(self, tokens: int) -> None:
        """Add the tokens of what was written."""
        self.done += tokens


@contextmanager
def shown_progress(name: str, unit: str, producer: "Producer", *, quiet: bool) -> Iterator[Progress]:
    """Return the progress of a copy. A thread draws it if stderr is a terminal."""
    progress = Progress()
    if quiet:
        logging.getLogger("nexus_redis").setLevel(logging.ERROR)
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield progress
        return
    ends = threading.Event()
    drawing = threading.Thread(target=_draw, args=(progress, name, unit, producer, ends), daemon=True)
    drawing.start()
    try:
        yield progress
    finally:
        ends.set()
        drawing.join(1.0)


def _draw(progress: Progress, name: str, unit: str, producer: "Producer", ends: threading.Event) -> None:
    seen = deque([(time.monotonic(), 0)], maxlen=MEASURED_OVER)
    is_last = False
    while not is_last:
        is_last = ends.wait(DRAWN_EACH)
        now, (since, before) = time.monotonic(), seen[0]
        seen.append((now, progress.done))
        text = line(progress, name, unit, producer, (progress.done - before) / max(now - since, 1e-3), is_last=is_last)
        width = os.get_terminal_size(2).columns or NARROW
        print(f"\r{text[: width - 1]:<{width - 1}}", end="\n" if is_last else "", file=sys.stderr, flush=True)


def line(progress: Progress, name: str, unit: str, producer: "Producer", per_s: float, *, is_last: bool = False) -> str:
    """Return the line, however wide. The last line does not say what the copy waits for."""
    flow = producer.flow
    parts = [f"{name}  {_amount(progress.done, unit)}  {_rate(per_s, unit)}"]
    if flow is not None:
        parts.append(f", share {_rate(flow.recommended_rate, unit)}  level {flow.backpressure_level}")
    if not is_last:
        why = flow.reason if progress.waiting == "tokens" and flow is not None else ""
        reason = f" ({why})" if why not in ("", "ok") else ""
        parts.append(f"  waits for {progress.waiting}{reason}")
    return "".join(parts)


def _amount(count: float, unit: str) -> str:
    if unit == "lines":
        return f"{number(count)} lines"
    for size, name in UNITS:
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:.0f} B"


def _rate(per_s: float, unit: str) -> str:
    return rate(per_s) if unit == "lines" else f"{_amount(per_s, unit)}/s"
