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

# --- the embedded server ---------------------------------------------------------------------------------------------

EMBEDDED_JOINED: Final = "embedded://: joined the server that runs on port %d"
EMBEDDED_STARTED: Final = (
    "embedded://: started a server on port %d. Use it for demos and tests only: its state is lost at exit"
)

# --- the log itself --------------------------------------------------------------------------------------------------

RECORDS_DROPPED: Final = "%d records of nexus_redis were dropped: a handler took too long with those before them"

# --- reports ---------------------------------------------------------------------------------------------------------

LOAD_IS_FRACTION: Final = "A load is in percent: report 95 where 95 of 100 places are taken"  # the end of a warning
