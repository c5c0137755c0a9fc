"""`nexus-redis top`: all budgets live in a terminal, and one budget with its members, its past and its reason.

`looks.py` reads Redis, in threads, so that no look stops a key press. `overview.py` and `detail.py` are the screens,
`rows.py` is the table of both, `dialogs.py` asks before a change, and `application.py` holds them together.
"""
