"""The operations of the API, one entry each: routes, checks and the OpenAPI document are made from this table."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from nexus_redis._protocol.json_forms import BudgetJson, BudgetSummaryJson, EventJson, ExplanationJson
from nexus_redis.messages import CapacitySignal, FlowControl, LoadReport, Message
from nexus_redis.server.access import CONSUMER, OBSERVER, OPERATOR, PRODUCER, WhoamiJson
from nexus_redis.server.health import ReadyJson
from nexus_redis.server.protocol import LeftJson, ReceivedJson
from nexus_redis.server.requests import (
    AcquireRequest,
    LeaveRequest,
    PauseRequest,
    ResumeRequest,
    SetRequest,
    TryRequest,
)
from nexus_redis.server.tokens import GrantJson

REDIS: Final = ("refused", "temporary-reduced-capacity", "stopping")  # of all that ask Redis
RATES: Final = ("quota-exceeded", *REDIS)


class Operation(NamedTuple):
    """One operation: its route, the roles that may call it, the body that it takes, and its answers.

    `handler` names the method of `Service` that carries it out. `problems` are the kinds beside those of all, and
    `query` the parameters after the `?`. `media` is the type of an answer that is neither JSON nor msgpack, and an
    operation that `is_open` needs no token.
    """

    method: str
    path: str
    handler: str
    summary: str
    roles: tuple[str, ...]
    request: type[Message] | None
    answer: Any
    statuses: tuple[int, ...] = (200,)
    problems: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    media: str = ""
    is_open: bool = False


BUDGET: Final = "/v1/budgets/{name}"
KEY: Final = ("key",)

OPERATIONS: Final = (
    Operation(
        "POST", "/v1/acquire", "acquire", "Wait for tokens, in turn, until a deadline.", (PRODUCER,),
        AcquireRequest, GrantJson, problems=("unknown-budget", *RATES, "too-many-waiters", "request-in-progress",
                                             "idempotency-key-reused"),
    ),
    Operation(
        "POST", "/v1/try", "try_", "Take tokens now, or none.", (PRODUCER,), TryRequest, GrantJson,
        problems=("unknown-budget", *RATES, "request-in-progress", "idempotency-key-reused"),
    ),
    Operation(
        "POST", "/v1/signal", "signal", "Ask as a producer what to send: a CapacitySignal gets a FlowControl.",
        (PRODUCER,), CapacitySignal, FlowControl, problems=("unknown-budget", *REDIS),
    ),
    Operation(
        "POST", "/v1/report", "report", "Report the load of a consumer. The first report creates its budget.",
        (CONSUMER,), LoadReport, ReceivedJson, problems=REDIS,
    ),
    Operation(
        "POST", "/v1/leave", "leave", "Leave as a producer or a consumer of the protocol.", (PRODUCER, CONSUMER),
        LeaveRequest, LeftJson, problems=("unknown-budget", *REDIS),
    ),
    Operation("GET", "/v1/budgets", "list_budgets", "List all budgets, without their members.", (OBSERVER,), None,
              list[BudgetSummaryJson], problems=REDIS),
    Operation("GET", BUDGET, "get_budget", "Show a budget with its consumers and producers.", (OBSERVER,), None,
              BudgetJson, problems=("unknown-budget", *REDIS), query=KEY),
    Operation("PUT", BUDGET, "put_budget", "Set settings of a budget as an operator; create it if need be.",
              (OPERATOR,), SetRequest, BudgetSummaryJson, statuses=(200, 201),
              problems=("unknown-budget", *REDIS), query=KEY),
    Operation("DELETE", BUDGET, "delete_budget", "Delete all that Redis knows of a budget.", (OPERATOR,), None, None,
              statuses=(204,), problems=("unknown-budget", *REDIS), query=KEY),
    Operation("POST", f"{BUDGET}/pause", "pause", "Stop a budget on all hosts, for a time or until it is resumed.",
              (OPERATOR,), PauseRequest, BudgetSummaryJson, problems=("unknown-budget", *REDIS), query=KEY),
    Operation("POST", f"{BUDGET}/resume", "resume", "End a pause.", (OPERATOR,), ResumeRequest, BudgetSummaryJson,
              problems=("unknown-budget", *REDIS), query=KEY),
    Operation("GET", f"{BUDGET}/explain", "explain", "Explain why the rate is what it is, and what would raise it.",
              (OBSERVER,), None, ExplanationJson, problems=("unknown-budget", *REDIS), query=KEY),
    Operation("GET", f"{BUDGET}/history", "history", "List the newest 100 changes of a budget, the newest first.",
              (OBSERVER,), None, list[EventJson], problems=("unknown-budget", *REDIS), query=KEY),
)  # fmt: skip

# What the server has besides: `application.py` has an application of its own for each.
OTHERS: Final = (
    Operation("GET", "/v1/events", "events", "Follow all budgets, and one with its members, as server-sent events.",
              (OBSERVER,), None, str, problems=REDIS, query=("budget", *KEY), media="text/event-stream"),
    Operation("GET", "/v1/whoami", "whoami", "Say what the token of the caller allows.", (), None, WhoamiJson),
    Operation("GET", "/metrics", "metrics", "Tell all metrics, as Prometheus reads them.", (OBSERVER,), None, str,
              problems=REDIS, media="text/plain"),
    Operation("GET", "/healthz", "healthz", "Say that this process answers.", (), None, str, media="text/plain",
              is_open=True),
    Operation("GET", "/readyz", "readyz", "Say whether Redis carries out what this process asks it for.", (), None,
              ReadyJson, problems=("temporary-reduced-capacity",), is_open=True),
)  # fmt: skip
