"""What people write where a number is wanted, and what they confuse: understood, or answered with the way out."""

from __future__ import annotations

import re
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio

import nexus_redis
import nexus_redis.asyncio
from nexus_redis import AcquireTimeout, InvalidSetting
from nexus_redis._api import base
from nexus_redis._values.identity import whoami
from tests.harness.faces import Opener
from tests.harness.servers import FAKE, Server

KINDS = [(nexus_redis, "sync", redis.Redis), (nexus_redis.asyncio, "async", redis.asyncio.Redis)]


@pytest.fixture
def nexus(open_nexus: Opener) -> Any:
    return open_nexus(Server(FAKE))


def test_a_budget_takes_rates_and_durations_as_people_write_them(nexus: Any) -> None:
    budget = nexus.budget("stripe", rate="90k/minute", burst="2m", transit="1500ms", latency_target_ms="0.5s")
    budget.acquire()
    settings = budget.configure(min_rate="30 per 10 seconds").settings
    assert {name: value for name, (value, _) in settings.items()} == {
        "rate": "1500", "burst": "120", "transit": "1.5", "latency_target_ms": "500", "min_rate": "3",
    }  # fmt: skip


def test_a_pause_takes_a_duration(nexus: Any) -> None:
    """A pause takes a duration, and the refusal of a longer one says how to pause until a resume."""
    budget = nexus.budget("stripe", rate=100)
    budget.pause("1h30m")
    assert 5390 < budget.snapshot().paused_for <= 5400
    with pytest.raises(
        InvalidSetting, match=r"pause='4d': use 0 to 86,400 seconds.*\. To pause until resume\(\), give None"
    ):
        budget.pause("4d")
    with budget.consumer(capacity="6k/min", interval="100ms") as consumer:
        assert consumer.report(load=0) == 100
        consumer.pause("2m")
        assert consumer.report(load=0) == 0


def test_a_timeout_takes_a_duration_wherever_there_is_one(nexus: Any) -> None:
    budget = nexus.budget("stripe", rate=100)
    budget.pause()
    with budget.producer(timeout="20ms") as producer, pytest.raises(AcquireTimeout):
        producer.acquire()
    with pytest.raises(AcquireTimeout):
        budget.acquire(timeout="20ms")
    with pytest.raises(AcquireTimeout):
        nexus.acquire({getattr(budget, "it", budget): 1}, timeout="20ms")
    for wrong in ("20", "soon", "2d"):
        with pytest.raises(InvalidSetting, match="timeout="):
            budget.acquire(timeout=wrong)


def test_nexus_acquire_says_in_what_form_it_wants_its_budgets(nexus: Any) -> None:
    budget = nexus.budget("stripe", rate=5)
    budget = getattr(budget, "it", budget)
    for wanted in ([budget], budget, (budget, 1), "stripe", None):
        with pytest.raises(InvalidSetting, match=re.escape("use a mapping of budgets to their costs: nexus.acquire({")):
            nexus.acquire(wanted)
    with pytest.raises(InvalidSetting, match="name at least one budget"):
        nexus.acquire({})


def test_a_load_that_is_a_fraction_is_said_once_to_be_percent(
    nexus: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_warned", set())
    with nexus.budget("es").consumer(capacity=100) as consumer:
        for load in (0.0, 1.0, 50.0):
            consumer.report(load=load)
        assert not caplog.records
        for load in (0.95, 0.5):
            consumer.report(load=load)
    (said,) = caplog.messages
    assert said.startswith("load=0.95 is 0.95 %. A load is in percent")


@pytest.mark.parametrize(("module", "kind", "right"), KINDS, ids=("sync", "async"))
def test_a_client_of_the_other_kind_is_named_and_the_right_one(module: Any, kind: str, right: type) -> None:
    others: list[Any] = (
        [redis.Redis(port=1), fakeredis.FakeRedis()]
        if kind == "async"
        else [redis.asyncio.Redis(port=1), fakeredis.FakeAsyncRedis()]
    )
    other = {"sync": "async", "async": "sync"}[kind]
    spelled = {"sync": "redis.Redis", "async": "redis.asyncio.Redis"}
    for client in others:
        with pytest.raises(InvalidSetting) as refused:
            module.Nexus(client)
        assert refused.value.value.strip("'").endswith("Redis")
        assert refused.value.remedy.startswith(f"it is {other} and this Nexus is {kind}: use a {spelled[kind]}, or ")
    assert type(others[0]).__module__.startswith("redis")
    with pytest.raises(InvalidSetting, match=f"client='{spelled[other]}'"):
        module.Nexus(others[0])
    assert module.Nexus(right(port=1))


@pytest.mark.parametrize(("module", "kind", "right"), KINDS, ids=("sync", "async"))
@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("redis://:hunter2@cache", r"client='redis://\*\*\*@cache': an address is for Nexus.from_url\(\)"),
        (5, r"client='int': use an instance of redis\..*Redis, or Nexus.from_url\(\)"),
        (redis.Redis, r"client='redis.Redis': use an instance of redis\..*Redis, or Nexus.from_url\(\)"),
    ],
)
def test_what_is_no_client_is_answered_with_what_is_one(
    module: Any, kind: str, right: type, given: Any, remedy: str
) -> None:
    with pytest.raises(InvalidSetting, match=remedy):
        module.Nexus(given)


@pytest.mark.parametrize(("module", "kind", "right"), KINDS, ids=("sync", "async"))
def test_a_pipeline_is_no_client(module: Any, kind: str, right: type) -> None:
    with pytest.raises(InvalidSetting, match="it is a pipeline: use the client that it is from"):
        module.Nexus(right(port=1).pipeline())


@pytest.mark.parametrize(
    ("environment", "name"),
    [({"SUDO_USER": "anna", "LOGNAME": "root", "USER": "root"}, "anna"), ({"USER": "bob"}, "bob"), ({}, "")],
)
def test_who_acts_is_a_user_at_a_host_whatever_the_environment_lacks(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str
) -> None:
    for variable in ("SUDO_USER", "LOGNAME", "USER", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    user, at, host = whoami.__wrapped__().partition("@")
    assert at
    assert host
    assert user == name or (not name and user)
