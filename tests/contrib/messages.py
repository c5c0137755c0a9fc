"""The texts of the helpers as a list to read: `python -m tests.contrib.messages` writes messages.txt again."""

from __future__ import annotations

from pathlib import Path

from nexus_redis.contrib import _texts

GOLDEN = Path(__file__).with_name("messages.txt")


def listing() -> str:
    """Return every text by its name, in the order in which `_texts.py` has them."""
    texts = {name: text for name, text in vars(_texts).items() if name.isupper()}
    return "".join(f"{name}\n    {text.strip()}\n" for name, text in texts.items())


if __name__ == "__main__":
    GOLDEN.write_text(listing())
