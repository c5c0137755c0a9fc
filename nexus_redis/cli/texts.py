"""All errors, refusals and warnings that the command line writes, by name.

Each text appears on stderr after `nexus-redis: `. A name that ends in `_remedy` or `_REMEDY` is the second half of an
`InvalidSetting`, after the option and its value: `--load 101.0: use 0 to 100 percent`. Help texts stand with their
verbs. `tests/cli/messages.txt` lists every text; `python -m tests.cli.messages` writes that list again.
"""

from typing import Final

from nexus_redis._values.parse import FRACTION

BACKUP_SOURCE: Final = "use a file that `nexus-redis list --json` has written"
INSTALL: Final = "the command line needs its extra packages. Install them with: pip install '.[cli]'"

# --- usage: any verb -------------------------------------------------------------------------------------------------


def see_help(problem: str, verb: str) -> str:
    """Point from a problem with the arguments to the help of the verb."""
    return f"{problem}{'' if problem.endswith('?') else '.'} See {verb} --help"


def needs_value(option: str) -> str:
    """Refuse an option that was typed last and takes a value."""
    return f"{option} needs a value"


def not_a_number(option: str, value: str, *, is_whole: bool = False) -> str:
    """Refuse the value of an option that takes a number."""
    return f"{option} {value!r} is not a {'whole ' if is_whole else ''}number"


def no_such_option(option: str, meant: str) -> str:
    """Refuse an option that is misspelled by `_`, `-` or capitals only."""
    return f"there is no option {option}: use {meant}"


def meant_option(problem: str, option: str) -> str:
    """Add the option that the user most likely meant."""
    return f"{problem}. Use the option {option}"


def option_of_the_command(problem: str) -> str:
    """Add that `run` needs `--` before a command with options."""
    return f"{problem}. Put `--` before a command that has options of its own"


def unknown_shell(shell: str, shells: str) -> str:
    """Refuse a shell that has no completion script."""
    return f"there is no completion for {shell!r}: use {shells}"


def key_without_name(usage: str) -> str:
    """Refuse --key without the NAME that it belongs to."""
    return f"--key selects a budget of NAME, and NAME is missing: use nexus-redis {usage}"


def one_of_remedy(words: str) -> str:
    """Name the words that an option takes."""
    return f"use {words}"


def by_remedy(most_bytes: int) -> str:
    """Say what --by takes."""
    return f"use 1 to {most_bytes} bytes without a colon"


def reason_remedy(most_bytes: int) -> str:
    """Say what --reason takes."""
    return f"use at most {most_bytes} bytes"


# --- streams and connections -----------------------------------------------------------------------------------------

CONNECTION_CLOSED: Final = "the server closed the connection before its answer was complete"


def not_redis(answer: str) -> str:
    """Report an answer that is not in Redis's protocol."""
    return f"the server does not answer in the protocol of Redis: {answer}"


def output_failed(cause: str) -> str:
    """Report that stdout cannot be written, as on a full disk."""
    return f"the output cannot be written: {cause}"


def input_failed(cause: str) -> str:
    """Report that stdin cannot be read."""
    return f"stdin cannot be read: {cause}"


def stream_closed(stream: str, cause: str) -> str:
    """Refuse `pace` with a closed stdin or stdout."""
    return f"pace copies stdin to stdout, and {stream} is not open: {cause}"


def file_failed(file: str, cause: str) -> str:
    """Report a file that cannot be read."""
    return f"{file} cannot be read: {cause}"


def bench_connections(count: int, cause: str) -> str:
    """Say what `bench` was doing when a connection failed."""
    return f"bench opened {count} connections, and one of them failed: {cause}"


# --- names -----------------------------------------------------------------------------------------------------------


def did_you_mean(names: str) -> str:
    """Suggest names that are similar to the one that was typed."""
    return f"Did you mean {names}?"


def unknown_budget(budget: str, where: str, suggestion: str = "", *, can_create: bool = False) -> str:
    """Report a budget that does not exist."""
    remedy = "To create it, add --create." if can_create else ""
    return " ".join(part for part in (f"there is no budget {budget} {where}.", suggestion, remedy) if part)


def unknown_consumer(consumer: str, budget: str, where: str, suggestion: str = "") -> str:
    """Report a consumer that the budget does not know."""
    return (
        f"the budget {budget} {where} has no consumer {consumer}: it has never reported, has left, or has been silent "
        f"for more than ten minutes. {suggestion}".rstrip()
    )


def new_budget(budget: str, suggestion: str) -> str:
    """Warn that a report has created a budget whose name is similar to an existing one."""
    return f"the budget {budget} is new, and this report has created it. {suggestion}"


def unknown_script(script: str, scripts: str) -> str:
    """Refuse the name of a script that does not exist."""
    return f"there is no script {script!r}: use {scripts}"


BUNDLE_WITHOUT_NAME: Final = "--bundle prints one script: give its NAME"

# --- set, pause ------------------------------------------------------------------------------------------------------

SET_WITHOUT_NAME: Final = (
    "set needs the NAME of a budget, or --from FILE to restore all budgets of a backup. See nexus-redis set --help"
)
SET_FROM_WITH_SETTINGS: Final = "--from restores the settings of the backup: leave all other settings out"
MIN_RATE_REMEDY: Final = "the floor is above the rate that is set: use at most that rate"
BURST_REMEDY: Final = "the burst is too large at the rate that is set: use fewer seconds"
LOSSLESS_REMEDY: Final = "its consumers must report queue_depth, queue_limit, done, errors and in_flight first"
RATE_REMEDY: Final = (
    "the rate is below the min-rate that is set: lower that with --min-rate, or remove it with --unset min-rate"
)


def nothing_to_set(options: str) -> str:
    """Refuse `set NAME` without a setting."""
    return f"there is nothing to set: give {options} or --unset FIELD"


def set_and_unset(field: str) -> str:
    """Refuse a field that is set and unset at once."""
    return f"{field} is both set and unset: leave one of the two out"


def pause_remedy(span: str) -> str:
    """Say which pauses there are. `span` is the range of their length."""
    return f"{span}. To pause the budget until you resume it, leave the time out"


# --- set --from ------------------------------------------------------------------------------------------------------

NOT_TEXT: Final = "it is not a text in UTF-8"


def not_json(file: str) -> str:
    """Refuse a backup that does not parse."""
    return f"{file} is not valid JSON: {BACKUP_SOURCE}"


def not_a_backup(file: str) -> str:
    """Refuse JSON of another shape."""
    return f"{file} is not a backup: {BACKUP_SOURCE}"


def not_in_backup(file: str, budget: str, suggestion: str = "") -> str:
    """Refuse a budget that the backup does not hold."""
    return f"{file} has no budget {budget}. {suggestion}".rstrip()


def empty_backup(file: str) -> str:
    """Refuse a backup without a budget."""
    return f"{file} has no budget to restore"


def restore_stopped(budget: str, cause: str, done: int, total: int) -> str:
    """Report how far a restore came before it failed."""
    return f"the restore stopped at budget {budget}, after {done} of {total}: {cause}"


# --- report ----------------------------------------------------------------------------------------------------------

ENOUGH: Final = (
    "state how full the consumer is (--load, --queue-depth with --queue-limit, or --in-flight with --slots) and how "
    "fast it is (--capacity); or state --done with --queue-depth, --errors or --latency-ms"
)
NOTHING_TO_REPORT: Final = f"there is nothing to report: {ENOUGH}"
NO_LAW: Final = f"no law computes a rate from this report: {ENOUGH}"
ZERO_REMEDY: Final = "use more than 0; to stop this consumer for a while, use --pause TIME"


def load_alone(load: float) -> str:
    """Refuse a load from which no rate follows."""
    return (
        f"--load {load:g} states how full the consumer is, not how fast: add --capacity or --done, or set a rate on "
        "the budget (nexus-redis set NAME --rate RATE)"
    )


def load_is_fraction(load: float) -> str:
    """Warn about a load like 0.95."""
    return f"--load {load:g} means {load:g} %. {FRACTION}"


def lossless_remedy(options: str) -> str:
    """Say what each report to a lossless budget must hold."""
    return f"it is missing, and the budget is lossless; report all of {options}"


def report_too_soon(consumer: str, every: float) -> str:
    """Report that Redis did not keep a report, because its differences to the last one would say little."""
    return (
        f"the report was not kept, because the last one of {consumer} is less than half of --every {every:g} old. "
        "Wait, or state with --every how often you report"
    )


# --- delete ----------------------------------------------------------------------------------------------------------

NOTHING_DELETED: Final = "nothing was deleted, because the answer was not yes"


def delete_needs_yes(budget: str) -> str:
    """Refuse to delete without a confirmation."""
    return f"this deletes the budget {budget}, and there is no terminal on which to ask first: add --yes"


def confirm_delete(budget: str, where: str) -> str:
    """Ask before a budget is deleted."""
    return f"delete the budget {budget} {where}? [y/N] "


# --- run -------------------------------------------------------------------------------------------------------------

COMMAND_EMPTY: Final = "the command is empty, and no token was taken. Is the variable that holds the command set?"


def command_failed(command: str, cause: str) -> str:
    """Report a command that cannot be started."""
    return f"the command {command} cannot be started: {cause}"
