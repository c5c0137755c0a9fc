"""Tell Redis at once what a caller changes: `budget.configure`, `pause`, `resume`."""

from __future__ import annotations

from collections.abc import Generator

from nexus_redis._core.registration import Opening
from nexus_redis._protocol.budget_list import listed, swept
from nexus_redis._protocol.calls import Configured
from nexus_redis._protocol.plans import Job, Outcome, Pause, ask


def told(opening: Opening, call: Job, server: str) -> Generator[list[Job] | Pause, list[Outcome], Configured]:
    """Return the plan that runs a `configure` call and lists the budget."""
    configured: Configured = (yield from ask([call], server))[0]
    opening.note(configured)
    keys = opening.keys
    outcomes = yield [listed(keys.namespace, keys.name)]
    yield from swept(keys.namespace, outcomes[-1])
    return configured
