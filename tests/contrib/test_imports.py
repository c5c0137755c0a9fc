"""Each helper is an extra of its own: nobody pays for one that is not used, and a missing library says what to do."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nexus_redis._values import error_texts

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
HELPERS = sorted(path.stem for path in (ROOT / "nexus_redis" / "contrib").glob("[a-z]*.py"))
INTERFACES = ("asgi", "wsgi")  # interfaces between servers and frameworks: no library to install
WITH_LIBRARY = [name for name in HELPERS if name not in INTERFACES]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_core_alone() -> None:
    """The core imports no helper, and no library of a helper."""
    done = python(
        "import sys, nexus_redis, nexus_redis.asyncio; nexus_redis.Nexus\n"
        f"print(sorted({set(WITH_LIBRARY)!r} & set(sys.modules)), [m for m in sys.modules if 'contrib' in m])"
    )
    assert done.stdout.split("\n")[0] == "[] []", done.stdout + done.stderr


@pytest.mark.parametrize("name", WITH_LIBRARY)
def test_missing_library(name: str) -> None:
    """A missing library is an error of one line that says what to install."""
    done = python(f"import sys; sys.modules[{name!r}] = None\nimport nexus_redis.contrib.{name}")
    assert done.stderr.splitlines()[-1].endswith(error_texts.missing_library(name, f"contrib.{name}", name))


@pytest.mark.parametrize("name", HELPERS)
def test_extra_and_page(name: str) -> None:
    """Each helper has an extra and a page, and its public names can be imported."""
    assert name in INTERFACES or name in EXTRAS
    assert (ROOT / "docs" / "contrib" / f"{name}.md").exists()
    done = python(f"from nexus_redis.contrib.{name} import *")
    assert done.returncode == 0, done.stderr
