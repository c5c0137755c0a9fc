"""The texts of the helpers, filled in: `python -m tests.contrib.messages` writes messages.txt again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nexus_redis.contrib import _texts

GOLDEN: Final = Path(__file__).with_name("messages.txt")

# A value for each parameter of a text, by its name.
SAMPLES: Final[dict[str, Any]] = {
    "budget": "stripe", "count": 2, "header": "429 Retry-After: 7", "host": "api.stripe.com", "kind": "Budget",
    "known": ["stripe", "mails"], "module": "nexus_redis.asyncio", "other": "mails", "own": "stripe",
    "owner": "budget stripe, task charge", "seconds": 1.5, "task": "charge",
}  # fmt: skip


def listing() -> str:
    """Return every text behind its name, in the order of the source."""
    lines = []
    for name, value in vars(_texts).items():
        text = filled_in(value) if inspect.isfunction(value) else value
        if isinstance(text, str) and not name.startswith("_"):
            lines.append(f"{name}: {text.strip()}")
    return "\n".join(lines) + "\n"


def filled_in(text: Callable[..., str]) -> str:
    """Return a text with samples in it."""
    return text(**{name: SAMPLES[name] for name in inspect.signature(text).parameters})


if __name__ == "__main__":
    GOLDEN.write_text(listing())
