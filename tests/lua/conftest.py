"""Each test of a script is told as one story. Which servers a test runs on follows from what it is about.

story         a rule of a script, exact to the micro-token: fakeredis and one real server. All of them run Lua 5.1, and
              the referees check the same arithmetic.
server        the core of each script, on every kind: the golden calls (`test_vectors.py`), with a call of each kind and
              its refusal.
real_server   what differs from server to server: numbers and bytes over a long life (the fuzzed bounds, the referees in
              step), keys of another type, memory that is used up, damaged state, publishing.
one_server    simulations of thousands of calls.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus_redis._redis.embedded import ServerProcess
from tests.conftest import serve
from tests.harness.script_driver import ScriptDriver
from tests.harness.servers import FAKE, Server


@pytest.fixture(params=[FAKE, "valkey"])
def story(request: pytest.FixtureRequest, processes: dict[str, ServerProcess]) -> Iterator[ScriptDriver]:
    for server in serve(request.param, processes):
        yield ScriptDriver(server.fast_client())


@pytest.fixture
def real_story(real_server: Server) -> ScriptDriver:
    return ScriptDriver(real_server.fast_client())
