"""A producer's account, stepped by hand: opening, leaving, refusals, taken ids, and each mode while Redis is away."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis import exceptions

from nexus_redis._core.outage import SHORTEST_PAUSE, UNAVAILABLE_AFTER
from nexus_redis._core.producer import IDLE_LEAVES, REFUSED_FOR, ProducerSession
from nexus_redis._core.registration import Registration
from nexus_redis._core.round_trips import FIRST_LIMIT, LATEST_LIMIT, MOST_OUT
from nexus_redis._core.signal_request import SignalRequest
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.calls import LEASE, Answer, Claim, Configured
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import FIRST_BACKOFF, Call, Job, Outcome
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.parse import MICRO
from nexus_redis._values.results import Denied
from nexus_redis._values.settings import BudgetSettings, ProducerSettings
from nexus_redis.errors import TOKENS, Closed, InvalidSetting, ServerRefused, Unavailable
from tests.harness.logged import logged
from tests.harness.stepping import (
    KEYS,
    START,
    Line,
    Stepper,
    answered,
    fails,
    grants,
    is_balanced,
    join,
    kind_of,
    producer,
)

AWAY = exceptions.ConnectionError("reset by peer")
REFUSED = exceptions.NoPermissionError("this user has no permissions")


@pytest.fixture
def stepper() -> Stepper:
    return Stepper()


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")


def away(stepper: Stepper, account: ProducerSession) -> None:
    """Redis has answered `account`, and since START + 2 answers no more: the loop knows."""
    join(account)
    stepper.advance(1)
    stepper.server = fails(AWAY)
    stepper.now = START + 2
    join(account)
    stepper.advance(0.5)
    assert stepper.scheduler.is_out
    assert stepper.scheduler.out_since == START + 2


def admitted(stepper: Stepper, account: ProducerSession, seconds: float) -> int:
    """How many a greedy loop gets in so many seconds; all of it must be degraded."""
    count = 0
    line = join(account)
    until = stepper.now + seconds
    while stepper.now < until - 1e-6:
        stepper.advance(0.01)
        while line.is_served:
            assert line.is_degraded
            count += 1
            line = join(account)
    account.cancel(line, stepper.now)
    return count


# --- the main path


def test_the_first_acquire_claims_and_is_served(stepper: Stepper) -> None:
    """The first `acquire` claims and is served."""
    account = producer(stepper)
    line = join(account)
    stepper.run()
    assert line.is_served
    assert line.woken == 1
    assert stepper.kinds() == ["claim", "EVAL"]
    assert is_balanced(account)


def test_a_try_above_any_bucket_is_a_mistake(stepper: Stepper) -> None:
    """A try above the bucket is a mistake, unless the bucket was or will be that large."""
    seen, told, new = producer(stepper), producer(stepper, budget={"rate": 100}), producer(stepper)
    join(seen)
    stepper.run()  # a bucket of 26
    stepper.server = grants(answered(0, budget_rate=5 * MICRO, burst=2_250_000))
    for account in (seen, told, new):
        join(account, 20, whole=True)
        stepper.advance(1)
    for account in (seen, told):  # told: its code gives the budget 26, whoever has lowered that
        assert account.denied(10 * MICRO, 0.0) == Denied(0.1, "rate")  # a refresh at least
        with pytest.raises(InvalidSetting) as refused:
            account.denied(30 * MICRO, 0.0)
        assert (refused.value.field, refused.value.value) == ("cost", "30.0")
        assert refused.value.remedy == error_texts.above_burst(26)
    with pytest.raises(InvalidSetting) as refused:
        new.denied(10 * MICRO, 0.0)
    assert (refused.value.field, refused.value.value) == ("cost", "10.0")
    assert refused.value.remedy == error_texts.above_burst(2.25)


def test_a_mistake_is_no_demand(stepper: Stepper) -> None:
    """A try above the bucket does not count as demand, which would take tokens from other producers."""
    account = producer(stepper)
    join(account)
    stepper.run()
    before = account.ledger.demand.attempts
    assert not account.spend(30_000 * MICRO, stepper.now)
    with pytest.raises(InvalidSetting):
        account.denied(30_000 * MICRO, 0.0)
    assert account.ledger.demand.attempts == before
    assert account.ledger.demand.unit == MICRO


def test_a_rate_of_0_is_the_reason(stepper: Stepper) -> None:
    """While others wait for a budget whose rate is 0, a try is told the budget's reason, and not that others wait."""
    account = producer(stepper)
    join(account)
    stepper.run()
    for rate, reason in ((5 * MICRO, "contended"), (0, "paused")):
        stepper.server = grants(answered(0, budget_rate=rate, reason="paused"))
        join(account)
        stepper.advance(1)
        denied = account.denial(MICRO, stepper.now)
        assert denied is not None
        assert denied.reason == reason


def test_a_slow_cost_is_said_once(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A cost that takes long to collect is logged once."""
    account = producer(stepper)
    stepper.server = grants(answered(1))
    line = join(account, 2000)
    stepper.advance(1)
    assert not line.is_settled
    assert logged(caplog, log_texts.COST_TAKES_LONG) == [("stripe", "2,000 tokens", "100/s", "20 s")]
    stepper.advance(1)
    assert len(logged(caplog, log_texts.COST_TAKES_LONG)) == 1


def test_a_large_lossless_cost_needs_a_ceiling(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A large cost on a lossless budget is a mistake only where a ceiling is known."""
    stepper.server = grants(answered(0, is_lossless=True, budget_rate=5 * MICRO, burst=2_250_000))
    follows, told = producer(stepper), producer(stepper, budget={"rate": 100})
    waits, fits, never = join(follows, 20), join(told, 20), join(told, 30)
    stepper.advance(1)
    assert not waits.is_settled  # its consumers may be slow at the moment
    found = logged(caplog, log_texts.COST_ABOVE_LOSSLESS_BURST)
    assert [burst for _, _, burst in found] == [2.25, 2.25]
    assert not fits.is_settled
    assert isinstance(never.error, InvalidSetting)


def test_a_standstill_refuses_no_cost(stepper: Stepper) -> None:
    """While a budget stands still, no cost is too large for it.

    A bucket of nothing says nothing of the one to come: an operator may have given it more than code does.
    """
    account = producer(stepper, budget={"rate": 100})
    stepper.server = grants(answered(0, 1.0, is_lossless=True, budget_rate=0, burst=0, reason="paused"))
    waits = join(account, 30)
    stepper.advance(3)
    assert not waits.is_settled
    assert account.denied(30 * MICRO, 1.0) == Denied(1.0, "paused")
    stepper.server = grants(answered(30, is_lossless=True, budget_rate=1000 * MICRO, burst=251 * MICRO))
    stepper.advance(3)
    assert waits.is_served


@pytest.mark.parametrize("cost", [26, 800])
def test_a_usual_cost_is_not_logged(stepper: Stepper, caplog: pytest.LogCaptureFixture, cost: float) -> None:
    """A cost that a bucket holds or ten seconds bring is not logged."""
    stepper.server = grants(answered(0, budget_rate=(MICRO if cost == 26 else 100 * MICRO)))
    join(producer(stepper), cost)
    stepper.advance(5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_long_debt_is_said(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A debt that keeps other callers waiting for long is logged."""
    account = producer(stepper)
    line = join(account)
    stepper.run()
    stepper.server = grants(answered(0))
    account.settle(account.ledger, line, 2001 * MICRO, stepper.now)
    stepper.advance(1)
    assert [data[1] for data in logged(caplog, log_texts.DEBT_TAKES_LONG)] == ["2,000 tokens"]


def test_an_unused_producer_costs_nothing(stepper: Stepper) -> None:
    """A producer that nobody uses costs nothing."""
    producer(stepper)
    stepper.advance(100)
    assert stepper.sent == []
    assert not stepper.scheduler.sessions


def test_a_steady_producer_never_waits(stepper: Stepper) -> None:
    """A steady producer claims ten times a second and is never kept waiting."""
    account = producer(stepper)
    waits = 0
    for i in range(500):
        line = join(account)
        stepper.advance(0.01)
        waits += not line.is_served
        if i == 100:
            waits, stepper.sent = 0, []
    assert waits == 0
    assert 30 <= len(stepper.sent) <= 48
    assert is_balanced(account)


def test_a_claim_without_an_answer_is_repeated(stepper: Stepper) -> None:
    """A claim without an answer is sent again as it was."""
    account = producer(stepper)
    line = join(account)
    stepper.server = fails(exceptions.TimeoutError("no reply"))
    stepper.run()
    stepper.server = grants()
    stepper.advance(0.2)
    first, second = stepper.claims()[:2]
    assert first == second
    assert line.is_served


def test_a_claim_not_executed_is_made_new(stepper: Stepper) -> None:
    """A claim that surely was not executed is replaced by a new one."""
    account = producer(stepper)
    line = join(account)
    stepper.server = fails(exceptions.BusyLoadingError("loading"))
    stepper.run()
    stepper.server = grants()
    stepper.advance(0.2)
    first, second = stepper.claims()[:2]
    assert second.seq == first.seq + 1
    assert line.is_served


def test_a_moving_slot_is_not_hammered(stepper: Stepper) -> None:
    """A producer whose slot moves does not send calls all the time."""
    moving, sound = producer(stepper, "moving"), producer(stepper, "sound")
    error = exceptions.TryAgainError("moving")
    stepper.server = lambda job: error if isinstance(job, Call) and job.keys[-2].endswith("moving") else answered(1)
    join(moving)
    for _ in range(100):
        join(sound)
        stepper.advance(0.01)
    tries = sum(isinstance(job, Call) and job.keys[-2].endswith("moving") for _, job in stepper.sent)
    assert 5 <= tries <= 25


# --- opening a budget with the settings in code


def test_settings_go_before_the_first_claim(stepper: Stepper) -> None:
    """The settings in code are told before the first claim, and once."""
    account = producer(stepper, budget={"rate": "100/s"})
    line = join(account)
    stepper.run()
    assert stepper.kinds() == ["configure", "claim", "EVAL"]
    assert len(set(stepper.times())) == 1  # one round trip
    assert line.is_served
    join(account)
    stepper.advance(1)
    assert stepper.kinds().count("configure") == 1


def test_an_unanswered_registration_is_repeated(stepper: Stepper) -> None:
    """A registration without an answer is sent again with the same claim."""
    account = producer(stepper, budget={"rate": "100/s"})
    line = join(account)
    stepper.server = fails(exceptions.TimeoutError("no reply"))
    stepper.advance(0.06)
    assert stepper.kinds()[:2] == ["configure", "claim"]
    assert {claim.seq for claim in stepper.claims()} == {1}
    stepper.server = grants()
    stepper.advance(2)
    assert line.is_served
    assert is_balanced(account)


def test_refused_settings_reach_all_waiters(stepper: Stepper) -> None:
    """Settings that are refused are raised to all who wait, and nothing is spent.

    The grant of the claim that went along is of a budget without these settings: it burns at the server.
    """
    account = producer(stepper, budget={"min_rate": 10})
    lines = [join(account), join(account)]
    stepper.server = grants(configure=exceptions.ResponseError("NEXUS_INVALID_MIN_RATE"))
    stepper.run()
    assert all(isinstance(line.error, InvalidSetting) for line in lines)
    assert account.ledger.held == 0
    with pytest.raises(InvalidSetting):
        account.spend(MICRO, stepper.now)
    stepper.sent = []
    stepper.advance(2 * REFUSED_FOR)
    join(account)
    stepper.advance(2 * REFUSED_FOR)
    assert set(stepper.kinds()) == {"configure"}  # nothing is claimed for settings that were refused before


def test_rights_to_the_list_are_optional(stepper: Stepper) -> None:
    """A client that may not write the list of budgets still works."""
    account = producer(stepper, budget={"rate": 5})
    stepper.server = grants(EVAL=REFUSED)
    line = join(account)
    stepper.run()
    assert line.is_served


def test_a_new_life_gets_the_settings(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """Settings in code open the budget again in a new life of its state."""
    account = producer(stepper, budget={"rate": "100/s"})
    join(account)
    stepper.advance(1)
    births = iter(["2"])

    def lost_once(ask: Claim) -> Answer:
        if next(births, None):
            return answered(0, 1.0, birth="2", reason="unset", budget_rate=0)
        return answered(ask.tokens / MICRO, birth="2")

    stepper.sent = []
    stepper.server = grants(lost_once, configure=Configured(100.0, 0, "rate", "2", (), ()))
    line = join(account)
    stepper.advance(0.1)
    assert stepper.kinds()[:4] == ["claim", "configure", "claim", "EVAL"]
    assert line.is_served
    assert not logged(caplog, log_texts.NO_RATE)  # it will have one in a moment


def test_settings_are_told_again_after_a_failover(stepper: Stepper) -> None:
    """Code tells its rate again after a failover to the state from before it was told, which has the same birth."""
    account = producer(stepper, budget={"rate": "100/s"})
    join(account)
    stepper.advance(1)
    before = iter([answered(0, 1.0, reason="unset", budget_rate=0)])
    stepper.sent = []
    stepper.server = grants(lambda ask: next(before, None) or answered(ask.tokens / MICRO))
    line = join(account)
    stepper.advance(0.1)
    assert stepper.kinds()[:3] == ["claim", "configure", "claim"]
    assert line.is_served


def test_without_settings_only_the_list(stepper: Stepper) -> None:
    """A budget without settings in code only enters the list again."""
    account = producer(stepper)
    join(account)
    stepper.advance(1)
    stepper.server, stepper.sent = grants(lambda ask: answered(ask.tokens / MICRO, birth="2")), []
    for _ in range(20):
        join(account)
        stepper.advance(0.1)
    assert "configure" not in stepper.kinds()
    assert stepper.kinds().count("EVAL") == 1


def test_a_used_budget_is_listed_daily(stepper: Stepper) -> None:
    """A budget that is in use is listed once a day."""
    account = producer(stepper)
    for _ in range(50):
        join(account)
        stepper.advance(3600)
    assert stepper.kinds().count("EVAL") == 3


def test_an_overruled_setting_is_said_once(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A setting that an operator overrules is logged once with the remedy."""
    opening = Registration(KEYS, BudgetSettings.of(rate=100, min_rate=1))
    stepper.server = grants(configure=Configured(50.0, 0, "rate", "1", (), ("min_rate",)))
    for name in ("a", "b"):
        join(producer(stepper, name, opening=opening))
    stepper.run()
    warnings = [record.args for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == logged(caplog, log_texts.SETTING_OVERRULED) == [("stripe", "min_rate", "stripe", "min-rate")]


def test_a_replaced_value_is_logged(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A value that code replaced is logged, and so is one that code removed."""
    stepper.server = grants(configure=Configured(50.0, 0, "rate", "1", ("rate", "burst"), ()))
    join(producer(stepper, budget={"rate": 50}))
    stepper.run()
    assert logged(caplog, log_texts.SETTING_REPLACED, "INFO") == [("stripe", "rate", 50.0)]
    assert logged(caplog, log_texts.SETTING_REMOVED, "INFO") == [("stripe", "burst")]


def test_no_rate_is_warned_of_once(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A budget without any rate is warned of once, and the warning names both remedies."""
    stepper.server = grants(answered(0, 1.0, reason="unset", budget_rate=0))
    opening = Registration(KEYS, BudgetSettings())
    for name in ("a", "b"):
        join(producer(stepper, name, opening=opening))
    stepper.advance(0.9)
    assert not logged(caplog, log_texts.NO_RATE)  # where all start together, a consumer will have reported in a moment
    stepper.advance(10)
    warnings = [log_texts.NO_RATE % data for data in logged(caplog, log_texts.NO_RATE)]
    assert len(warnings) == 1
    assert "rate=" in warnings[0]
    assert "consumer" in warnings[0]


def test_waiting_without_a_rate_is_endless(stepper: Stepper) -> None:
    """A caller who waits on a budget without a rate goes on waiting for hours.

    The demand doubles with each claim in vain; without a limit, Redis refused it after 37 s.
    """
    stepper.server = grants(answered(0, 1.0, reason="unset", budget_rate=0))
    line = join(producer(stepper))
    stepper.advance(3 * 3600)
    assert not line.is_settled
    assert len(stepper.claims()) > 10_000
    assert max(claim.tokens for claim in stepper.claims()) <= TOKENS.high * MICRO


# --- permanent faults


def test_a_permanent_fault_reaches_all(stepper: Stepper) -> None:
    """A permanent fault is raised to all who wait, and for a second at once to each new caller."""
    account = producer(stepper)
    lines = [join(account) for _ in range(3)]
    stepper.server = fails(REFUSED)
    stepper.run()
    assert all(isinstance(line.error, ServerRefused) and line.woken == 1 for line in lines)
    assert len({id(line.error) for line in lines}) == 3  # each caller raises its own
    stepper.server = grants()
    calls = len(stepper.sent)
    with pytest.raises(ServerRefused):
        join(account)
    stepper.advance(REFUSED_FOR / 2)
    with pytest.raises(ServerRefused):
        join(account)
    assert len(stepper.sent) == calls
    stepper.advance(REFUSED_FOR / 2 + 0.01)
    line = join(account)
    stepper.advance(0.2)
    assert line.is_served
    assert is_balanced(account)


# --- ids


def test_a_taken_id_gets_a_suffix(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A taken id goes on with a suffix of four characters, and that is logged once."""
    account = producer(stepper, "web")
    taken = iter([True, True])
    error = exceptions.ResponseError("NEXUS_ID_TAKEN")
    stepper.server = grants(lambda ask: error if next(taken, None) else answered(ask.tokens / MICRO))
    line = join(account)
    stepper.run()
    assert line.is_served
    name, _, suffix = account.id.rpartition(".")
    assert (name, len(suffix)) == ("web", 4)
    assert [data[:2] for data in logged(caplog, log_texts.PRODUCER_ID_TAKEN)] == [("stripe", "web")]
    first, second, third = stepper.claims()
    assert first == second == third  # the claim is the same, only under another name


def test_the_longest_id_fits(stepper: Stepper) -> None:
    """The longest id stays within 64 characters."""
    account = producer(stepper, "x" * 64)
    account.identity.rename()
    account.identity.rename()
    assert len(account.id) == 64
    assert account.id.count(".") == 1


def test_a_later_answer_makes_an_incarnation(stepper: Stepper) -> None:
    """An answer that is later than ours makes a new incarnation."""
    account = producer(stepper)
    stale = iter([True])
    error = exceptions.ResponseError("NEXUS_STALE")
    stepper.server = grants(lambda ask: error if next(stale, None) else answered(ask.tokens / MICRO))
    line = join(account)
    stepper.advance(0.2)
    assert line.is_served
    first, second = stepper.claims()[:2]
    assert first.incarnation != second.incarnation


def test_a_claim_gets_all_keys_once(stepper: Stepper) -> None:
    """A claim that needs all keys goes again as it was with them, and the next one without."""
    account = producer(stepper)
    is_due = iter([True])
    error = exceptions.ResponseError("NEXUS_NEEDS_KEYS")
    stepper.server = grants(lambda ask: error if next(is_due, None) else answered(ask.tokens / MICRO))
    assert join(account).cost
    stepper.advance(0.2)
    join(account, 40)
    stepper.advance(0.4)
    first, again, later = [job for _, job in stepper.sent if isinstance(job, Call) and kind_of(job) == "claim"][:3]
    assert (first.args, len(first.keys), len(again.keys), len(later.keys)) == (again.args, 5, 13, 5)


def test_a_smooth_producer_serves_evenly(stepper: Stepper) -> None:
    """A smooth producer serves its line evenly and claims no more often."""
    account = producer(stepper, smooth=True)
    stepper.server = grants(lambda _: answered(10))
    served: list[float] = []
    for _ in range(30):
        line = join(account)
        while not line.is_served:
            stepper.advance(0.001)
        served.append(stepper.now)
    assert max(later - sooner for sooner, later in itertools.pairwise(served[5:])) <= 0.02
    assert len(stepper.claims()) <= (served[-1] - served[0]) / 0.085 + 2


def test_a_made_id_names_host_and_process(stepper: Stepper) -> None:
    """An id that code did not give names the host and the process."""
    account = producer(stepper, None)
    assert len(account.id.split("-")) >= 3
    assert account.id == account.id


# --- asking for a rate


def ask_for(account: ProducerSession, rate: float) -> SignalRequest:
    asker = SignalRequest(round(rate * MICRO), account.scheduler.clock())
    account.wait(asker)
    return asker


def test_a_signal_takes_nothing(stepper: Stepper) -> None:
    """A signal is answered by a claim that takes no tokens."""
    account = producer(stepper)
    asker = ask_for(account, 10_000)
    stepper.run()
    assert asker.answer is not None
    ask = stepper.claims()[0]
    assert (ask.tokens, ask.requested_rate) == (0, 10_000 * MICRO)


def test_signals_have_their_own_rates(stepper: Stepper) -> None:
    """Signals of many callers are each answered for their own rate."""
    account = producer(stepper)
    stepper.server = grants(lambda ask: answered(0, recommended_rate=ask.requested_rate // 2))
    askers = [ask_for(account, rate) for rate in (10, 20, 30)]
    stepper.run()
    assert [a.answer.recommended_rate for a in askers if a.answer] == [5 * MICRO, 10 * MICRO, 15 * MICRO]


@pytest.mark.parametrize("error", [exceptions.BusyLoadingError("loading"), exceptions.TimeoutError("no reply")])
def test_an_unanswered_signal_is_repeated(stepper: Stepper, error: Exception) -> None:
    """A signal that was not answered is sent again."""
    account = producer(stepper)
    asker = ask_for(account, 10)
    stepper.server = fails(error)
    stepper.run()
    stepper.server = grants()
    stepper.advance(0.5)
    assert asker.answer is not None


def test_a_lost_signal_is_asked_again(stepper: Stepper) -> None:
    """A signal that was not answered within a lease is sent again."""
    account = producer(stepper)
    stepper.server = fails(exceptions.TimeoutError("no reply"))
    asker = ask_for(account, 10)
    stepper.run()
    stepper.now += 1
    stepper.server = grants()
    stepper.advance(1)
    assert asker.answer is not None


def test_a_cancelled_signal_leaves_nothing(stepper: Stepper) -> None:
    """A signal that was given up leaves nothing behind."""
    account = producer(stepper)
    asker = ask_for(account, 10)
    account.cancel(asker, stepper.now)
    stepper.run()
    assert not account.askers
    assert asker.answer is None


def test_signals_do_not_starve_waiters(stepper: Stepper) -> None:
    """Callers who only ask do not starve those who wait."""
    account = producer(stepper)
    stepper.round_trip = 0.02
    line = join(account)
    for _ in range(50):
        ask_for(account, 10)
        stepper.advance(0.01)
    assert line.is_served


def test_tokens_in_hand_need_no_network(stepper: Stepper) -> None:
    """A slow network slows no caller who has tokens in hand."""
    account = producer(stepper)
    stepper.round_trip = 0.04
    for _ in range(1000):
        line = join(account)
        while not line.is_served:
            stepper.advance(0.001)
    assert len(stepper.claims()) < 40
    assert is_balanced(account)


def test_a_signal_fails_at_once_in_an_outage(stepper: Stepper) -> None:
    """A signal fails at once while Redis is away."""
    account = producer(stepper)
    away(stepper, account)
    asker = ask_for(account, 10)
    assert isinstance(asker.error, Unavailable)


# --- leaving


def test_an_idle_producer_leaves(stepper: Stepper) -> None:
    """An idle producer hands its tokens back and leaves after a minute."""
    account = producer(stepper)
    stepper.server = grants(lambda ask: answered(ask.tokens / MICRO and 5))
    join(account)
    stepper.advance(1)
    assert account.ledger.held == 0
    assert account.ledger.returned == 4 * MICRO
    calls = len(stepper.sent)
    stepper.advance(IDLE_LEAVES - 2)
    assert len(stepper.sent) == calls
    stepper.advance(2)
    assert stepper.kinds()[-1] == "leave"
    assert not stepper.scheduler.sessions
    assert is_balanced(account)


def test_the_tokens_waited_for_are_known(stepper: Stepper) -> None:
    """The registration knows how many tokens the callers of this process wait for, while they wait."""
    account = producer(stepper)
    stepper.server = grants(lambda _: answered(0, 0.1))
    line = join(account, 7)
    assert account.registration.wanted == 7
    stepper.advance(1)
    assert account.registration.wanted == 7
    account.cancel(line, stepper.now)
    assert account.registration.wanted == 0
    stepper.server = grants(lambda ask: answered(ask.tokens / MICRO))
    stepper.advance(2 * IDLE_LEAVES)
    assert not account.registration.lines
    join(account, 7)
    account.after_fork()
    assert account.registration.wanted == 0


def test_a_producer_returns_as_a_new_one(stepper: Stepper) -> None:
    """A producer that left comes back as a new one with the next caller that waits."""
    account = producer(stepper)
    join(account)
    stepper.advance(IDLE_LEAVES + 1)
    line = join(account)
    stepper.advance(0.1)
    assert line.is_served
    first, last = stepper.claims()[0], stepper.claims()[-1]
    assert first.incarnation != last.incarnation
    assert last.seq == 1
    stepper.advance(IDLE_LEAVES + 1)
    assert stepper.kinds().count("leave") == 2


def test_a_goodbye_ends_the_share(stepper: Stepper) -> None:
    """A producer that has said goodbye admits nothing in an outage: the server has given its share to others."""
    account = producer(stepper)
    join(account)
    stepper.advance(IDLE_LEAVES + 1)
    assert stepper.kinds()[-1] == "leave"
    stepper.server = fails(AWAY)
    line = join(account)
    stepper.advance(2 * UNAVAILABLE_AFTER)
    assert isinstance(line.error, Unavailable)
    assert account.ledger.degraded == 0


def test_a_waiter_outlasts_a_deregistration(stepper: Stepper) -> None:
    """A caller that waits while the deregistration is in flight is served after it."""
    account = producer(stepper)
    join(account)
    lines: list[Line] = []

    def leave() -> int:
        lines.append(join(account))
        return 0

    stepper.server = grants(leave=leave)
    stepper.advance(IDLE_LEAVES + 1)
    assert lines[0].is_served
    assert is_balanced(account)


def test_closing_fails_the_waiters(stepper: Stepper) -> None:
    """Closing fails the callers who wait and hands back the tokens in hand."""
    account = producer(stepper)
    stepper.server = grants(answered(5, 0.5))
    join(account)
    stepper.run()
    line, leaver = join(account, 9), Line(0, stepper.now)
    account.leave(Closed("producer"), stepper.now, leaver)
    assert isinstance(line.error, Closed)
    stepper.run()
    assert leaver.woken == 1
    _, job = stepper.sent[-1]
    assert isinstance(job, Call)
    assert job.args[2] == 4 * MICRO
    assert account.ledger.returned == 4 * MICRO
    assert not stepper.scheduler.sessions


def test_a_grant_after_the_close_goes_back(stepper: Stepper) -> None:
    """What a claim in flight grants goes back when the producer is closed meanwhile."""
    account = producer(stepper)
    leaver = Line(0, START)

    def grant(ask: Claim) -> Answer:
        account.leave(Closed("producer"), stepper.now, leaver)
        return answered(ask.tokens / MICRO)

    stepper.server = grants(grant)
    line = join(account, 7)
    stepper.run()
    assert isinstance(line.error, Closed)
    assert stepper.kinds()[-1] == "leave"
    assert account.ledger.returned == 7 * MICRO
    assert account.ledger.used == 0
    assert leaver.woken == 1


def test_closing_an_unused_one_needs_no_call(stepper: Stepper) -> None:
    """Closing a producer that never claimed needs no call."""
    account, leaver = producer(stepper), Line(0, START)
    account.leave(Closed("producer"), stepper.now, leaver)
    assert leaver.woken == 1
    stepper.advance(100)
    assert stepper.sent == []


def test_a_lost_leaving_is_repeated_once(stepper: Stepper) -> None:
    """A deregistration that was lost is sent once more."""
    account, leaver = producer(stepper), Line(0, START)
    join(account)
    stepper.run()
    lost = iter([exceptions.TimeoutError("no reply")])
    stepper.server = grants(leave=lambda: next(lost, 0))
    account.leave(Closed("producer"), stepper.now, leaver)
    stepper.advance(1)
    assert stepper.kinds().count("leave") == 2
    goodbyes = [job for _, job in stepper.sent if kind_of(job) == "leave"]
    assert goodbyes[0] == goodbyes[1]
    assert leaver.woken == 1


def test_a_failed_leaving_is_not_waited_for(stepper: Stepper) -> None:
    """No caller waits for a deregistration that cannot be sent."""
    account, leaver = producer(stepper), Line(0, START)
    join(account)
    stepper.run()
    stepper.server = fails(AWAY)
    account.leave(Closed("producer"), stepper.now, leaver)
    stepper.advance(1)
    assert leaver.woken == 1
    assert not stepper.scheduler.sessions


def test_short_lives_leave_nothing_behind(stepper: Stepper) -> None:
    """Many producers that live shortly leave nothing behind."""
    for i in range(3000):
        account = producer(stepper, f"p{i}")
        join(account)
        stepper.run()
        account.leave(Closed("producer"), stepper.now)
        stepper.run()
    assert not stepper.scheduler.sessions
    assert len(stepper.scheduler._heap) < 2000


def test_a_fork_starts_a_producer_anew(stepper: Stepper) -> None:
    """In a forked child a producer has nothing of its parent."""
    account = producer(stepper)
    stepper.server = grants(lambda ask: answered(ask.tokens and 5))
    join(account)
    stepper.run()
    parents = stepper.claims()[0].incarnation
    line = join(account, 50)
    stepper.scheduler.after_fork()
    assert account.ledger.held == account.ledger.granted == 0
    assert not account.ledger.waiters
    mine = join(account)
    assert not line.is_settled
    assert mine in account.ledger.waiters
    stepper.run()
    assert mine.is_served
    assert account.ledger.incarnation != parents


def test_a_fork_while_a_claim_is_in_flight(stepper: Stepper) -> None:
    """In the child nobody waits for the answer to the parent's claim: the next caller is served."""
    account = producer(stepper)
    stepper.delay = 0.05
    join(account)
    stepper.run()
    assert account.waits
    stepper.scheduler.after_fork()
    mine = join(account)
    stepper.advance(0.2)
    assert mine.is_served


def test_producers_fork_into_different_ones(stepper: Stepper) -> None:
    """Producers that were made before a fork and are used after it are different ones."""
    account = producer(stepper)
    account.scheduler.after_fork()  # in one child
    join(account)
    stepper.run()
    account.scheduler.after_fork()  # as in the other, which has the same memory
    join(account)
    stepper.run()
    first, *_, second = stepper.claims()
    assert first.incarnation != second.incarnation


# --- while Redis is away


def test_tokens_in_hand_go_before_the_mode(stepper: Stepper) -> None:
    """Tokens in hand are spent before any mode counts."""
    account = producer(stepper, on_outage="closed")
    stepper.server = grants(lambda ask: answered(ask.tokens and 20))
    join(account)
    stepper.run()
    stepper.server = fails(AWAY)
    line = join(account, 10)
    assert line.is_served
    assert not line.is_degraded


def test_share_goes_on_with_half(stepper: Stepper) -> None:
    """The mode `share` goes on with half of the last share."""
    account = producer(stepper)  # told 100/s, fallback 50/s
    away(stepper, account)
    assert admitted(stepper, account, 20) == pytest.approx(20 * 50, rel=0.05)


def test_the_share_halves_and_then_closes(stepper: Stepper) -> None:
    """The share is halved each half minute for five minutes, and then the mode is closed."""
    account = producer(stepper)
    away(stepper, account)
    for i in range(10):
        stepper.now = START + 2 + 30 * i + 1
        got = admitted(stepper, account, 28)
        expected = 28 * 50 / 2**i
        assert got <= expected + max(1, 0.25 * 50 / 2**i) + 1
        assert got >= 0.9 * expected - 1
    stepper.now = START + 2 + 301
    line = join(account)
    stepper.advance(UNAVAILABLE_AFTER - 0.1)
    assert not line.is_settled
    stepper.advance(0.2)
    assert isinstance(line.error, Unavailable)


def test_no_answer_means_closed(stepper: Stepper) -> None:
    """A process that was never answered is closed."""
    account = producer(stepper)
    stepper.server = fails(AWAY)
    line = join(account)
    stepper.advance(UNAVAILABLE_AFTER - 0.1)
    assert not line.is_settled
    stepper.advance(0.2)
    assert isinstance(line.error, Unavailable)
    assert "redis.example:6379" in str(line.error)
    assert "reset by peer" in str(line.error)


def test_closed_raises_after_five_seconds(stepper: Stepper) -> None:
    """The mode `closed` raises after five seconds and not before."""
    account = producer(stepper, on_outage="closed")
    away(stepper, account)
    began = stepper.now
    line = join(account)
    while not line.is_settled:
        stepper.advance(0.05)
    assert isinstance(line.error, Unavailable)
    assert stepper.now - began == pytest.approx(UNAVAILABLE_AFTER, abs=0.11)
    assert line.error.waited == pytest.approx(stepper.now - began, abs=0.11)


def test_open_admits_everything(stepper: Stepper) -> None:
    """The mode `open` admits everything at once, and its grants say so."""
    account = producer(stepper, on_outage="open")
    away(stepper, account)
    for _ in range(1000):
        line = join(account, 10)
        assert line.is_served
        assert line.is_degraded


def test_open_needs_no_first_answer(stepper: Stepper) -> None:
    """The mode `open` admits callers in a process that was never answered."""
    account = producer(stepper, on_outage="open")
    stepper.server = fails(AWAY)
    line = join(account)
    stepper.advance(1)
    assert line.is_degraded


def test_lossless_is_always_closed(stepper: Stepper) -> None:
    """A lossless budget is closed, whatever the mode."""
    account = producer(stepper, on_outage="open")
    stepper.server = grants(lambda ask: answered(ask.tokens / MICRO, is_lossless=True))
    join(account)
    stepper.advance(1)
    stepper.server = fails(AWAY)
    line = join(account)
    stepper.advance(UNAVAILABLE_AFTER + 1)
    assert isinstance(line.error, Unavailable)


def test_an_outage_waiter_tries_at_once(stepper: Stepper) -> None:
    """A waiter that comes in an outage does not wait for the next try."""
    account = producer(stepper)
    away(stepper, account)
    stepper.advance(5)
    assert join(account).is_degraded


def test_degraded_waiters_are_served_in_order(stepper: Stepper) -> None:
    """Degraded waiters are served in order."""
    account = producer(stepper)
    away(stepper, account)
    large, small = join(account, 200), join(account)
    stepper.advance(2)
    assert not large.is_settled
    assert not small.is_settled
    stepper.advance(4)
    assert large.is_degraded
    assert small.is_degraded


def test_a_try_in_an_outage_is_answered_at_once(stepper: Stepper) -> None:
    """A try in an outage is answered at once."""
    share, closed = producer(stepper, "a"), producer(stepper, "b", on_outage="closed")
    away(stepper, share)
    assert join(share, whole=True).is_degraded
    while (line := join(share, whole=True)).is_served:
        pass
    assert line.denied is not None
    assert 0 <= line.denied <= 1
    assert share.denial(MICRO, stepper.now) is None
    denied = closed.denial(MICRO, stepper.now)
    assert denied is not None
    assert denied.reason == "unavailable"


HANGS = exceptions.TimeoutError("Timeout reading from socket")


def hung(stepper: Stepper, *accounts: ProducerSession, seconds: float = 1.0) -> None:
    """Redis has answered, and hangs: each call fails after so many seconds. The loop knows."""
    for account in accounts:
        join(account)
    stepper.advance(1)
    stepper.server, stepper.delay = fails(HANGS), seconds
    for account in accounts:
        join(account, 100)
    while not stepper.scheduler.is_out:
        stepper.advance(0.05)
    assert stepper.now - stepper.scheduler.out_since <= LATEST_LIMIT + 2 * FIRST_BACKOFF + FIRST_LIMIT
    stepper.advance(LEASE)  # what was at hand is gone
    for account in accounts:
        for waiter in account.ledger.callers:
            account.cancel(waiter, stepper.now)
        while join(account, whole=True).is_served:
            assert account.settings.on_outage == "share"


def greedy(stepper: Stepper, accounts: list[ProducerSession], callers: int, seconds: float) -> list[list[float]]:
    """Callers that wait again as soon as they are served, so many in each account: when they are served."""
    served: list[list[float]] = [[] for _ in accounts]

    def wait(account: ProducerSession, times: list[float]) -> Line:
        line = Line(1, stepper.now)
        line.wake = lambda: times.append(stepper.now)
        account.wait(line)
        return line

    lines = [[wait(*each) for _ in range(callers)] for each in zip(accounts, served, strict=True)]
    until = stepper.now + seconds
    while stepper.now < until - 1e-6:
        stepper.advance(0.005)
        for account, times, mine in zip(accounts, served, lines, strict=True):
            assert all(line.is_degraded for line in mine if line.is_served)
            mine[:] = [wait(account, times) if line.is_served else line for line in mine]
    return served


@pytest.mark.hurried
@pytest.mark.parametrize("seconds", [0.1, 1, 2.5, 1e9])
@pytest.mark.parametrize("share", [5, 50, 1000])
def test_a_hang_is_served_evenly(stepper: Stepper, share: int, seconds: float) -> None:
    """While calls hang, callers get the whole share, as evenly as where calls are refused, and never more."""
    account = producer(stepper)
    stepper.server = grants(lambda ask: answered(ask.tokens / MICRO, fallback_rate=share * MICRO))
    hung(stepper, account, seconds=seconds)
    (served,) = greedy(stepper, [account], 8, 8)
    assert len(served) >= 8 * share - 1
    assert max(after - before for before, after in itertools.pairwise(served)) <= 1 / share + SHORTEST_PAUSE + 1e-6
    ahead = [count - share * at for count, at in enumerate(served)]
    lowest = itertools.accumulate(ahead, min)
    assert max(a - b for a, b in zip(ahead, lowest, strict=True)) <= 1 + 1e-6  # in any window: one token ahead


@pytest.mark.hurried
def test_a_hang_holds_up_no_other_producer(stepper: Stepper) -> None:
    """While calls hang, the producers of many budgets are served, though no more calls may be on their way."""
    accounts = []
    for i in range(2 * MOST_OUT):
        keys = BudgetKeys("test", f"budget-{i}")
        registration = Registration(keys, BudgetSettings.of())
        accounts.append(ProducerSession(stepper.scheduler, keys, "p", ProducerSettings.of(), registration))
    hung(stepper, *accounts, seconds=1e9)
    for served in greedy(stepper, accounts, 1, 16):
        assert 16 * 50 - 1 <= len(served) <= 16 * 50 + 1
        assert max(after - before for before, after in itertools.pairwise(served)) <= 0.021


def test_all_lines_hear_of_an_outage(stepper: Stepper) -> None:
    """Callers whose own call hangs are served as soon as the calls of another budget show the outage."""
    keys = BudgetKeys("test", "other")
    other = ProducerSession(
        stepper.scheduler, keys, "p", ProducerSettings.of(), Registration(keys, BudgetSettings.of())
    )
    account = producer(stepper)
    stepper.delay = 0.01
    join(account)
    join(other)
    stepper.advance(1)
    stepper.server, stepper.delay = fails(HANGS), 10
    line = join(account)
    stepper.advance(0.1)
    stepper.server, stepper.delay = fails(AWAY), 0.01
    assert not line.is_settled
    join(other, 100)
    while not stepper.scheduler.is_out:
        stepper.advance(0.01)
    assert line.is_degraded


@pytest.mark.hurried
def test_a_hang_refuses_who_is_closed(stepper: Stepper) -> None:
    """While a call hangs, a caller of a closed producer hears so after five seconds."""
    account = producer(stepper, on_outage="closed")
    hung(stepper, account, seconds=1e9)
    line = join(account)
    stepper.advance(UNAVAILABLE_AFTER + 0.01)
    assert isinstance(line.error, Unavailable)


def test_recovery_brings_no_burst(stepper: Stepper) -> None:
    """When Redis is back there is no burst to catch up."""
    account = producer(stepper)
    away(stepper, account)
    stepper.advance(20)
    stepper.server = grants(lambda ask: answered(min(ask.tokens / MICRO, 10)))
    stepper.advance(2)
    stepper.sent = []
    line = join(account)
    stepper.advance(0.2)
    assert line.is_served
    assert not line.is_degraded
    assert sum(ask.tokens for ask in stepper.claims()) < 20 * MICRO


def test_a_second_outage_saves_nothing_up(stepper: Stepper) -> None:
    """A second outage begins with nothing saved up."""
    account = producer(stepper)
    away(stepper, account)
    line = join(account, 1000)
    stepper.advance(5)
    saved = account.outage.allowance.amount
    stepper.server = grants(answered(0, 0.1))
    stepper.advance(3)
    assert not line.is_settled
    assert saved > 200 * MICRO
    assert account.outage.allowance.amount == 0


def test_recovery_serves_the_waiters(stepper: Stepper) -> None:
    """The waiters of an outage are served when Redis is back."""
    account = producer(stepper, on_outage="closed")
    away(stepper, account)
    line = join(account)
    stepper.advance(2)
    stepper.server = grants()
    stepper.advance(2)
    assert line.is_served
    assert not line.is_degraded
    assert is_balanced(account)


def test_an_outage_costs_a_try_a_second(stepper: Stepper) -> None:
    """An outage costs no more than about a try a second."""
    account = producer(stepper)
    away(stepper, account)
    stepper.sent = []
    admitted(stepper, account, 10)
    assert 10 <= len(stepper.claims()) <= 22


def test_solo_service_ends_an_outage(stepper: Stepper) -> None:
    """An outage ends also for a caller that is always served alone."""
    account = producer(stepper, on_outage="open")
    away(stepper, account)
    stepper.server = grants()
    lines = []
    for _ in range(10):
        lines.append(join(account))
        stepper.advance(0.5)
    assert lines[0].is_degraded
    assert not lines[-1].is_degraded
    assert not stepper.scheduler.is_out


# --- in general


@pytest.mark.parametrize("lost", range(1, 12))
def test_any_lost_answer_balances(stepper: Stepper, lost: int) -> None:
    """Whichever answer is lost, the accounts balance."""
    account = producer(stepper, budget={"rate": 100})
    count = 0
    serve: Callable[[Job], Outcome] = grants(lambda ask: answered(ask.tokens and 3, 0.05))

    def server(job: Job) -> Any:
        nonlocal count
        count += 1
        answer = serve(job)
        return exceptions.TimeoutError("no reply") if count == lost else answer

    stepper.server = server
    lines = []
    for i in range(30):
        lines.append(join(account, 1 + i % 4))
        stepper.advance(0.07)
        assert is_balanced(account)
        if i % 5 == 0:
            account.cancel(lines[-1], stepper.now)
            assert is_balanced(account)
    stepper.advance(3)
    assert all(line.is_settled for i, line in enumerate(lines) if i % 5)
    account.leave(Closed("producer"), stepper.now)
    stepper.advance(1)
    assert is_balanced(account)
    assert account.ledger.held == 0
    assert account.due == NEVER


def test_a_failed_claim_is_not_forgotten(stepper: Stepper) -> None:
    """A claim that failed is sent again, although paced tokens served a caller meanwhile.

    The pacing once came before the time of the next attempt, which was forgotten: all callers waited forever.
    """
    account = producer(stepper, smooth=True)
    stepper.server = grants(lambda _: answered(20))

    def is_served(line: Line) -> bool:
        for _ in range(2000):
            if line.is_served:
                return True
            stepper.advance(0.001)
            if stepper.scheduler.failures:
                stepper.scheduler.next_try = 0.0  # Redis is not away: this call alone has failed
                stepper.server = grants(lambda _: answered(20))
        return False

    for _ in range(50):
        assert is_served(join(account))
    for _ in range(20):
        stepper.server = fails(AWAY)
        for _ in range(40):
            assert is_served(join(account))


# --- far away


@pytest.mark.parametrize(("is_lossless", "text"), [(True, log_texts.REDIS_FAR_LOSSLESS), (False, log_texts.REDIS_FAR)])
def test_a_too_short_lease_is_said_once(
    stepper: Stepper, caplog: pytest.LogCaptureFixture, is_lossless: bool, text: str
) -> None:
    """A lease that is shorter than the round trip is logged once."""
    stepper.delay = 0.7
    stepper.server = grants(lambda _ask: answered(0, is_lossless=is_lossless))
    join(producer(stepper))
    stepper.advance(20)
    assert [lease for _, _, lease in logged(caplog, text)] == ["0.5 s"]


@pytest.mark.parametrize("is_lossless", [True, False])
def test_connecting_is_no_round_trip(stepper: Stepper, caplog: pytest.LogCaptureFixture, is_lossless: bool) -> None:
    """Making a connection is not taken for a round trip that is longer than a lease."""
    trips: list[int] = []

    def answer(ask: Claim) -> Answer:
        trips.append(ask.trip)
        stepper.delay = 2.5 if len(trips) < 2 else 0.3
        return answered(0, is_lossless=is_lossless)

    stepper.delay, stepper.server = 2.5, grants(answer)
    join(producer(stepper))
    stepper.advance(20)
    assert trips[0] == 0 < trips[-1] <= 450_000
    assert not logged(caplog, log_texts.REDIS_FAR) + logged(caplog, log_texts.REDIS_FAR_LOSSLESS)
