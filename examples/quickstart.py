"""One limit for all processes that run this: ten calls a second together, however many you start.

python examples/quickstart.py                        # with a server of its own, for trying
NEXUS_REDIS_URL=redis://cache python examples/quickstart.py
"""

import os
import time

from nexus_redis import Nexus


def main(calls: int = 20) -> float:
    """Make so many calls at the rate of the budget, and return the seconds that they took."""
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        stripe = nexus.budget("stripe", rate="10/s")
        began = time.monotonic()
        for number in range(calls):
            stripe.acquire()
            print(f"{time.monotonic() - began:5.2f} s  call {number}")
        return time.monotonic() - began


if __name__ == "__main__":
    main()
