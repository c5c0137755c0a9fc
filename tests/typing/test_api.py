"""`api.py` as pyright reads it; mypy reads it in `make types`, with all the other files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.support import LONG_PATIENCE


def test_pyright_accepts_only_right_use() -> None:
    """Pyright accepts what users write, and nothing else. It is strict, and refuses a comment that ignores nothing."""
    command = [sys.executable, "-m", "basedpyright", "--project", str(Path(__file__).with_name("pyrightconfig.json"))]
    command += ["--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG_PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" in done.stdout
