"""A producer in asyncio: fifty tasks share one budget and one connection.

python examples/async_producer.py
"""

import asyncio
import os

from nexus_redis.asyncio import Budget, Nexus


async def call(budget: Budget, number: int) -> int:
    """Make one request. `acquire` waits for a token, and a cancelled task takes none."""
    await budget.acquire(timeout=30)
    return number


async def main(tasks: int = 50) -> int:
    """Run the tasks, and return how many calls were answered."""
    async with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        budget = nexus.budget("search", rate="100/s")
        answered = await asyncio.gather(*(call(budget, number) for number in range(tasks)))
        print(f"{len(answered)} calls at {budget.flow.budget_rate:g}/s" if budget.flow else "no answer")
        return len(answered)


if __name__ == "__main__":
    asyncio.run(main())
