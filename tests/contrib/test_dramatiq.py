"""Dramatiq workers on one budget, with a real Redis as their broker."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from dramatiq.results.errors import ResultFailure

from nexus_redis._values import error_texts
from nexus_redis.testing import assert_never_exceeded
from tests.contrib.workers import Workers, noted, operator_sets
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, eventually

APP = "tests.contrib.dramatiq_app"
RATE = 40
PATIENCE_MS = round(LONG_PATIENCE * 1000)


@pytest.fixture
def app(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application in the process that sends messages."""
    monkeypatch.setenv("NEXUS_REDIS_URL", one_server.url)
    module = importlib.import_module(APP)
    yield module
    module.nexus.close()
    module.broker.close()
    module.broker.client.close()
    module.backend.client.close()
    sys.modules.pop(APP)


def work(workers: Workers, count: int) -> None:
    """Start workers, of one process and two threads each."""
    for _ in range(count):
        workers.start("dramatiq", APP, "--processes", "1", "--threads", "2", "--skip-logging")


@pytest.mark.slow
def test_two_workers(one_server: Server, app: Any, workers: Workers) -> None:
    """Messages over the budget of two workers are deferred, and each runs once when there are tokens.

    test_deferral.py tests by the clock how much of the budget the workers use.
    """
    operator_sets(one_server, rate=0)
    messages = [app.limited.send(number) for number in range(40)]
    app.free.send()
    work(workers, 2)
    assert eventually(
        lambda: noted(one_server, "free"), within_s=LONG_PATIENCE
    )  # it did not wait behind the messages over budget
    assert noted(one_server, "limited") == []
    operator_sets(one_server, rate=RATE)
    results = [message.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS) for message in messages]
    assert results == list(range(40))  # and not None, which a skipped message would leave as its result
    log = noted(one_server, "limited")
    assert len(log) == 40
    assert_never_exceeded(log, RATE, largest=4)  # two times two threads may note a message late


def test_retry(one_server: Server, app: Any, workers: Workers) -> None:
    """A deferral does not count as an attempt, and a real retry does."""
    operator_sets(one_server, rate=0)
    app.failing.send()  # the actor may be retried once
    work(workers, 1)
    assert eventually(lambda: len(noted(one_server, "skipped")) >= 2, within_s=LONG_PATIENCE)
    operator_sets(one_server, rate=RATE)
    assert eventually(lambda: len(noted(one_server, "failing")) == 2, within_s=LONG_PATIENCE)


def test_cost(one_server: Server, app: Any, workers: Workers) -> None:
    """A cost may be a function, and only a cost that no bucket can hold is a failure."""
    app.limited.send(0)
    weighty = [app.weighty.send(number) for number in (0, 1, 2)]
    never, puzzling = app.too_much.send(), app.puzzling.send({"tokenz": 1})
    work(workers, 1)
    assert [m.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS) for m in weighty] == [0, 1, 2]
    with pytest.raises(ResultFailure, match=re.escape(error_texts.above_burst(11))):
        never.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS)
    assert puzzling.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS) == 1
    assert app.budget.snapshot().granted_total >= 15
    assert noted(one_server, "too_much") == []
