"""All errors, refusals and warnings that the command line writes, by name. Help texts are with the verbs.

Each text appears on stderr after `nexus-redis: `. A name that ends in `_remedy` or `_REMEDY` is the second half of an
`InvalidSetting`, after the option and its value: `--load 101.0: use 0 to 100 percent`. No function has a docstring,
because its text says when it is used. `tests/cli/messages.txt` lists every text; `python -m tests.cli.messages` writes
that list again.
"""

from typing import Final

from nexus_redis._values.parse import FRACTION

BACKUP_SOURCE: Final = "use a file that `nexus-redis list --json` has written"
INSTALL: Final = "the command line needs its extra packages. Install them with: pip install '.[cli]'"

# --- usage: any verb -------------------------------------------------------------------------------------------------


def see_help(problem: str, verb: str) -> str:
    return f"{problem}{'' if problem.endswith('?') else '.'} See {verb} --help"


def needs_value(option: str) -> str:
    return f"{option} needs a value"


def not_a_number(option: str, value: str, *, is_whole: bool = False) -> str:
    return f"{option} {value!r} is not a {'whole ' if is_whole else ''}number"


def no_such_option(option: str, meant: str) -> str:
    return f"there is no option {option}: use {meant}"


def meant_option(problem: str, option: str) -> str:
    return f"{problem}. Use the option {option}"


def option_of_the_command(problem: str) -> str:
    return f"{problem}. Put `--` before a command that has options of its own"


def unknown_shell(shell: str, shells: str) -> str:
    return f"there is no completion for {shell!r}: use {shells}"


def key_without_name(usage: str) -> str:
    return f"--key selects a budget of NAME, and NAME is missing: use nexus-redis {usage}"


def one_of_remedy(words: str) -> str:
    return f"use {words}"


def by_remedy(most_bytes: int) -> str:
    return f"use 1 to {most_bytes} bytes without a colon"


def reason_remedy(most_bytes: int) -> str:
    return f"use at most {most_bytes} bytes"


# --- streams and connections -----------------------------------------------------------------------------------------

CONNECTION_CLOSED: Final = "the server closed the connection before its answer was complete"


def not_redis(answer: str) -> str:
    return f"the server does not answer in the protocol of Redis: {answer}"


def command_refused(answer: str) -> str:
    return f"the server refused the command: {answer}"


def output_failed(cause: str) -> str:
    return f"the output cannot be written: {cause}"


def input_failed(cause: str) -> str:
    return f"stdin cannot be read: {cause}"


def stream_closed(stream: str, cause: str) -> str:
    return f"pace copies stdin to stdout, and {stream} is not open: {cause}"


def file_failed(file: str, cause: str) -> str:
    return f"{file} cannot be read: {cause}"


def bench_connections(count: int, cause: str) -> str:
    return f"bench opened {count} connections, and one of them failed: {cause}"


# --- names -----------------------------------------------------------------------------------------------------------


def did_you_mean(names: str) -> str:
    return f"Did you mean {names}?"


def hashed_key(budget: str, key: str) -> str:
    return f"{budget} (the budget of the key {key!r})"


def unknown_budget(budget: str, where: str, suggestion: str = "", *, can_create: bool = False) -> str:
    remedy = "To create it, add --create." if can_create else ""
    return " ".join(part for part in (f"there is no budget {budget} {where}.", suggestion, remedy) if part)


def unknown_consumer(consumer: str, budget: str, where: str, suggestion: str = "") -> str:
    return (
        f"the budget {budget} {where} has no consumer {consumer}: it has never reported, has left, or has been silent "
        f"for more than ten minutes. {suggestion}".rstrip()
    )


def new_budget(budget: str, suggestion: str) -> str:
    return f"the budget {budget} is new, and this report has created it. {suggestion}"


def unknown_script(script: str, scripts: str) -> str:
    return f"there is no script {script!r}: use {scripts}"


BUNDLE_WITHOUT_NAME: Final = "--bundle prints one script: give its NAME"

# --- status --watch, top ---------------------------------------------------------------------------------------------

WATCH_IS_BACK: Final = "the state can be read again"
NAME_AFTER_WATCH: Final = "A word after --watch is a NAME, unless it begins with a digit: a TIME is 2s or 0.5"
TOP_NEEDS_TERMINAL: Final = "top needs a terminal. Without one, use nexus-redis status --watch"


def watch_goes_on(cause: str) -> str:
    return f"{cause.rstrip('.')}. This verb looks again until it is ended"


def watch_shows_old(cause: str, age: str) -> str:
    return f"{cause.rstrip('.')}. The state below is {age} old"


# --- set, pause ------------------------------------------------------------------------------------------------------

SET_WITHOUT_NAME: Final = (
    "set needs the NAME of a budget, or --from FILE to restore all budgets of a backup. See nexus-redis set --help"
)
SET_FROM_WITH_SETTINGS: Final = "--from restores the settings of the backup: leave all other settings out"
MIN_RATE_REMEDY: Final = "the floor is above the rate that is set; use at most that rate"
BURST_REMEDY: Final = "the burst is too large at the rate that is set; use fewer seconds"
LOSSLESS_REMEDY: Final = (
    "all consumers of the budget must report queue_depth, queue_limit, done, errors and in_flight first"
)
RATE_REMEDY: Final = (
    "the rate is below the min-rate that is set; lower that with --min-rate, or remove it with --unset min-rate"
)


def nothing_to_set(options: str) -> str:
    return f"there is nothing to set: give {options} or --unset FIELD"


def set_and_unset(field: str) -> str:
    return f"the setting {field} is both set and unset: leave one of the two out"


def pause_remedy(span: str) -> str:
    return f"{span}. To pause the budget until you resume it, leave the time out"


# --- set --from ------------------------------------------------------------------------------------------------------

NOT_TEXT: Final = "it is not a text in UTF-8"


def not_json(file: str) -> str:
    return f"{file} is not valid JSON: {BACKUP_SOURCE}"


def not_a_backup(file: str) -> str:
    return f"{file} is not a backup: {BACKUP_SOURCE}"


def not_in_backup(file: str, budget: str, suggestion: str = "") -> str:
    return f"{file} has no budget {budget}. {suggestion}".rstrip()


def empty_backup(file: str) -> str:
    return f"{file} has no budget to restore"


def incomplete_backup(budget: str) -> str:
    return (
        f"the backup of the budget {budget} is incomplete: a setting was damaged when the backup was written. The "
        "restore has set all other values, and has removed no setting"
    )


def restore_stopped(budget: str, cause: str, done: int, total: int) -> str:
    return f"the restore stopped at the budget {budget}, when {done} of {total} were restored: {cause}"


# --- report ----------------------------------------------------------------------------------------------------------

ENOUGH: Final = (
    "state how full the consumer is (--load, --queue-depth with --queue-limit, or --in-flight with --slots) and how "
    "fast it is (--capacity); or state --done with --queue-depth, --errors or --latency-ms"
)
NOTHING_TO_REPORT: Final = f"there is nothing to report: {ENOUGH}"
ZERO_REMEDY: Final = "use more than 0; to stop this consumer for a while, use --pause TIME"


def no_law(budget: str) -> str:
    return f"no law computes a rate of the budget {budget} from this report: {ENOUGH}"


def load_alone(load: float, budget: str) -> str:
    return (
        f"--load {load:g} states how full the consumer is, not how fast: add --capacity or --done, or set a rate "
        f"(nexus-redis set {budget} --rate RATE)"
    )


def load_is_fraction(load: float) -> str:
    return f"--load {load:g} means {load:g} %. {FRACTION}"


def lossless_remedy(options: str) -> str:
    return f"it is missing, and the budget is lossless; report all of {options}"


def report_too_soon(consumer: str, budget: str, every: float) -> str:
    return (
        f"the report of {consumer} to the budget {budget} was not kept, because the last one is less than half of "
        f"--every {every:g} old. Wait, or state with --every how often you report."
    )


# --- delete ----------------------------------------------------------------------------------------------------------

NOTHING_DELETED: Final = "nothing was deleted, because the answer was not yes"


def delete_needs_yes(budget: str) -> str:
    return f"this deletes the budget {budget}, and there is no terminal on which to ask first: add --yes"


def confirm_delete(budget: str, where: str) -> str:
    return f"delete the budget {budget} {where}? [y/N] "


# --- run -------------------------------------------------------------------------------------------------------------

COMMAND_EMPTY: Final = "the command is empty, so no token was taken. Is the variable that holds the command set?"


def command_not_run(cause: str) -> str:
    return f"{cause.rstrip('.')}. The command has not run"


def command_failed(command: str, cause: str) -> str:
    return f"the command {command} cannot be started: {cause}"


# --- serve, token, top -----------------------------------------------------------------------------------------------

PATTERN_REMEDY: Final = "use a name, or a pattern such as stripe/*, without commas and blanks"


def install_extra(extra: str, package: str) -> str:
    return f"this verb needs {package}, which is not installed. Install it with: pip install '.[{extra}]'"


PROXY_NEEDS_BUDGET: Final = "--upstream needs --budget NAME: the budget that paces the requests"
PROXY_TAKES_NO_TOKENS: Final = (
    "--upstream and --tokens do not go together: the Authorization of a request belongs to the upstream. To listen "
    "where other hosts reach the proxy, add --anyone"
)
PROXY_NEEDS_ANYONE: Final = (
    "everybody who reaches this address could send requests through the proxy: add --anyone if that is meant, or "
    "listen on 127.0.0.1 or on a unix socket"
)
SOCKET_AND_ADDRESS: Final = "--socket takes the place of --host and --port: leave these out, or start another server"
ONLY_WITH_UPSTREAM: Final = (
    "--budget, --key, --rate, --stats, --stats-credentials, --keep-host and --anyone need --upstream URL"
)


def passing_on(where: str, upstream: str, budget: str) -> str:
    return f"nexus-redis serves {where}, and passes requests on to {upstream} as the budget {budget} allows"


def serving(where: str) -> str:
    return f"nexus-redis serves {where} (API at /v1, documented at /docs; Ctrl-C ends it)"


def tokens_file(cause: str) -> str:
    return f"this file of tokens cannot be used ({cause}): choose a file that you may read and write"


def token_exists(file: str) -> str:
    return f"{file} has a token of this name already: choose another name, or remove its line"
