"""Every text that the helpers raise or log, in one place. `tests/contrib/messages.txt` lists all of them.

A function fills a text in. A log line is a constant, which `logging` fills in.
"""

from __future__ import annotations

from typing import Final

# --- errors: what to do, behind `field=value: ` in an `InvalidSetting`

WRONG_REPORT: Final = "use True, False, or a consumer that budget.consumer(observe=True) has made"
WRONG_STATUS: Final = "use 429 or 503, or leave it out so that each refusal has the status that fits"
PRODUCER_AND_FUNCTION: Final = "leave it out, because a function chooses the budget of each request"
ASYNC_FUNCTION: Final = "pass a def, because a WSGI application cannot await an async def"


def wrong_kind(kind: str, module: str) -> str:
    """For an object of another class, or of the other face."""
    return f"pass a {kind} of `{module}`"


def other_budget(other: str, own: str) -> str:
    """For a producer or a consumer of another budget."""
    return f"it belongs to the budget {other}, so pass one that belongs to {own}"


def task_without_budget(task: str) -> str:
    """For a Celery task that names `NexusTask` as its base."""
    return f"give the task {task} one: @app.task(base=NexusTask, budget=...)"


def unknown_budget(known: list[str]) -> str:
    """For a label of a taskiq task."""
    return f"NexusMiddleware was made with {', '.join(known) or 'no budget'}, so add this budget there or name another"


# --- log lines

FAILED: Final = "%s failed with %r. %s.%s"  # a subject, the error, a consequence, `unlogged`
PASSES: Final = "The work passes without a token"
NOT_LIMITED: Final = "The request is not limited"
NOT_COUNTED: Final = "The request is not counted"
ALWAYS_REFUSED: Final = "Every request with such a cost is refused, so lower the cost or raise the burst"
PAUSE_FAILED: Final = (
    "budget %s: a response asked for a pause (%s), but the pause could not be passed on to the fleet: %s. "
    "The next such response tries again."
)
TASK_WAITS: Final = "budget %s: task %s waits and tries again in %g s, because Redis does not answer: %s"
TASK_DEFERRED: Final = "budget %s: task %s[%s] is over budget and comes back in %.3g s"


def cost_function(owner: str) -> str:
    """Name the subject of FAILED: a user's cost function."""
    return f"{owner}: the cost function"


def choosing_function(owner: str) -> str:
    """Name the subject of FAILED: a user's function that chooses the budget."""
    return f"{owner}: the function that chooses the budget"


def acquiring(budget: str) -> str:
    """Name the subject of FAILED: a cost that no bucket can hold."""
    return f"budget {budget}: acquiring the tokens of a request"


def unlogged(count: int) -> str:
    """Count the errors for which one line stands."""
    if count == 0:
        return ""
    return " 1 earlier error was not logged." if count == 1 else f" {count} earlier errors were not logged."


# --- texts that other libraries and people outside get

OVER_BUDGET: Final = "over budget: see Retry-After\n"  # the body of a refusal


def message_deferred(budget: str, seconds: float) -> str:
    """For Dramatiq's log."""
    return f"budget {budget}: the message is over budget and comes back in {seconds:.3g} s"


def pause_reason(header: str, host: str) -> str:
    """For `nexus-redis status` and `explain`."""
    return f"{header} from {host}"
