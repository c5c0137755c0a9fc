"""Every error is in exactly one class, and the class says what may be done."""

from __future__ import annotations

import socket
import ssl

import pytest
import valkey
from redis import exceptions
from redis._parsers.base import BaseParser
from redis.sentinel import MasterNotFoundError

from nexus_redis._protocol.plans import Fault
from nexus_redis._redis.faults import as_nexus_error, classify, code_of, described, is_demoted, is_unknown_script
from nexus_redis._values import error_texts
from nexus_redis.errors import InvalidSetting, NexusError, ServerRefused

NOT_EXECUTED, REPLY_LOST, PERMANENT = Fault.NOT_EXECUTED, Fault.REPLY_LOST, Fault.PERMANENT


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("NOSCRIPT No matching script.", NOT_EXECUTED),
        ("MOVED 3999 127.0.0.1:6381", PERMANENT),  # of a client that can follow it, nobody hears of it
        ("ASK 3999 127.0.0.1:6381", PERMANENT),
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
        ("ERR max number of clients reached", REPLY_LOST),
        ("", PERMANENT),
    ],
)
def test_each_reply_of_a_server_is_in_its_class(reply: str, expected: Fault) -> None:
    """Each reply of a server is in its class of faults."""
    error: Exception = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]  # redis-py
    assert classify(error) is expected


def caused(error: Exception, cause: Exception) -> Exception:
    """As redis-py raises it: inside an `except` of the system's own."""
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.TimeoutError("Timeout reading from socket"), REPLY_LOST),
        (exceptions.ConnectionError("Connection closed by server."), REPLY_LOST),
        (exceptions.InvalidResponse("a reply of another shape"), REPLY_LOST),
        (ConnectionResetError(104, "reset"), REPLY_LOST),
        (BrokenPipeError(32, "pipe"), REPLY_LOST),
        (TimeoutError("timed out"), REPLY_LOST),
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
    """Each error on the way is in its class of faults."""
    assert classify(error) is expected


def test_a_code_word_is_ours_or_it_is_none() -> None:
    """A code word is one of ours, or there is none."""
    assert code_of(exceptions.ResponseError("NEXUS_ID_TAKEN")) == "NEXUS_ID_TAKEN"
    assert code_of(exceptions.ResponseError("ERR NEXUS_ID_TAKEN")) == ""
    assert code_of(exceptions.TimeoutError("")) == ""


def test_a_permanent_fault_is_the_promised_error() -> None:
    """A permanent fault becomes the error that callers are promised."""
    assert isinstance(as_nexus_error(exceptions.ResponseError("NEXUS_INVALID_BURST")), InvalidSetting)
    refused = as_nexus_error(exceptions.NoPermissionError("this user has no permissions"))
    assert isinstance(refused, ServerRefused)
    assert refused.code == "NOPERM"
    ours = NexusError("already")
    assert as_nexus_error(ours) is ours


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("NOAUTH Authentication required.", "NOAUTH"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS"),
        ("ERR AUTH <password> called without any password configured", "AUTH"),
        ("MOVED 3999 127.0.0.1:6381", "MOVED"),
        ("ASK 3999 127.0.0.1:6381", "ASK"),
    ],
)
def test_an_operators_fault_has_a_remedy(reply: str, code: str) -> None:
    """A fault that an operator can mend is reported with the remedy."""
    for parser in (BaseParser, valkey._parsers.base.BaseParser):
        refusal = as_nexus_error(parser.parse_error(reply))  # type: ignore[no-untyped-call]  # redis-py
        assert isinstance(refusal, ServerRefused)
        assert refusal.code == code
        assert refusal.remedy.startswith(error_texts.SERVER_REFUSED[code])


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] of a library")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate"), PERMANENT),
        (ssl.SSLCertVerificationError(1, "Hostname mismatch, certificate is not valid for 'cache'"), PERMANENT),
        (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), PERMANENT),
        (alert("TLSV1_ALERT_UNKNOWN_CA"), PERMANENT),
        (alert("UNEXPECTED_EOF_WHILE_READING"), REPLY_LOST),
    ],
)
def test_an_untrusted_certificate_is_no_outage(cause: Exception, expected: Fault) -> None:
    """A certificate that is not trusted is not an outage."""
    error = caused(exceptions.ConnectionError("Error 1 connecting to cache:6379."), cause)
    assert classify(error) is expected
    if expected is PERMANENT:
        refusal = as_nexus_error(error)
        assert isinstance(refusal, ServerRefused)
        assert refusal.code == "CERTIFICATE"
        assert refusal.remedy.startswith(error_texts.certificate_not_trusted("").partition(" (")[0])


def test_errors_of_valkey_py_are_understood() -> None:
    """An error of valkey-py is in the class of the same error of redis-py."""
    of_valkey = valkey.exceptions
    assert classify(of_valkey.TimeoutError("Timeout reading from socket")) is REPLY_LOST
    assert classify(of_valkey.NoScriptError("No matching script.")) is NOT_EXECUTED
    assert is_unknown_script(of_valkey.NoScriptError("No matching script."))
    assert is_demoted(of_valkey.ReadOnlyError("You can't write against a read only replica."))
    assert code_of(of_valkey.ResponseError("NEXUS_ID_TAKEN")) == "NEXUS_ID_TAKEN"
    refused = caused(of_valkey.ConnectionError("Error 111"), ConnectionRefusedError(111, "refused"))
    assert classify(refused) is NOT_EXECUTED


def test_an_error_does_not_repeat_a_page_of_text() -> None:
    """An error does not repeat a page of text."""
    assert len(str(as_nexus_error(exceptions.ResponseError("ERR " + "x" * 5000)))) < 300


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("This instance has cluster support disabled", "NOCLUSTER"),
        ("unknown command 'SENTINEL', with args beginning with: 'MASTERS'", "NOSENTINEL"),
        ("unknown command `EVALSHA`, with args beginning with: `ab`", "NOSCRIPTS"),
        ("unknown command 'CLUSTER', with args beginning with: 'SLOTS'", "NOSCRIPTS"),
    ],
)
def test_another_kind_of_server_is_told(said: str, expected: str) -> None:
    """A server of another kind than the address says is reported with the remedy."""
    error = as_nexus_error(exceptions.ResponseError(said))
    assert isinstance(error, ServerRefused)
    remedy = error_texts.server_said(error_texts.SERVER_REFUSED[expected], said)
    assert (error.code, error.remedy) == (expected, remedy)


def test_an_outage_hides_the_clients_insides() -> None:
    """The text on an outage says what keeps Redis away, without the internals of a client."""

    def client(face: str, host: str) -> str:
        connection = f"<resolving.NamedConnection(host={host},port=26379,password=<REDACTED>,retry=<Retry at 0x7f>)>"
        return f"<redis.{face}Redis(<redis.{face}ConnectionPool({connection})>)>"

    both = f"{client('client.', 's-1')} - network:ConnectionError, {client('asyncio.', 's-2')} - TimeoutError"
    text = described(MasterNotFoundError(f"No master found for 'mymaster' : {both}"))
    assert text.startswith("No master found for 'mymaster' : s-1:26379 - network:ConnectionError, s-2:26379 - Timeout")
    assert text.endswith(error_texts.OUTAGE_REMEDIES["MasterNotFoundError"])
    replica: Exception = BaseParser.parse_error("READONLY You can't write")  # type: ignore[no-untyped-call]  # redis-py
    assert described(replica).endswith(error_texts.OUTAGE_REMEDIES["READONLY"])
