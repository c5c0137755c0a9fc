"""The sentences of the proxy: what it answers itself, and what it logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# --- remedies of options

NO_ADDRESS: Final = "use an address like http://es:9200 or https://api.example/v2"
PASSWORD_IN_ADDRESS: Final = "leave user and password out, because the proxy passes each client's Authorization on"  # noqa: S105  # a sentence
QUERY_IN_ADDRESS: Final = "leave the query and the fragment out, because each request has its own"
CREDENTIALS: Final = "write one line, `user:password` or `ApiKey KEY`, where KEY is the encoded key of Elasticsearch"
ONLY_WITH_STATS: Final = "use it together with --stats"
AT_LEAST_A_BYTE: Final = "use 1 or more bytes"


def one_of(words: Sequence[str]) -> str:
    """Return the remedy for a word that is not known."""
    return f"use {' or '.join(words)}"


def credentials_unreadable(cause: str | None) -> str:
    """Return the remedy for a file of credentials that cannot be read."""
    return f"name a file of UTF-8 text that the proxy may read ({cause or 'this one is not UTF-8'})"


# --- what the proxy answers itself

STOPPING: Final = "The proxy is stopping. The request was not passed on, and no token was taken."
CUT_AT_STOP: Final = "The proxy is stopping, so it gave up a request that the upstream had not answered yet."
REDIS_AWAY: Final = "Redis does not answer, so no tokens can be granted. The request was not passed on."
COST_TOO_LARGE: Final = "No bucket of the budget can hold the cost of this request. The request was not passed on."
NOT_PASSED_ON: Final = "The request was not passed on."
ONE_HOST: Final = "A request needs exactly one Host header. The request was not passed on."
TWO_LENGTHS: Final = (
    "A request may have one Content-Length or one Transfer-Encoding, and not both. The request was not passed on."
)
UNKNOWN_CODING: Final = "The proxy knows the transfer coding chunked only. The request was not passed on."
NO_TUNNEL: Final = "The proxy makes no tunnels. The request was not passed on."
NO_WEBSOCKET: Final = "The proxy does not pass WebSockets on, so let this client connect to the upstream itself."
NO_PATH: Final = "The target of the request has no path. The request was not passed on."
NOT_UTF_8: Final = "The path and the headers of a request must be UTF-8. The request was not passed on."
UNCOUNTABLE: Final = (
    "The actions or lines of this body cannot be counted: send it without Content-Encoding, or with gzip or deflate. "
    "The request was not passed on."
)
BROKEN_BODY: Final = "The body is not what its Content-Encoding says. A whole body did not reach the upstream."


def wrong_host(detail: str) -> str:
    """Return the detail for a name that this proxy does not have."""
    return f"{detail} Start the proxy with --allow-host NAME if the name is meant. {NOT_PASSED_ON}"


METRICS_OF_WORKERS: Final = "Each worker counts what it did itself. Run one worker for each proxy that is scraped."


def no_own_path(where: str) -> str:
    """Return the detail for a path of the proxy itself that does not exist."""
    return f"The proxy has healthz, readyz and metrics at {where}, and nothing else. {NOT_PASSED_ON}"


def too_dear(tokens: float, rate: float, seconds: float) -> str:
    """Return the sentence for a request that the rate does not pay for while it may wait."""
    return (
        f"The request costs {tokens:g} tokens, and at {rate:g}/s they take longer than the {seconds:g} s that it may "
        f"wait. Send less in one request, or start the proxy with a longer --wait. {NOT_PASSED_ON}"
    )


def too_many_waiters(most: int) -> str:
    """Return the detail for a request beyond the limit of waiters."""
    return f"{most:,} requests wait for tokens at this proxy already. The request was not passed on."


def too_much_held(most: int) -> str:
    """Return the detail for a body beyond the memory for bodies that wait."""
    return f"The bodies that wait at this proxy fill the {most:,} bytes that it has for them. {NOT_PASSED_ON}"


def client_silent(seconds: float) -> str:
    """Return the detail for a body that stopped."""
    return f"The client sent no part of the body for {seconds:g} s. A whole body did not reach the upstream."


def unreachable(upstream: str, cause: str) -> str:
    """Return the detail where no connection could be made."""
    return with_received(f"The upstream {upstream} cannot be reached ({cause}).", is_begun=False)


def broken(upstream: str, cause: str) -> str:
    """Return the beginning of the detail where a connection ended before the response."""
    return f"The upstream {upstream} gave no valid response ({cause})."


def silent(upstream: str, seconds: float) -> str:
    """Return the beginning of the detail where the response did not come in time."""
    return f"The upstream {upstream} sent nothing for {seconds:g} s."


def with_received(detail: str, *, is_begun: bool) -> str:
    """Return a detail that also says whether the upstream may have the request."""
    return f"{detail} It {'may have received' if is_begun else 'has received nothing of'} the request."


# --- what goes wrong at the upstream

CONNECT_TIMEOUT: Final = "no connection was made in time"
UNKNOWN_NAME: Final = "its name has no address"
BAD_CERTIFICATE: Final = "its certificate is not valid"
NO_TLS: Final = "it does not speak TLS as it should"
SILENT: Final = "it was silent for too long"
CLOSED: Final = "it closed the connection"
LOST: Final = "the connection was lost"
BODY_CUT: Final = "the body of its response is not whole"
NOT_HTTP: Final = "its response is not HTTP"
BAD_HEADERS: Final = "the headers of its response are malformed"


def status(found: int) -> str:
    """Return the cause where the upstream does not show its statistics."""
    advice = ", so give --stats-credentials FILE with a user who may read them" if found in (401, 403) else ""
    return f"it answered with the status {found}{advice}"


# --- the log

UPSTREAM_AWAY: Final = (
    "budget %s: no request gets a response from the upstream %s: %s. Clients get 502 or 504 until one does."
)
UPSTREAM_BACK: Final = "budget %s: the upstream %s answers again"
RESPONSE_CUT: Final = (
    "budget %s: the upstream %s broke off a response: %s. The client sees that it is not whole. "
    "Of such responses there were %d since the last line about them."
)
STATS_AWAY: Final = "budget %s: the write queue of %s cannot be read: %s. %s The proxy tries again each second."
NO_RATE: Final = "Without it the budget has no rate."
FIXED_RATE: Final = "The budget keeps the rate that --rate names."
STATS_READ: Final = "budget %s: the write queue of %s is read (nodes: %d)"
STATS_BACK: Final = "budget %s: the write queue of %s is read again (nodes: %d)"
