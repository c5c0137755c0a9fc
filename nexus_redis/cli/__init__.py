"""The command line: one file for each verb in `commands/`, and what the verbs share.

Which verbs exist        app.py, and completion.py for the shells
What a verb does         commands/<verb>.py: its options, its help, and the shape of its `--json` as a TypedDict
What users read          texts.py (all errors and refusals), output.py (JSON, one line), tables.py, progress.py
How a verb ends          exit_codes.py, usage_errors.py (what typer refuses), os_signals.py
Which Redis, which keys  common_options.py, context.py (--url and --namespace as a connection)
Which budget             unknown_budgets.py (does it exist, and "Did you mean"), all_budgets.py
Behind several verbs     operator_change.py (set, pause, resume), backup.py (set --from), paced_copy.py (pace),
                         benchmark.py and load_generator.py (bench), child_process.py (run)
Without slow imports     fast_parser.py, fast_signal.py, fast_acquire.py, fast_connection.py, resp.py

The start of Python is most of what a short verb costs. So a file of a verb imports only what its options need; the rest
of the package, redis-py, pydantic and rich are imported inside the functions that use them. `run` and `signal` do
without all of these, and without typer.
"""
