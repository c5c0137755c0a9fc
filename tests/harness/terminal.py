"""What a person sees of an application of textual, as lines of text, and the keys that the person presses."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable
from typing import Any, Final

from textual.pilot import Pilot

from tests.harness.support import PATIENCE

CELL: Final = (12.2, 24.4)  # of the picture that textual draws of a screen
TEXT: Final = re.compile(r'<text[^>]*-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')


def lines(pilot: Pilot[Any]) -> list[str]:
    """Return the lines of the screen, as they stand in its picture."""
    found = [
        (round(float(y) / CELL[1]), round(float(x) / CELL[0]), html.unescape(text).replace("\xa0", " "))
        for x, y, text in TEXT.findall(pilot.app.export_screenshot())
    ]
    rows = [""] * (max((row for row, _, _ in found), default=0) + 1)
    for row, column, text in sorted(found):
        rows[row] = f"{rows[row]:{column}}{text}"
    return [row.rstrip() for row in rows]


async def until(pilot: Pilot[Any], is_so: Callable[[str], object]) -> str:
    """Wait until the text of the screen is as it should be, and return it; fail after a minute with what is there."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not is_so(text := "\n".join(lines(pilot))):
                await pilot.pause(0.05)
    except TimeoutError:
        raise AssertionError("\n".join(lines(pilot))) from None
    return text


async def seen(pilot: Pilot[Any], *parts: str) -> str:
    """Wait until all parts are on the screen, and return its text."""
    return await until(pilot, lambda text: all(part in text for part in parts))


async def gone(pilot: Pilot[Any], *parts: str) -> str:
    """Wait until none of the parts is on the screen, and return its text."""
    return await until(pilot, lambda text: not any(part in text for part in parts))


async def typed(pilot: Pilot[Any], text: str) -> None:
    """Type a text."""
    await pilot.press(*("space" if c == " " else c for c in text))
