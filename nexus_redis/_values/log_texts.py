"""The texts of all log records, each in one place.

A name says the event: `log.info(log_texts.EMBEDDED_JOINED, port)`. A text takes its data by `%`, so that a record keeps
both and is put together only if somebody reads it. Each text says what happened, to which budget where it is about one,
and what to do where there is something to do. `tests/project/messages.txt` has every text once.
"""

from __future__ import annotations

from typing import Final

# --- push: news of a rate before the next claim ----------------------------------------------------------------------

PUSH_UNAVAILABLE: Final = (  # kind of the error, error
    "this process hears of a drop of a rate with its next claim, and not at once: %s: %s"
)
PUSH_THREAD_NOT_STARTED: Final = (  # error
    "this process cannot listen for changes of a rate, and hears of them with its next claim: %s"
)

MESSAGE_UNREADABLE: Final = "a message on the channel %s is not one of nexus_redis, and is left alone"
SUBSCRIBER_BUG: Final = "nexus_redis met a bug in what %r heard of a rate: its next claim brings the rate again"

# --- Redis is away ---------------------------------------------------------------------------------------------------

REDIS_AWAY: Final = (  # cause
    "Redis does not answer (%s). Until it does, each producer follows its on_outage: `share` admits half of its last "
    "share, `closed` nothing, and `open` everything"
)
REDIS_BACK: Final = "Redis answers again"
REDIS_FAR: Final = (  # budget, seconds of a round trip, seconds of a lease
    "budget %s: Redis takes %s to answer and a lease lasts %s, so tokens expire on their way and most of the budget is "
    "not used. Use a Redis that is nearer"
)
REDIS_FAR_LOSSLESS: Final = (  # likewise
    "budget %s: Redis takes %s to answer and a lease lasts %s, so tokens expire on their way and most of the budget is "
    "not used. A lossless budget needs a Redis that is nearer"
)
STATE_SUPERSEDED: Final = "budget %s: %s. This producer follows its on_outage, as if Redis did not answer"
STATE_READABLE: Final = "budget %s: this release can read its state again"

# --- settings --------------------------------------------------------------------------------------------------------

SETTING_LEFT_OUT: Final = (  # budget, setting, parent
    "budget %s: its own %s does not go with the settings of %s, so it is left out"
)
SETTINGS_TAKEN_OVER: Final = "budget %s: the budgets of its keys take over %s"
SETTING_REPLACED: Final = (  # budget, setting, value
    "budget %s: %s had another value and is %s now. The code that opens a budget last sets its values"
)
SETTING_REMOVED: Final = (
    "budget %s: %s had another value and has none now. The code that opens a budget last sets its values"
)
PAUSE_OVERRULED: Final = "budget %s: an operator paused it, so code does not resume it. `nexus-redis resume %s` does"
SETTING_OVERRULED: Final = (  # budget, setting, budget, option
    "budget %s: an operator set %s, so the value in code is not used. `nexus-redis set %s --unset %s` removes the "
    "operator's value"
)

# --- the state of a budget, as this process hears of it: at INFO, since every process of a fleet does ----------------

BUDGET_CHANGED: Final = "budget %s: level %d, %s, reason %s. It was level %d, reason %s"  # budget, level, rate, reason

# --- callers that wait long ------------------------------------------------------------------------------------------

NO_RATE: Final = (
    "budget %(name)s has no rate, so callers wait. Give it a consumer that reports, rate= in code, or "
    "`nexus-redis set %(name)s --rate`"
)
NO_REPORT: Final = (
    "budget %(name)s is lossless and no consumer reports, so callers wait until a consumer reports what it can hold "
    "(queue_limit, queue_depth, done, errors, in_flight)"
)
COST_TAKES_LONG: Final = (  # budget, tokens, rate, seconds
    "budget %s: a caller asks at once for %s. At %s, which is the whole budget, that takes another %s. The callers "
    "behind it wait as long"
)
DEBT_TAKES_LONG: Final = (  # likewise
    "budget %s: this producer owes %s. At %s, which is the whole budget, that takes another %s. The callers behind it "
    "wait as long"
)
COST_ABOVE_LOSSLESS_BURST: Final = (  # budget, tokens, burst
    "budget %s: a caller asks at once for %s, and a lossless budget gives no more than its burst, now %g. The caller "
    "waits until the consumers can take more. A larger `burst` helps"
)

# --- producers and consumers -----------------------------------------------------------------------------------------

PRODUCER_ID_TAKEN: Final = "budget %s: producer id %s is in use by a live process; this one goes on as %s"
CONSUMER_ID_TAKEN: Final = "budget %s: consumer id %s is in use by a live process; this one goes on as %s"
SOURCE_STANDS_BY: Final = "budget %s: %s is reported by another process; this one stands by"
STREAM_MISSING: Final = (  # what is missing, key, group
    "watch_stream: there is no %s; until there is, nothing in it counts as read or done (XGROUP CREATE %s %s 0 "
    "MKSTREAM makes both)"
)
STREAM_FOUND: Final = "watch_stream: there is a group %s of stream %s now"

# --- bugs: each comes with a traceback -------------------------------------------------------------------------------

LOOP_BUG: Final = "nexus_redis met a bug in its loop: no call is made for a second, then the loop goes on"
SESSION_BUG: Final = "nexus_redis met a bug in the part of %r, which begins again in a second"
REPORT_BUG: Final = "nexus_redis met a bug where a report is made: the next report is made in its time"
QUEUE_UNREADABLE: Final = "the watched queue cannot be asked for its depth: reports go on without it"
CLOSE_BUG: Final = "nexus_redis met a bug where %r was closed: what it held in Redis expires by itself"
FORK_BUG: Final = "nexus_redis met a bug where a forked child begins: %r does not work in this process"
LOOP_ABANDONED: Final = "the event loop of a Nexus ended before the Nexus was closed: its consumers leave"

# --- the embedded server ---------------------------------------------------------------------------------------------

EMBEDDED_JOINED: Final = "embedded://: joined the server that runs on port %d"
EMBEDDED_STARTED: Final = (
    "embedded://: started a server on port %d. Use it for demos and tests only: its state is lost at exit"
)

# --- the log itself --------------------------------------------------------------------------------------------------

RECORDS_DROPPED: Final = "%d records of nexus_redis were dropped: a handler took too long with those before them"

# --- reports ---------------------------------------------------------------------------------------------------------

REPORT_REFUSED: Final = "budget %s: the report of consumer %s was refused: %s"
LOAD_REPORTED_AS_FRACTION: Final = "load=%g is %g %%. %s"  # load, load, LOAD_IS_FRACTION
LOAD_IS_FRACTION: Final = "A load is in percent: report 95 where 95 of 100 places are taken"  # the end of a warning
