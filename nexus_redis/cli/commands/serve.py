"""serve: the HTTP server, with its API, its live page and its metrics (`nexus_redis/server/`)."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from nexus_redis._values.parse import parse_rate, typed_seconds
from nexus_redis.cli import extras, texts
from nexus_redis.cli.common_options import Key, Namespace, Url, target_of
from nexus_redis.cli.exit_codes import Misuse
from nexus_redis.cli.output import print_started

HOST: Final = "127.0.0.1"
PORT: Final = 8080
# Each change of state is a line, and no request is one.
LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "nexus_redis.cli.output.LogHandler"}},
    "loggers": {
        "nexus_redis": {"handlers": ["stderr"], "level": "INFO"},
        "uvicorn.error": {"handlers": ["stderr"], "level": "WARNING"},
    },
}


def serve(
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen on this address.")] = HOST,
    port: Annotated[int, typer.Option(metavar="PORT", help="Listen on this port.", min=0, max=65535)] = PORT,
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Listen on this unix socket instead.", show_default=False)
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Require a bearer token of FILE, as `nexus-redis token` makes it.", show_default=False
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Accept NAME in Host headers, or any with '*'. Repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Let pages of this web origin call the API. Repeatable."),
    ] = None,
    wait: Annotated[
        str, typer.Option(metavar="TIME", help="Let an acquire that names no deadline wait for TIME: 30, 90s, 5m.")
    ] = "30",
    workers: Annotated[int, typer.Option(metavar="N", help="Serve from N processes.", min=1, max=64)] = 1,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Speak TLS with this certificate.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key of the certificate.", show_default=False)
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Be a proxy to URL instead, paced by --budget.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --upstream: the budget.", show_default=False)
    ] = None,
    key: Key = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="With --upstream: set a fixed limit in place of what the laws find."),
    ] = None,
    cost: Annotated[
        str, typer.Option(metavar="WHAT", help="With --upstream: take a token for each of requests, bytes or lines.")
    ] = "requests",
    stats: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="With --upstream: follow the write queues of elasticsearch."),
    ] = None,
    stats_credentials: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --stats: a file with user:password or ApiKey KEY.", show_default=False),
    ] = None,
    keep_host: Annotated[
        bool, typer.Option("--keep-host", help="With --upstream: pass the client's Host header on.")
    ] = False,
    anyone: Annotated[
        bool,
        typer.Option("--anyone", help="With --upstream: listen without tokens where other hosts reach it."),
    ] = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Serve the HTTP API, the live page and the metrics.

    It listens on this host only, unless it gets a file of tokens. The page is at /, the API at /v1/ (documented at
    /docs), and the metrics are at /metrics. SIGTERM and Ctrl-C end it within 5 seconds, after it has answered all that
    wait.

    \b
    Examples:
      nexus-redis serve
      nexus-redis serve --host 0.0.0.0 --tokens tokens
      nexus-redis serve --upstream http://es:9200 --budget elasticsearch --cost lines
    """
    from dataclasses import replace

    extras.require("server")
    from nexus_redis._redis.connect import address
    from nexus_redis.cli.fast_connection import running_server
    from nexus_redis.server import Application, ServerOptions, run
    from nexus_redis.server.proxy import ProxyApplication, ProxyOptions

    if socket is not None and (host, port) != (HOST, PORT):
        raise Misuse(texts.SOCKET_AND_ADDRESS)
    options = ServerOptions(
        host=host, port=port, socket=socket, tokens=tokens, hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()), wait_s=typed_seconds(wait, "wait"), workers=workers,
        certificate=tls_cert, private_key=tls_key, namespace=namespace,
    )  # fmt: skip
    if upstream is not None and tokens is not None:
        raise Misuse(texts.PROXY_TAKES_NO_TOKENS)
    if upstream is not None and not (anyone or options.is_local):
        raise Misuse(texts.PROXY_NEEDS_ANYONE)
    run.check(options, is_open=upstream is not None)
    proxy = None
    if upstream is not None:
        if budget is None:
            raise Misuse(texts.PROXY_NEEDS_BUDGET)
        target_of(budget, key)  # refuses a name that cannot be one
        proxy = ProxyOptions(
            upstream=upstream, budget=budget, key=key, rate=None if rate is None else parse_rate(rate), cost=cost,
            wait_s=options.wait_s, stats=stats, stats_credentials=stats_credentials, keep_host=keep_host,
        )  # fmt: skip
    elif any(each is not None for each in (budget, rate, stats, stats_credentials, key)) or anyone or keep_host:
        raise Misuse(texts.ONLY_WITH_UPSTREAM)
    with running_server(address(url)) as found, run.bound(options) as bound:
        where = run.address_of(options, bound)
        chosen = replace(options, url=found)
        if proxy is None:
            print_started(texts.serving(where))
            run.serve(Application(chosen), options, bound, LOGGING)
        else:
            print_started(texts.passing_on(where, proxy.upstream, proxy.budget))
            run.serve(ProxyApplication(chosen, proxy), options, bound, LOGGING)
