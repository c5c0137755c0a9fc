"""One run: its processes, from their start until every record is counted."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from nexus_redis._values import error_texts
from nexus_redis.demo.children import Children
from nexus_redis.demo.measure import WARM_UP_S, jain
from nexus_redis.demo.options import DemoFailed, Options
from nexus_redis.demo.pace import Coordination

QUEUE_SECONDS = 2.0
CALIBRATION_S = (2.0, 4.0)  # at least and at most; between them, 0.4 of a run
CALIBRATION_QUEUE = 1000  # enough, so that no worker ever waits
OFFERED = 3.0  # times the capacity
SLOW = (0.5, 0.8)  # parts of the run between which one worker is slow
DRAIN_PATIENCE_S = 60.0
TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of one run. `rate` is the pace of one producer, None for as fast as the queue takes records."""

    home: Path
    files: tuple[Path, ...]
    producers: int
    workers: int
    seconds: float
    rate: float | None
    queue_limit: int
    has_slow_down: bool
    coordination: Coordination | None

    @property
    def warm_up(self) -> float:
        return min(WARM_UP_S, self.seconds / 2)

    @property
    def slow(self) -> tuple[float, float] | None:
        return (SLOW[0] * self.seconds, SLOW[1] * self.seconds) if self.has_slow_down else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment to show: the last sample of the service, `at` seconds after the start of the run."""

    at: float
    sample: dict[str, Any]


class Watching(Protocol):
    """A view of a run, which is told about events and shows them."""

    def starting(self, ready: int, processes: int) -> None:
        """Show how many of the processes are ready."""

    def watch(self, moment: Moment) -> None:
        """Show a moment of the run."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The results of the processes of a run."""

    service: dict[str, Any]
    sent: int
    indexed: int
    memory: int


def calibration(options: Options, home: Path, files: tuple[Path, ...]) -> Plan:
    return Plan(
        home,
        files,
        options.producers,
        options.consumers,
        seconds=min(CALIBRATION_S[1], max(CALIBRATION_S[0], 0.4 * options.seconds)),
        rate=None,
        queue_limit=CALIBRATION_QUEUE,
        has_slow_down=False,
        coordination=None,
    )


def real_run(options: Options, calibrated: Plan, capacity: float, coordination: Coordination | None) -> Plan:
    """Return the plan of a run: that of the calibration, with the pace and the queue that follow from its result."""
    return replace(
        calibrated,
        seconds=options.seconds,
        rate=OFFERED * capacity / options.producers,
        queue_limit=max(1, round(QUEUE_SECONDS * capacity)),
        has_slow_down=True,
        coordination=coordination,
    )


def measure_capacity(plan: Plan, view: Watching) -> float:
    """Return the records per second that the workers index if the queue is never empty, with all processes running."""
    with Children(plan.home) as children:
        perform(children, plan, view, awaited={"service"})
        return float(children.results["service"]["rate"])


def play_run(plan: Plan, view: Watching) -> Accounts:
    """Play the whole run. Raises `DemoFailed` unless every record sent was indexed or counted as lost."""
    with Children(plan.home) as children:
        perform(children, plan, view)
        results = children.results
    service = results["service"]
    producers = [results[f"producer {number}"] for number in range(plan.producers)]
    workers = [results[f"worker {number}"] for number in range(plan.workers)]
    accounts = Accounts(
        service,
        sent=sum(result["sent"] for result in producers),
        indexed=sum(result["indexed"] for result in workers),
        memory=sum(result["memory"] for result in [service, *workers]),
    )
    if not accounts.sent:
        raise DemoFailed(error_texts.demo_sent_nothing(plan.seconds))
    if not accounts.sent == service["received"] == accounts.indexed + service["lost"]:
        raise DemoFailed(
            error_texts.demo_records_differ(accounts.sent, service["received"], accounts.indexed, service["lost"])
        )
    return accounts


def perform(children: Children, plan: Plan, view: Watching, awaited: set[str] | None = None) -> None:
    """Start all processes, show the samples of the service, and return when all awaited ones have sent their result."""
    coordination = asdict(plan.coordination) if plan.coordination else None
    service = {
        "producers": plan.producers,
        "workers": plan.workers,
        "seconds": plan.seconds,
        "warm_up": plan.warm_up,
        "queue_limit": plan.queue_limit,
        "is_patient": plan.rate is None,
        "coordination": coordination,
    }
    starts: list[tuple[str, str, dict[str, Any]]] = [("service", "service", service)]
    for number in range(plan.workers):
        slow = plan.slow if number == 0 else None
        starts.append((f"worker {number}", "worker", {"number": number, "slow": slow}))
    producer = {
        "producers": plan.producers,
        "seconds": plan.seconds,
        "rate": plan.rate,
        "files": [str(path) for path in plan.files],
        "coordination": coordination,
    }
    starts += [(f"producer {number}", "producer", {**producer, "number": number}) for number in range(plan.producers)]
    for name, role, settings in starts:
        view.starting(0, len(starts))
        children.start(name, role, settings)
    awaited = awaited or children.names
    starts_at = children.go(view.starting)
    while not awaited <= children.results.keys():
        told = children.hear(TICK_S)
        at = time.monotonic() - starts_at
        if told and told[1]["kind"] == "sample":
            view.watch(Moment(at, told[1]))
        if at > plan.seconds + DRAIN_PATIENCE_S:
            missing = ", ".join(sorted(awaited - children.results.keys()))
            raise DemoFailed(error_texts.demo_not_ended(missing, DRAIN_PATIENCE_S))


def fairness(accounts: Accounts) -> float | None:
    return jain(accounts.service["by_producer"])
