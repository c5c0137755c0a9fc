"""Show what each law does when the capacity falls: the plots of docs/laws.md, from the real scripts on the plant.

    python -m benchmarks.laws              # starts a server from a wheel; prints a line for each plot
    python -m benchmarks.laws --write      # the same, and writes docs/images/law-*.svg

One consumer of 1000/s, with a queue of 1000, starts unknown, and four producers want more than there is. From 30 s to
70 s the consumer can do only 400/s. The loop delay, which no law knows, is half a second, and 5 % of the reports are
lost. The upper part shows what the consumer can do and what was granted, over half a second each. The lower part shows
how full its queue is.

Virtual time, a fixed seed and rounded figures make the same bytes each time, so that a test can compare plot and
scripts. The picture is written by hand, because a plotting library is a hundred times its size, and its bytes change
with each release. The colours follow the reader's system, light or dark.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import redis

from tests.harness.coordinators import ScriptCoordinator
from tests.harness.plant import Consumer, Plant
from tests.harness.servers import launch

CAPACITY, FALLEN, LIMIT = 1000, 400, 1000
FALLS, RISES, ENDS = 30.0, 70.0, 100.0
STEP = 0.5  # seconds for each point
IMAGES = Path(__file__).parents[1] / "docs" / "images"

QUEUE_FIELDS, WORK_FIELDS = {"queue_depth", "queue_limit"}, {"done", "errors", "in_flight"}
LAWS: dict[str, tuple[set[str], dict[str, Any]]] = {  # the fields that its consumer reports, which choose the law
    "drain": (QUEUE_FIELDS | WORK_FIELDS, {}),
    "range": (QUEUE_FIELDS, {"rate": CAPACITY}),
    "aimd": (WORK_FIELDS, {}),
    "window": (QUEUE_FIELDS | WORK_FIELDS, {"lossless": True}),
}


def speed(t: float) -> float:
    """Return the rate that the consumer can do."""
    return FALLEN if FALLS <= t < RISES else CAPACITY


class Watched(ScriptCoordinator):
    """The scripts, with the time and size of each grant; they get only some fields of the reports."""

    def __init__(self, client: redis.Redis, law: str) -> None:
        heard, told = LAWS[law]
        super().__init__(client, **told)
        self.heard = heard | {"instance_id", "incarnation", "seq", "uptime_ms"}
        self.grants: list[tuple[float, int]] = []

    def claim(self, t: float, producer: str, want: float, burned: float, held: float) -> int:
        """Claim, and return the answer of the scripts."""
        granted = super().claim(t, producer, want, burned, held)
        self.grants.append((t, granted))
        return granted

    def report(self, t: float, message: dict[str, Any]) -> None:
        """Report the fields that this consumer would report."""
        super().report(t, {name: value for name, value in message.items() if name in self.heard})


class Course(NamedTuple):
    """One run, with a point for each step (tokens/s granted, tokens queued), and the outcome of the work."""

    granted: list[float]
    queued: list[int]
    lost: int
    used: float  # part of the possible work, from ten seconds before the fall


def course(client: redis.Redis, law: str) -> Course:
    """Play the run."""
    coordinator = Watched(client, law)
    consumer = Consumer("c", speed, LIMIT)
    plant = Plant(coordinator, [consumer], producers=4, seconds=ENDS, delay=0.5, seed=1)
    queued: list[int] = []

    def look() -> None:
        queued.append(consumer.depth)
        plant.at(plant.t + STEP, look)

    plant.at(STEP, look)
    plant.run()
    granted = [0.0] * len(queued)
    for t, tokens in coordinator.grants:
        granted[min(int(t / STEP), len(queued) - 1)] += tokens / STEP
    return Course(granted, queued, plant.lost(), plant.goodput(FALLS - 10, ENDS))


# --- the picture

LEFT, WIDTH = 52, 640
RATES, QUEUE = (26, 150), (206, 60)  # top and height of the two parts
MOST = 1500  # tokens/s at the top; higher values are cut

STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#555}.axis{stroke:#bbb}.can{stroke:#888;stroke-dasharray:5 4}"
    ".granted{stroke:#0b66c3}.queue{fill:#c77700;fill-opacity:.55}.lost{fill:#c0201c}"
    "path{fill:none;stroke-width:1.6}.queue{stroke:none}"
    "@media(prefers-color-scheme:dark){text{fill:#bbb}.axis{stroke:#555}.can{stroke:#999}.granted{stroke:#62b0ff}"
    ".queue{fill:#f0a840}.lost{fill:#ff7b72}}"
)


def across(t: float) -> float:
    """Return seconds as pixels."""
    return LEFT + WIDTH * t / ENDS


def up(value: float, most: float, part: tuple[int, int]) -> float:
    """Return a value as pixels, in one of the parts."""
    top, height = part
    return top + height * (1 - min(value, most) / most)


def line(points: Iterable[tuple[float, float]]) -> str:
    """Return the `d` of a path."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def words(x: float, y: float, said: str, more: str = "") -> str:
    """Return a text element."""
    return f'<text x="{x:.0f}" y="{y:.0f}"{more}>{said}</text>'


def drawing(law: str, seen: Course) -> str:
    """Return the SVG."""
    bottom = QUEUE[0] + QUEUE[1]
    rate = partial(up, most=MOST, part=RATES)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 24} {bottom + 34}" role="img">',
        f"<title>{law}: capacity 1000/s, 400/s from 30 s to 70 s</title><style>{STYLE}</style>",
    ]
    for value in (0, 500, 1000, 1500):
        out.append(f'<path class="axis" d="{line([(LEFT, rate(value)), (LEFT + WIDTH, rate(value))])}"/>')
        out.append(words(LEFT - 6, rate(value) + 4, str(value), ' text-anchor="end"'))
    for value in (0, LIMIT):
        y = up(value, LIMIT, QUEUE)
        out.append(f'<path class="axis" d="{line([(LEFT, y), (LEFT + WIDTH, y)])}"/>')
        out.append(words(LEFT - 6, y + 4, str(value), ' text-anchor="end"'))
    out += [words(across(t), bottom + 18, f"{t} s", ' text-anchor="middle"') for t in range(0, int(ENDS) + 1, 10)]
    can = [(0.0, CAPACITY), (FALLS, CAPACITY), (FALLS, FALLEN), (RISES, FALLEN), (RISES, CAPACITY), (ENDS, CAPACITY)]
    out.append(f'<path class="can" d="{line((across(t), rate(value)) for t, value in can)}"/>')
    # A grant is drawn in the middle of its half second.
    points = [(across((k + 0.5) * STEP), rate(value)) for k, value in enumerate(seen.granted)]
    out.append(f'<path class="granted" d="{line(points)}"/>')
    depth = [(across((k + 1) * STEP), up(value, LIMIT, QUEUE)) for k, value in enumerate(seen.queued)]
    out.append(f'<path class="queue" d="{line([(depth[0][0], bottom), *depth, (depth[-1][0], bottom)])}Z"/>')
    kind = "lost" if seen.lost else "kept"
    out += [
        words(LEFT, 14, "tokens/s: granted (line), what the consumer can do (dashed)"),
        words(LEFT, QUEUE[0] - 8, "queue, of 1000"),
        words(LEFT + WIDTH, QUEUE[0] - 8, f"{seen.lost} lost", f' class="{kind}" text-anchor="end"'),
        "</svg>\n",
    ]
    return "\n".join(out)


def main() -> None:
    """Draw all plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laws")
    parser.add_argument("--write", action="store_true", help="write docs/images/law-*.svg")
    is_written = parser.parse_args().write
    server = launch("valkey")
    client = redis.Redis(port=server.port, single_connection_client=True)
    for law in LAWS:
        seen = course(client, law)
        print(f"{law:7} {100 * seen.used:5.1f} % of the capacity used, {seen.lost} lost, queue to {max(seen.queued)}")
        if is_written:
            (IMAGES / f"law-{law}.svg").write_text(drawing(law, seen), encoding="utf-8")
    client.close()
    server.stop()


if __name__ == "__main__":
    main()
