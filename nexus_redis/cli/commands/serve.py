"""serve: the HTTP server, with its API, its live page and its metrics (`nexus_redis/server/`)."""

from pathlib import Path
from typing import Annotated

import typer

from nexus_redis._values.parse import typed_seconds
from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Namespace, Url
from nexus_redis.cli.exit_codes import Misuse


def serve(
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen on this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Listen on this port.", min=0, max=65535)] = 8080,
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
      nexus-redis serve --host 0.0.0.0 --tokens /etc/nexus-redis/tokens
    """
    from dataclasses import replace
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "httptools", "aiohttp") if find_spec(name) is None]
    if missing:
        raise Misuse(texts.install_extra("server", missing[0]))
    from nexus_redis._redis.connect import address
    from nexus_redis.cli.fast_connection import running_server
    from nexus_redis.server import Application, ServerOptions, run

    options = ServerOptions(
        host=host, port=port, socket=socket, tokens=tokens, hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()), wait_s=typed_seconds(wait, "timeout"), workers=workers,
        certificate=tls_cert, private_key=tls_key, namespace=namespace,
    )  # fmt: skip
    run.check(options)
    with running_server(address(url)) as found, run.bound(options) as bound:
        where = run.address_of(options, bound)
        print(texts.serving(where), flush=True)
        run.serve(Application(replace(options, url=found)), options, bound)
