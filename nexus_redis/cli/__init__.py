"""The command line: one file per group of verbs, and what they share.

    app.py        the verbs by name                    exits.py      from an error to one line and an exit code
    playing.py    demo                                 options.py    what all verbs take
    reading.py    status, scripts                      place.py      from --url and --namespace to a connection
    acting.py     set, pause, resume                   text.py       numbers and words for people, JSON for programs
    protocol.py   signal, report                       picture.py    status as tables (rich)
    plain.py      redis                                overview.py   the plan that reads all budgets in brief

Start-up is most of what a one-shot verb costs, so a file of verbs imports only what its options need; the rest of the
package, redis-py, pydantic and rich come inside the functions that use them.
"""
