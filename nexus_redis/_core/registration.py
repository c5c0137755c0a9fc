"""What Redis must be told of a budget by this process, and what a per-key budget takes over from its parent. No I/O.

    first        the settings given in code, once in each life of the budget's state: alone, before any claim or report
    a key's      before that, its parent's: they are read when the first of its keys opens and, as long as some key of
                 it makes calls, once a minute; what changed there is told on with the next call of each key

Nothing here makes a call by itself: it says what the next call of somebody who calls anyway must be. So budgets of
customers that do nothing cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

from nexus_redis._core.ledger import Ledger
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import LIST_EACH, listed
from nexus_redis._protocol.calls import Answer, Configured
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Command, Job
from nexus_redis._values import formatting
from nexus_redis._values.identity import whoami
from nexus_redis._values.log import log
from nexus_redis._values.parse import MICRO
from nexus_redis._values.settings import BudgetSettings, micro
from nexus_redis.errors import InvalidSetting

W = TypeVar("W")  # what is wanted: a job, or one that is made late

LOOK_EACH: Final = 60.0  # seconds: an operator's change of the parent is in force for all keys after that
UNSET_PATIENCE: Final = 1.0  # seconds: where all start together, the first consumer reports by then
LONG_WAIT: Final = 10.0  # seconds that a large cost may need before it is said
LONG_AGO: Final = -math.inf
NO_LINES: Final[frozenset[Ledger]] = frozenset()  # one for all: another thread reads it, and an idle key keeps nothing
FIELDS: Final = BudgetSettings.names()
DEFAULT_BURST: Final = 0.25  # seconds of the rate, as in the scripts


class Known(NamedTuple):
    """A budget's settings in force, as Redis has them; no birth: there is no such budget."""

    birth: str
    settings: dict[str, Any]


class News(NamedTuple):
    """What came of a question that was asked on another budget's behalf."""

    registration: Registration
    fact: Configured | Known


class Registration:
    """See the head of the file. `given`: the settings in code; `settings`: with those taken over from the parent."""

    __slots__ = (
        "__weakref__", "_inherited", "_looked_at", "_own", "_seen", "_seen_at", "_unset", "_unset_since", "_warned",
        "birth", "given", "is_told", "keys", "largest_burst", "lines", "listed_at", "parent", "settings",
    )  # fmt: skip

    def __init__(self, keys: BudgetKeys, settings: BudgetSettings, parent: Registration | None = None) -> None:
        self.keys, self.parent = keys, parent
        self.birth = ""
        self.listed_at = LONG_AGO
        self.largest_burst = 0  # micro-tokens: of all buckets that this budget had or was to have, as far as known here
        self._warned: frozenset[str] = frozenset()
        self._unset_since = NEVER
        self._own: set[Registration] | None = None  # its keys with settings of their own
        self._seen: BudgetSettings = NOTHING  # what Redis last said, for those that inherit from this one
        self._inherited: BudgetSettings | None = None
        self.lines = NO_LINES  # where callers of this process wait, or have waited lately
        self.adopt(settings)

    @property
    def name(self) -> str:
        """The budget's."""
        return self.keys.name

    @property
    def wanted(self) -> float:
        """The most tokens that a caller in this process waits for whose turn it is; 0 where none waits."""
        heads = (ledger.head for ledger in self.lines)
        return max((head.cost for head in heads if head is not None), default=0) / MICRO

    def keep_line(self, ledger: Ledger) -> None:
        """Somebody waits there."""
        if ledger not in self.lines:
            self.lines |= {ledger}

    def drop_line(self, ledger: Ledger) -> None:
        """Nobody waits there any more."""
        self.lines = (self.lines - {ledger}) or NO_LINES

    def adopt(self, given: BudgetSettings) -> None:
        """Settings in code, which Redis does not know yet."""
        self.given = given
        if self.parent is not None:
            self.parent._keep(self)
        self._seen_at = self._looked_at = LONG_AGO
        self._tell(inherited(self.parent._seen, given) if self.parent is not None else given)

    def _keep(self, key: Registration) -> None:
        """Nobody else may hold a key's opening, and what it was given in code shall be so for whoever names it next."""
        own = self._own or set()
        (own.discard if key.given == NOTHING else own.add)(key)
        self._own = own or None

    def is_first(self, warning: str) -> bool:
        """Whether this is said for the first time."""
        is_new = warning not in self._warned
        self._warned |= {warning}
        return is_new

    def _tell(self, settings: BudgetSettings, unset: Sequence[str] = ()) -> None:
        self.settings, self._unset = settings, tuple(unset)
        if settings.rate is not None:
            burst = DEFAULT_BURST if settings.burst is None else settings.burst
            self.largest_burst = max(self.largest_burst, micro(1 + settings.rate * burst))
        self.is_told = not self._unset and not settings.given()

    def question(self, now: float) -> Job | None:
        """What must be said before any claim or report; None when that is done."""
        if self.parent is not None:
            inquiry = self.parent._inquiry(now, is_urgent=self._inherited is None)
            if inquiry is not None:
                return inquiry
            self._inherit(self.parent._seen)
        return None if self.is_told else calls.configure(self.keys, self.settings, unset=self._unset, who=whoami())

    def is_own(self, question: Job) -> bool:
        """Return whether it tells this budget's own settings: then the next call may come along with it."""
        return isinstance(question, Call) and question.keys == self.keys.shared

    def _inquiry(self, now: float, *, is_urgent: bool) -> Job | None:
        """On behalf of a key: what Redis says of this parent. One key a minute asks; a new one in any case."""
        if now - self._seen_at < LOOK_EACH:
            return None
        if not self.is_told:
            telling = calls.configure(self.keys, self.settings, who=whoami())
            return Call(telling.script, telling.keys, telling.args, lambda reply: News(self, telling.decode(reply)))
        if not is_urgent and now - self._looked_at < LOOK_EACH:
            return None
        self._looked_at = now
        return Command(
            ("HMGET", self.keys.budget, "birth", *(f"{field}_by_{source}" for field in FIELDS for source in SOURCES)),
            lambda reply: News(self, _known(reply)),
        )

    def _inherit(self, seen: BudgetSettings) -> None:
        if seen is self._inherited:
            return
        self._inherited = seen
        merged = inherited(seen, self.given)
        for name, value in self.given.given().items():
            if getattr(merged, name) != value and self.is_first(f"own {name}"):
                log.warning(
                    "budget %s: its own %s does not go with the settings of %s, so it is left out",
                    self.name, name, self.parent.name if self.parent else "",
                )  # fmt: skip
        if merged != self.settings:
            gone = self.settings.given().keys() - merged.given().keys()
            self._tell(merged, sorted(gone))

    def learn(self, given: BudgetSettings, unset: Sequence[str]) -> None:
        """`configure` has told Redis: what this process opens the budget with from now on."""
        known = self.given.given() | given.given()
        was_told = self.is_told
        self.adopt(BudgetSettings.of(**{name: value for name, value in known.items() if name not in unset}))
        self.is_told = self.is_told or (was_told and self.parent is None)  # a key's: the parent's value comes back

    def batch(self, job: W, now: float) -> list[W | Job]:
        """`job`, and behind it, once a day, the budget's name for the list of all budgets (listing.py)."""
        if now - self.listed_at < LIST_EACH:
            return [job]
        self.listed_at = now
        return [job, listed(self.keys.namespace, self.name)]

    def unlist(self) -> None:
        """It is not sure that the name has arrived, or is there still."""
        self.listed_at = LONG_AGO

    def register(self, fact: Configured | Known, now: float) -> None:
        """Redis has answered a question."""
        if isinstance(fact, Configured):
            self.is_told, self._unset = True, ()
            self.note(fact)
        elif not self.sync(fact.birth):
            self._seen_at = now
            seen = _settings_of(fact.settings)
            if seen != self._seen:
                self._seen = seen
                log.info("budget %s: the budgets of its keys take over %s", self.name, seen.given())

    def note(self, configured: Configured) -> None:
        """Say what settings replaced and what they could not; those of a parent speak for all its keys."""
        self.birth = configured.birth
        ours = self.given.given().keys() if self.parent is not None else None
        for name in configured.changed:
            if (ours is None or name in ours) and name not in configured.overruled:
                now = getattr(self.settings, name, None)
                told = "had another value" if now is None else f"had another value and is {now} now"
                log.info("budget %s: %s %s. The code that opens a budget last sets its values", self.name, name, told)
        for name in configured.overruled:
            if name == "pause":
                log.warning(
                    "budget %s: an operator paused it, so code does not resume it. `nexus-redis resume %s` does",
                    self.name, self.name,
                )  # fmt: skip
            elif (ours is None or name in ours) and self.is_first(name):
                log.warning(
                    "budget %s: an operator set %s, so the value in code is not used. "
                    "`nexus-redis set %s --unset %s` removes the operator's value",
                    self.name, name, self.name, name.replace("_", "-"),
                )  # fmt: skip

    def warn_of_wait(self, ledger: Ledger, answer: Answer, now: float) -> None:
        """Who waits without a word for what may never come, or not for long, is told; once."""
        is_shut = answer.reason in _NOTHING_COMES and not answer.budget_rate
        if is_shut:
            self._unset_since = min(self._unset_since, now)
        head = ledger.head
        if head is None:
            return
        if is_shut and now - self._unset_since >= UNSET_PATIENCE and self.is_first(answer.reason):
            log.warning(_NOTHING_COMES[answer.reason], {"name": self.name})
        elif answer.budget_rate and head.cost > answer.burst and answer.is_lossless:
            if self.is_first("large"):
                log.warning(
                    "budget %s: a caller asks at once for %s, and a lossless budget gives no more than its burst, now "
                    "%g. The caller waits until the consumers can take more. A larger `burst` helps", self.name,
                    formatting.counted(head.cost / MICRO, "token"), answer.burst / MICRO,
                )  # fmt: skip
        elif answer.budget_rate and head.cost > answer.burst:
            left = (head.cost - ledger.held) / answer.budget_rate
            if left >= LONG_WAIT and self.is_first("wait"):
                subject = "this producer owes" if head is ledger.debt else "a caller asks at once for"
                log.warning(
                    "budget %s: %s %s. At %s, which is the whole budget, that takes another %s. The callers behind it "
                    "wait as long", self.name, subject,
                    formatting.counted(head.cost / MICRO, "token"), formatting.rate(answer.budget_rate / MICRO),
                    formatting.seconds(left),
                )  # fmt: skip

    def warn_of_distance(self, trip: float, answer: Answer) -> None:
        """Say it once where tokens expire on their way, since an answer takes longer than a lease."""
        if trip >= answer.lease and self.is_first("far"):
            remedy = "A lossless budget needs" if answer.is_lossless else "Use"
            log.warning(
                "budget %s: Redis takes %s to answer and a lease lasts %s, so tokens expire on their way and most of "
                "the budget is not used. %s a Redis that is nearer",
                self.name, formatting.seconds(trip), formatting.seconds(answer.lease), remedy,
            )  # fmt: skip

    def lacks_our_rate(self, reason: str) -> bool:
        """Return whether an answer is of a budget that has no rate, where code has one."""
        return reason == "unset" and self.settings.rate is not None

    def sync(self, birth: str, reason: str = "") -> bool:
        """An answer came from this life of the state. Is it one that has to be told the settings?

        A life in which no rate is set, where code has one, is one of before it was told: a failover can bring it back.
        """
        if self.birth and (birth != self.birth or self.lacks_our_rate(reason)):
            self._tell(self.settings)
            self.unlist()
        self.birth = birth
        return not self.is_told


NOTHING: Final = BudgetSettings()
_NOTHING_COMES: Final = {
    "unset": "budget %(name)s has no rate, so callers wait. Give it a consumer that reports, rate= in code, or "
    "`nexus-redis set %(name)s --rate`",
    "window": "budget %(name)s is lossless and no consumer reports, so callers wait until a consumer reports what it "
    "can hold (queue_limit, queue_depth, done, errors, in_flight)",
}
SOURCES: Final = ("operator", "code")  # who wins first


def inherited(parent: BudgetSettings, given: BudgetSettings) -> BudgetSettings:
    """A key's settings: its own, and the parent's where it has none. Beside a lower ceiling a floor gives way."""
    if given is NOTHING:
        return parent  # the same object: a thousand keys share it
    merged = parent.given() | given.given()
    while True:
        try:
            return BudgetSettings.of(**merged)
        except InvalidSetting as error:  # each was possible by itself; these are not possible together
            del merged[error.field]


def _known(reply: Sequence[Any]) -> Known:
    birth, *values = (None if word is None else calls.text(word) for word in reply)
    settings: dict[str, Any] = {}
    for i, field in enumerate(FIELDS):
        found = next((value for value in values[2 * i : 2 * i + 2] if value is not None), None)
        if found is not None:
            settings[field] = found
    return Known(birth or "", settings)


def _settings_of(texts: dict[str, str]) -> BudgetSettings:
    """As they stand in Redis; what this release does not understand is left out."""
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
    return BudgetSettings.of(**found)  # in force together, so possible together
