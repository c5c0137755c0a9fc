"""The settings of a budget that this process registers in Redis, and those that a per-key budget inherits. No I/O.

    every budget      registers the settings given in code, once in each life of its state, before any claim or report
    a per-key one     inherits its parent's settings before that. They are read when the first key of the parent opens,
                      and once a minute as long as any of its keys makes calls. Each key registers what has changed
                      there with its next call.

A registration makes no call by itself. It names the call that a producer or consumer must make before its next one. So
the budgets of customers that do nothing cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

from nexus_redis._core.ledger import Ledger
from nexus_redis._core.tally import Tally
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import LIST_EACH, listed
from nexus_redis._protocol.calls import DEFAULT_BURST, Answer, Configured
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Command, Job
from nexus_redis._values import formatting, log_texts
from nexus_redis._values.identity import whoami
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis._values.parse import MICRO
from nexus_redis._values.settings import BudgetSettings, micro
from nexus_redis.errors import InvalidSetting

W = TypeVar("W")  # a job, or a deferred call

READ_EACH: Final = 60.0  # seconds: an operator's change of the parent is in force for all keys after that
UNSET_PATIENCE: Final = 1.0  # seconds: where all processes start together, the first consumer reports by then
LONG_WAIT: Final = 10.0  # seconds that a large cost may take without a warning
LONG_AGO: Final = -math.inf
NO_LINES: Final[frozenset[Ledger]] = frozenset()  # immutable, since another thread reads it; shared by all idle keys
FIELDS: Final = BudgetSettings.names()


class StoredSettings(NamedTuple):
    """A budget's settings in force, as text, read from Redis. `birth` is empty where the budget does not exist."""

    birth: str
    settings: dict[str, Any]


class Reply(NamedTuple):
    """The reply to a call that a registration named. `registration` is the one that it is about: a parent, perhaps."""

    registration: Registration
    fact: Configured | StoredSettings


class Registration:
    """One budget in this process. `given`: the settings in code; `settings`: these and the inherited ones.

    `is_registered`: Redis has the settings, so claims and reports may be sent.
    """

    __slots__ = (
        "__weakref__", "_asked_at", "_inherited", "_keys_with_settings", "_read_at", "_state", "_stored", "_unset",
        "_unset_since", "_warned", "birth", "given", "is_registered", "keys", "largest_burst", "lines", "listed_at",
        "parent", "settings", "tallies",
    )  # fmt: skip

    def __init__(self, keys: BudgetKeys, settings: BudgetSettings, parent: Registration | None = None) -> None:
        self.keys, self.parent = keys, parent
        self.birth = ""
        self.listed_at = LONG_AGO
        self.largest_burst = 0  # micro-tokens: the largest bucket that this budget has had or was to have
        self._warned: frozenset[str] = frozenset()
        self._unset_since = NEVER
        self._state: tuple[int, str] | None = None  # as last heard: the level and the reason
        self._keys_with_settings: set[Registration] | None = None
        self._stored: BudgetSettings = NOTHING  # as last read from Redis, for the keys that inherit from this budget
        self._inherited: BudgetSettings | None = None
        self.tallies: tuple[Tally, Tally] | None = None  # of this budget, and of all its keys together
        self.lines = NO_LINES  # the ledgers on which callers of this process wait, or have waited lately
        self.set_given(settings)

    @property
    def name(self) -> str:
        """The budget's name."""
        return self.keys.name

    @property
    def tally(self) -> Tally:
        """Return the counts of this budget; for a key, those of all keys of its parent."""
        kept_by = self.parent or self
        if kept_by.tallies is None:
            kept_by.tallies = Tally(), Tally()
        return kept_by.tallies[self.parent is not None]

    @property
    def wanted(self) -> float:
        """Return the largest cost at the head of any line in this process, in tokens; 0 where nobody waits."""
        heads = (ledger.head for ledger in self.lines)
        return max((head.cost for head in heads if head is not None), default=0) / MICRO

    def keep_line(self, ledger: Ledger) -> None:
        """Note that a caller waits on a ledger."""
        if ledger not in self.lines:
            self.lines |= {ledger}

    def drop_line(self, ledger: Ledger) -> None:
        """Note that no caller waits on a ledger any more."""
        self.lines = (self.lines - {ledger}) or NO_LINES

    def set_given(self, given: BudgetSettings) -> None:
        """Set the settings given in code. The next call registers them."""
        self.given = given
        if self.parent is not None:
            self.parent._hold(self)
        self._read_at = self._asked_at = LONG_AGO
        self._set(inherited(self.parent._stored, given) if self.parent is not None else given)

    def _hold(self, key: Registration) -> None:
        """Hold the registration of a key that has settings of its own, which the next budget of that key has too.

        All other references to a key's registration may be gone by then.
        """
        own = self._keys_with_settings or set()
        (own.discard if key.given == NOTHING else own.add)(key)
        self._keys_with_settings = own or None

    def is_first(self, warning: str) -> bool:
        """Return whether a warning is given for the first time, and note that it is."""
        is_new = warning not in self._warned
        self._warned |= {warning}
        return is_new

    def _set(self, settings: BudgetSettings, unset: Sequence[str] = ()) -> None:
        """Set what the next call registers, and which settings it removes from Redis."""
        self.settings, self._unset = settings, tuple(unset)
        if settings.rate is not None:
            burst = DEFAULT_BURST if settings.burst is None else settings.burst
            self.largest_burst = max(self.largest_burst, micro(1 + settings.rate * burst))
        self.is_registered = not self._unset and not settings.given()

    def next_call(self, now: float) -> Job | None:
        """Return the call that must be answered before the next claim or report; None where there is none."""
        if self.parent is not None:
            call = self.parent._call_for_a_key(now, is_new=self._inherited is None)
            if call is not None:
                return call
            self._inherit(self.parent._stored)
        if self.is_registered:
            return None
        return calls.configure(self.keys, self.settings, unset=self._unset, who=whoami())

    def is_own(self, call: Job) -> bool:
        """Return whether a call registers this budget's own settings: then a claim may be sent along with it."""
        return isinstance(call, Call) and call.keys == self.keys.shared

    def _call_for_a_key(self, now: float, *, is_new: bool) -> Job | None:
        """Return the call by which a key registers or reads the settings of this parent; None where they are fresh.

        One key reads them each minute. A new key reads them in any case.
        """
        if now - self._read_at < READ_EACH:
            return None
        if not self.is_registered:
            call = calls.configure(self.keys, self.settings, who=whoami())
            return Call(call.script, call.keys, call.args, lambda reply: Reply(self, call.decode(reply)))
        if not is_new and now - self._asked_at < READ_EACH:
            return None
        self._asked_at = now
        return Command(
            ("HMGET", self.keys.budget, "birth", *(f"{field}_by_{source}" for field in FIELDS for source in SOURCES)),
            lambda reply: Reply(self, _stored_settings(reply)),
        )

    def _inherit(self, stored: BudgetSettings) -> None:
        if stored is self._inherited:
            return
        self._inherited = stored
        merged = inherited(stored, self.given)
        for name, value in self.given.given().items():
            if getattr(merged, name) != value and self.is_first(f"own {name}"):
                about = log_fields(budget=self.name, setting=name, value=value)
                parent = self.parent.name if self.parent else ""
                log.warning(log_texts.SETTING_LEFT_OUT, self.name, name, parent, extra=about)
        if merged != self.settings:
            gone = self.settings.given().keys() - merged.given().keys()
            self._set(merged, sorted(gone))

    def set_configured(self, given: BudgetSettings, unset: Sequence[str]) -> None:
        """Open the budget from now on with what `Budget.configure` has set in Redis."""
        known = self.given.given() | given.given()
        was_registered = self.is_registered
        self.set_given(BudgetSettings.of(**{name: value for name, value in known.items() if name not in unset}))
        # A key registers again, since a setting that was removed is inherited again.
        self.is_registered = self.is_registered or (was_registered and self.parent is None)

    def batch(self, job: W, now: float) -> list[W | Job]:
        """Return `job` and, once a day, a call that adds the budget's name to the list of all budgets."""
        if now - self.listed_at < LIST_EACH:
            return [job]
        self.listed_at = now
        return [job, listed(self.keys.namespace, self.name)]

    def unlist(self) -> None:
        """Have the next batch add the budget's name to the list again: the name may be missing there."""
        self.listed_at = LONG_AGO

    def on_reply(self, fact: Configured | StoredSettings, now: float) -> None:
        """Take the reply to a call that `next_call` returned."""
        if isinstance(fact, Configured):
            self.is_registered, self._unset = True, ()
            self.log_configured(fact)
        elif not self.sync(fact.birth):
            self._read_at = now
            stored = _settings_of(fact.settings)
            if stored != self._stored:
                self._stored = stored
                about = log_fields(budget=self.name, value=stored.given())
                log.info(log_texts.SETTINGS_TAKEN_OVER, self.name, stored.given(), extra=about)

    def log_configured(self, configured: Configured) -> None:
        """Log which values were replaced, and which values of an operator stay in force.

        A key logs only what code gives to it; its parent logs the rest, once for all its keys.
        """
        self.birth = configured.birth
        ours = self.given.given().keys() if self.parent is not None else None
        for name in configured.changed:
            if (ours is None or name in ours) and name not in configured.overruled:
                value = getattr(self.settings, name, None)
                about = log_fields(budget=self.name, setting=name, value=value)
                if value is None:
                    log.info(log_texts.SETTING_REMOVED, self.name, name, extra=about)
                else:
                    log.info(log_texts.SETTING_REPLACED, self.name, name, value, extra=about)
        for name in configured.overruled:
            about = log_fields(budget=self.name, setting=name)
            if name == "pause":
                log.warning(log_texts.PAUSE_OVERRULED, self.name, self.name, extra=about)
            elif (ours is None or name in ours) and self.is_first(name):
                option = name.replace("_", "-")
                log.warning(log_texts.SETTING_OVERRULED, self.name, name, self.name, option, extra=about)

    def log_state(self, answer: Answer) -> None:
        """Log a change of the level, or of what stops the budget, once in this process. A change of the rate is none.

        The first answer is no change. Reasons that come and go with the load ("rate", "contended") count as one.
        """
        before, self._state = self._state, (answer.level, answer.reason)
        if before is None or _told(*before) == _told(*self._state):
            return
        rate = answer.budget_rate / MICRO
        log.info(
            log_texts.BUDGET_CHANGED, self.name, answer.level, formatting.rate(rate), answer.reason, before[0],
            before[1],
            extra=log_fields(
                budget=self.name, level=answer.level, load=answer.load, rate=rate, reason=answer.reason
            ),
        )  # fmt: skip

    def warn_of_wait(self, ledger: Ledger, answer: Answer, now: float) -> None:
        """Log a warning, once, where callers wait for tokens that may never come or that take long."""
        is_shut = answer.reason in _NOTHING_COMES and not answer.budget_rate
        if is_shut:
            self._unset_since = min(self._unset_since, now)
        head = ledger.head
        if head is None:
            return
        if is_shut and now - self._unset_since >= UNSET_PATIENCE and self.is_first(answer.reason):
            about = log_fields(budget=self.name, reason=answer.reason)
            log.warning(_NOTHING_COMES[answer.reason], {"name": self.name}, extra=about)
        elif answer.budget_rate and head.cost > answer.burst:
            self._warn_of_cost(ledger, head, answer)

    def _warn_of_cost(self, ledger: Ledger, head: Waiter, answer: Answer) -> None:
        tokens = formatting.counted(head.cost / MICRO, "token")
        if answer.is_lossless:
            if self.is_first("large"):
                about = log_fields(budget=self.name, cost=head.cost / MICRO)
                log.warning(log_texts.COST_ABOVE_LOSSLESS_BURST, self.name, tokens, answer.burst / MICRO, extra=about)
            return
        left = (head.cost - ledger.held) / answer.budget_rate
        if left >= LONG_WAIT and self.is_first("wait"):
            text = log_texts.DEBT_TAKES_LONG if head is ledger.debt else log_texts.COST_TAKES_LONG
            rate = answer.budget_rate / MICRO
            about = log_fields(budget=self.name, cost=head.cost / MICRO, rate=rate, wait_s=left)
            log.warning(text, self.name, tokens, formatting.rate(rate), formatting.seconds(left), extra=about)

    def warn_of_distance(self, trip: float, answer: Answer) -> None:
        """Log a warning, once, where tokens expire on their way, since an answer takes longer than a lease."""
        if trip >= answer.lease and self.is_first("far"):
            text = log_texts.REDIS_FAR_LOSSLESS if answer.is_lossless else log_texts.REDIS_FAR
            about = log_fields(budget=self.name, round_trip_s=trip, lease_s=answer.lease)
            log.warning(text, self.name, formatting.seconds(trip), formatting.seconds(answer.lease), extra=about)

    def lacks_our_rate(self, reason: str) -> bool:
        """Return whether an answer is of a budget that has no rate, where code has one."""
        return reason == "unset" and self.settings.rate is not None

    def sync(self, birth: str, reason: str = "") -> bool:
        """Note which life of the budget's state an answer came from; return whether it lacks our settings.

        State without a rate, where code has one, is older than our registration: a failover can bring it back.
        """
        if self.birth and (birth != self.birth or self.lacks_our_rate(reason)):
            self._set(self.settings)
            self.unlist()
        self.birth = birth
        return not self.is_registered


NOTHING: Final = BudgetSettings()
STOPPED: Final = ("paused", "no_consumers", "unset", "window")  # reasons for which no tokens come
_NOTHING_COMES: Final = {"unset": log_texts.NO_RATE, "window": log_texts.NO_REPORT}  # by the reason of an answer
SOURCES: Final = ("operator", "code")  # in the order in which their values win


def inherited(parent: BudgetSettings, given: BudgetSettings) -> BudgetSettings:
    """Return a key's settings: its own, and its parent's where it has none.

    A key with a `rate` of 5/s and a parent with a `min_rate` of 10/s: the `min_rate` is left out.
    """
    if given is NOTHING:
        return parent  # the same object: a thousand keys share it
    merged = parent.given() | given.given()
    while True:
        try:
            return BudgetSettings.of(**merged)
        except InvalidSetting as error:  # each is valid by itself; together they are not
            del merged[error.field]


def _stored_settings(reply: Sequence[Any]) -> StoredSettings:
    birth, *values = (None if word is None else calls.text(word) for word in reply)
    settings: dict[str, Any] = {}
    for i, field in enumerate(FIELDS):
        found = next((value for value in values[2 * i : 2 * i + 2] if value is not None), None)
        if found is not None:
            settings[field] = found
    return StoredSettings(birth or "", settings)


def _settings_of(texts: dict[str, str]) -> BudgetSettings:
    """Return the settings that stand in Redis, without those that this release does not understand."""
    found: dict[str, Any] = {}
    for field, value in texts.items():
        parsed: Any = value
        if field == "lossless":
            parsed = value == "1"
        elif field not in ("law", "combine"):
            parsed = float(value)
        try:
            BudgetSettings.of(**{field: parsed})
        except InvalidSetting:
            continue
        found[field] = parsed
    return BudgetSettings.of(**found)  # in force together, so valid together


def _told(level: int, reason: str) -> tuple[int, str]:
    """Return what is told of a state: its level, and its reason if the budget is stopped."""
    return level, reason if reason in STOPPED else ""
