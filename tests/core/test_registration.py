"""What Redis is told of a budget, and what a per-key budget takes over from its parent: stepped by hand."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_redis._core.registration import FIELDS, NOTHING, READ_EACH, Registration, inherited
from nexus_redis._protocol.calls import Configured
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Command, Job, Outcome
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.parse import NAME_PATTERN, is_budget, keyed_name, split_name
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.errors import InvalidSetting
from tests.harness.logged import logged
from tests.harness.stepping import Stepper, grants, join, kind_of, producer


class Redis:
    """Answers as Redis does where the parent's settings lie: `fields` of its hash."""

    def __init__(self, **fields: str) -> None:
        self.fields = fields
        self.told: list[tuple[str, dict[str, str]]] = []
        self._claims = grants()

    def __call__(self, job: Job) -> Outcome:
        if isinstance(job, Command) and job.args[0] == "HMGET":
            values = [self.fields.get(field) for field in job.args[2:]]
            return job.decode([None if value is None else value.encode() for value in values])
        if isinstance(job, Call) and job.script.name == "configure":
            pairs = [str(word) for word in job.args[5:]]
            name = job.keys[0].split("{")[1][:-1]
            self.told.append((name, dict(zip(pairs[::2], pairs[1::2], strict=True))))
            if name == "stripe":
                self.fields |= {"birth": "7"} | {f"{field}_by_code": value for field, value in self.told[-1][1].items()}
                return job.decode([b"0", b"0", b"rate", b"7", b"", b""])
            return Configured(100.0, 0, "rate", "1", (), ())
        return self._claims(job)


def family(*keys: str, given: dict[str, Any] | None = None, **code: Any) -> tuple[Stepper, list[Any]]:
    """Producers of keys of one parent that code gave settings."""
    stepper = Stepper()
    parent = Registration(BudgetKeys("test", "stripe"), BudgetSettings.of(**code))
    return stepper, [
        producer(stepper, opening=Registration(
            BudgetKeys("test", f"stripe/{key}"), BudgetSettings.of(**given) if given else NOTHING, parent
        ))
        for key in keys
    ]  # fmt: skip


# --- names


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
KEYS = st.text(min_size=1, max_size=64) | st.text("/._-:@{}v1bo", min_size=1, max_size=6) | NAMES


def test_an_odd_key_is_hashed() -> None:
    """A key that fits is seen in the name, and any other text is hashed."""
    assert keyed_name("stripe", "cust-42") == "stripe/cust-42"
    odd = ["a b", "Zoë", "{x}", "", "_", "_" + "0" * 32, "x" * 60, "\ud800", "\n", "a\0b", "a/b", "/", "a\n"]
    names = [keyed_name("stripe", key) for key in odd if key]
    assert all(name.startswith("stripe/_") and len(name) == 40 for name in names)
    assert len(set(names)) == len(names)


def test_a_key_like_a_name_stays_apart() -> None:
    """A key that looks like a part of a name has a budget of its own."""
    pairs = [
        ("api", "v1.bob"),
        ("api.v1", "bob"),
        ("api", "v1"),
        ("api", "v1/bob"),
        ("api", "_" + "0" * 32),
        ("api", ".v1"),
    ]
    assert len({"api.v1", "api.v1.bob", *(keyed_name(*pair) for pair in pairs)}) == len(pairs) + 2


@given(
    st.lists(
        st.tuples(NAMES | st.sampled_from(["a", "a.b", "a" * 40, "a" * 41]), KEYS), min_size=2, max_size=8, unique=True
    )
)
def test_names_of_keys_never_collide(pairs: list[tuple[str, str]]) -> None:
    """No two pairs of name and key share a budget, and none of their names is a plain name."""
    names = [keyed_name(*pair) for pair in pairs]
    assert len(set(names)) == len(names)
    for name, (parent, key) in zip(names, pairs, strict=True):
        assert is_budget(name)
        assert not re.fullmatch(NAME_PATTERN, name)
        assert name == f"{parent}/{key}" or re.fullmatch(r"/_[0-9a-f]{32}", name.removeprefix(parent[:30]))


def test_a_listed_name_is_taken_apart() -> None:
    """A name of the list is taken apart, unless it has a hash."""
    assert split_name("stripe/cust-42") == ("stripe", "cust-42")
    assert split_name("stripe") == ("stripe", None)
    for name, key in (
        (keyed_name("stripe", "Zoe & Co"), None),
        ("stripe/a", "b"),
        ("stripe/a/b", None),
        ("/a", None),
        ("a/", None),
    ):
        with pytest.raises(InvalidSetting) as refused:
            split_name(name, key)
        assert refused.value.field == "name"


@pytest.mark.parametrize("key", ["", "x" * 257, "é" * 129, 42, b"raw", None])
def test_a_bad_key_is_refused(key: Any) -> None:
    """A value that is not a key is refused."""
    with pytest.raises(InvalidSetting) as refused:
        keyed_name("stripe", key)
    assert (refused.value.field, refused.value.remedy) == ("key", error_texts.invalid_key(256))


# --- settings


def test_a_key_opens_as_its_parent() -> None:
    """A key is opened with what code gave its parent."""
    stepper, (account,) = family("a", rate="100/s", burst=2)
    redis = stepper.server = Redis()
    line = join(account)
    stepper.run()
    assert line.is_served
    assert stepper.kinds()[:5] == ["configure", "HMGET", "configure", "claim", "EVAL"]
    assert redis.told == [("stripe", {"rate": "100", "burst": "2"}), ("stripe/a", {"rate": "100", "burst": "2"})]


def test_the_parents_operator_goes_before_code() -> None:
    """What an operator set on the parent counts before what code did."""
    stepper, (account,) = family("a", rate=100)
    redis = stepper.server = Redis(birth="7", rate_by_operator="50.5", lossless_by_operator="0", law_by_code="range")
    join(account)
    stepper.run()
    assert redis.told[-1] == ("stripe/a", {"rate": "50.5", "law": "range", "lossless": "0"})


def test_own_settings_of_a_key_win() -> None:
    """A key's own settings are its own, and what is impossible beside them gives way."""
    stepper, (account,) = family("a", given={"rate": 5}, rate=100, min_rate=10, burst=2)
    redis = stepper.server = Redis()
    join(account)
    stepper.run()
    assert redis.told[-1] == ("stripe/a", {"rate": "5", "burst": "2"})
    assert inherited(BudgetSettings(rate=3), BudgetSettings(min_rate=5)) == BudgetSettings(rate=3)


def test_a_parent_without_settings_gives_none() -> None:
    """A parent without settings gives none."""
    stepper, (account,) = family("a")
    redis = stepper.server = Redis()
    line = join(account)
    stepper.run()
    assert line.is_served
    assert (stepper.kinds(), redis.told) == (["HMGET", "claim", "EVAL"], [])


def test_the_parent_is_read_each_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The parent is read once a minute by any key that calls, and a change reaches each key with its next call."""
    caplog.set_level(logging.INFO, "nexus_redis")
    stepper, (busy, idle) = family("busy", "idle", rate=100, burst=2)
    redis = stepper.server = Redis()
    for account in (busy, idle):
        join(account)
    stepper.advance(1)
    redis.fields |= {"rate_by_operator": "7"}
    del redis.fields["burst_by_code"]
    stepper.sent, redis.told = [], []
    for _ in range(int(READ_EACH)):
        join(busy)
        stepper.advance(1)
    assert stepper.kinds().count("HMGET") == 1
    assert redis.told == [("stripe/busy", {"rate": "7", "burst": ""})]
    join(idle)
    stepper.advance(1)
    assert stepper.kinds().count("HMGET") == 1
    assert redis.told[1:] == [("stripe/idle", {"rate": "7", "burst": ""})]
    assert logged(caplog, log_texts.SETTINGS_TAKEN_OVER, "INFO")[-1] == ("stripe", {"rate": 7.0})


def test_an_idle_key_asks_nobody() -> None:
    """An idle key makes no call."""
    stepper, _ = family(*(str(i) for i in range(100)), rate=100)
    stepper.advance(1000)
    assert stepper.sent == []


def test_own_changes_are_seen_at_once() -> None:
    """What this process changes on the parent is seen with the next call."""
    stepper, (account,) = family("a", rate=100)
    redis = stepper.server = Redis()
    join(account)
    stepper.advance(1)
    account.registration.parent.set_given(BudgetSettings(rate=5))
    join(account)
    stepper.advance(1)
    assert redis.told[-2:] == [("stripe", {"rate": "5"}), ("stripe/a", {"rate": "5"})]


def test_a_lost_parent_is_told_again() -> None:
    """A parent whose state was lost is told its settings again."""
    stepper, (account,) = family("a", rate=100)
    redis = stepper.server = Redis()
    join(account)
    stepper.advance(1)
    redis.fields.clear()
    redis.told.clear()
    stepper.advance(READ_EACH)
    join(account)
    stepper.advance(1)
    assert redis.told == [("stripe", {"rate": "100"})]


def test_settings_of_newer_releases_are_ignored() -> None:
    """A setting that a newer release has set is left out."""
    stepper, (account,) = family("a")
    redis = stepper.server = Redis(birth="7", law_by_operator="pid", rate_by_code="5")
    join(account)
    stepper.run()
    assert redis.told == [("stripe/a", {"rate": "5"})]
    assert "law" in FIELDS


def test_a_lost_reply_holds_nobody_up() -> None:
    """A reply that is lost on the way holds no caller up for long."""
    stepper, (account,) = family("a", rate=100)
    redis = Redis()
    stepper.server = lambda job: ConnectionResetError() if kind_of(job) == "HMGET" else redis(job)
    line = join(account)
    stepper.advance(0.01)
    stepper.server = redis
    stepper.advance(1)
    assert line.is_served
