"""The table of metrics: its names follow the rules of Prometheus, and the page of the docs shows all of it."""

from __future__ import annotations

import pytest

from nexus_redis.metrics import CATALOGUE, Metric
from tests.metrics.table import table, written


def test_the_page_shows_the_catalogue() -> None:
    """docs/metrics.md has the table of the catalogue; `python -m tests.metrics.table` writes it."""
    assert written() == table()


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_name_says_what_it_is(metric: Metric) -> None:
    """A name has our prefix and its base unit, a counter ends with `_total`, and no label names a producer."""
    assert metric.name.startswith("nexus_redis_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_seconds") == (metric.unit == "s")
    assert metric.name.endswith("_tokens_per_second") == (metric.unit == "{token}/s")
    assert set(metric.labels) <= {"budget", "reason", "state"}
    assert metric.help.endswith(".")
    assert metric.name.startswith("nexus_redis_client_") == (metric.scope == "client")
    if metric.unit == "{token}":
        assert "tokens" in metric.name


def test_no_name_stands_twice() -> None:
    """Each metric has a name of its own."""
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
