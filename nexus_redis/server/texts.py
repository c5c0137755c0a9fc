"""The sentences of the server: problems, the log, and its documentation of the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nexus_redis._values.formatting import printable
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields

LONGEST_QUOTE: Final = 80  # characters of what a caller has sent

# --- titles and remedies of the kinds of problems. The first two titles are those of the IETF draft.

QUOTA_EXCEEDED: Final = "Request cannot be satisfied as assigned quota has been exceeded"
REDUCED_CAPACITY: Final = "Request cannot be satisfied due to temporary server capacity constraints"
RETRY_AFTER_REMEDY: Final = "Send the request again after the seconds of Retry-After."
INVALID_REQUEST: Final = "The request has an invalid field"
INVALID_REQUEST_REMEDY: Final = "The members field and remedy say what to write instead."
MALFORMED: Final = "The request is not valid HTTP"
MALFORMED_REMEDY: Final = "Send HTTP/1.1 with one Host header, as RFC 9112 describes it."
NOT_AUTHENTICATED: Final = "The request has no valid token"
NOT_AUTHENTICATED_REMEDY: Final = "Send `Authorization: Bearer TOKEN` with a token from `nexus-redis token`."
NOT_ALLOWED: Final = "The token does not allow this operation"
NOT_ALLOWED_REMEDY: Final = "Use a token with the role and the budget that the detail names."
CROSS_SITE: Final = "A page of another web site sent the request"
CROSS_SITE_REMEDY: Final = "Start the server with --allow-origin if the page is yours."
UNKNOWN_BUDGET: Final = "The budget does not exist"
UNKNOWN_BUDGET_REMEDY: Final = "Check the name, or create the budget with PUT /v1/budgets/NAME."
UNKNOWN_PATH: Final = "The path does not exist"
UNKNOWN_PATH_REMEDY: Final = "See /docs for all paths."
WRONG_METHOD: Final = "The path does not have this method"
WRONG_METHOD_REMEDY: Final = "Use a method that the header Allow names."
TOO_SLOW: Final = "The request took too long to arrive"
TOO_SLOW_REMEDY: Final = "Send the header and the body without a break."
REFUSED: Final = "Redis refused the request in the present state of the budget"
REFUSED_REMEDY: Final = "The members code and remedy say why, and what to do."
IN_PROGRESS: Final = "A request with this Idempotency-Key is in progress"
IN_PROGRESS_REMEDY: Final = "Send it again after the seconds of Retry-After."
BODY_TOO_LARGE: Final = "The body of the request is too large"
BODY_TOO_LARGE_REMEDY: Final = "Send a smaller body: no operation needs more than a few kilobytes."
WRONG_CONTENT_TYPE: Final = "The media type of the body is not supported"
WRONG_CONTENT_TYPE_REMEDY: Final = "Send application/json or application/msgpack."
WRONG_HOST: Final = "The Host header does not name this server"
WRONG_HOST_REMEDY: Final = "Start the server with --allow-host NAME."
KEY_REUSED: Final = "The Idempotency-Key was used for another request"
KEY_REUSED_REMEDY: Final = "Use a new key for each request that is not a repetition."
HEADER_TOO_LARGE: Final = "The header of the request is too large"
HEADER_TOO_LARGE_REMEDY: Final = "Send fewer or shorter headers."
INTERNAL_ERROR: Final = "The server has a bug"
INTERNAL_ERROR_REMEDY: Final = "Report the traceback in the log of the server."
STOPPING: Final = "The server is stopping"
TOO_MANY_WAITERS: Final = "Too many callers wait on this server"
TOO_MANY_CONNECTIONS: Final = "Too many connections to this server are open"

# --- details

NO_TOKEN: Final = "This server needs a token: send the header `Authorization: Bearer TOKEN`."  # noqa: S105  # a sentence
WRONG_TOKEN: Final = "The token is not known here, or it was taken out of the file of tokens."  # noqa: S105  # likewise
NOT_AN_OBJECT: Final = "send one JSON object, or one msgpack map, with the fields that /docs lists"
NOT_HTTP: Final = "The server cannot read this as a request of HTTP/1.1 with one Host header."
GIVEN_TWICE: Final = "give it once"
BUG: Final = "The server failed to answer because of a bug. Its log has the traceback."
SERVER_STOPS: Final = "The server is stopping, so nobody waits on it any more. No token was taken."
REQUEST_IN_PROGRESS: Final = "The first request with this Idempotency-Key still waits for its tokens."
IDEMPOTENCY_KEY_REUSED: Final = "This Idempotency-Key came before with another body."
NOTHING_REPORTED: Final = "report at least one of load, capacity, queue_depth, done, in_flight, latency_ms, pause_ms"
ONE_ID: Final = "give producer_id or instance_id, and not both"
BY_REMEDY: Final = "use a name without a colon, of at most 64 bytes"
NEEDS_TOKENS: Final = (
    "everybody who reaches this address could use the budgets: give --tokens FILE (see `nexus-redis token`), or listen "
    "on 127.0.0.1 or on a unix socket"
)
CERTIFICATE_AND_KEY: Final = "give --tls-cert and --tls-key together"
NO_LIFESPAN: Final = "the server has not sent the event lifespan.startup"


def quoted(text: str) -> str:
    """Return what a caller has sent, safe to print and not too long."""
    return printable(text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...")


def unknown_parameter(known: Sequence[str]) -> str:
    """Return the remedy for a parameter that an operation does not have."""
    return f"this operation has the parameters {', '.join(known)}" if known else "this operation has no parameters"


def wrong_content_type(found: str) -> str:
    """Return the detail for a body of another type."""
    return f"The body has the type {quoted(found) or '(none)'}: send application/json or application/msgpack."


def not_allowed(name: str, role: str, budget: str | None) -> str:
    """Return the detail for a caller without a role, or without it on a budget."""
    where = f" on the budget {budget}" if budget is not None else ""
    return f"The token {quoted(name)} does not have the role {role}{where}."


def tokens_unreadable(cause: str) -> str:
    """Return the remedy for a file of tokens that cannot be read."""
    return f"cannot be read ({cause})"


def token_line(roles: Sequence[str]) -> str:
    """Return the remedy for a line of the file of tokens."""
    return f"write NAME sha256:HASH ROLES BUDGETS, as `nexus-redis token` does; the roles are {', '.join(roles)}"


def wrong_host(found: str) -> str:
    """Return the detail for another host's name."""
    return f"The Host header is {quoted(found) or '(none)'}, which is not a name of this server."


def cross_site(origin: str) -> str:
    """Return the detail for a page of another site."""
    return f"The request comes from a page of {quoted(origin) or 'another site'}, which may not change anything here."


def header_too_slow(seconds: float) -> str:
    """Return the detail for a header that did not arrive in time."""
    return f"The header did not arrive within {seconds:g} s."


def header_too_large(limit: int) -> str:
    """Return the detail for a header beyond the limit."""
    return f"The header is larger than {limit:,} bytes."


def too_many_connections(most: int) -> str:
    """Return the detail for a connection beyond the limit."""
    return f"{most:,} connections to this server are open already."


def too_slow(seconds: float) -> str:
    """Return the detail for a body that did not arrive in time."""
    return f"The body did not arrive within {seconds:g} s."


def body_too_large(limit: int) -> str:
    """Return the detail for a body beyond the limit."""
    return f"The body is larger than {limit:,} bytes."


def too_many_waiters(most: int) -> str:
    """Return the detail for a caller beyond the limit of waiters."""
    return f"{most:,} callers wait on this server already. No token was taken."


def unknown_budget(name: str) -> str:
    """Return the detail for a budget that does not exist."""
    return f"Redis knows no budget {quoted(name)} in this namespace."


def unknown_path(path: str) -> str:
    """Return the detail for a path that does not exist."""
    return f"Nothing is at {quoted(path)}." if path else "Nothing is there."


def wrong_method(allow: str) -> str:
    """Return the detail for a method that a path does not have."""
    return f"This path has {allow}."


def idempotency_key_too_long(longest: int) -> str:
    """Return the remedy for a long key."""
    return f"use at most {longest} characters, a UUID for instance"


def nothing_to_set(fields: Sequence[str]) -> str:
    """Return the remedy for a PUT without a known setting."""
    return f"give one or more of {', '.join(fields)}"


def cannot_listen(cause: str) -> str:
    """Return the remedy for an address that cannot be bound."""
    return f"cannot listen there ({cause}): choose another address or port"


def roles_needed(roles: Sequence[str]) -> str:
    """Return the sentence of an operation about roles."""
    what = f"the role {' or '.join(roles)}" if roles else "a token of any role"
    return f"Needs {what}, where tokens are needed."


def log_bug(method: str, path: str, error: Exception) -> None:
    """Log an answer that failed because of a bug, with the traceback."""
    about = log_fields(event="answer_bug", method=method, path=path)
    log.error("The server failed to answer %s %s.", method, quoted(path), exc_info=error, extra=about)


# --- the log: each is one line for a change of state

REDIS_REFUSES: Final = (  # cause
    "Redis refuses what the server asks it for (%s). Callers get 503 until Redis accepts it."
)
REDIS_ACCEPTS: Final = "Redis accepts again what the server asks it for."
TOKENS_KEPT: Final = (  # cause
    "The file of tokens cannot be read (%s). The tokens that were read before stay valid until it can."
)
TOKENS_READ: Final = "The file of tokens can be read again."
CONNECTIONS_FULL: Final = (  # number
    "%s connections are open, which is the most that this process takes. New ones are refused until some have ended. "
    "The number of open files (ulimit -n) may be what bounds them."
)
CONNECTIONS_FREE: Final = "There is room for connections again."

# --- the documentation of the API

API_SUMMARY: Final = "One shared rate for one downstream, for programs in any language that speak HTTP."
API_TOKEN: Final = "A token that `nexus-redis token` has made. A server on a loopback address may need none."  # noqa: S105  # a sentence
API_NAME: Final = "The name of the budget. The budget of a key is NAME%2FKEY, or NAME with the parameter key."
API_BUDGET: Final = "The name of the budget to follow with its members; without it, all budgets without theirs."
API_OPEN: Final = "Needs no token."
API_KEY: Final = "The key of one of many budgets of this name, a customer for instance."
API_ONCE: Final = "Names this request, so that it takes its tokens once however often it is sent (for 10 minutes)."
API_DONE: Final = "The request was carried out."
API_RETRY_AFTER: Final = "Seconds after which a caller tries again."
API_PROBLEM: Final = "A problem document of RFC 9457, as application/problem+json."

DOCS_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>nexus-redis HTTP API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/docs.css"></head><body><main>
<h1>nexus-redis HTTP API {version}</h1>
<p>Bodies are JSON or msgpack, as <code>Content-Type</code> and <code>Accept</code> say. The document for programs is
<a href="/openapi.json">/openapi.json</a>. The <a href="/">live page</a> shows all budgets.</p>
<h2>Operations</h2>{operations}
<h2>Problems</h2>
<table><thead><tr><th>Kind</th><th>Status</th><th>Title</th><th>Remedy</th></tr></thead><tbody>{problems}</tbody></table>
<h2>Bodies</h2>{schemas}
</main></body></html>
"""
