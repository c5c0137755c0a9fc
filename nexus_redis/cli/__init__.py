"""The command line: one file per group of verbs, and what they share.

    app.py        the verbs by name                    exits.py      from an error to one line and an exit code
    playing.py    demo                                 options.py    what all verbs take
    reading.py    status, scripts                      place.py      from --url and --namespace to a connection
    explaining.py explain                              text.py       numbers and words for people, JSON for programs
    acting.py     set, pause, resume                   picture.py    status and history as tables (rich)
    keeping.py    list, set --from                     overview.py   the plans that read all budgets
    removing.py   forget, delete                       signals.py    signals, taken by a thread
    pacing.py     pace                                 gauge.py      what pace shows on a terminal
    running.py    run                                  known.py      does the budget exist, and which names are near
    protocol.py   signal, report                       quick.py      the words of signal and run, without typer
    plain.py      redis                                acquiring.py  the tokens of run, without redis-py
    benching.py   bench                                spawning.py   the command of run, as a child
                                                       swift.py      a connection without redis-py
                                                       resp.py       Redis' own protocol
                                                       driving.py    many connections at once, for bench
                                                       completion.py for bash, zsh and fish

Start-up is most of what a one-shot verb costs, so a file of verbs imports only what its options need; the rest of the
package, redis-py, pydantic and rich come inside the functions that use them.
"""
