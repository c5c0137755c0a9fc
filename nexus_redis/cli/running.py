"""run: a token, then a command."""

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nexus_redis.cli.exits import Misuse
from nexus_redis.cli.options import Key, Name, Namespace, OnOutage, Url
from nexus_redis.errors import Closed
from nexus_redis.words import printable

if TYPE_CHECKING:
    from nexus_redis.cli.signals import Signals

CANNOT_RUN, NOT_FOUND = 126, 127  # as the shell has them
OURS: Final = [signal.SIGPIPE, *([signal.SIGXFSZ] if hasattr(signal, "SIGXFSZ") else [])]  # Python ignores them


def run(
    name: Name,
    command: Annotated[list[str], typer.Argument(metavar="CMD...", help="After --, and its own.", show_default=False)],
    *,
    cost: Annotated[float, typer.Option(metavar="TOKENS", help="What it takes.")] = 1.0,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Give up then: exit code 75.", show_default="wait")
    ] = None,
    weight: Annotated[float, typer.Option(metavar="N", help="Its part against others'.")] = 1.0,
    priority: Annotated[str, typer.Option(metavar="CLASS", help="high, normal or low.")] = "normal",
    on_outage: OnOutage = None,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Wait for a token, then run a command.

    Passes signals on to the command and ends with its exit code: 126 and 127 as the shell has them, 128+n by signal.

    \b
    Examples:
      nexus-redis run stripe -- curl -sf https://api.stripe.com/v1/charges
      cat urls | xargs -P8 -n1 nexus-redis run stripe -- curl -sfO
    """
    from nexus_redis.cli.signals import OF_A_COMMAND, signals
    from nexus_redis.client import Nexus
    from nexus_redis.values import parse_cost

    parse_cost(cost)
    if not command[0]:
        raise Misuse("the command is empty: is the variable set that it came from?")
    with Nexus.from_url(url, namespace=namespace) as nexus:
        producer = nexus.budget(name, key=key).producer(
            weight=weight, priority=priority, timeout=timeout, on_outage=on_outage
        )
        come = signals(OF_A_COMMAND)
        if not come.hear(lambda _number, _is_key: nexus.close()):
            try:
                producer.acquire(cost)
            except Closed:
                if not come.first:
                    raise
    # No producer stays behind: what it held beside its tokens has gone back.
    raise typer.Exit(come.exit_code() if come.first else _spawn(command, come))


def _spawn(command: list[str], come: "Signals") -> int:
    lock = threading.Lock()
    child = 0

    def forward(number: int, is_key: bool) -> None:
        # A key on the terminal has reached the command already; twice would mean something else to many.
        with lock:
            if child and not is_key:
                os.kill(child, number)

    with lock:
        early = come.hear(forward)
        try:
            child = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], setsigdef=OURS)
        except OSError as error:
            print(f"nexus-redis: {printable(command[0])}: {error.strerror}", file=sys.stderr)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        if early:  # it came while there was nothing to pass it on to
            os.kill(child, early)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with lock:  # from here on the number may be another process'
        _, status = os.waitpid(child, 0)
        child = 0
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
