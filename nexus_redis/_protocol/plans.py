"""The parts of a plan: calls to Redis, their outcomes, and pauses. No I/O, no clock.

A plan is a generator. It yields a list of jobs or a `Pause`, and receives one outcome for each job. A driver
(`_drivers/`) runs it, in a thread or in a task, and a test can run it with a loop of three lines.

    plan yields [Call, Command]  ->  driver sends one pipelined batch  ->  plan receives [outcome, outcome]
    plan yields Pause(0.05)      ->  driver sleeps                     ->  plan receives []

An outcome is the result of the job's `decode`, or a `Failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from nexus_redis._protocol.scripts import Script
from nexus_redis.errors import NexusError, Unavailable

T = TypeVar("T")
Y = TypeVar("Y")
S = TypeVar("S")
Argument = str | int

FIRST_BACKOFF: Final = 0.05  # seconds until calls are first sent again


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One run of a script, which is atomic and in one slot. The sender recognises the call by `about`."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    decode: Callable[[Any], T]
    about: Any = None


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """One plain command, for work that needs no script: read a hash, scan a sorted set."""

    args: tuple[Any, ...]
    decode: Callable[[Any], T]


Job = Call[Any] | Command[Any]


@dataclass(frozen=True, slots=True)
class DeferredCall:
    """A call whose arguments come from a user's code. The scheduler has it made while no lock is held."""

    make: Callable[[], Call[Any]]


class Fault(Enum):
    """The remedy for a call that failed. Each failure has exactly one."""

    NOT_EXECUTED = "not executed"  # the call changed nothing: make a new one before the caller's deadline
    REPLY_LOST = "reply lost"  # it may have been executed: send the same call (same seq), which is never charged twice
    PERMANENT = "permanent"  # the same call would fail again: tell the caller, unless another call helps


@dataclass(frozen=True, slots=True)
class Failed:
    """The outcome of a job that failed, classified once, where the reply came in (`_redis/faults.py`).

    `code` is a script's code word (`NEXUS_STALE`) or "". `kind` names the error ("TimeoutError"), and `cause` describes
    it for a log or a person. Callers get `error` if the fault is permanent. The batch took `took` seconds.
    """

    fault: Fault
    code: str
    kind: str
    cause: str
    error: NexusError
    took: float = 0.0

    @property
    def is_permanent(self) -> bool:
        """Return whether another try would fail as well."""
        return self.fault is Fault.PERMANENT


Outcome = Any  # the result of `decode`, or a `Failed`


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for some seconds, unless the driver is woken. With 0, let others run."""

    seconds: float


Plan = Generator[list[Job] | Pause, list[Outcome], T]


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a plan, with its result."""

    result: Any


def step(plan: Generator[Y, S, Any], answer: S | None) -> Y | Done:
    """Run a plan to its next step, or to its end. This is how everything here that runs a plan goes on with it."""
    try:
        return plan.send(answer)  # type: ignore[arg-type]  # None starts a generator
    except StopIteration as end:
        return Done(end.value)


def drive(plan: Plan[T], perform: Callable[[list[Job]], list[Outcome]], rest: Callable[[float], object]) -> T:
    """Run a plan to its end in the caller's thread. `perform` sends a batch, `rest` waits for so many seconds."""
    outcomes: list[Outcome] | None = None
    while True:
        found = step(plan, outcomes)
        if isinstance(found, Done):
            result: T = found.result
            return result
        if isinstance(found, Pause):
            rest(found.seconds)
            outcomes = []
        else:
            outcomes = perform(found)


def is_unanswered(outcome: Outcome) -> bool:
    """Return whether a call has no valid answer, so that it is worth sending again."""
    return isinstance(outcome, Failed) and not outcome.is_permanent


def ask(jobs: list[Job], server: str, patience: float = 1.0, *, keep: str = "") -> Plan[list[Outcome]]:
    """Send calls that are safe to repeat. Repeat lost ones for `patience` seconds, then raise `Unavailable`.

    A permanent failure is raised at once. A failure whose code is `keep` is an outcome like any other.
    """
    waited, backoff = 0.0, FIRST_BACKOFF
    while True:
        outcomes = yield jobs
        failures = [each for each in outcomes if isinstance(each, Failed) and not (keep and each.code == keep)]
        if not failures:
            return outcomes
        for failure in failures:
            if failure.is_permanent:
                raise failure.error
        waited += max(failure.took for failure in failures)  # calls without an answer take time as well
        if waited >= patience:
            raise Unavailable(server, failures[0].cause, waited) from failures[0].error.__cause__
        yield Pause(backoff)
        waited += backoff
        backoff *= 2
