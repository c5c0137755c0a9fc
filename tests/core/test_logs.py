"""Where our log goes: to the handlers, by a thread that nobody waits for."""

from __future__ import annotations

import contextvars
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from nexus_redis._runtime import log_thread
from nexus_redis._runtime.log_thread import MOST
from nexus_redis._values import log_texts
from nexus_redis._values.log import log

PATIENCE = 60.0


class Handler(logging.Handler):
    """Keeps what it is told; does what it is told first."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.gate.wait(PATIENCE)
        self.threads.add(threading.get_ident())
        self.seen.append(REQUEST.get())
        self.records.append(record)


REQUEST = contextvars.ContextVar("REQUEST", default="")


@pytest.fixture
def handler() -> Iterator[Handler]:
    handler = Handler()
    logger = logging.getLogger("nexus_redis")
    logger.addHandler(handler)
    yield handler
    handler.gate.set()
    log_thread.flush(PATIENCE)
    logger.removeHandler(handler)


def test_a_record_keeps_its_origin(handler: Handler) -> None:
    """A record has the time, place, thread and context in which it arose."""
    REQUEST.set("42")
    try:
        dict[str, int]()["what went wrong"]
    except LookupError:
        log.exception("budget %s: a bug", "stripe")
    assert log_thread.flush(PATIENCE)
    (record,) = handler.records
    assert (record.getMessage(), record.levelname, record.name) == ("budget stripe: a bug", "ERROR", "nexus_redis")
    assert record.filename == "test_logs.py"
    assert record.funcName == test_a_record_keeps_its_origin.__name__
    assert record.threadName == threading.current_thread().name
    assert record.exc_info
    assert "what went wrong" in str(record.exc_info[1])
    assert handler.seen == ["42"]
    assert threading.get_ident() not in handler.threads


def test_levels_and_filters_hold(handler: Handler) -> None:
    """The levels and filters of the logger decide."""
    logger = logging.getLogger("nexus_redis")

    def no_pauses(record: logging.LogRecord) -> bool:
        return "pause" not in record.getMessage()

    logger.addFilter(no_pauses)
    try:
        for level in (logging.DEBUG, logging.ERROR):
            logger.setLevel(level)
            assert log.isEnabledFor(logging.INFO) is (level == logging.DEBUG)
            log.info("at level %d", level)
            log.error("a pause")
        log_thread.flush(PATIENCE)
    finally:
        logger.removeFilter(no_pauses)
        logger.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in handler.records] == [f"at level {logging.DEBUG}"]


def test_a_hanging_handler_drops_records(handler: Handler) -> None:
    """No caller waits for a handler that hangs, and the records beyond the limit are counted."""
    handler.gate.clear()
    log.warning("the first")  # which the thread takes, and hangs with
    assert not log_thread.flush(0)
    for i in range(MOST + 20):
        log.warning("no %d", i)
    handler.gate.set()
    assert log_thread.flush(PATIENCE)
    said = [record.getMessage() for record in handler.records]
    assert said[:2] == ["the first", "no 0"]
    assert len(said) in {MOST + 2, MOST + 3}  # it may have taken the first before the last was put
    assert said[-1].endswith(log_texts.RECORDS_DROPPED.removeprefix("%d"))


def test_a_failing_handler_stops_no_record(handler: Handler, capfd: pytest.CaptureFixture[str]) -> None:
    """A handler that raises stops no other record."""

    def broken(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    handler.addFilter(broken)
    log.warning("one")
    log_thread.flush(PATIENCE)
    handler.removeFilter(broken)
    log.warning("two")
    log_thread.flush(PATIENCE)
    assert [record.getMessage() for record in handler.records] == ["two"]
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_log_thread_ends(handler: Handler) -> None:
    """The thread of the log is there only while there is something to write."""
    log.warning("one")
    assert log_thread.flush(PATIENCE)
    assert log_thread._queue._thread is None


def test_a_handler_may_log_itself(handler: Handler) -> None:
    """A handler may log with nexus_redis, and waits for nothing of it."""

    class Chatty(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "one":
                log.warning("two")
                assert not log_thread.flush(PATIENCE)  # which would be to wait for itself

    chatty = Chatty()
    logging.getLogger("nexus_redis").addHandler(chatty)
    log.warning("one")
    assert log_thread.flush(PATIENCE)
    logging.getLogger("nexus_redis").removeHandler(chatty)
    assert [record.getMessage() for record in handler.records] == ["one", "two"]


AT_EXIT = """
import atexit, logging, os, sys
atexit.register(lambda: log.warning("the end"))  # before ours, so it runs after that
from nexus_redis._values.log import log
logging.basicConfig(format="%(message)s", stream=sys.stdout)
log.warning("one")
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
log.warning("two")
"""


def test_exit_writes_the_rest() -> None:
    """What is left is written when the interpreter ends, and a child writes nothing of its parent."""
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == ["end", "end", "one", "the", "the", "two", "two"]
