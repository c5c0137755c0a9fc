"""Make the bundle: from the sources in `lua/`, the texts that a server runs, one file for each script, in
`lua/bundle/`.

    make bundle       # after each change in lua/; a test makes it again and compares

The sources are written for people: files of functions, names for numbers, records with named fields. A server defines
the functions of a script again at each call, so each definition costs as much as a line of arithmetic, and a claim has
a few hundred of them. The bundle does the same with fewer definitions. This tool works on the syntax tree
(tools/lua/syntax.py):

    --- @include name       stands for lua/lib/name.lua, once, in that order
    --- @holds rarely rest  `rarely().f()` calls a function f of lua/lib/rest.lua; they are defined at the first call
    --- @record claim need  `claim` is an array with these places, from 1 on; `claim.need` becomes `claim[1]`
    local MICRO = 1000000   a constant, a number or a text, whose value replaces the name
    a function that is never called is left out; one that is called once replaces its call (tools/lua/inline.py)
    `math.min(x, y)` of variables and numbers becomes a comparison; any other `math.min` is looked up once
    `rarely` has copies of the other functions that it needs, because a variable that functions share is slow, too
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

from luaparser.astnodes import (
    AndLoOp,
    AriOp,
    Call,
    GreaterThanOp,
    Index,
    IndexNotation,
    LessThanOp,
    LocalAssign,
    LocalFunction,
    Name,
    Node,
    Number,
    OrLoOp,
    String,
    Table,
    UMinusOp,
)

from nexus_redis._protocol.scripts import with_parts
from tools.lua.inline import write_in
from tools.lua.syntax import (
    Symbol,
    blocks,
    count_again,
    name_of,
    parsed,
    printed,
    replace,
    resolve,
    twin,
    walk,
    walk_all,
)

LUA: Final = Path(__file__).parent.parent / "lua"
BUNDLE: Final = LUA / "bundle"
NAMES: Final = ("claim", "report", "leave", "configure", "inspect")
ALSO: Final = ("repair",)  # not a part of the protocol: a person calls it

OFTEN: Final = 3  # a library's function that is named this often gets a variable
LARGEST: Final = 9  # nodes of an operand that may be written twice
_INCLUDE: Final = re.compile(r"^--- @include (\w+)$", re.MULTILINE)
_HOLDS: Final = re.compile(r"^--- @holds (\w+) ([\w ]+)$", re.MULTILINE)
_RECORD: Final = re.compile(r"^--- @record (\w+) ((?:[^\n]|\n---  )*)$", re.MULTILINE)

# The code that runs after a script has failed. An error of another kind (no memory, no right) is raised again.
FAILED: Final = """
local found = damages()[1]
if not found then error(reply, 0) end
return {err = string.format('NEXUS_DAMAGED %s %s', found[1], found[2])}"""


# --- the sources ------------------------------------------------------------------------------------------------------


def source(path: Path) -> str:
    """Return the text of one file."""
    return path.read_text(encoding="utf-8")


def modules(path: Path, seen: set[str]) -> list[str]:
    """Return the text of a file in pieces, with the files that it includes in their places, each once."""
    found: list[str] = []
    for i, piece in enumerate(_INCLUDE.split(source(path))):
        if i % 2 == 0:
            found.append(piece)
        elif piece not in seen:
            seen.add(piece)
            found += modules(library(path) / f"{piece}.lua", seen)
    return found


def program(path: Path, end: str = "") -> tuple[list[str], dict[str, list[str]]]:
    """Return the modules of a script, and those of each holder, by its name."""
    seen: set[str] = set()
    own = modules(path, seen)
    held = {
        match[1]: [text for name in match[2].split() for text in modules(library(path) / f"{name}.lua", seen)]
        for match in _HOLDS.finditer(own[-1])
    }
    own[-1] += end
    return own, held


def library(path: Path) -> Path:
    """Return the folder of the modules that a script or a module may include."""
    return path.parents[path.parent.name == "lib"] / "lib"


# --- the passes -------------------------------------------------------------------------------------------------------


def composed(path: Path, end: str = "", taken: frozenset[str] = frozenset()) -> str:
    """Return a script as a server gets it, without the code for its failure. Names in `taken` are used around it."""
    own, held = program(path, end)
    first = [each for name in held for each in parsed(f"local {name}, {name}_given")]
    functions = [_holder(name, texts, own + texts) for name, texts in held.items()]
    statements = [*first, *_statements(own[:-1]), *functions, *_statements(own[-1:])]
    resolve(statements)
    _write_records(statements, "\n".join(own + [text for texts in held.values() for text in texts]))
    _write_constants(statements)
    for function in functions:
        _copy_shared(statements, function)
    _leave_out(statements)
    write_in(statements)
    _leave_out(statements)
    _name_library(statements, functions)
    _write_extremes(statements)
    return printed(statements, taken)


def _statements(texts: list[str]) -> list[Node]:
    return [each for text in texts for each in pickle.loads(_pickled(text))]  # noqa: S301  # text of our own


@cache
def _pickled(text: str) -> bytes:
    """Return the tree of a text. It is kept, because parsing is slow and most files are part of each script."""
    return pickle.dumps(parsed(text))


def _holder(name: str, texts: list[str], everything: list[str]) -> Any:
    """Return the function that defines the functions of `texts` when it is called, and returns those that are used."""
    taken = sorted(set(re.findall(rf"\b{name}\(\)\.(\w+)", "\n".join(everything))))
    (function,) = parsed(
        f"function {name}()\nif {name}_given then return {name}_given end\n"
        f"{name}_given = {{{', '.join(f'{each} = {each}' for each in taken)}}}\nreturn {name}_given\nend"
    )
    function.body.body[1:1] = _statements(texts)
    return function


def _write_records(statements: list[Node], text: str) -> None:
    """Turn each field of a record into a place of an array."""
    places = {
        record: {field: place for place, field in enumerate(fields.replace("\n---", "").split(), 1)}
        for record, fields in _RECORD.findall(text)
    }
    for node in walk_all(statements):
        is_field = isinstance(node, Index) and node.notation is IndexNotation.DOT and isinstance(node.value, Name)
        if is_field and node.value.symbol is not None and node.value.id in places:
            node.idx, node.notation = Number(places[node.value.id][node.idx.id]), IndexNotation.SQUARE


def _write_constants(statements: list[Node]) -> None:
    """Replace each variable in capitals by its number or text, and remove its declaration."""
    values: dict[Symbol, Node] = {}
    for block in blocks(statements):
        for node in [*block]:
            if type(node) is not LocalAssign or len(node.targets) != 1 or len(node.values) != 1:
                continue
            symbol: Symbol = node.targets[0].symbol
            value = _literal(node.values[0])
            if value is not None and symbol.source.isupper() and not symbol.writes:
                values[symbol] = value
                block[:] = [each for each in block if each is not node]

    def written(node: Node) -> Node:
        value = values.get(node.symbol) if isinstance(node, Name) else None
        if value is None:
            return node
        return Number(value.n) if isinstance(value, Number) else String(value.s, value.raw, value.delimiter)

    for statement in statements:
        replace(statement, written)


def _literal(node: Node) -> Any:
    if isinstance(node, UMinusOp) and isinstance(node.operand, Number):
        return Number(-node.operand.n)
    return node if isinstance(node, Number | String) else None


def _copy_shared(statements: list[Node], holder: Any) -> None:
    """Give a holder copies of the functions and tables that it uses of the others."""
    used = {node.symbol for node in walk_all(holder.body.body) if isinstance(node, Name)} - {None}
    copies: dict[Symbol, Symbol] = {}
    for each in statements[::-1]:  # each may use the ones before it
        shared = _defines(each)
        if each is not holder and shared in used:
            used |= {node.symbol for node in walk(each) if isinstance(node, Name)} - {None}
            (copy,) = twin([each])
            copies[shared] = _defines(copy)
            holder.body.body.insert(1, copy)  # after the line that returns what is defined already

    def moved(node: Node) -> Node:
        symbol = copies.get(node.symbol) if isinstance(node, Name) else None
        return node if symbol is None else name_of(symbol)

    replace(holder.body, moved)
    count_again(statements)


def _defines(node: Node) -> Any:
    """Return the variable of a function or a table that is never assigned again; else None."""
    if isinstance(node, LocalFunction):
        symbol: Symbol = node.name.symbol
        return None if symbol.writes else symbol
    is_one = type(node) is LocalAssign and len(node.targets) == 1 and len(node.values) == 1
    if not is_one or not isinstance(node.values[0], Table) or node.targets[0].symbol.writes:
        return None
    return node.targets[0].symbol


def _leave_out(statements: list[Node]) -> None:
    """Leave out functions and tables that are never used."""
    while True:
        count_again(statements)
        unused = {
            id(node)
            for block in blocks(statements)
            for node in block
            if (symbol := _defines(node)) is not None and not _is_read(symbol, node)
        }
        if not unused:
            return
        for block in blocks(statements):
            block[:] = [each for each in block if id(each) not in unused]


def _is_read(symbol: Symbol, definition: Node) -> bool:
    """Return whether code outside its definition uses a variable."""
    own = {id(node) for node in walk(definition)}
    return any(id(use) not in own for use in symbol.reads)


def _name_library(statements: list[Node], holders: list[Any]) -> None:
    """Make a variable of a function like `math.floor` that is named often."""
    rest = [each for each in statements if each not in holders]
    count = Counter(member for node in walk_all(rest) if (member := _member(node)) is not None)
    symbols = {member: Symbol("_".join(member), member) for member, times in count.items() if times >= OFTEN}

    def named(node: Node) -> Node:
        symbol = symbols.get(_member(node) or ("", ""))
        return node if symbol is None else name_of(symbol)

    for statement in rest:
        replace(statement, named)
    statements[:0] = [
        LocalAssign([name_of(symbol)], [Index(Name(field), Name(library), IndexNotation.DOT)])
        for (library, field), symbol in symbols.items()
    ]


def _member(node: Node) -> tuple[str, str] | None:
    """Return ("math", "floor") for `math.floor` and for the variable that stands for it."""
    if isinstance(node, Name) and node.symbol is not None:
        member: tuple[str, str] | None = node.symbol.member
        return member
    if not isinstance(node, Index) or node.notation is not IndexNotation.DOT or not isinstance(node.value, Name):
        return None
    is_library = node.value.symbol is None and node.value.id in ("math", "string", "redis")
    return (node.value.id, node.idx.id) if is_library else None


def _write_extremes(statements: list[Node]) -> None:
    """Write each `math.max(x, y)` as a comparison, which gives the same for all numbers and for NaN.

    A call of C costs a server as much as ten comparisons.
    """
    compare = {("math", "max"): GreaterThanOp, ("math", "min"): LessThanOp}

    def written(node: Node) -> Node:
        kind = compare.get(_member(node.func) or ("", "")) if isinstance(node, Call) else None
        if kind is None or len(node.args) != 2 or not all(_may_stand_twice(arg) for arg in node.args):
            return node
        x, y = node.args
        return OrLoOp(AndLoOp(kind(y, x), y), x)

    for statement in statements:
        replace(statement, written)


def _may_stand_twice(node: Node) -> bool:
    nodes = list(walk(node))
    kinds = (Name, Number, Index, AriOp, UMinusOp, OrLoOp, AndLoOp, GreaterThanOp, LessThanOp)
    return len(nodes) <= LARGEST and all(isinstance(each, kinds) for each in nodes)


# --- the bundle -------------------------------------------------------------------------------------------------------


def guarded(name: str) -> str:
    """Return a script of the protocol that names the damaged state if it fails because of that."""
    path, damage = LUA / f"{name}.lua", LUA / "lib" / "damage.lua"
    body = composed(path, taken=frozenset({"is_well", "reply"}))
    header = _header(name, with_parts(path, set()) + with_parts(damage, set()))
    return (
        f"{header}local is_well, reply = pcall(function()\n{body}end)\n"
        f"if is_well then return reply end\n{composed(damage, FAILED)}"
    )


def _header(name: str, source: str) -> str:
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    shown = f"`nexus-redis scripts {name}` shows the source"
    return f"-- Made of lua/{name}.lua by `make bundle` (SHA-256 {digest}); {shown}.\n"


def bundle() -> dict[str, str]:
    """Return what each file of the bundle must hold, by the script's name."""
    plain = {name: LUA / f"{name}.lua" for name in ALSO}
    return {name: guarded(name) for name in NAMES} | {
        name: _header(name, with_parts(path, set())) + composed(path) for name, path in plain.items()
    }


if __name__ == "__main__":
    BUNDLE.mkdir(exist_ok=True)
    for name, text in bundle().items():
        (BUNDLE / f"{name}.lua").write_text(text)
