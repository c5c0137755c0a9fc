"""Log records by their text, so that no test repeats its words."""

from __future__ import annotations

from typing import Any

import pytest


def logged(caplog: pytest.LogCaptureFixture, text: str, level: str = "WARNING") -> list[Any]:
    """Return the data of each record that has this text of `log_texts`, in order. Each must be at that level."""
    found = [record for record in caplog.records if record.msg == text]
    assert {record.levelname for record in found} <= {level}, text
    return [record.args for record in found]
