"""The same from asyncio: fifty tasks, one budget, one connection.

python examples/async_producer.py
"""

import asyncio
import os

from nexus_redis.asyncio import Budget, Nexus


async def call(budget: Budget, number: int) -> int:
    """One request; `acquire` waits its turn, and a cancelled task takes no token with it."""
    await budget.acquire(timeout=30)
    return number


async def main(tasks: int = 50) -> int:
    """How many of them were answered."""
    async with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        budget = nexus.budget("search", rate="100/s")
        answered = await asyncio.gather(*(call(budget, number) for number in range(tasks)))
        print(f"{len(answered)} calls at {budget.flow.budget_rate:g}/s" if budget.flow else "no answer")
        return len(answered)


if __name__ == "__main__":
    asyncio.run(main())
