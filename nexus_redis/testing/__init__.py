"""Test your own code with a real server, a Nexus on it, a clock that you move, and a judge of what went out.

    pytest_plugins = ["nexus_redis.testing"]  # in conftest.py

The fixtures `nexus_server`, `nexus` and `clock` are for pytest. `ManualClock`, `NexusServer` and
`assert_never_exceeded` work with any test runner, and where pytest is not installed.
`docs/testing.md` shows each in use.
"""

from nexus_redis.testing import fixtures
from nexus_redis.testing.clock import ManualClock
from nexus_redis.testing.fixtures import NexusServer, assert_never_exceeded

__all__ = ["ManualClock", "NexusServer", "assert_never_exceeded"]

if fixtures.HAS_PYTEST:
    from nexus_redis.testing.fixtures import _nexus_embedded, clock, nexus, nexus_server

    # pytest finds a fixture where it is an attribute, also the one that the others use.
    __all__ += ["_nexus_embedded", "clock", "nexus", "nexus_server"]
