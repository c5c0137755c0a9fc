"""How the tests of the metrics read them: by name, as Prometheus would, with the labels as a dict."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client import Metric as Family

from nexus_redis.metrics import NexusCollector
from tests.harness.faces import Shown

DEPLOY: Final = Path(__file__).parents[2] / "deploy"

Key = tuple[str, frozenset[tuple[str, str]]]


def numbers(families: Iterable[Family]) -> dict[Key, float]:
    """All samples of some families."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


class Reading:
    """The metrics at one moment: `reading("client_used_tokens_total", budget="stripe")`, None for no such series."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.all = numbers(families)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.all.get((f"nexus_redis_{name}", frozenset(labels.items())))

    def budgets(self, name: str) -> set[str]:
        """The budgets that a metric has series of."""
        return {dict(labels)["budget"] for found, labels in self.all if found == f"nexus_redis_{name}"}


def collector(nexus: Any, **options: Any) -> NexusCollector:
    """A collector of a Nexus of either shell, which reads in the thread of the test."""
    return NexusCollector(nexus.it if isinstance(nexus, Shown) else nexus, **options)


def read(nexus: Any, **options: Any) -> Reading:
    """What a new collector reads."""
    return Reading(collector(nexus, **options).collect())
