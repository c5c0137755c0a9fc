"""Run all questions, one after the other: `make bench`, or in an environment of your own

    python -m benchmarks                        # tables on the terminal; about twenty minutes
    python -m benchmarks --quick                # does everything work? its figures mean nothing
    python -m benchmarks --only claim reaction  # some of them
    python -m benchmarks --page docs            # writes docs/benchmarks.md, with plots

It starts a server from a wheel for each question. `--url` names another server for all questions, which is left as it
was found.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import acquire, claim, page, peers, reaction, scale, shared
from benchmarks.harness import Bench, Table, say, server

QUESTIONS = {"acquire": acquire, "shared": shared, "claim": claim, "reaction": reaction, "scale": scale}
PACKAGES = (
    "nexus-backpressure", "redis", "limits", "throttled-py", "pyrate-limiter", "steindamm", "aiolimiter",
)  # fmt: skip
ROOT = Path(__file__).parents[1]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=[*QUESTIONS], metavar="QUESTION")
    parser.add_argument("--url", help="a Redis or Valkey of yours; default: a private one")
    parser.add_argument("--rounds", type=int, help="how often each is measured (default: 3)")
    parser.add_argument("--quick", action="store_true", help="as short as it can be")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write benchmarks.md and its plots there")
    given = parser.parse_args(words)
    about: dict[str, Any] = {}
    found: dict[str, list[Table]] = {}
    for name in given.only:
        # Each question has a server of its own: the scripts and data of one would cost the next a tenth or more.
        with server(given.url) as url:
            bench = Bench(url, given.quick, given.rounds or (1 if given.quick else 3))
            about = about or where_and_when(bench)
            say(name)
            try:
                found[name] = QUESTIONS[name].run(bench)
            finally:
                bench.clean()
        if not given.json:
            for table in found[name]:
                table.show()
    if given.json:
        print(json.dumps({**about, "questions": {name: [each.as_json() for each in found[name]] for name in found}}))
    else:
        print(f"\n{page.about(about)}")
    if given.page:
        page.write(given.page, about, {name: (QUESTIONS[name], found[name]) for name in found})


def where_and_when(bench: Bench) -> dict[str, Any]:
    """Return the facts about the machine without which figures are worth nothing."""
    with bench.client() as client:
        info: Any = client.info("server")
    kind = "Valkey" if "valkey_version" in info else "Redis"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "server": f"{kind} {info.get('valkey_version') or info['redis_version']}",
        "versions": {"Python": platform.python_version(), **versions()},
        "commit": commit(),
        "missing": peers.missing(),
        "is_quick": bench.is_quick,
        "rounds": bench.rounds,
    }


def versions() -> dict[str, str]:
    """Return the versions of all measured libraries that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the name of the processor, if the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def commit() -> str:
    """Return the commit of the checkout, with a plus if files differ; empty outside a checkout."""
    try:
        words = ("git", "describe", "--always", "--dirty=+", "--exclude=*")
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    main(sys.argv[1:])
