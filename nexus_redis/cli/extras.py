"""The packages that a verb needs beside the core, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import Misuse

PACKAGES = {"server": ("starlette", "uvicorn", "httptools", "aiohttp", "prometheus_client"), "top": ("textual",)}


def require(extra: str) -> None:
    """Raise `Misuse` if a package of an extra is missing."""
    for package in PACKAGES[extra]:
        if find_spec(package) is None:
            raise Misuse(texts.install_extra(extra, package))
