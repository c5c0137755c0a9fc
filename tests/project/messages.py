"""Every text of errors, logs and explanations, and every error rendered once: `tests/project/messages.txt`.

`python -m tests.project.messages` writes the file again, and `test_messages.py` compares. So a changed text is one line
of a diff, and no other test has to repeat its words.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from nexus_redis import errors
from nexus_redis._protocol import explain
from nexus_redis._values import error_texts, log_texts
from nexus_redis.errors import NexusError, from_code, remedy_for

FILE: Final = Path(__file__).with_suffix(".txt")
LUA: Final = Path(__file__).parents[2] / "lua"

# Sample data for the parameters of the texts, by name: one value for a name wherever it stands.
SAMPLES: Final[dict[str, Any]] = {
    "allowed": 176.0, "burst": 0.25, "code": 1, "errors": "", "extra": "metrics", "first": 1.0, "held": 180.0,
    "indexed": 90, "last": 2.0, "lease": 0.5, "lost": 9, "name": "worker 1", "path": "app.log", "received": 100, "root": "/usr/lib",
    "sent": 100, "actions": ["CapacitySignal", "FlowControl"], "binary": "/opt/valkey-server", "budget": "stripe",
    "caller": "<Loop 2>", "cost": 2.0, "cause": "Connection refused", "error": "Connection refused", "example": "redis://HOST:6379/0",
    "expected": "'LoadReport'", "extra": "celery", "module": "contrib.celery",
    "field": "rate_by_code", "found": "'cache'", "high": "1e9", "host": "10.0.0.7:6379",
    "key": "nexus:{stripe}", "kind": "redis.Redis", "last_words": "Bad directive", "library": "celery", "longest": 64,
    "low": "1e-6", "module": "metrics", "most": 16, "names": ["rate", "burst"], "or_zero": True,
    "owner": "<Loop 1>", "port": 6399,
    "rate": 10.0, "reason": "paused", "remedy": "use 0 to 100 percent", "repair": "nexus-redis repair stripe",
    "said": "ERR no", "schemes": ["redis", "rediss"], "seconds": 1.0, "server": "cache:6379", "unit": "tokens",
    "known": 100.0, "left": 3.0, "tokens": 500.0, "value": "'fast'",
    "waited": 2.0, "what": "producer", "why": "its slot is moving", "words": ["high", "normal", "low"],
}  # fmt: skip
# Each error of the tree, made as its callers make it.
ERRORS: Final[tuple[NexusError, ...]] = (
    errors.NexusError("a text of its own"),
    errors.AcquireTimeout("stripe", 500, 2.0, "paused"),
    errors.AcquireTimeout("stripe", 1, 0.25),
    errors.AcquireTimeout("stripe", 0, 2.0),
    errors.Unavailable("redis://:secret@cache:6379/0", "Connection refused", 5.0),
    errors.Unavailable("", "Connection refused"),
    errors.InvalidSetting("rate", -1),
    errors.InvalidSetting("note", remedy="use text"),
    errors.ServerRefused("NEXUS_SCHEMA"),
    errors.ServerRefused("NOPERM", "this user has no permissions"),
    errors.Closed("nexus"),
    errors.NoLoop(),
    errors.ReentrantCall(),
    errors.NoThread("can't start new thread"),
    errors.NotPicklable("producer", "pass its budget, and call budget.producer(...) there"),
    errors.MissingLibrary("celery"),
)
WITH_ADDRESSES: Final = {errors.WrongLoop}  # its message has the addresses of two loops: see `wrong_loop` above


def texts(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield each text of a module with its name, in the order of the source."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", module.__name__) != module.__name__:
            continue
        if isinstance(value, str | dict):
            yield from fixed(name, value)
        elif inspect.isfunction(value):
            yield name, rendered(value)


def sentences() -> Iterator[tuple[str, str]]:
    """Yield each text that `explain.py` has as a constant, with its name."""
    for name, value in vars(explain).items():
        if name.isupper() and not name.startswith("_") and isinstance(value, str | dict):
            yield from fixed(name, value)


def fixed(name: str, value: str | dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a text with its name, or each text of a table with its key."""
    if isinstance(value, str):
        yield name, value
    else:
        yield from ((f"{name}[{key}]", text) for key, text in value.items())


def rendered(text: Callable[..., str]) -> str:
    """Return a text with sample data."""
    return text(**{name: SAMPLES[name] for name in inspect.signature(text).parameters})


def codes() -> list[str]:
    """Return every code that a script replies."""
    sources = "".join(path.read_text() for path in sorted(LUA.glob("*.lua")) + sorted((LUA / "lib").glob("*.lua")))
    words = set(re.findall(r"NEXUS_[A-Z_]*[A-Z]\b", sources)) | {"NEXUS_MISSING_DONE"}
    return sorted(words - {"NEXUS_INVALID", "NEXUS_MISSING"})


def listing() -> str:
    """Return the whole file."""
    lines = ["# Made by `python -m tests.project.messages`: every text of errors, logs and explanations.", ""]
    for module in (error_texts, log_texts):
        lines += [f"[{module.__name__.rpartition('.')[2]}]", *(f"{name}: {text}" for name, text in texts(module)), ""]
    lines += ["[explain]", *(f"{name}: {text}" for name, text in sentences()), ""]
    lines += ["[errors]", *(f"{type(error).__name__}: {error}" for error in ERRORS), ""]
    lines += [
        "[codes of the scripts]",
        *(f"{code}: {type(e).__name__}: {e}" for code in codes() for e in [from_code(code)]),
    ]
    fields = sorted({*errors.RANGES, *errors.WORDS, *errors._OTHERS, *errors._NAMES})
    lines += ["", "[remedies by field]", *(f"{field}: {remedy_for(field)}" for field in fields)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(listing())
    sys.stdout.write(f"{FILE}\n")
