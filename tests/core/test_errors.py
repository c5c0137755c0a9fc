from __future__ import annotations

import copy
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_redis import errors
from nexus_redis._values import error_texts
from nexus_redis.errors import (
    SHOWN_CHARACTERS,
    AcquireTimeout,
    Closed,
    InvalidSetting,
    MissingLibrary,
    NexusError,
    NoLoop,
    NoThread,
    NotPicklable,
    ReentrantCall,
    ServerRefused,
    Unavailable,
    WrongLoop,
    from_code,
    remedy_for,
    shown,
)

ONE_OF_EACH = [
    NexusError("something", "else"),
    AcquireTimeout("elasticsearch", 500, 2.0, "paused"),
    Unavailable("redis://cache:6379/0", "connection refused", waited=5.0),
    InvalidSetting("rate", -1),
    InvalidSetting("lock", threading.Lock()),
    ServerRefused("NEXUS_SCHEMA"),
    Closed("nexus"),
    WrongLoop("one", "another"),
    NoLoop(),
    ReentrantCall(),
    NoThread("can't start new thread"),
    NotPicklable("producer", "make one there"),
    MissingLibrary("celery"),
]


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (AcquireTimeout, TimeoutError),
        (Unavailable, ConnectionError),
        (InvalidSetting, ValueError),
        (ServerRefused, Exception),
        (Closed, RuntimeError),
    ],
)
def test_each_leaf_is_a_builtin_error_too(error: type[NexusError], builtin: type[Exception]) -> None:
    """Each leaf is a `NexusError`, and an `except` of the builtin error catches it as well."""
    assert issubclass(error, NexusError)
    assert issubclass(error, builtin)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The tree in the docstring is the tree of the classes."""
    drawn = {line.split("-- ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "-- " in line}
    assert drawn == {kind.__name__ for kind in NexusError.__subclasses__()}


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: f"{type(error).__name__} {len(str(error))}")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(error: NexusError, protocol: int) -> None:
    """An error survives pickling and copying with its data."""
    error.add_note("in batch 7")
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(twin) is type(error)
        assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


def test_a_message_is_made_of_the_data() -> None:
    """A message is made of the data of its error."""
    assert str(ONE_OF_EACH[1]) == error_texts.acquire_timeout("elasticsearch", 500, 2.0, "paused")
    assert str(ONE_OF_EACH[2]) == error_texts.no_answer("redis://cache:6379/0", 5.0, "connection refused")
    assert str(Unavailable("", "circuit open")) == error_texts.no_answer("", 0.0, "circuit open")
    assert str(AcquireTimeout("stripe", 1, 2.0)) == error_texts.acquire_timeout("stripe", 1, 2.0, "")
    asked = AcquireTimeout("stripe", 0, 2.0, "ok")  # of a caller that only asks
    assert str(asked) == error_texts.acquire_timeout("stripe", 0, 2.0, "")
    assert str(ONE_OF_EACH[3]) == f"rate=-1: {errors.RATE.remedy}"
    assert str(ONE_OF_EACH[6]) == error_texts.closed("nexus")
    timeout = AcquireTimeout("stripe", 1.5, 0.25)
    assert (timeout.budget, timeout.cost, timeout.waited, timeout.reason) == ("stripe", 1.5, 0.25, "")


# --- what a message leaves out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0"),
        ("rediss://user:hunter2@cache", "rediss://***@cache"),
        ("redis://:a/hunter2@b@cache", "redis://***@cache"),
        ("redis://cache/0?password=hunter2", "redis://cache/0?***"),
        ("redis://cache/0?password=x@hunter2", "redis://***"),
        ("redis://:hunter2?@cache", "redis://***"),
        ("redis+sentinel://:hunter2@h1,u:hunter2@h2/name", "redis+sentinel://***@h2/name"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
    ],
)
def test_passwords_stay_out_of_errors(address: str, safe: str) -> None:
    """The password of an address is in no message and no attribute."""
    for error in (Unavailable(address, "refused"), InvalidSetting("url", address, "use a URL")):
        assert safe in str(error)
        assert "hunter2" not in str(error) + repr(error) + repr(vars(error))


@pytest.mark.parametrize(
    "value", ["x" * 2_000_000, b"x" * 100_000, 10**79, 10**5000, list(range(10**5)), [[[[[[[]]]]]]]], ids=shown
)
def test_a_large_value_is_cut_to_one_line(value: object) -> None:
    """A large value is cut to one line."""
    assert len(shown(value)) <= SHOWN_CHARACTERS
    assert len(str(InvalidSetting("rate", value))) < 2 * SHOWN_CHARACTERS


@given(st.text(), st.text())
def test_no_value_breaks_out_of_its_line(field: str, value: str) -> None:
    """No value and no field breaks out of its line."""
    assert str(InvalidSetting(field, value, "no")).isprintable()
    assert len(str(InvalidSetting(field, value, "no"))) <= 2 * SHOWN_CHARACTERS + len("=: no")


# --- codes of the scripts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["NEXUS_INVALID_CAPACITY", "ERR NEXUS_INVALID_CAPACITY", "NEXUS_INVALID_CAPACITY script: 3f2a"]
)
def test_an_invalid_code_names_its_field(code: str) -> None:
    """An invalid code names the field and its range."""
    error = from_code(code)
    assert isinstance(error, InvalidSetting)
    assert (error.field, error.value, error.remedy) == ("capacity", "", remedy_for("capacity"))
    assert str(error) == f"capacity: {error.remedy}"


@pytest.mark.parametrize("code", ["NEXUS_STALE", "NEXUS_ID_TAKEN", "NEXUS_SCHEMA", "NEXUS_DAMAGED"])
def test_any_other_code_is_a_refusal(code: str) -> None:
    """Every other code is a refusal that keeps the code and says what to do."""
    error = from_code(code)
    assert isinstance(error, ServerRefused)
    assert error.code == code
    assert error.remedy == error_texts.REFUSED[code]


@pytest.mark.parametrize(
    "text", ["", "   ", "NOPERM this user has no permissions", "NEXUS_INVALID_", "x" * 10_000, "NEXUS_"]
)
def test_an_unknown_code_is_a_refusal_too(text: str) -> None:
    """An unknown code is a refusal too."""
    error = from_code(text)
    assert isinstance(error, ServerRefused)
    assert len(error.code) <= SHOWN_CHARACTERS


def test_every_field_has_a_remedy() -> None:
    """A field without a range still gets a remedy."""
    assert remedy_for("name") == error_texts.INVALID_NAME
    assert remedy_for("priority") == error_texts.not_one_of(("high", "normal", "low"))
    assert remedy_for("arguments") == error_texts.NOT_OUR_CALL
