"""The golden list of all errors of the command line: `python -m tests.cli.messages` writes messages.txt again.

A constant is listed with its text. A function is listed with each parameter as `{name}`, a number as 5: once with what
has a default left out, and once with everything given.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nexus_redis.cli import texts

GOLDEN: Final = Path(__file__).with_name("messages.txt")
SHARED: Final = ("FRACTION", "BACKUP_SOURCE", "ENOUGH")  # parts of other texts


def messages() -> str:
    """Return all texts by name, in the order of the file."""
    return "\n".join(line for name, value in vars(texts).items() for line in _entry(name, value))


def _entry(name: str, value: object) -> Iterator[str]:
    if inspect.isfunction(value) and value.__module__ == texts.__name__:
        parameters = inspect.signature(value).parameters.values()
        required = {each.name: _sample(each) for each in parameters if each.default is each.empty}
        every = {each.name: _sample(each) for each in parameters}
        for given in (required, *([every] if every != required else [])):
            yield f"{name}({', '.join(given)})\n{_wrapped(value(**given))}\n"
    elif isinstance(value, str) and not name.startswith("__") and name not in SHARED:
        yield f"{name}\n{_wrapped(value)}\n"


def _sample(parameter: inspect.Parameter) -> str | float | bool:
    samples: dict[type, str | float | bool] = {str: f"{{{parameter.name}}}", int: 5, float: 5.0, bool: True}
    return samples[parameter.annotation]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


if __name__ == "__main__":
    GOLDEN.write_text(messages())
