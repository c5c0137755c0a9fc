"""From the sources to the text that a server runs: each rule by what it makes of some lines, and what these then do."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa import lua51  # type: ignore[import-untyped]

from nexus_redis._protocol import scripts
from tests.harness.plain_bundle import without_rules
from tests.harness.servers import Server
from tests.vectors.scripts import pinned, record
from tools import bundle_lua

Make = Callable[..., str]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """`made(main, part=...)`: the composed text of a script and its parts."""

    def make(main: str, **parts: str) -> str:
        (tmp_path / "lib").mkdir(exist_ok=True)
        for name, text in {"../main": main, **parts}.items():
            (tmp_path / "lib" / f"{name}.lua").write_text(text.lstrip("\n"))
        return bundle_lua.composed(tmp_path / "main.lua")

    return make


def run(text: str) -> Any:
    return lua51.LuaRuntime(unpack_returned_tuples=True).execute(text)


def test_a_part_is_put_in_once(made: Make) -> None:
    """A part is put in once."""
    text = made(
        "--- @include a\n--- @include b\nreturn f(1)\n",
        a="local x = {2}\n",
        b="--- @include a\nlocal y = x[1]\nlocal function f(n) return n + y end\n",
    )
    assert text.count("local x") == 1
    assert run(text) == 3


def test_constants_are_written_in(made: Make) -> None:
    """Constants are written in."""
    text = made("local SECOND = 1000000   -- micro\nlocal KIND = '>dd'\nreturn SECOND + 1, KIND .. 'MOST_SECOND'\n")
    assert "SECOND =" not in text
    assert run(text) == (1000001, ">ddMOST_SECOND")


def test_odd_constants_are_kept(made: Make) -> None:
    """A constant below zero and a constant that is a word in a text are composed right."""
    text = made("local LOW = -1\nlocal LIMIT = 8\nlocal a = 5\nreturn a -LOW, 'LIMIT', LIMIT\n")
    assert run(text) == (6, "LIMIT", 8)


def test_modules_may_share_a_name(made: Make) -> None:
    """Two modules may call two things by one name."""
    text = made(
        "--- @include a\nlocal SIZE = 4\nlocal function g() return 10 end\nreturn SIZE + f() + g()\n",
        a="local SIZE = 2\nlocal function g() return 1 end\nlocal function f() return SIZE + g() end\n",
    )
    assert run(text) == 17


def test_a_variable_may_shadow_a_function(made: Make) -> None:
    """A variable of the caller may have the name of a function of the callee."""
    text = made(
        "--- @include a\nlocal depth, math_floor = 5, 7\nlocal x = f(depth)\nreturn x + depth, math_floor\n",
        a="""
local function depth(n) return math.floor(n) + math.floor(0.5) + math.floor(n / 2) end
local function f(n)
  local d = depth(n) + depth(1)
  return d
end
""",
    )
    assert text.count("local function") == 1
    assert run(text) == (5 + 2 + 1 + 5, 7)


def test_a_record_is_an_array(made: Make) -> None:
    """A record is an array."""
    text = made("""
--- @record b at rest
---   more
local b, rub = {1, 2, 3}, {more = 4}
b.at = b.more         -- b.what is no place
return b[1], rub.more, 'b.rest'
""")
    assert run(text) == (3, 4, "b.rest")
    with pytest.raises(LookupError, match="els"):
        made("--- @record b at rest\nlocal b\nreturn b.els\n")


def test_uncalled_functions_are_left_out(made: Make) -> None:
    """A function that nobody calls is left out."""
    text = made("""
local function g() return 1 end
local function f()
  return g()
end
local t = {1}
return 5
""")
    assert "function" not in text
    assert "local t" not in text


WRITTEN_IN = """
-- two results, left early: 2 -2 1
local function f(a, b)
  if a > b then return a, b end  -- it is enough
  a = a + 1
  return a, -b
end
local a = 1
local x, y = f(a, 2)
return x, y, a

-- left early in either case: 1
local function f(a)
  if a then return 1 else return 2 end
end
local x = f(true)
return x

-- fewer results: None None 3
local function f(a)
  if a then return nil end
  return 1, 2
end
local x, y = f(1)
return x, y, 3

-- a result of the name of a variable inside: 2
local function f(n)
  local x = n + 1
  return x
end
local n = 1
local x = f(n)
return x

-- left from within two conditions in a line: 2
local function f(a, b)
  if a then if b then return 1 end end
  return 2
end
local x = f(true, false)
return x

-- no result: 2
local t = {v = 0}
local function f(n)
  if n < 0 then return end
  t.v = n
end
f(t.v + 2)
return t.v

-- a result of many lines: 4
local function f(n)
  return {
    v = n,
  }
end
local t = f(4)
return t.v

-- into fields: 3
local function f(n) return n + 1 end
local t = {}
t[1], t.v = f(2)
return t[1]

-- without a parameter: 3
local function f() return 3 end
local x = f()
return x

-- on a condition: 3
local function f(n) return n + 1 end
local x
if not x then x = f(2) end
return x

-- at the end: many
local function f(n)
  if n > 1 then return 'many' end
  return n
end
return f(2)

-- a remark with an apostrophe: 5
local function f(a)
  if a < 0 then return 0 end   -- it's nothing
  return a
end
local x = f(5)
return x

-- one that calls another: 7
local function g(n)
  if n == 0 then return 0 end
  return n * 2
end
local function f(n)
  local m = g(n)
  return m + 1
end
local x = f(3)
return x

-- with variables of its parameters' names: 11 4 3
local function f(t, n)
  local m = t.v + n
  return m + n * t.v - 8
end
local t, n = {v = 4}, 3
local x = f(t, n)
return x, t.v, n

-- that sets two of its parameters at once: 3 5 6
local function f(a, b)
  b, a = 1, 2
  return a + b
end
local a, b = 5, 6
local x = f(a, b)
return x, a, b

-- with fewer values than parameters: 4 9
local function f(a, b)
  if b then return b end
  return a
end
local a, b = 4, 9
local x = f(a)
return x, b

-- with brackets and commas in a value: 6
local function f(a, b) return a + b end
local t = {2, 3}
local x = f(math.max(1, t[2]), ({3, 4})[1])
return x

-- with a loop: 7
local function f(n)
  for i = 1, 3 do n = n + i end
  return n
end
local x = f(1)
return x
"""

NOT_WRITTEN_IN = """
-- called twice: 3
local function f(n) return n + 1 end
local x = f(1)
local y = f(x)
return y

-- within an expression: 4
local function f(n) return n + 1 end
local x = 2 * f(1)
return x

-- the first of a sum: 3
local function f(n) return n + 1 end
local x = f(1) + 1
return x

-- left from within a loop: 4
local function f(n)
  for i = 1, 9 do
    if i * i > n then return i end
  end
  return 0
end
local x = f(10)
return x
"""


def cases(text: str) -> list[Any]:
    """The pieces of a text, with what each is about and what it gives."""
    found = re.findall(r"^-- (.+): (.+)\n((?:.+\n)+)", text, re.MULTILINE)
    return [pytest.param(source, given, id=name) for name, given, source in found]


def shown(given: Any) -> str:
    return " ".join(map(str, given)) if isinstance(given, tuple) else str(given)


@pytest.mark.parametrize(("source", "given"), cases(WRITTEN_IN))
def test_single_calls_are_written_in(made: Make, source: str, given: str) -> None:
    """A function that is called once is written in."""
    text = made(source)
    assert "function" not in text
    assert shown(run(text)) == shown(run(source)) == given


@pytest.mark.parametrize(("source", "given"), cases(NOT_WRITTEN_IN))
def test_other_functions_stay_functions(made: Make, source: str, given: str) -> None:
    """A function that cannot be written in stays a function."""
    text = made(source)
    assert "local function f(" in text
    assert shown(run(text)) == shown(run(source)) == given


@pytest.mark.parametrize("place", ["", "local function main()\n"])
def test_a_parameter_keeps_its_value(made: Make, place: str) -> None:
    """A parameter keeps its value where another function changes the variable."""
    source = f"""
{place}local n = 1
local function bump() n = n + 1 end
local function f(p)
  bump()
  bump()
  return p
end
local x = f(n)
return x, n
{"end" if place else ""}
{"return main()" if place else ""}
"""
    text = made(source)
    assert "local function f(" not in text
    assert run(text) == run(source) == (1, 3)


@pytest.mark.parametrize("values", ["1, two()", "two(), 1", "(two())", "two()", "1"])
def test_values_meet_parameters(made: Make, values: str) -> None:
    """Values and parameters meet as they do in a call."""
    source = f"""
local function two() return 3, 2 end
local function f(a, b, c)
  local sum = {{a or 0, b or 0, c or 0}}
  return sum
end
local x = f({values})
local y = two()
return x[1], x[2], x[3], y
"""
    text = made(source)
    assert "local function f(" not in text
    assert run(text) == run(source)


def test_rare_functions_are_made_when_called(made: Make) -> None:
    """Rarely used functions are defined when one of them is called, with copies of what they share."""
    text = made(
        """
--- @include a
--- @holds rarely b
local n = 1
if KEYS then n = rarely().f(n) + rarely().f(0) end
return 1 + twice(n)
""",
        a="""
local SIZES = {3, 5}
local function twice(n) return 2 * n end
local function only(n) return twice(n) + SIZES[1] end
""",
        b="""
local function f(n) return only(n) end
local function unused() return 1 end
""",
    )
    _, _, rest = text.partition("function rarely()")
    rare = rest.partition("return rarely_given\nend")[0]
    assert "rarely()" in rest
    assert [name in text for name in ("only", "unused")] == [False, False]  # written in where it is called, or nowhere
    assert [name in rare for name in ("twice", "SIZES")] == [True, True]
    assert run(text) == 3
    assert run("KEYS = true\n" + text) == 17


def test_libraries_are_looked_up_once(made: Make) -> None:
    """A library is looked up once where it is named often."""
    text = made("""
--[[ main: the greatest. ]]
local x = math.max(1, 2) + math.max(3, 4) - math.max(1, 1) + math.min(1, 2)
return x
""")
    assert text.count("math.max") == 1
    assert run(text) == 6


@pytest.mark.parametrize(
    "call", ["min(x, y)", "max(x, y)", "max(0, x - y)", "min(2 * x, math.max(y, 1))", "max(-x, y)"]
)
def test_comparisons_replace_min_and_max(made: Make, call: str) -> None:
    """The bundle has a comparison where a source has `math.min` or `math.max` of two values."""
    source = "local function f(x, y) return math.%s end\nlocal a = f(%s, %s)\nreturn tostring(a), f(0, 0)\n"
    numbers = ("-3", "0", "0.5", "7", "1/0", "-1/0", "0/0")
    for x, y in itertools.product(numbers, repeat=2):
        plain = source % (call, x, y)
        text = made(plain)
        assert "math" not in text
        assert run(text) == run(plain)


# --- any program -----------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "f", "g", "math_max")  # few, so that they meet
Known = dict[str, int]  # a name in scope: how many parameters the function of that name has, -1 for a number


class Writer:
    """Writes a small program by chance: functions that call one another, and few names for many things."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def module(self, known: Known) -> str:
        lines = []
        for _ in range(self.chance.randint(1, 4)):
            if self.chance.random() < 0.3:
                value = self.number(known)
                lines.append(f"local {self.new(known)} = {value}")
            else:
                lines += self.function(known)
        return "\n".join(lines) + "\n"

    def new(self, known: Known, arity: int = -1) -> str:
        name = self.chance.choice(NAMES)
        known[name] = arity
        return name

    def function(self, known: Known) -> list[str]:
        args = self.chance.sample(NAMES, self.chance.randint(0, 2))
        name = self.chance.choice(NAMES)
        inner = {k: v for k, v in known.items() if k != name} | dict.fromkeys(args, -1)
        lines = [f"local function {name}({', '.join(args)})", *self.block(inner, 2), "end"]
        known[name] = len(args)
        return lines

    def block(self, known: Known, depth: int) -> list[str]:
        known = dict(known)
        lines = [line for _ in range(self.chance.randint(1, 3)) for line in self.statement(known, depth)]
        if self.chance.random() < 0.5:
            lines.append(f"return {self.number(known)}, {self.number(known)}")
        return [f"  {line}" for line in lines]

    def statement(self, known: Known, depth: int) -> list[str]:
        kind = self.chance.randrange(7 if depth else 5)
        numbers = [name for name, arity in known.items() if arity < 0]
        call = self.call(known)
        if kind == 0 or not numbers:
            value = self.number(known)
            return [f"local {self.new(known)} = {value}"]
        if kind == 1 and call:
            return [f"local {self.new(known)}, {self.new(known)} = {call}", *self.no_nil(known)]
        if kind == 2 and call:
            return [f"{self.chance.choice(numbers)} = {call} or 0"] if self.chance.random() < 0.3 else [call]
        if kind == 3 and call:
            name = self.chance.choice(numbers)
            return [f"{name} = {call}", f"{name} = {name} or 7"]
        if kind == 5:
            head = f"if {self.number(known)} < {self.number(known)} then"
            return [head, *self.block(known, depth - 1), "else", *self.block(known, depth - 1), "end"]
        if kind == 6:
            name = self.chance.choice(NAMES)
            return [f"for {name} = 1, 2 do", *self.block(known | {name: -1}, depth - 1), "end"]
        return [f"{self.chance.choice(numbers)} = {self.number(known)}"]

    def no_nil(self, known: Known) -> list[str]:
        return [f"{name} = {name} or 5" for name, arity in known.items() if arity < 0]

    def call(self, known: Known) -> str:
        functions = [(name, arity) for name, arity in known.items() if arity >= 0]
        if not functions:
            return ""
        name, arity = self.chance.choice(functions)
        return f"{name}({', '.join(self.number(known) for _ in range(arity))})"

    def number(self, known: Known, depth: int = 2) -> str:
        numbers = [name for name, arity in known.items() if arity < 0]
        kind = self.chance.randrange(5 if depth else 2)
        if kind == 0 or not numbers:
            return str(self.chance.randint(0, 9))
        if kind == 1:
            return self.chance.choice(numbers)
        left, right = self.number(known, depth - 1), self.number(known, depth - 1)
        if kind == 2:
            return f"math.{self.chance.choice(['max', 'min'])}({left}, {right})"
        if kind == 3:
            return f"({left} {self.chance.choice('+-*')} {right}) % 97"
        return f"{left} - ({right} - {left})"


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_bundle_does_what_its_modules_do(chance: random.Random) -> None:
    """Any program does the same as its modules, one after the other."""
    write, known = Writer(chance), Known()
    modules = [write.module(known) for _ in range(chance.randint(1, 3))]
    lines = [line for _ in range(2) for line in write.statement(known, 2)]
    main = "\n".join([*lines, f"return {write.number(known)}, {write.call(known) or 0}"]) + "\n"
    plain = "".join(modules) + main
    texts = {f"{i}.lua": text for i, text in enumerate(modules)}
    texts["main.lua"] = "".join(f"--- @include {i}\n" for i in range(len(modules))) + main
    with patch.object(bundle_lua, "source", lambda path: texts[path.name]):
        made = bundle_lua.composed(Path("main.lua"))
    assert outcome(made) == outcome(plain), f"{plain}\n--- became ---\n{made}"


def outcome(text: str) -> str:
    """What a program returns. Of one that fails the words may differ."""
    try:
        return repr(run(text))
    except lua51.LuaError:
        return "fails"


def test_rules_change_no_result(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts do the same without the rules of the bundle tool.

    On one server: each kind runs the golden calls of the bundle (tests/lua/test_vectors.py), and all run Lua 5.1.
    """
    server = one_server
    short = pinned(record(server.client()))
    server.client().flushall()
    with without_rules():
        plain = bundle_lua.bundle()
    monkeypatch.setattr(scripts, "_bundled", lambda name: plain[name])
    scripts.script.cache_clear()
    try:
        assert scripts.script("claim").text.count("local function") > 100
        assert pinned(record(server.client())) == short
    finally:
        monkeypatch.undo()
        scripts.script.cache_clear()


def test_the_bundle_is_what_the_sources_make() -> None:
    """The bundle is what the sources make."""
    made = bundle_lua.bundle()
    assert [name for name, text in made.items() if scripts.script(name).text != text] == [], "run `make bundle`"


def test_no_script_is_composed_in_a_users_process() -> None:
    """No script is composed in a user's process."""
    assert scripts.NAMES == bundle_lua.NAMES
    assert scripts.ALSO == bundle_lua.ALSO
    assert {path.stem for path in bundle_lua.BUNDLE.iterdir()} == {*scripts.NAMES, *scripts.ALSO}
