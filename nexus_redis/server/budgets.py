"""`/v1/budgets`: what an operator sees of the budgets, and changes of them, as the verbs of the command line do."""

from __future__ import annotations

from typing import Any, Final

from nexus_redis._protocol import calls
from nexus_redis._protocol.all_budgets import snapshots
from nexus_redis._protocol.budget_list import listed
from nexus_redis._protocol.calls import UNTIL_RESUMED
from nexus_redis._protocol.deletion import delete
from nexus_redis._protocol.explain import explain
from nexus_redis._protocol.json_forms import event_of, explanation_of, summary_of, with_members
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.snapshot import BudgetSnapshot, snapshot
from nexus_redis._values.identity import whoami
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.asyncio import Nexus
from nexus_redis.errors import SETTINGS, InvalidSetting
from nexus_redis.server import texts
from nexus_redis.server.access import OBSERVER, OPERATOR
from nexus_redis.server.batch import Batch
from nexus_redis.server.call import Call, Reply
from nexus_redis.server.known_budgets import KnownBudgets, exists
from nexus_redis.server.problems import Problem
from nexus_redis.server.requests import PauseRequest, ResumeRequest, SetRequest

SHOWN: Final = 20  # entries of the history in an explanation


class Budgets:
    """The operations on budgets. `changed` is called after each change, so that the page shows it at once."""

    def __init__(self, nexus: Nexus, batch: Batch, known: KnownBudgets, changed: Any) -> None:
        self._nexus, self._batch, self._known, self._changed = nexus, batch, known, changed
        self._server = nexus._scheduler.address

    async def list(self, call: Call) -> Reply:
        """Return all budgets that the caller may see, without their members."""
        call.caller.require(OBSERVER)
        found, others = await self._nexus._drive(snapshots(self._nexus.namespace, self._server))
        return Reply([summary_of(each) for each in (*found, *others) if call.caller.sees(each.name)])

    async def get(self, call: Call) -> Reply:
        """Return one budget with its members, the first 500 of each kind."""
        return Reply(with_members(await self._seen(call)))

    async def explain(self, call: Call) -> Reply:
        """Return why the rate is what it is."""
        return Reply(explanation_of(await self._explained(call), SHOWN))

    async def history(self, call: Call) -> Reply:
        """Return the newest 100 entries of the history, the newest first."""
        return Reply([event_of(each) for each in (await self._explained(call)).history])

    async def put(self, call: Call) -> Reply:
        """Set settings as an operator; null takes a value away. A budget that does not exist is created."""
        keys, asked = self._asked(call), SetRequest(**await call.fields())
        if not asked.settings:
            raise InvalidSetting("settings", asked.settings, texts.nothing_to_set(SETTINGS))
        unset = [field for field, value in asked.settings.items() if value is None]
        unknown = [field for field in unset if field not in SETTINGS]
        if unknown:
            raise InvalidSetting(unknown[0], remedy=texts.nothing_to_set(SETTINGS))
        chosen = BudgetSettings.of(**{name: value for name, value in asked.settings.items() if value is not None})
        is_new = not (await self._batch.ask(exists(keys)))[0]
        if is_new and len(unset) == len(asked.settings):
            raise Problem("unknown-budget", texts.unknown_budget(keys.name), budget=keys.name)
        await self._configure(call, keys, asked.by, asked.reason, settings=chosen, unset=unset)
        return Reply(summary_of(await self._snapshot(keys)), 201 if is_new else 200)

    async def delete(self, call: Call) -> Reply:
        """Delete all that Redis knows of the budget."""
        keys = self._asked(call)
        count: int = await self._nexus._drive(delete(keys, self._server))
        self._known.forget(keys.name)
        self._changed()
        if not count:
            raise Problem("unknown-budget", texts.unknown_budget(keys.name), budget=keys.name)
        return Reply(None, 204)

    async def pause(self, call: Call) -> Reply:
        """Stop the budget on all hosts, for some seconds or until it is resumed."""
        keys, asked = self._asked(call), PauseRequest(**await call.fields())
        seconds = UNTIL_RESUMED if asked.seconds is None else asked.seconds
        return await self._changed_by(call, keys, asked.by, asked.reason, pause=seconds)

    async def resume(self, call: Call) -> Reply:
        """End a pause."""
        keys, asked = self._asked(call), ResumeRequest(**await call.fields())
        return await self._changed_by(call, keys, asked.by, asked.reason, pause=0.0)

    def _asked(self, call: Call) -> BudgetKeys:
        """Return the keys of the budget that an operator wants to change."""
        name = call.budget
        call.caller.require(OPERATOR, name)
        return BudgetKeys(self._nexus.namespace, name)

    async def _changed_by(self, call: Call, keys: BudgetKeys, by: str | None, why: str, **change: Any) -> Reply:
        if not (await self._batch.ask(exists(keys)))[0]:
            raise Problem("unknown-budget", texts.unknown_budget(keys.name), budget=keys.name)
        await self._configure(call, keys, by, why, **change)
        return Reply(summary_of(await self._snapshot(keys)))

    async def _configure(self, call: Call, keys: BudgetKeys, by: str | None, why: str, **change: Any) -> None:
        if by is not None and (not by.strip() or ":" in by):
            raise InvalidSetting("by", by, texts.BY_REMEDY)
        # A token's name comes first: the history must not show another name than that of the caller.
        who = call.caller.name or by or whoami()
        settings = change.pop("settings", None)
        configure = calls.configure(keys, settings, source="operator", who=who, note=why, **change)
        await self._batch.ask(configure, listed(keys.namespace, keys.name, is_kept=True))
        self._changed()

    async def _snapshot(self, keys: BudgetKeys) -> BudgetSnapshot:
        seen: BudgetSnapshot = await self._nexus._drive(snapshot(keys, self._server))
        return seen

    async def _seen(self, call: Call) -> BudgetSnapshot:
        name = call.budget
        call.caller.require(OBSERVER, name)
        seen = await self._snapshot(BudgetKeys(self._nexus.namespace, name))
        if not seen.exists:
            raise Problem("unknown-budget", texts.unknown_budget(name), budget=name)
        return seen

    async def _explained(self, call: Call) -> Any:
        name = call.budget
        call.caller.require(OBSERVER, name)
        keys = BudgetKeys(self._nexus.namespace, name)
        why = await self._nexus._drive(explain(keys, self._server, self._nexus._scheduler.clock))
        if not why.budget.exists:
            raise Problem("unknown-budget", texts.unknown_budget(name), budget=name)
        return why
