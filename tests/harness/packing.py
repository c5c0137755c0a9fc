"""Packed state as numbers: by the formats that the Lua sources name, or as the text that fakeredis has instead."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

WIDTHS: Final = {"d": 8, "f": 4}
WIDE: Final = 25  # of a number on fakeredis
_STATE: Final = (Path(__file__).parents[2] / "lua" / "lib" / "state.lua").read_text()
FORMATS: Final = dict(re.findall(r"^local ([A-Z]+) = '>([^']+)'", _STATE, re.MULTILINE))
LAYOUTS: Final = {
    "budget": {"bucket": "BUCKET", "class_normal": "CLASS", "class_high": "CLASS", "class_low": "CLASS",
               "epoch": "EPOCHAL", "sums": "SUMS", "terms": "TERMS", "window": "WINDOW"},
    "producer": {"entry": "ENTRY", "answer": "ANSWER"},
}  # fmt: skip
KINDS: Final = {part: kind for kind, parts in LAYOUTS.items() for part in parts}
VALUES: Final = {name: re.findall(r"([dfsiIc])(\d*)", form) for name, form in FORMATS.items()}


class Place(NamedTuple):
    """One value of a state: where its bytes begin and end, and what it is."""

    begin: int
    end: int
    value: Any


def places(part: str, state: bytes) -> list[Place]:
    """The values of one part of a budget's or a producer's state; none where the state ends before it."""
    found: list[Place] = []
    at = 0
    is_text = re.fullmatch(rb"[ -~]*", state) is not None
    for name, form in LAYOUTS[KINDS[part]].items():
        for kind, size in VALUES[form]:
            if at >= len(state):
                return found if name == part else []
            place = _of_text(kind, state, at) if is_text else _of_bytes(kind, size, state, at)
            found += [place]
            at = place.end
        if name == part:
            return found
        found = []
    raise LookupError(part)


def numbers(part: str, state: bytes) -> list[Any]:
    """The same as values alone, whole numbers as int."""
    return [place.value for place in places(part, state)]


def changed(part: str, state: bytes, place: int, number: float) -> bytes:
    """The state with another number in this place of a part (from 0 on), which must be a double."""
    begin, end, _ = places(part, state)[place]
    is_text = re.fullmatch(rb"[ -~]*", state) is not None
    return state[:begin] + (f"{number:24.17g} ".encode() if is_text else struct.pack(">d", number)) + state[end:]


def _of_text(kind: str, state: bytes, at: int) -> Place:
    end = (state.index(b" ", at) if kind in "sc" else at + WIDE - 1) + 1
    word = state[at : end - 1].decode()
    return Place(at, end, word if kind in "sc" else _number(float(word)))


def _of_bytes(kind: str, size: str, state: bytes, at: int) -> Place:
    end = state.index(b"\0", at) + 1 if kind == "s" else at + int(size or WIDTHS.get(kind, 0))
    word = state[at:end]
    if kind in WIDTHS:
        return Place(at, end, _number(struct.unpack(f">{kind}", word)[0]))
    if kind in "iI":
        return Place(at, end, int.from_bytes(word, "big", signed=kind == "i"))
    return Place(at, end, word.rstrip(b"\0").decode())


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value
