"""What people write where a number is wanted, and what they confuse: understood, or answered with the way out."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio

import nexus_redis
import nexus_redis.asyncio
from nexus_redis import AcquireTimeout, InvalidSetting
from nexus_redis._api import consumer as api_consumer
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.identity import whoami
from nexus_redis.errors import SECONDS
from tests.harness.faces import Opener
from tests.harness.servers import FAKE, Server

KINDS = [(nexus_redis, "sync", redis.Redis), (nexus_redis.asyncio, "async", redis.asyncio.Redis)]


@pytest.fixture
def nexus(open_nexus: Opener) -> Any:
    return open_nexus(Server(FAKE))


def test_settings_as_people_write_them(nexus: Any) -> None:
    """A budget takes rates and durations as people write them."""
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
    with pytest.raises(InvalidSetting) as refused:
        budget.pause("4d")
    assert (refused.value.field, refused.value.value) == ("pause", "'4d'")
    spelled = SECONDS.remedy + error_texts.DURATION_SPELLINGS
    assert refused.value.remedy == error_texts.pause_until_resumed(spelled)
    with budget.consumer(capacity="6k/min", interval="100ms") as consumer:
        assert consumer.report(load=0) == 100
        consumer.pause("2m")
        assert consumer.report(load=0) == 0


def test_every_timeout_takes_a_duration(nexus: Any) -> None:
    """A timeout takes a duration wherever there is one."""
    budget = nexus.budget("stripe", rate=100)
    budget.pause()
    with budget.producer(timeout="20ms") as producer, pytest.raises(AcquireTimeout):
        producer.acquire()
    with pytest.raises(AcquireTimeout):
        budget.acquire(timeout="20ms")
    with pytest.raises(AcquireTimeout):
        nexus.acquire({getattr(budget, "it", budget): 1}, timeout="20ms")
    for wrong in ("20", "soon", "2d"):
        with pytest.raises(InvalidSetting) as refused:
            budget.acquire(timeout=wrong)
        assert refused.value.field == "timeout"


def test_acquire_shows_the_form_of_its_budgets(nexus: Any) -> None:
    """`nexus.acquire` says in what form it wants its budgets."""
    budget = nexus.budget("stripe", rate=5)
    budget = getattr(budget, "it", budget)
    for wanted in ([budget], budget, (budget, 1), "stripe", None):
        with pytest.raises(InvalidSetting) as refused:
            nexus.acquire(wanted)
        assert (refused.value.field, refused.value.remedy) == ("budgets", error_texts.BUDGETS_NOT_A_MAPPING)
    with pytest.raises(InvalidSetting) as refused:
        nexus.acquire({})
    assert (refused.value.field, refused.value.value) == ("budgets", "{}")


def test_a_load_as_a_fraction_warns_once(
    nexus: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that is a fraction is reported once, with the remark that a load is in percent."""
    monkeypatch.setattr(api_consumer, "_warned", set())
    with nexus.budget("es").consumer(capacity=100) as consumer:
        for load in (0.0, 1.0, 50.0):
            consumer.report(load=load)
        assert not caplog.records
        for load in (0.95, 0.5):
            consumer.report(load=load)
    (said,) = caplog.records
    assert isinstance(said.args, tuple)
    assert said.args[0] == 0.95
    assert log_texts.LOAD_IS_FRACTION in said.getMessage()


@pytest.mark.parametrize(("module", "kind", "right"), KINDS, ids=("sync", "async"))
def test_the_other_kind_of_client_is_named(module: Any, kind: str, right: type) -> None:
    """For a client of the other kind, the error names that kind and the right one."""
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
        expected = error_texts.client_is_sync if other == "sync" else error_texts.client_is_async
        assert refused.value.remedy == expected(spelled[kind])
    assert type(others[0]).__module__.startswith("redis")
    with pytest.raises(InvalidSetting) as refused:
        module.Nexus(others[0])
    assert (refused.value.field, refused.value.value) == ("client", f"'{spelled[other]}'")
    assert module.Nexus(right(port=1))


@pytest.mark.parametrize(("module", "kind", "right"), KINDS, ids=("sync", "async"))
@pytest.mark.parametrize(
    ("given", "shown"),
    [("redis://:hunter2@cache", "'redis://***@cache'"), (5, "'int'"), (redis.Redis, "'redis.Redis'")],
)
def test_an_error_names_the_right_client(module: Any, kind: str, right: type, given: Any, shown: str) -> None:
    """For a value that is not a client, the error says what a client is."""
    with pytest.raises(InvalidSetting) as refused:
        module.Nexus(given)
    assert (refused.value.field, refused.value.value) == ("client", shown)
    ours = {"sync": "redis.Redis", "async": "redis.asyncio.Redis"}[kind]
    is_address = isinstance(given, str)
    assert refused.value.remedy == (error_texts.CLIENT_IS_ADDRESS if is_address else error_texts.not_a_client(ours))


@pytest.mark.parametrize(("module", "kind", "right"), KINDS, ids=("sync", "async"))
def test_a_pipeline_is_no_client(module: Any, kind: str, right: type) -> None:
    """A pipeline is not a client."""
    with pytest.raises(InvalidSetting) as refused:
        module.Nexus(right(port=1).pipeline())
    assert refused.value.remedy == error_texts.CLIENT_IS_PIPELINE


@pytest.mark.parametrize(
    ("environment", "name"),
    [({"SUDO_USER": "anna", "LOGNAME": "root", "USER": "root"}, "anna"), ({"USER": "bob"}, "bob"), ({}, "")],
)
def test_an_actor_is_a_user_at_a_host(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str) -> None:
    """An actor is a user at a host, whatever the environment lacks."""
    for variable in ("SUDO_USER", "LOGNAME", "USER", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    user, at, host = whoami.__wrapped__().partition("@")
    assert at
    assert host
    assert user == name or (not name and user)
