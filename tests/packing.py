"""Packed fields as numbers: by the formats that the Lua sources name, or as the text that fakeredis has instead."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = {"d": 8, "f": 4}
LUA = Path(__file__).parent.parent / "lua" / "lib"
FORMATS = dict(re.findall(r"^local ([A-Z]+) = '>([^']+)'", (LUA / "state.lua").read_text(), re.MULTILINE))
OF_FIELD = {
    "bucket": "BUCKET", "terms": "TERMS", "class_high": "CLASS", "class_normal": "CLASS", "class_low": "CLASS",
    "window": "WINDOW", "epoch": "EPOCHAL", "entry": "ENTRY", "answer": "ANSWER",
}  # fmt: skip


def numbers(field: str, value: bytes) -> list[Any]:
    """The places of a packed field, whole numbers as int; `parts` is text on every server."""
    if field not in OF_FIELD:
        return list(json.loads(value or b"[]"))
    items = re.findall(r"([dfsiIc])(\d*)", FORMATS[OF_FIELD[field]])
    words = value.decode().split(" ") if re.fullmatch(rb"[ -~]*", value) else _cut(items, value)
    return [word if kind in "sc" else _number(float(word)) for (kind, _), word in zip(items, words, strict=False)]


def changed(value: bytes, place: int, number: float) -> bytes:
    """The same with another number in this place (from 0 on), which must be a double."""
    if re.fullmatch(rb"[ -~]*", value):
        words = value.decode().split(" ")
        return " ".join([*words[:place], repr(number), *words[place + 1 :]]).encode()
    return value[: 8 * place] + struct.pack(">d", number) + value[8 * place + 8 :]


def _cut(items: list[tuple[str, str]], value: bytes) -> Iterator[Any]:
    at = 0
    for kind, size in items:
        end = value.index(b"\0", at) if kind == "s" else at + int(size or SIZES.get(kind, 0))
        if kind in SIZES:
            yield struct.unpack(f">{kind}", value[at:end])[0]
        elif kind in "iI":
            yield int.from_bytes(value[at:end], "big", signed=kind == "i")
        else:
            yield value[at:end].decode()
        at = end + (kind == "s")


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value
