"""redis: send one command and print its answer as redis-cli does, for machines without redis-cli."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus_redis._values.formatting import printable
from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Namespace, Url
from nexus_redis.cli.exit_codes import Finding
from nexus_redis.cli.resp import Failure, Status, encode, read

if TYPE_CHECKING:
    from nexus_redis.cli.context import Context

ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', 10: "\\n", 13: "\\r", 9: "\\t", 7: "\\a", 8: "\\b"}


def redis(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="CMD...", help="The command and its arguments, as redis-cli takes them.", show_default=False
        ),
    ],
    *,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Send one command to Redis and print the answer as redis-cli does.

    If Redis refuses the command, its words are on stderr, and the exit code is 1.

    Options of this verb go before the command. Redis gets all words after it.

    \b
    Example:
      nexus-redis redis HGETALL 'nexus:{elasticsearch}'
    """
    from nexus_redis.cli.context import open_context

    with open_context(url, namespace) as context:
        answer = _answer(context, [os.fsencode(word) for word in command])
    if isinstance(answer, Failure):
        raise Finding(texts.command_refused(answer))
    for line in lines(answer):
        print(line)


def _answer(context: "Context", words: list[bytes]) -> Any:
    from redis.exceptions import RedisError

    from nexus_redis._protocol.plans import Fault
    from nexus_redis._redis.cluster import Cluster
    from nexus_redis._redis.faults import as_nexus_error, classify
    from nexus_redis.errors import Unavailable

    client: Any = context.client
    try:
        node = client.client_for(words) if isinstance(client, Cluster) else client
    except (RedisError, OSError) as error:  # no node of the cluster answers
        raise Unavailable(context.server, str(error)) from error
    connection: Any = node.connection_pool.make_connection()
    try:
        connection.connect()  # redis-py takes care of encryption, login and database
        # The answer is read here, because redis-py does not tell a status from a text: `OK` from `"OK"`.
        socket = connection._sock
        if "socket_timeout=" not in context.url:
            socket.settimeout(None)  # a user who types BLPOP means to wait
        socket.sendall(encode("HELLO", 2) + encode(*words))  # in RESP2 maps are flat lists, as redis-cli shows them
        with socket.makefile("rb") as stream:
            read(stream)
            return read(stream)
    except (RedisError, OSError) as error:
        if classify(error) is Fault.PERMANENT:
            raise as_nexus_error(error) from error
        raise Unavailable(context.server, str(error)) from error
    finally:
        connection.disconnect()


def lines(answer: Any) -> Iterator[str]:
    """Return an answer as redis-cli shows it on a terminal.

    >>> list(lines([b"a", [1, None]]))
    ['1) "a"', '2) 1) (integer) 1', '   2) (nil)']
    """
    match answer:
        case None:
            yield "(nil)"
        case Failure():
            yield f"(error) {printable(answer)}"
        case Status():
            yield printable(answer)
        case int():
            yield f"(integer) {answer}"
        case bytes():
            yield quoted(answer)
        case []:
            yield "(empty array)"
        case list():
            width = len(str(len(answer)))
            for position, part in enumerate(answer, 1):
                first, *others = lines(part)
                yield f"{position:>{width}}) {first}"
                yield from (f"{'':{width + 2}}{other}" for other in others)


def quoted(text: bytes) -> str:
    """Return `text` in quotes, with all that is not printable ASCII escaped.

    >>> quoted("h\u00e9\\n".encode())
    '"h\\\\xc3\\\\xa9\\\\n"'
    """
    return '"' + "".join(ESCAPES.get(c) or (chr(c) if 32 <= c < 127 else f"\\x{c:02x}") for c in text) + '"'
