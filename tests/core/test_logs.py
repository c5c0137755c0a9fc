"""Where our log goes: to the handlers, by a thread that nobody waits for."""

from __future__ import annotations

import ast
import contextvars
import io
import json
import logging
import logging.config
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nexus_redis._runtime import log_thread
from nexus_redis._runtime.log_thread import MOST
from nexus_redis._values import log_texts
from nexus_redis._values.log import EVENTS, log
from nexus_redis._values.log_fields import PREFIX, Fields, log_fields
from nexus_redis.logs import JsonFormatter
from tests.harness.logged import logged
from tests.harness.stepping import Stepper, answered, join, kind_of, producer
from tests.project.test_rooms import modules

PATIENCE = 60.0
ROOT = Path(__file__).parents[2]
# Records whose event is all that there is to say, and those that come with a traceback.
WITHOUT_FIELDS = {
    "CLOSE_BUG", "FORK_BUG", "LOOP_ABANDONED", "LOOP_BUG", "QUEUE_UNREADABLE", "REDIS_BACK", "REPORT_BUG",
    "SESSION_BUG", "SUBSCRIBER_BUG",
}  # fmt: skip


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


# --- fields ----------------------------------------------------------------------------------------------------------


def calls_of_log() -> Iterator[tuple[Path, ast.Call]]:
    """Each call of the package that logs."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                is_log = isinstance(owner, ast.Name) and owner.id == "log"
                if is_log and node.func.attr in {"debug", "info", "warning", "error", "exception"}:
                    yield path, node


def test_every_record_has_fields() -> None:
    """A call that logs gives fields, unless its event is all that there is to say."""
    calls = list(calls_of_log())
    assert len(calls) > 30
    bare = {
        ast.unparse(call.args[0]).removeprefix("log_texts.")
        for _, call in calls
        if "extra" not in {keyword.arg for keyword in call.keywords}
    }
    assert bare == WITHOUT_FIELDS


def test_an_event_is_the_name_of_its_text(handler: Handler) -> None:
    """A record has its event and its fields, and a text of others has none."""
    log.warning(log_texts.REDIS_BACK)
    log.warning(log_texts.REDIS_AWAY, "gone", extra=log_fields(cause="gone"))
    log.warning("by a helper", extra=log_fields(event="its_own", budget="b"))
    log.warning("by another")
    assert log_thread.flush(PATIENCE)
    found = [{name: value for name, value in vars(each).items() if PREFIX in name} for each in handler.records]
    assert found == [
        {"nexus_event": "redis_back"},
        {"nexus_event": "redis_away", "nexus_cause": "gone"},
        {"nexus_event": "its_own", "nexus_budget": "b"},
        {},
    ]
    assert len(set(EVENTS.values())) == len(EVENTS)


def test_the_docs_have_each_field() -> None:
    """The table of docs/operations.md has each field once, in the order of the source."""
    section = (ROOT / "docs" / "operations.md").read_text().partition("\n## Logs\n")[2].partition("\n## ")[0]
    assert re.findall(rf"^\| `{PREFIX}(\w+)` \|", section, re.MULTILINE) == list(Fields.__annotations__)
    events = re.search(r"^\| `nexus_event` \|.*$", section, re.MULTILINE)
    assert events
    named = set(re.findall(r"`(\w+)`", events[0])) - {"nexus_event"}
    assert named <= set(EVENTS.values())
    example = json.loads(re.findall(r"```json\n(.*?)```", section, re.DOTALL)[0])
    assert set(example) - {"time", "level", "logger", "message"} <= {
        f"{PREFIX}{name}" for name in Fields.__annotations__
    }


def test_a_change_of_state_is_one_record(caplog: pytest.LogCaptureFixture) -> None:
    """A process logs a change of the level or of what stops the budget, and nothing else of the answers."""
    caplog.set_level(logging.INFO, "nexus_redis")
    answers = [
        answered(1),
        answered(1, reason="contended"),
        answered(1, level=2, load=95.0, budget_rate=50_000_000),
        answered(1, level=2, load=96.0, budget_rate=40_000_000),
        answered(1, level=3, reason="paused", budget_rate=0),
        answered(1, level=3, reason="paused", budget_rate=0),
        answered(1),
    ]
    left = list(answers)
    stepper = Stepper()
    stepper.server = lambda job: left.pop(0) if left and kind_of(job) == "claim" else answered()
    each = producer(stepper)
    for _ in answers:
        join(each)
        stepper.advance(1)
    assert len(left) == 0
    logged(caplog, log_texts.BUDGET_CHANGED, "INFO")
    changes: list[Any] = [each for each in caplog.records if each.msg == log_texts.BUDGET_CHANGED]
    found = [(each.nexus_level, each.nexus_reason, each.nexus_rate, each.nexus_load) for each in changes]
    assert found == [(2, "rate", 50, 95), (3, "paused", 0, 0), (0, "rate", 100, 0)]


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a logger writes whose handler has our formatter, both configured as users do it."""
    stream = io.StringIO()
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"class": "nexus_redis.logs.JsonFormatter"}, "same": {"()": JsonFormatter}},
        "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "json", "stream": stream}},
        "loggers": {"a.service": {"handlers": ["h"], "level": "DEBUG", "propagate": False}},
    })  # fmt: skip
    yield stream
    logging.getLogger("a.service").handlers.clear()


def test_a_record_is_a_line_of_json(written: io.StringIO) -> None:
    """A line has the time in UTC, the level, the logger, the message, and the fields."""
    logging.getLogger("a.service").warning("%s is away", "it", extra={"nexus_budget": "stripe", "size": 3})
    line = json.loads(written.getvalue())
    assert list(line) == ["time", "level", "logger", "message", "nexus_budget", "size"]
    assert list(line.values())[1:] == ["WARNING", "a.service", "it is away", "stripe", 3]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    offset = datetime.fromisoformat(line["time"]).utcoffset()
    assert offset is not None
    assert not offset


def test_a_traceback_is_a_field(written: io.StringIO) -> None:
    """An exception and a stack are fields of the one line."""
    try:
        dict[str, int]()["what went wrong"]
    except LookupError:
        logging.getLogger("a.service").exception("a bug", stack_info=True)
    line = json.loads(written.getvalue())
    assert line["exception"].startswith("Traceback")
    assert "what went wrong" in line["exception"]
    assert test_a_traceback_is_a_field.__name__ in line["stack"]


HOSTILE = 'x\n{"level": "INFO"}\r\x1b[2J\x9b\u2028\ud800\u202e'


def test_hostile_text_stays_one_line() -> None:
    """Line ends, escapes and half characters stay inside of one line of ASCII, in the message and in fields."""
    loop: list[object] = []
    loop.append(loop)
    fields = {"name_": HOSTILE, HOSTILE: 1, "object": object, "loop": loop, "nan": float("nan"), "keys": {(1, 2): 3}}
    line = JsonFormatter().format(logging.makeLogRecord({"msg": HOSTILE, **fields}))
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line, parse_constant=pytest.fail)
    assert (found["message"], found["name_"], found["nan"], found[HOSTILE]) == (HOSTILE, HOSTILE, "nan", 1)


def test_a_field_replaces_nothing_of_the_line() -> None:
    """A field of others that has the name of a part of the line does not replace that part."""
    record = logging.makeLogRecord({"msg": "said", "levelname": "WARNING", "level": "mine", "time": "mine"})
    line = json.loads(JsonFormatter().format(record))
    assert line["level"] == "WARNING"
    assert line["time"] != "mine"
