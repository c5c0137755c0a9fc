"""What the whole test matrix takes beside the wheels of `.[dev]`: `make test` says on its first line what is missing.

Tests of what is missing are skipped, and fail in CI, which is `.ci/run`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Final

from tests.harness.servers import MISSING, REAL, binary

PROGRAMS: Final = (
    "parallel",
    "zsh",
    "fish",
    "curl",
    "openssl",
    "chromium",
    "prometheus",
)  # each a package of that name on Debian
COMPILERS: Final = {
    "go": "golang-go",
    "node": "nodejs",
    "rustc": "rustc",
}  # of the clients in examples/http, and their packages


def missing() -> dict[str, str]:
    """What is not installed, each with the command that installs it."""
    servers = {kind: MISSING[kind].rpartition(": ")[2] for kind in REAL if binary(kind) is None}
    packages = dict(zip(PROGRAMS, PROGRAMS, strict=True)) | COMPILERS
    programs = {name: f"apt-get install {package}" for name, package in packages.items() if shutil.which(name) is None}
    return servers | programs


def line(found: Mapping[str, str]) -> str:
    """One line for people."""
    if not found:
        return "The test matrix is whole: all servers, all shells."
    packages = [command.removeprefix("apt-get install ") for command in found.values() if "apt-get" in command]
    others = [command for command in found.values() if "apt-get" not in command]
    commands = ([f"apt-get install {' '.join(packages)}"] if packages else []) + others
    return f"Missing for the whole test matrix, their tests are skipped: {', '.join(found)}. {'; '.join(commands)}"


if __name__ == "__main__":
    print(line(missing()), flush=True)
