"""Make the bundle: from the sources in `lua/` the text that a server runs, one file a script, in `lua/bundle/`.

    make bundle       # after each change in lua/; a test makes it again and compares

The sources are written for people: files of functions, names for numbers, records with named fields. A server defines a
script's functions anew at each call, so each of these costs as much as a line of arithmetic, and a claim has a few
hundred of them. Here they are taken out, by rules that need to know very little of Lua:

    --- @include name       stands for lua/lib/name.lua, once, in that order
    --- @holds rarely rest  `rarely().f()` calls a function f of lua/lib/rest.lua; all of it defined at the first call
    --- @record b at rest   `b` is an array with these places, from 1 on; `b.rest` becomes `b[2]`
    local MICRO = 1000000   a constant, written in where it is used; also a text in single quotes
    a function never called is left out; one called once, by a line of its own, is written in there
    `math.min(x, y)` of variables and numbers becomes a comparison; what is left of `math.min` is looked up once
    `rarely` has copies of all that it needs of the rest, since a variable that functions share is dear as well
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

LUA: Final = Path(__file__).parent.parent / "lua"
BUNDLE: Final = LUA / "bundle"
NAMES: Final = ("claim", "report", "leave", "configure", "inspect")
ALSO: Final = ("repair",)  # no part of the protocol: a person calls it

OFTEN: Final = 3  # a library's function that is named so often gets a variable
_PLACE: Final = r"[\w.]+(?:\[\w+\])?"
_OPERAND: Final = rf"-?{_PLACE}(?: [-+*/] {_PLACE}){{0,3}}|\([^()]*\)"
_EXTREME: Final = re.compile(rf"(math[._])(max|min)\(({_OPERAND}), ({_OPERAND})\)")
_TEXT: Final = r"'[^'\n]*'|\x22[^\x22\n]*\x22"
_INCLUDE: Final = re.compile(r"^--- @include (\w+)$", re.MULTILINE)
_HOLDS: Final = re.compile(r"^--- @holds (\w+) ([\w ]+)$", re.MULTILINE)
_RECORD: Final = re.compile(r"^--- @record (\w+) ((?:[^\n]|\n---  )*)$", re.MULTILINE)
_FUNCTION: Final = re.compile(
    r"^local function (\w+)\(([\w, ]*)\)(?: ([^\n]*) end|\n(.*?)^end)\n+", re.MULTILINE | re.DOTALL
)
_TABLE: Final = re.compile(r"^local (\w+) = \{[^\n]*\}\n", re.MULTILINE)
_CONSTANT: Final = re.compile(r"^local ([A-Z][A-Z0-9_]*) = ([-\d.e+]+|'[^'\n]*')(?=$| *--)", re.MULTILINE)
_NAME: Final = re.compile(rf"{_TEXT}|--[^\n]*|\b[A-Z][A-Z0-9_]*\b")
_MEMBER: Final = re.compile(r"(?<![\w.])(?:math|string|redis)\.\w+")
_WORD: Final = re.compile(r"(?<![.\w])\w+")
_COMMENT: Final = re.compile(rf"({_TEXT})|--\[\[.*?\]\]| *--[^\n]*", re.DOTALL)
_CALL: Final = re.compile(r"( *)(if .* then )?(?:(local )?([\w., \[\]]+) = |(return ))?")
_REST: Final = re.compile(r"( end)?(?: *--.*)?\n")
_RETURN: Final = re.compile(r"^( *)return\b *(.*(?:\n\1[ })].*)*)$", re.MULTILINE)
_RETURN_IN_LINE: Final = re.compile(r"(?<=\S )return\b *(.*?)(?= end$| else)", re.MULTILINE)


# What follows a script that has failed. An error that is of another kind (no memory, no right) goes on as it was.
FAILED: Final = """
local found = damages()[1]
if not found then error(reply, 0) end
return {err = string.format('NEXUS_DAMAGED %s %s', found[1], found[2])}"""


def composed(path: Path) -> str:
    """The script in this file as a server gets it, but for what follows where it fails."""
    return _composed_text("", path)


def _composed_text(end: str, path: Path) -> str:
    seen: set[str] = set()
    text = included(path, seen) + end
    held = {
        match[1]: "\n".join(included(path.parent / "lib" / f"{file}.lua", seen) for file in match[2].split())
        for match in _HOLDS.finditer(text)
    }
    every = "\n".join((text, *held.values()))
    holders = {name: _holder(name, files, every, text) for name, files in held.items()}
    text = _with_library_named_once(_with_calls_written_in(_without_unused(text)))
    text = _HOLDS.sub(lambda match: holders[match[1]], text)
    return _with_extremes_written_in(_with_records(_with_constants(text)))


def included(path: Path, seen: set[str]) -> str:
    """A file with those that it asks for, each once."""

    def text_of(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"-- {name}: see above"
        seen.add(name)
        return included(path.parents[path.parent.name == "lib"] / "lib" / f"{name}.lua", seen).rstrip()

    return _INCLUDE.sub(text_of, path.read_text(encoding="utf-8"))


def _holder(name: str, files: str, every: str, text: str) -> str:
    """The function that defines those of `files` when it is called, and gives those that somebody takes from it."""
    taken = ", ".join(f"{found} = {found}" for found in sorted(set(re.findall(rf"\b{name}\(\)\.(\w+)", every))))
    files = f"{files.rstrip()}\n{name}_given = {{{taken}}}\n"
    shared = [found for kind in (_FUNCTION, _TABLE) for found in kind.finditer(text)]
    used = set(_uses(files))
    for found in sorted(shared, key=lambda found: -found.start()):
        if found[1] in used:
            files = found[0].rstrip() + "\n" + files
            used |= set(_uses(found[0]))
    return (
        f"local {name}_given\nlocal function {name}()\n  if {name}_given then return {name}_given end\n"
        f"{_without_unused(files)}  return {name}_given\nend"
    )


def _without_unused(text: str) -> str:
    uses = _uses(text)
    while True:
        unused = [found for kind in (_FUNCTION, _TABLE) for found in kind.finditer(text) if uses[found[1]] == 1]
        if not unused:
            return text
        for found in unused:
            text = text.replace(found[0], "", 1)
            uses.subtract(_uses(found[0]))


def _with_constants(text: str) -> str:
    values: dict[str, str] = {}
    for name, value in _CONSTANT.findall(text):
        if values.setdefault(name, value) != value:
            raise ValueError(f"{name} is {values[name]} and {value}")
    text = _CONSTANT.sub(r"-- \1 = \2", text)
    return _NAME.sub(
        lambda found: (
            f"({values[found[0]]})" if values.get(found[0], "")[:1] == "-" else values.get(found[0], found[0])
        ),
        text,
    )


def _with_records(text: str) -> str:
    places = {
        f"{record}.{field}": f"{record}[{place}]"
        for record, fields in _RECORD.findall(text)
        for place, field in enumerate(fields.replace("\n---", "").split(), 1)
    }
    records = "|".join({name.partition(".")[0] for name in places})
    if not records:
        return text
    named = re.compile(rf"{_TEXT}|--[^\n]*|(?<![\w.])((?:{records})\.\w+)")
    return named.sub(lambda found: places[found[1]] if found[1] else found[0], text)


def _with_library_named_once(text: str) -> str:
    uses = Counter(_MEMBER.findall(_COMMENT.sub(r"\1", text)))
    names = {name: name.replace(".", "_") for name in uses if uses[name] >= OFTEN}
    text = _MEMBER.sub(lambda found: names.get(found[0], found[0]), text)
    header = re.match(r"(?:--\[\[.*?\]\]\n)?", text, re.DOTALL)
    begin = header.end() if header else 0
    return text[:begin] + "".join(f"local {short} = {name}\n" for name, short in names.items()) + text[begin:]


def _with_calls_written_in(text: str) -> str:
    """What is called once, by a line of its own: `f(x)`, `a, b = f(x)`, `if y then f(x) end`, `return f(x)`."""
    uses = _uses(text)
    for name in [found[1] for found in _FUNCTION.finditer(text) if uses[found[1]] == 2][::-1]:
        function = _FUNCTION.match(text, text.index(f"local function {name}("))
        call = _CALL.fullmatch(text, text.rindex("\n", 0, at := text.rindex(f"{name}(")) + 1, at)
        if not function or not call:
            continue
        condition, kind, targets = call[2] or "", call[3] or "", call[4] or ""
        begin, end = _inside_brackets(text, at)
        rest = _REST.match(text, end)
        results = ", ".join(f"{name}_{i}" for i in range(1, targets.count(",") + 2)) if targets else ""
        body = _COMMENT.sub(r"\1", function[3] or function[4]).rstrip()
        left = body if call[5] else _left_by_break(body, results)
        if left is None or rest is None or bool(condition) != bool(rest[1]):
            continue
        lines = [f"local {results}"] if targets else []
        lines += ["do" if call[5] else "repeat"]
        lines += _parameters(function[2], text[begin : end - 1], left)
        lines += [left, "end" if call[5] else "until true"]
        lines += [f"{kind}{targets} = {results}"] if targets else []
        written = "\n".join(call[1] + line for line in ([condition, *lines, "end"] if condition else lines))
        text = (text[: call.start()] + written + "\n" + text[rest.end() :]).replace(function[0], "", 1)
    return text


def _with_extremes_written_in(text: str) -> str:
    """Write each `math.max(x, y)` as a comparison, which gives the same for all numbers and for NaN.

    A call of C costs a server as much as ten comparisons.
    """
    while (written := _EXTREME.sub(_extreme, text)) != text:
        text = written
    return text


def _extreme(found: re.Match[str]) -> str:
    _, kind, x, y = found.groups()
    return f"({y} {'>' if kind == 'max' else '<'} {x} and {y} or {x})"


def _parameters(names: str, values: str, body: str) -> list[str]:
    """The line that gives a body its parameters; a variable goes by its own name where the body does not set it."""
    wanted, given = names.split(", ") if names else [], _apart(values)
    if len(wanted) != len(given):
        return [f"local {names} = {values}"] if names else []
    pairs = zip(wanted, given, strict=True)
    set_there = r"(?<![\w.]){} *(?:,[^=\n]*)?=(?!=)"
    other = [(name, value) for name, value in pairs if name != value or re.search(set_there.format(name), body)]
    return [f"local {', '.join(name for name, _ in other)} = {', '.join(value for _, value in other)}"] if other else []


def _apart(values: str) -> list[str]:
    """Expressions with commas between; one within brackets is none of these."""
    apart, depth = [""], 0
    for letter in values:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(letter, 0)
        apart += [""] if letter == "," and not depth else []
        apart[-1] += letter if letter != "," or depth else ""
    return [value.strip() for value in apart]


def _uses(text: str) -> Counter[str]:
    return Counter(_WORD.findall(_COMMENT.sub(r"\1", text)))


def _left_by_break(body: str, results: str) -> str | None:
    """In a loop of one turn, `break` may stand wherever `return` may; None where there is another loop."""
    returns = len(re.findall(r"\breturn\b", body))
    is_last = re.search(r"^ {,2}return\b *(.*(?:\n  [ })].*)*)\s*\Z", body, re.MULTILINE) is not None
    if "local function" in body or (re.search(r"\b(for|while|repeat|function)\b", body) and returns > is_last):
        return None

    def left(found: str, gap: str) -> str:
        if re.search(r"\b(end|then|else|do)\b", found):
            return "return"  # more than an expression: it is not left so
        return f"{results or 'local _'} = {found}{gap}break" if found else "break"

    body = _RETURN_IN_LINE.sub(lambda found: left(found[1], " "), body)
    body = _RETURN.sub(lambda found: found[1] + left(found[2], "\n" + found[1]), body)
    return None if re.search(r"\breturn\b", body) else body


def _inside_brackets(text: str, at: int) -> tuple[int, int]:
    """Behind the first bracket after `at`, and behind the one that closes it."""
    begin = end = text.index("(", at) + 1
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    return begin, end


def guarded(name: str) -> str:
    """Return a script of the protocol that names what was damaged, where it fails for that."""
    text, damage = composed(LUA / f"{name}.lua"), _composed_text(f"{FAILED}\n", LUA / "lib" / "damage.lua")
    header = re.match(r"--\[\[.*?\]\]\n", text, re.DOTALL)
    assert header is not None
    body = text[header.end() :].strip("\n")
    return (
        f"{header[0]}local is_well, reply = pcall(function()\n{body}\nend)\nif is_well then return reply end\n{damage}"
    )


def bundle() -> dict[str, str]:
    """Return what each file of the bundle must hold, by the script's name."""
    return {name: guarded(name) for name in NAMES} | {name: composed(LUA / f"{name}.lua") for name in ALSO}


if __name__ == "__main__":
    BUNDLE.mkdir(exist_ok=True)
    for name, text in bundle().items():
        (BUNDLE / f"{name}.lua").write_text(text)
