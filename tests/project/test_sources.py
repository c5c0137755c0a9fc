"""Rules that the sources keep, each held by reading them: headers are true, no globals, imports go one way."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import fakeredis
import pytest
from lupa import lua51  # type: ignore[import-untyped]

from nexus_redis import messages
from nexus_redis._protocol import calls, scripts
from nexus_redis._protocol.keys import SHARED, BudgetKeys
from nexus_redis._protocol.plans import Call
from nexus_redis._values import error_texts
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.errors import InvalidSetting, NexusError, ServerRefused, from_code

ROOT = Path(__file__).parents[2]
LUA = ROOT / "lua"
PACKAGE = ROOT / "nexus_redis"
SCRIPTS = sorted(LUA.glob("*.lua"))
LIBRARY = sorted((LUA / "lib").glob("*.lua"))
KEYS = BudgetKeys("test", "story")

# --- headers ---------------------------------------------------------------------------------------------------------


def header(name: str) -> dict[str, str]:
    """The header of a script by section; "" is its purpose."""
    text = (LUA / f"{name}.lua").read_text()
    match = re.match(r"--\[\[ (.*?) \]\]\n", text, re.DOTALL)
    assert match, name
    parts = re.split(r"^(KEYS|ARGV|Reply|Errors|Cost)\s+", match[1], flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def listed(section: str) -> list[str]:
    """The names that a section numbers: `1 at_us ... 2 need ...`."""
    found = {int(n): name for n, name in reversed(re.findall(r"(?<!\S)(\d+) ([a-z]\w*)", section))}
    return [found[n] for n in range(1, next(n for n in range(1, 99) if n not in found))]


# Each argument another value, so that one in the wrong place is seen.
CALLS: dict[str, Call[Any]] = {
    "claim": calls.claim(
        KEYS, "p", calls.Claim(2, 3, 4, True, 6, 7, 8, 90_000, "high", "eleven", 12, "13", 14, 15, 16, 17), at_us=1
    ),
    "report": calls.report(
        KEYS, "c", dict(zip(calls.REPORTED, range(4, 20), strict=True)), "two", 3, labels="twenty", at_us=1
    ),
    "leave": calls.leave_consumer(KEYS, "c", "*", at_us=1, who="five", note="six"),
    "configure": calls.configure(
        KEYS, BudgetSettings(rate=7), source="operator", pause=0.003, note="four", who="five", at_us=1
    ),
    "inspect": calls.inspect(KEYS, 2, 3, at_us=1),
}
ARGUMENTS = {
    "claim": ("at_us", *calls.Claim._fields),
    "report": ("at_us", "incarnation", "seq", *calls.REPORTED, "labels"),
    "leave": ("at_us", "incarnation", "unused", "burned", "who", "note"),
    "configure": ("at_us", "source", "pause_ms", "note", "who"),
    "inspect": ("at_us", "offset", "count"),
}
SENT = {
    "claim": (1, 2, 3, 4, 1, 6, 7, 8, 90_000, "high", "eleven", 12, "13", 14, 15, 16, 17),
    "report": (1, "two", 3, *map(str, range(4, 20)), "twenty"),
    "leave": (1, "*", 0, 0, "five", "six"),
    "configure": (1, "operator", "3", "four", "five", "rate", "7"),
    "inspect": (1, 2, 3),
}


def test_there_is_a_call_for_every_script() -> None:
    """There is a call for every script."""
    assert {path.stem for path in SCRIPTS} == {*scripts.NAMES, *scripts.ALSO}
    assert set(scripts.NAMES) == set(CALLS)


@pytest.mark.parametrize("name", scripts.NAMES)
def test_headers_name_keys_and_arguments(name: str) -> None:
    """A header names the keys and arguments that its call sends."""
    said = header(name)
    assert said[""].startswith(f"{name}: ")
    assert said[""].strip().endswith(".")
    keys = listed(said["KEYS"])
    assert keys[:11] == ["budget", *SHARED]
    assert len(keys) == (13 if name == "claim" else len(CALLS[name].keys))
    assert tuple(listed(said["ARGV"])) == ARGUMENTS[name]
    args: tuple[Any, ...] = CALLS[name].args
    if name == "claim":
        args = (args[0], *json.loads(args[1]))
    sent = tuple(str(arg) if name == "report" and i > 2 else arg for i, arg in enumerate(args))
    assert sent == SENT[name]
    assert said["Cost"].startswith("O(")


@pytest.mark.parametrize("name", scripts.NAMES)
def test_a_header_counts_what_is_replied(name: str) -> None:
    """A header counts the fields of the reply."""
    client = fakeredis.FakeRedis()
    call = CALLS[name]
    reply: Any = client.eval(call.script.text, len(call.keys), *call.keys, *call.args)
    words = reply.split() if name == "claim" else reply
    assert len(words) == len(listed(header(name)["Reply"]))
    assert all(isinstance(word, bytes | list) for word in words)
    call.decode(reply)


FUNCTION = re.compile(r"^ *(?:local )?function (\w+)\(.*?(?=^ *(?:local )?function |\Z)", re.MULTILINE | re.DOTALL)


def reachable(name: str) -> str:
    """What a script runs: its own text and the functions of the library that this calls, and so on."""
    text = scripts.script(name).text
    functions = {match[1]: match[0] for match in FUNCTION.finditer(text)}
    found, seen = re.sub(r"^--\[\[.*?\]\]", "", (LUA / f"{name}.lua").read_text(), flags=re.DOTALL), set[str]()
    while new := {word for word in re.findall(r"\w+", found) if word in functions} - seen:
        seen |= new
        found += "".join(functions[word] for word in new)
    return found


def codes(text: str) -> set[str]:
    """Code words, those of fields as one."""
    words = set(re.findall(r"NEXUS_[A-Z_]+", text))
    fields = {word for word in words if re.match(r"NEXUS_(INVALID|MISSING)_", word)} - {"NEXUS_INVALID_KEYS"}
    return (words - fields) | {f"{word.rsplit('_', 1)[0] if word.endswith('_') else '_'.join(word.split('_')[:2])}_"
                               for word in fields}  # fmt: skip


@pytest.mark.parametrize("name", scripts.NAMES)
def test_a_header_names_every_error_and_no_other(name: str) -> None:
    """A header names every error and no other."""
    assert codes(header(name)["Errors"]) == codes(reachable(name))


REFUSALS: Final = {"NEXUS_STALE", "NEXUS_ID_TAKEN", "NEXUS_SCHEMA", "NEXUS_NEEDS_KEYS"}


def test_every_code_has_a_remedy() -> None:
    """Every code is an error that says what to do."""
    every = set(re.findall(r"NEXUS_[A-Z_]*[A-Z]\b", "".join(path.read_text() for path in (*SCRIPTS, *LIBRARY))))
    assert len(every) > 20
    for code in every:
        error = from_code(code)
        assert isinstance(error, NexusError)
        assert isinstance(error, ServerRefused) == (code in REFUSALS), code
        assert error.remedy != error_texts.NO_RANGE_KNOWN, code  # type: ignore[attr-defined]
        assert not isinstance(error, InvalidSetting) or error.field.islower()


# --- Lua -------------------------------------------------------------------------------------------------------------

GETGLOBAL, SETGLOBAL = 5, 7  # of Lua 5.1's instructions, the low six bits


def globals_of(code: bytes) -> Iterator[tuple[int, str]]:
    """Which globals a dumped Lua 5.1 chunk and the functions in it read and write."""
    at = 12

    def take(form: str) -> int:
        nonlocal at
        at += struct.calcsize(form)
        value: int = struct.unpack_from(form, code, at - struct.calcsize(form))[0]
        return value

    def text() -> str:
        nonlocal at
        size = take("<Q")
        at += size
        return code[at - size : at - 1].decode("latin-1") if size else ""

    def function() -> Iterator[tuple[int, str]]:
        nonlocal at
        text()
        at += 12
        instructions = [take("<I") for _ in range(take("<i"))]
        constants: list[str] = []
        for _ in range(take("<i")):
            kind = take("<B")
            constants.append(text() if kind == 4 else "")
            at += {0: 0, 1: 1, 3: 8, 4: 0}[kind]
        yield from ((i & 63, constants[i >> 14]) for i in instructions if i & 63 in {GETGLOBAL, SETGLOBAL})
        for _ in range(take("<i")):
            yield from function()
        lines = take("<i")
        at += 4 * lines
        for _ in range(take("<i")):
            text()
            at += 8
        for _ in range(take("<i")):
            text()

    return function()


ALLOWED = {"KEYS", "ARGV", "redis", "string", "math", "table", "ipairs", "pairs", "next", "tonumber", "unpack", "cjson"}
ALLOWED |= {"pcall", "error", "struct", "type"}  # fakeredis has no struct; packing.lua asks first


@pytest.mark.parametrize("name", scripts.NAMES)
def test_scripts_write_no_global(name: str) -> None:
    """A script writes no global, and reads only what every server has."""
    lua = lua51.LuaRuntime(encoding=None)
    dump = lua.eval(b"function(text) return string.dump(assert(loadstring(text))) end")
    used = set(globals_of(dump(scripts.script(name).text.encode())))
    assert {name for kind, name in used if kind == SETGLOBAL} == set()
    assert {name for kind, name in used if kind == GETGLOBAL} <= ALLOWED


@pytest.mark.parametrize("name", scripts.NAMES)
def test_a_script_asks_for_the_time_once(name: str) -> None:
    """A script asks for the time once."""
    text = scripts.script(name).text
    assert text.count("'TIME'") == 1
    assert (LUA / f"{name}.lua").read_text().count("clock(ARGV[1])") == 1


def test_record_fields_have_their_prefix() -> None:
    """The fields of a record are named with its own name: `class.level`.

    The bundle tool would not know `budget[name].level` or `{level = 1}` for a record's.
    """
    for path in (*SCRIPTS, *LIBRARY):
        text = path.read_text()
        assert not re.search(r"\]\.\w|\.(?:budget|producer|claim|class)\.", text), path
        assert not re.search(r"\b(?:budget|producer|claim|class) = \{\s*\w+ =", text), path
    assert set(re.findall(r"--- @record (\w+)", "".join(path.read_text() for path in LIBRARY))) == {
        "budget",
        "producer",
        "claim",
        "class",
    }


def test_an_answer_is_remembered_with_its_reason() -> None:
    """An answer is remembered with every reason, by the reason's first two letters."""
    reasons = set(get_args(messages.Reason)) - {"shadow"}  # is not there yet
    assert len({reason[:2] for reason in reasons}) == len(reasons)
    listed_there = re.search(r"ipairs\(\{([^}]*)\}\)", (LUA / "lib" / "succession.lua").read_text())
    assert listed_there
    assert set(re.findall(r"'(\w+)'", listed_there[1])) == reasons


def test_texts_are_not_compared_by_their_order() -> None:
    """A server's locale decides that: '~' is below 'a' in en_US.UTF-8."""
    for path in (*SCRIPTS, *LIBRARY):
        assert not re.search(r"[<>]=? '|' [<>]", re.sub(r"--[^\n]*", "", path.read_text())), path


TEXTS = re.compile(
    r"""'[^']*' | \b(?:whole|plain|fixed|format|packed|string\.upper|string\.rep|string\.sub|table\.concat)\([^.]*\)
        | \b(?:name|source|why|budget|place|kind|class_name|KEYS|field|fraction
        |member|prefix|id|words|class|raw|answer|head|law)\b""",
    re.VERBOSE,
)


@pytest.mark.parametrize("path", [*SCRIPTS, *LIBRARY], ids=lambda path: path.stem)
def test_numbers_are_formatted(path: Path) -> None:
    """No number becomes text but through `format`."""
    code = re.sub(r"--\[\[.*?\]\]|--[^\n]*", "", path.read_text(), flags=re.DOTALL)
    assert "tostring" not in code
    for line in code.replace("...", "").splitlines():
        for left, right in re.findall(r"(\S+|'[^']*') ?\.\. ?('[^']*'|\S+\([^)]*\)|\S+)", line):
            assert TEXTS.search(left) or left.endswith(")"), line
            assert TEXTS.search(right), line


def test_includes_are_of_the_library() -> None:
    """Includes are of the library and go round in no circle."""
    names = {path.stem for path in LIBRARY}
    found = re.compile(r"^ *--- (?:@include|@holds \w+) (.*)$", re.MULTILINE)
    includes = {path.stem: " ".join(found.findall(path.read_text())).split() for path in (*SCRIPTS, *LIBRARY)}
    assert {name for above in includes.values() for name in above} == names  # and none lies there unused

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above
        for below in includes[name]:
            walk(below, (*above, name))

    for path in SCRIPTS:
        walk(path.stem, ())


def own_lines(path: Path) -> int:
    """Lines of code: without the header, includes and empty ones."""
    code = re.sub(r"\A--\[\[.*?\]\]", "", path.read_text(), flags=re.DOTALL)
    return sum(bool(line.strip()) and not line.startswith("--- @include") for line in code.splitlines())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_fits_on_two_screens(path: Path) -> None:
    """A script fits on two screens."""
    assert own_lines(path) <= 90


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_a_part_of_the_library_has_one_subject(path: Path) -> None:
    """A part of the library has one subject."""
    assert own_lines(path) <= 220


@pytest.mark.parametrize("name", scripts.NAMES)
def test_bundles_have_no_dead_function(name: str) -> None:
    """A composed script defines no function that it never calls."""
    text = scripts.script(name).text
    defined = re.findall(r"^ *local function (\w+)", text, re.MULTILINE)
    assert [each for each in defined if len(re.findall(rf"\b{each}\b", text)) == 1] == []


# --- Python ----------------------------------------------------------------------------------------------------------

LONG: Final = {
    "_core/producer.py": 600,  # one producer on one budget, from the first waiter to the last outage
    "_core/ledger.py": 880,  # one book: every way in which a token can go, under one rule of conservation
    "client.py": 755,  # a shell: five classes that belong together, the same as in asyncio.py; with the reference in it
    "asyncio.py": 840,
    "_values/error_texts.py": 650,  # every text of an error, in one place; hardly any code
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "lua" not in path.parts)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_one_subject(path: Path) -> None:
    """A module has one subject."""
    assert len(path.read_text().splitlines()) <= LONG.get(str(path.relative_to(PACKAGE)), 400)


def test_all_keys_are_spelled_in_one_place() -> None:
    """All keys are spelled in one place."""
    for path in modules():
        assert path.stem == "keys" or not re.search(r'":(consumers?|producers?|rates|history)\b', path.read_text()), (
            path
        )


# --- the two shells --------------------------------------------------------------------------------------------------

SHELLS = ("Nexus", "Budget", "Producer", "Consumer", "Reservation")


def public(name: str, kind: str) -> dict[str, Any]:
    cls = getattr(importlib.import_module(f"nexus_redis.{name}"), kind)
    return {member: inspect.getattr_static(cls, member) for member in dir(cls) if not member.startswith("_")}


@pytest.mark.parametrize("kind", SHELLS)
def test_both_faces_have_the_same_names(kind: str) -> None:
    """Both faces have the same names and parameters."""
    here, there = public("client", kind), public("asyncio", kind)
    assert set(here) == set(there)
    for member, sync in here.items():
        assert type(sync) is type(there[member]), member
        if inspect.isfunction(sync):
            parameters, others = (
                [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
                for f in (sync, there[member])
            )
            assert parameters == others, member


# What one face says and the other cannot say: each a sentence, or the words that differ in one.
OF_THREADS: Final = (
    "A connection to the coordinator: a few threads, one pool, any number of budgets.",
    "Safe to share between threads.",
    "`Nexus(client)` uses a redis-py client that you have;",
    "Neither does I/O, and a forked child begins again by itself, so a module is a good place for it.",
    "With 40 threads on 3 budgets it sends one batch of claims ten times a second.",
    "While it claims, a second thread and connection listen for drops of the rates.",
    "Hand back every token, withdraw every consumer, and end the threads.",
    "A signal handler may call it, too.",
    (
        "Where the signal has interrupted another call of this Nexus, a thread does the rest as soon as that call has "
        "ended, and the interpreter waits for it when it exits."
    ),
    "A handler that has interrupted `close` does not wait for it.",
    "All but some ten of them in a second are local: they read the clock and take a token.",
    "For def and generators (which take their tokens with the first item);",
    "Return an iterator over `items` that yields each when its tokens are there.",
    "a hundred threads on a budget of 100/s wait in one line.",
)
OF_TASKS: Final = (
    "A connection to the coordinator: one task, one pool, any number of budgets.",
    "`Nexus(client)` uses a redis.asyncio client that you have;",
    "It belongs to the event loop that first used it; another one gets `WrongLoop`, which names both.",
    "While it claims, a second task and connection listen for drops of the rates.",
    "Hand back every token, withdraw every consumer, and end the task.",
    "A cancelled task takes nothing.",
    "For async def and async generators (which take their tokens with the first item);",
    "Return an async iterator over `items`, async or not, that yields each when its tokens are there.",
    "A task that is cancelled while it waits loses no item.",
    "As a thread reports, a blocked loop is seen as load and not as death.",
    "`settle` is not awaited: it makes no call.",
    "a hundred tasks on a budget of 100/s wait in one line.",
)


def said(thing: Any, own: tuple[str, ...]) -> str:
    """Return a docstring without the words that must differ between the faces."""
    text = " ".join((inspect.getdoc(thing) or "").split())
    for sentence in own:
        text = text.replace(sentence, "")
    text = re.sub(r"a budget of `nexus_redis(\.asyncio)?`|, `WrongLoop`", "", text)
    return " ".join(re.sub(r"\b(await|async)\b|[`;]", "", text).split())


@pytest.mark.parametrize("kind", SHELLS)
def test_both_faces_say_the_same(kind: str) -> None:
    """A docstring differs between the faces only by words that must differ."""
    faces = [getattr(importlib.import_module(f"nexus_redis.{name}"), kind) for name in ("client", "asyncio")]
    for member in ("", *public("client", kind)):
        sync, tasks = (getattr(face, member) if member else face for face in faces)
        assert said(sync, OF_THREADS) == said(tasks, OF_TASKS), f"{kind}.{member}"
