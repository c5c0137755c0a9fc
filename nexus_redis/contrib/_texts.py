"""Every text that the helpers raise or log, in one place.

An error is filled in by `str.format`, a log line by `logging`. `tests/contrib/messages.txt` lists all of them.
"""

from __future__ import annotations

from typing import Final

# --- errors: what to do, behind `field=value: ` in an `InvalidSetting`

WRONG_KIND: Final = "pass a {kind} of `{module}`"
OTHER_BUDGET: Final = "it belongs to the budget {other}, so pass one that belongs to {own}"
WRONG_REPORT: Final = "use True, False, or a consumer that budget.consumer(observe=True) has made"
WRONG_STATUS: Final = "use 429 or 503, or leave it out so that each refusal has the status that fits"
PRODUCER_AND_FUNCTION: Final = "leave it out, because a function chooses the budget of each request"
ASYNC_FUNCTION: Final = "pass a def, because a WSGI application cannot await an async def"
TASK_WITHOUT_BUDGET: Final = "give the task {task} one: @app.task(base=NexusTask, budget=...)"
UNKNOWN_BUDGET: Final = "NexusMiddleware was made with {known}, so add this budget there or name one of those"
NO_BUDGETS: Final = "no budget"  # for {known}

# --- log lines

FAILED: Final = "%s failed with %r. %s.%s"  # one of the subjects, the error, one of the consequences, UNLOGGED
COST_FUNCTION: Final = "{owner}: the cost function"
CHOOSING_FUNCTION: Final = "{owner}: the function that chooses the budget"
ACQUIRING: Final = "budget {budget}: acquiring the tokens of a request"
PASSES: Final = "The work passes without a token"
NOT_LIMITED: Final = "The request is not limited"
NOT_COUNTED: Final = "The request is not counted"
ALWAYS_REFUSED: Final = "Every request with such a cost is refused, so lower the cost or raise the burst"
ONE_UNLOGGED: Final = " 1 earlier error was not logged."
UNLOGGED: Final = " {count} earlier errors were not logged."
PAUSE_FAILED: Final = (
    "budget %s: a response asked for a pause (%s), but the pause could not be passed on to the fleet: %s. "
    "The next such response tries again."
)
TASK_WAITS: Final = "budget %s: task %s waits and tries again in %g s, because Redis does not answer: %s"
TASK_DEFERRED: Final = "budget %s: task %s[%s] is over budget and runs again in %.3g s"

# --- texts for users of the application

MESSAGE_DEFERRED: Final = "budget {budget}: the message is over budget and comes back in {seconds:.3g} s"
OVER_BUDGET: Final = "over budget: see Retry-After\n"  # the body of a refusal
PAUSE_REASON: Final = "{header} from {host}"  # in `status` and `explain`
