"""A connection without redis-py, for `run`, `signal` and `pace`: importing redis-py takes longer than their calls.

It serves the common case: an address without options after a `?`, and a server that answers. After any trouble redis-py
takes over, and the same calls are sent again through it. redis-py can connect to any address, and its errors say what
is wrong. So only calls that are safe to repeat may be sent here.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from nexus_redis._protocol.plans import Call, Command, Failed, Job, Outcome
from nexus_redis._redis.faults import Refusal, failed
from nexus_redis._values.parse import DEFAULT_URL, parse_name
from nexus_redis.cli.resp import Failure, encode, read

if TYPE_CHECKING:
    import redis

CONNECT_TIMEOUT: Final = 1.0  # seconds, as in `_redis/connect`
CALL_TIMEOUT: Final = 1.0
PORT: Final = 6379


def namespace_of(given: str | None) -> str:
    """Return --namespace, else NEXUS_REDIS_NAMESPACE, else nexus; checked."""
    return parse_name(given or os.environ.get("NEXUS_REDIS_NAMESPACE") or "nexus", "namespace")


def url_of(given: str | None) -> str:
    """Return --url, else NEXUS_REDIS_URL, else localhost; not checked."""
    return given or os.environ.get("NEXUS_REDIS_URL") or DEFAULT_URL


@contextmanager
def running_server(url: str) -> Iterator[str]:
    """Yield `url`, or the address of an embedded server that runs until the end of the block."""
    if not url.startswith("embedded:"):
        yield url
        return
    from nexus_redis._redis import embedded

    server = embedded.acquire(url)
    try:
        yield server.start().url
    finally:
        server.stop()


class _Address(NamedTuple):
    """The parts of a URL: a host and a port, or the path of a socket; `before` are the commands to send first."""

    host: str
    port: int
    path: str
    is_encrypted: bool
    before: tuple[tuple[str, ...], ...]


def _parsed(url: str) -> _Address | None:
    """Return the parts of a URL, or None if redis-py must handle it."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        return None
    path = unquote(parts.path)
    is_unix, database = parts.scheme == "unix", path.strip("/")
    is_usual = bool(path) if is_unix else parts.scheme in ("redis", "rediss") and (not database or database.isdigit())
    if not is_usual or parts.query or (parts.username and not parts.password):
        return None
    login = [unquote(word) for word in (parts.username, parts.password) if word]
    before: list[tuple[str, ...]] = [("AUTH", *login)] if login else []
    if not is_unix and int(database or 0):
        before.append(("SELECT", database))
    host = parts.hostname or "localhost"
    return _Address(host, port, path if is_unix else "", parts.scheme == "rediss", tuple(before))


class Connection:
    """One connection, opened with the first call. `server`: its address for messages, without a password."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = _parsed(url)
        self._socket: socket.socket | None = None
        self._stream: IO[bytes] | None = None
        self._client: redis.Redis | None = None
        if self._address is not None:
            self.server = self._address.path or f"{self._address.host}:{self._address.port}"
        else:
            from nexus_redis._redis.connect import where

            self.server = where(self._by_redis_py())

    def perform(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run a batch in one round trip, and return one outcome for each job. Never raises, as `connect.perform`."""
        if self._client is None:
            try:
                return self.exchange(jobs)
            except (OSError, ValueError, LookupError):
                self._disconnect()
        from nexus_redis._redis.execute import perform

        return perform(self._by_redis_py, jobs)

    def exchange(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run a batch. Raises for all but answers and refusals of our scripts, so that redis-py can handle the rest."""
        if self._address is None:
            raise ConnectionError(self.url)
        before = self._connect(self._address) if self._socket is None else ()
        answers = self._ask([*before, *map(_command, jobs)])[len(before) :]
        for at, job in enumerate(jobs):
            if isinstance(job, Call) and isinstance(answers[at], Failure) and answers[at].startswith("NOSCRIPT"):
                answers[at] = self._ask([("EVAL", job.script.text, *_operands(job))])[0]
        return [_outcome(job, answer) for job, answer in zip(jobs, answers, strict=True)]

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()
        if self._client is not None:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, to: _Address) -> tuple[tuple[str, ...], ...]:
        """Open the socket, and return the commands to send first."""
        if to.path:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(CONNECT_TIMEOUT)
            self._socket.connect(to.path)
        else:
            # Bytes: to check a host name that is text, Python imports the tables of all alphabets.
            host: Any = to.host.encode() if to.host.isascii() else to.host
            self._socket = socket.create_connection((host, to.port), CONNECT_TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if to.is_encrypted:
            import ssl  # here, because it imports slowly and few connections are encrypted

            self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=to.host)
        self._socket.settimeout(CALL_TIMEOUT)
        self._stream = self._socket.makefile("rb")
        return to.before

    def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        assert self._socket is not None
        assert self._stream is not None
        self._socket.sendall(b"".join(encode(*each) for each in commands))
        answers = [read(self._stream) for _ in commands]
        for answer in answers:
            if isinstance(answer, Failure) and not answer.startswith(("NOSCRIPT", "NEXUS_")):
                raise ConnectionError(answer)
        return answers

    def _disconnect(self) -> None:
        for each in (self._stream, self._socket):
            if each is not None:
                each.close()
        self._stream = self._socket = None

    def _by_redis_py(self) -> "redis.Redis":
        if self._client is None:
            from nexus_redis._redis.connect import address, connect

            self._client = connect(address(self.url))
        return self._client


def ask_or_none(connection: Connection, *jobs: Job) -> list[Any] | None:
    """Return the answers in order, or None after any trouble."""
    try:
        outcomes = connection.exchange(jobs)
    except (OSError, ValueError, LookupError):
        return None
    return None if any(isinstance(each, Failed) for each in outcomes) else outcomes


def _command(job: Call[Any] | Command[Any]) -> tuple[Any, ...]:
    return ("EVALSHA", job.script.sha, *_operands(job)) if isinstance(job, Call) else job.args


def _operands(job: Call[Any]) -> tuple[Any, ...]:
    return (len(job.keys), *job.keys, *job.args)


def _outcome(job: Call[Any] | Command[Any], answer: Any) -> Outcome:
    return failed(Refusal(answer)) if isinstance(answer, Failure) else job.decode(answer)
