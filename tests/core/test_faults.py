"""Every error is in exactly one class, and the class says what may be done."""

from __future__ import annotations

import socket

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from nexus_redis.errors import InvalidSetting, NexusError, ServerRefused
from nexus_redis.faults import Fault, as_nexus_error, classify, code_of

NOT_EXECUTED, UNKNOWN, PERMANENT = Fault.NOT_EXECUTED, Fault.UNKNOWN, Fault.PERMANENT


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("NOSCRIPT No matching script.", NOT_EXECUTED),
        ("MOVED 3999 127.0.0.1:6381", NOT_EXECUTED),
        ("ASK 3999 127.0.0.1:6381", NOT_EXECUTED),
        ("TRYAGAIN Multiple keys request during rehashing of slot", NOT_EXECUTED),
        ("CLUSTERDOWN The cluster is down", NOT_EXECUTED),
        ("LOADING Redis is loading the dataset in memory", NOT_EXECUTED),
        ("BUSY Redis is busy running a script.", NOT_EXECUTED),
        ("READONLY You can't write against a read only replica.", NOT_EXECUTED),
        ("MASTERDOWN Link with MASTER is down", NOT_EXECUTED),
        ("NOREPLICAS Not enough good replicas to write.", NOT_EXECUTED),
        ("OOM command not allowed when used memory > 'maxmemory'.", NOT_EXECUTED),
        ("MISCONF Redis is configured to save RDB snapshots, but it is unable to", NOT_EXECUTED),
        ("NOAUTH Authentication required.", PERMANENT),
        ("WRONGPASS invalid username-password pair", PERMANENT),
        ("NOPERM this user has no permissions to run the 'evalsha' command", PERMANENT),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", PERMANENT),
        ("CROSSSLOT Keys in request don't hash to the same slot", PERMANENT),
        ("ERR Error running script", PERMANENT),
        ("ERR unknown command", PERMANENT),
        (
            "ERR Error running script (call to f_ab12): @user_script:939: -READONLY You can't write against",
            NOT_EXECUTED,
        ),
        ("ERR Error running script (call to f_ab12): @user_script:9: @user_script: 9: -OOM not allowed", NOT_EXECUTED),
        ("ERR Error running script (call to f_ab12): @user_script:3: -WRONGTYPE Operation against a key", PERMANENT),
        ("NEXUS_SCHEMA", PERMANENT),
        ("NEXUS_ID_TAKEN", PERMANENT),
        ("NEXUS_INVALID_RATE", PERMANENT),
        ("ERR max number of clients reached", UNKNOWN),
        ("", PERMANENT),
    ],
)
def test_each_reply_of_a_server_is_in_its_class(reply: str, expected: Fault) -> None:
    error: Exception = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]  # redis-py
    assert classify(error) is expected


def caused(error: Exception, cause: Exception) -> Exception:
    """As redis-py raises it: inside an `except` of the system's own."""
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.TimeoutError("Timeout reading from socket"), UNKNOWN),
        (exceptions.ConnectionError("Connection closed by server."), UNKNOWN),
        (exceptions.InvalidResponse("a reply of another shape"), UNKNOWN),
        (ConnectionResetError(104, "reset"), UNKNOWN),
        (BrokenPipeError(32, "pipe"), UNKNOWN),
        (TimeoutError("timed out"), UNKNOWN),
        (caused(exceptions.ConnectionError("Error 111"), ConnectionRefusedError(111, "refused")), NOT_EXECUTED),
        (caused(exceptions.ConnectionError("Error 2"), FileNotFoundError(2, "no socket")), NOT_EXECUTED),
        (caused(exceptions.ConnectionError("Error -2"), socket.gaierror(-2, "no such host")), NOT_EXECUTED),
        (ConnectionRefusedError(111, "refused"), NOT_EXECUTED),
        (exceptions.BusyLoadingError("loading"), NOT_EXECUTED),
        (exceptions.MaxConnectionsError("pool is empty"), NOT_EXECUTED),
        (exceptions.AuthenticationError("no"), PERMANENT),
        (ValueError("a bug"), PERMANENT),
        (RuntimeError("Event loop is closed"), PERMANENT),
    ],
)
def test_each_error_on_the_way_is_in_its_class(error: Exception, expected: Fault) -> None:
    assert classify(error) is expected


def test_a_code_word_is_ours_or_it_is_none() -> None:
    assert code_of(exceptions.ResponseError("NEXUS_ID_TAKEN")) == "NEXUS_ID_TAKEN"
    assert code_of(exceptions.ResponseError("ERR NEXUS_ID_TAKEN")) == ""
    assert code_of(exceptions.TimeoutError("")) == ""


def test_a_permanent_fault_becomes_the_error_that_callers_are_promised() -> None:
    assert isinstance(as_nexus_error(exceptions.ResponseError("NEXUS_INVALID_BURST")), InvalidSetting)
    refused = as_nexus_error(exceptions.NoPermissionError("this user has no permissions"))
    assert isinstance(refused, ServerRefused)
    assert "NoPermissionError" in str(refused)
    ours = NexusError("already")
    assert as_nexus_error(ours) is ours


def test_an_error_does_not_repeat_a_page_of_text() -> None:
    assert len(str(as_nexus_error(exceptions.ResponseError("ERR " + "x" * 5000)))) < 300
