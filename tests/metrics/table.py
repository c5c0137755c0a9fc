"""The table of docs/metrics.md, made of the catalogue: `python -m tests.metrics.table` writes it there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nexus_redis.metrics import CATALOGUE, Metric
from nexus_redis.metrics.catalogue import PARTS

PAGE: Final = Path(__file__).parents[2] / "docs" / "metrics.md"
COLUMNS: Final = ("Prometheus", "Datadog, OpenTelemetry", "Kind", "Unit", "Labels", "Read in", "What it says")
READ_IN: Final = {"both": "both", "fleet": "Redis", "client": "the process"}


def _row(metric: Metric) -> str:
    elsewhere = f"`{metric.dotted}`"
    if metric.kind == "histogram":
        elsewhere += " with " + ", ".join(f"`.{part}`" for part in PARTS)
    unit = metric.unit.replace("{", "").replace("}", "").replace("1", "")
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    cells = (f"`{metric.name}`", elsewhere, metric.kind, unit, labels, READ_IN[metric.scope], metric.help)
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def table() -> str:
    """All metrics, one a line."""
    return _line(COLUMNS) + "|---" * len(COLUMNS) + "|\n" + "".join(map(_row, CATALOGUE))


def written() -> str:
    """The table as it stands on the page."""
    page = PAGE.read_text()
    begin = page.index("| Prometheus |")
    return page[begin : page.index("\n\n", begin) + 1]


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().replace(written(), table()))
