"""How much an observer may add to its budget: what it says from second to second."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nexus_redis._core.observed_rate import Observed


def capacities(observed: Observed, rates: Sequence[float]) -> list[float]:
    """What it reports as its capacity, a quarter of a second apart, while it sends at these rates."""
    sent, found = 0.0, []
    for quarter, rate in enumerate([0.0, *rates]):
        sent += rate / 4
        found.append(observed.said({"done": sent}, now=quarter / 4)["capacity"])
    return found


def test_an_observer_begins_with_one_a_second() -> None:
    """An observer begins with one request a second."""
    assert Observed(None).said({}, now=7.0) == {"done": 0, "errors": 0, "in_flight": 0, "capacity": 1}


def test_its_capacity_is_four_times_what_it_sends() -> None:
    """The capacity of an observer is four times what it sends."""
    assert capacities(Observed(None), [25] * 20)[-1] == pytest.approx(100, rel=0.01)


def test_the_rate_may_double_twice_a_second() -> None:
    """An observer may double what it sends twice a second."""
    rates = [2 ** (quarter / 2) for quarter in range(24)]
    found = capacities(Observed(None), rates)
    assert all(capacity > 1.5 * rate for capacity, rate in zip(found[1:], rates, strict=True))


def test_all_that_was_sent_counts() -> None:
    """What is refused, cancelled or in flight was sent too."""
    observed = Observed(None)
    observed.said({}, now=0.0)
    said = observed.said({"done": 1.0, "errors": 2.0, "cancelled": 3.0, "in_flight": 4.0}, now=10.0)
    assert said["capacity"] == pytest.approx(4.0)
    assert said["errors"] == 2


def test_a_rest_gives_the_rate_away() -> None:
    """Twenty seconds after its last request an observer holds nearly nothing."""
    found = capacities(Observed(None), [1000] * 40 + [0] * 80)
    assert found[40] > 3900
    assert found[-1] < 0.3
    assert capacities(Observed(None), [1000] * 40 + [0] * 800)[-1] == 0.1


def test_a_given_capacity_survives_idleness() -> None:
    """A capacity that was given is kept while the observer sends nothing."""
    found = capacities(Observed(4000.0), [0] * 400)
    assert (found[0], found[-1]) == (4000, 4000)


@pytest.mark.parametrize(
    ("least", "wanted", "capacity"), [(None, 1, 1), (None, 500, 500), (7.0, 1, 7), (7.0, 500, 500)]
)
def test_a_waiting_caller_probes_each_second(least: float | None, wanted: float, capacity: float) -> None:
    """While a caller waits, it may send a request a second."""
    observed = Observed(least)
    observed.said({}, now=0.0)
    assert observed.said({}, now=600.0)["capacity"] == (least or 0.1)
    assert observed.said({}, now=601.0, wanted=wanted)["capacity"] == capacity


def test_one_instant_counts_once() -> None:
    """A report of the same instant changes nothing."""
    observed = Observed(None)
    observed.said({}, now=0.0)
    first = observed.said({"done": 100.0}, now=1.0)
    assert observed.said({"done": 100.0}, now=1.0) == first
