"""`--watch`: look again and again, and show each look.

on a terminal    the tables in place of those before; a line above them says so while Redis does not answer
elsewhere        the time and the tables of each look, with an empty line after them
with --json      one line of JSON a look; each budget has the time of the look as `at`

The first look fails as it does without `--watch`. When a later one fails, stderr says so once, and the next is tried.
"""

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NoReturn

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from nexus_redis._values.formatting import seconds
from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import SIGNALLED, Finding
from nexus_redis.cli.output import print_error
from nexus_redis.cli.status_looks import Look
from nexus_redis.cli.tables import console_of_stdout, lines
from nexus_redis.errors import NexusError

Show = Callable[[Look | None, str], None]  # a look; or None, and what is wrong


def watch_with(look: Callable[[], Look], every: float, *, json: bool) -> NoReturn:
    """Show a look every `every` seconds, until a signal or a closed pipe ends the verb."""
    first = look()
    signal.signal(signal.SIGTERM, _end)  # Python's own end would leave a terminal without its cursor
    with _shown(json=json) as show:
        show(first, "")
        while True:
            time.sleep(every)
            try:
                seen = look()
            except (Finding, NexusError) as error:
                show(None, str(error))
            else:
                show(seen, "")


@contextmanager
def _shown(*, json: bool) -> Iterator[Show]:
    console = console_of_stdout()
    if json:
        yield _Stream(lambda look: look.timed_json(round(time.time(), 3)))
    elif not console.is_terminal:
        yield _Stream(lambda look: "\n".join([_now(), *lines(console, look.tables(console)), ""]))
    else:
        # Warnings of the library would move the tables; the line above them says what is wrong.
        logging.getLogger("nexus_redis").setLevel(logging.ERROR)
        with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
            yield _Screen(console, live)


def _now() -> str:
    """Return the time of this host with its zone: `2026-03-01 14:05:09+01:00`."""
    return datetime.now().astimezone().isoformat(" ", "seconds")


class _Stream:
    """Writes each look to stdout, and each new trouble to stderr."""

    def __init__(self, text_of: Callable[[Look], str]) -> None:
        self._text_of = text_of
        self._trouble = ""
        self._damage: set[str] = set()

    def __call__(self, look: Look | None, trouble: str) -> None:
        if look is None:
            if not self._trouble:  # once, although the text changes with the seconds that Redis took
                print_error(texts.watch_goes_on(trouble))
        else:
            if self._trouble:
                print_error(texts.WATCH_IS_BACK)
            print(self._text_of(look), flush=True)
            for each in look.damage:
                if each not in self._damage:
                    print_error(each)
            self._damage = set(look.damage)
        self._trouble = trouble


class _Screen:
    """Draws each look in the place of the one before, below a line where something is wrong."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console, self._live = console, live
        self._last: RenderableType = Text()
        self._seen_at = time.monotonic()

    def __call__(self, look: Look | None, trouble: str) -> None:
        if look is None:
            age = seconds(time.monotonic() - self._seen_at)
            wrong = [Text(texts.watch_shows_old(trouble, age), style="bold red")]
        else:
            self._last, self._seen_at = look.tables(self._console), time.monotonic()
            wrong = [Text(each, style="red") for each in look.damage]
        # Above the tables, because the end of a long table is cut off.
        self._live.update(Group(*wrong, self._last), refresh=True)


def _end(number: int, _frame: object) -> None:
    sys.stdout.flush()
    raise typer.Exit(SIGNALLED + number)
