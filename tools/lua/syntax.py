"""Lua 5.1 as a tree in which every variable is an object, so that two variables of one name are never confused.

`parsed` reads a text with luaparser, and `resolve` links each use of a variable to its declaration. `printed` gives the
variables names that do not clash, and writes the text. Between these steps, a pass may move code to any place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Final

from luaparser import ast, astnodes
from luaparser.astnodes import (
    AnonymousFunction,
    Assign,
    Block,
    Break,
    Call,
    Do,
    Dots,
    ElseIf,
    FalseExpr,
    Field,
    Forin,
    Fornum,
    Function,
    If,
    Index,
    IndexNotation,
    Invoke,
    LocalAssign,
    LocalFunction,
    Name,
    Nil,
    Node,
    Number,
    Repeat,
    Return,
    SemiColon,
    String,
    Table,
    TrueExpr,
    Varargs,
    While,
)

Scope = dict[str, "Symbol"]
Name.symbol = Name.owner = None  # the value for a global, and for the name of a field


class Symbol:
    """One variable: its name in the source, and the places that read and write it."""

    def __init__(self, source: str, member: tuple[str, str] | None = None) -> None:
        self.source = self.name = source
        self.member = member  # the function of a library that it stands for
        self.owner: Node | None = None  # the function that declares it
        self.reads: list[Name] = []
        self.writes: list[Name] = []  # without its declaration

    def __deepcopy__(self, memo: dict[int, Any]) -> Symbol:
        twin = memo[id(self)] = Symbol(self.source, self.member)
        return twin


def parsed(text: str) -> list[Node]:
    """Return the statements of a text."""
    block: Block = ast.parse(text).body
    for node in walk(block):
        node.comments, node._first_token, node._last_token = [], None, None  # without these, copies are small
    return list(block.body)


def children(node: Node) -> list[Node]:
    """Return the nodes directly below, in the order of the source. The name of a field does not count as a node."""
    found: list[Node] = []
    for name in _parts(node):
        value = getattr(node, name)
        if isinstance(value, Node):
            found.append(value)
        elif isinstance(value, list):
            found += [each for each in value if isinstance(each, Node)]
    return found


_PARTS: dict[type[Node], tuple[str, ...]] = {}
_NO_PARTS = ("comments", "symbol", "owner", "wrapped")


def _parts(node: Node) -> tuple[str, ...]:
    kind = type(node)
    if kind not in _PARTS:
        _PARTS[kind] = tuple(name for name in vars(node) if not name.startswith("_") and name not in _NO_PARTS)
    if kind is Index and node.notation is IndexNotation.DOT:
        return ("value",)
    return ("value",) if kind is Field and not node.between_brackets else _PARTS[kind]


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes below it."""
    left = [node]
    while left:
        node = left.pop()
        yield node
        left += children(node)[::-1]


def walk_all(statements: list[Node]) -> Iterator[Node]:
    """Yield all nodes of some statements."""
    for statement in statements:
        yield from walk(statement)


def blocks(statements: list[Node]) -> list[list[Node]]:
    """Yield the lists of statements: this one, and those of every block below."""
    return [statements, *(node.body for node in walk_all(statements) if isinstance(node, Block))]


# --- variables --------------------------------------------------------------------------------------------------------


def resolve(statements: list[Node]) -> None:
    """Link every name to its variable: `name.symbol`, None for a global."""
    _Resolver().block(statements, {})


class _Resolver:
    def block(self, statements: list[Node], scope: Scope) -> Scope:
        scope = dict(scope)
        for statement in statements:
            self.statement(statement, scope)
        return scope

    def statement(self, node: Node, scope: Scope) -> None:  # noqa: C901, PLR0912  # one branch for each kind of statement
        if isinstance(node, LocalAssign):
            self.reads(node.values, scope)
            self.declare(node.targets, scope)
        elif isinstance(node, Assign):
            self.reads(node.values, scope)
            for target in node.targets:
                self.write(target, scope)
        elif isinstance(node, LocalFunction):
            self.declare([node.name], scope)
            self.function(node, scope)
        elif isinstance(node, Function):
            self.write(node.name, scope)
            self.function(node, scope)
        elif isinstance(node, Fornum):
            self.reads([node.start, node.stop, *([node.step] if isinstance(node.step, Node) else [])], scope)
            self.body(node.body, [node.target], scope)
        elif isinstance(node, Forin):
            self.reads(node.iter, scope)
            self.body(node.body, node.targets, scope)
        elif isinstance(node, Repeat):
            self.reads([node.test], self.block(node.body.body, scope))
        elif isinstance(node, While | If | ElseIf):
            self.reads([node.test], scope)
            self.block(node.body.body, scope)
            if isinstance(node, If | ElseIf) and isinstance(node.orelse, Block):
                self.block(node.orelse.body, scope)
            elif isinstance(node, If | ElseIf) and node.orelse is not None:
                self.statement(node.orelse, scope)
        elif isinstance(node, Do):
            self.block(node.body.body, scope)
        else:
            self.reads([node], scope)

    def reads(self, nodes: list[Node], scope: Scope) -> None:
        for node in nodes:
            if isinstance(node, Name):
                node.symbol = scope.get(node.id)
                if node.symbol is not None:
                    node.symbol.reads.append(node)
            elif isinstance(node, AnonymousFunction):
                self.function(node, scope)
            elif isinstance(node, Node):
                self.reads(list(children(node)), scope)

    def write(self, target: Node, scope: Scope) -> None:
        self.reads([target], scope)
        if isinstance(target, Name) and target.symbol is not None:
            target.symbol.reads.remove(target)
            target.symbol.writes.append(target)

    def declare(self, names: list[Node], scope: Scope) -> None:
        for name in names:
            if isinstance(name, Name):
                name.symbol = scope[name.id] = Symbol(name.id)

    def body(self, block: Block, names: list[Node], scope: Scope) -> None:
        inner = dict(scope)
        self.declare(names, inner)
        self.block(block.body, inner)

    def function(self, node: Any, scope: Scope) -> None:
        self.body(node.body, node.args, scope)


def count_again(statements: list[Node]) -> None:
    """Find all reads and writes again, after code has been moved."""
    for node in walk_all(statements):
        if isinstance(node, Name) and node.symbol is not None:
            node.symbol.reads, node.symbol.writes = [], []
    declared = {id(name) for name in declarations(statements)}
    written = {
        id(target) for node in walk_all(statements) if type(node) is Assign for target in node.targets
    } | {id(node.name) for node in walk_all(statements) if type(node) is Function}  # fmt: skip
    for node in walk_all(statements):
        if isinstance(node, Name) and node.symbol is not None and id(node) not in declared:
            (node.symbol.writes if id(node) in written else node.symbol.reads).append(node)
    for statement in statements:
        _find_owners(statement, None)


def _find_owners(node: Node, owner: Node | None) -> None:
    """Note for each name and each variable the function that it is in."""
    if isinstance(node, Name):
        node.owner = owner
    elif isinstance(node, LocalAssign | Forin | Fornum | LocalFunction):
        for name in declared_by(node):
            name.symbol.owner = owner
    is_function = isinstance(node, LocalFunction | Function | AnonymousFunction)
    for name in node.args if is_function else ():
        if isinstance(name, Name):
            name.symbol.owner = node
    for child in children(node):
        _find_owners(child, node if is_function else owner)


def declarations(statements: list[Node]) -> Iterator[Name]:
    """Return the names that declare a variable."""
    for node in walk_all(statements):
        yield from declared_by(node)
        if isinstance(node, LocalFunction | Function | AnonymousFunction):
            yield from (name for name in node.args if isinstance(name, Name))


def declared_by(node: Node) -> list[Name]:
    """Return the names that a statement declares in its own block, so not the parameters of a function."""
    if isinstance(node, LocalAssign | Forin):
        return [name for name in node.targets if isinstance(name, Name)]
    if isinstance(node, Fornum | LocalFunction):
        return [node.target if isinstance(node, Fornum) else node.name]
    return []


def twin(statements: list[Node]) -> list[Node]:
    """Return a copy with variables of its own; variables that are declared elsewhere stay the same."""
    own = {name.symbol for name in declarations(statements)}
    used = {node.symbol for node in walk_all(statements) if isinstance(node, Name)}
    return copy.deepcopy(statements, {id(symbol): symbol for symbol in used - own if symbol is not None})


def name_of(symbol: Symbol) -> Name:
    """Return a new use of a variable."""
    node = Name(symbol.source)
    node.symbol = symbol
    return node


# --- text -------------------------------------------------------------------------------------------------------------


def printed(statements: list[Node], taken: frozenset[str] = frozenset()) -> str:
    """Return the text, with names that do not clash with each other, with `taken` or with a global."""
    globals_ = {node.id for node in walk_all(statements) if isinstance(node, Name) and node.symbol is None}
    _name(statements, dict.fromkeys(globals_ | taken, 1))
    return _Printer().block(statements, "")


def _name(statements: list[Node], used: dict[str, int]) -> None:
    """Give each variable its name, with a number if another variable of this function or around it has that name."""
    for statement in statements:
        _name_in(statement, used)


def _name_in(node: Node, used: dict[str, int]) -> None:
    inner = used
    if isinstance(node, LocalFunction):
        _christen(node.name.symbol, used)
    if isinstance(node, LocalFunction | Function | AnonymousFunction):
        inner = dict(used)  # two functions may declare variables of the same name
        names = node.args
    else:
        names = (
            node.targets if isinstance(node, LocalAssign | Forin) else [node.target] if isinstance(node, Fornum) else []
        )
    for name in names:
        if isinstance(name, Name):
            _christen(name.symbol, inner)
    for child in children(node):
        _name_in(child, inner)


def _christen(symbol: Symbol, used: dict[str, int]) -> None:
    name = symbol.source
    while name in used:
        used[symbol.source] += 1
        name = f"{symbol.source}_{used[symbol.source]}"
    used[name] = 1
    symbol.name = name


OPERATORS: Final = {
    "OrLoOp": ("or", 1), "AndLoOp": ("and", 2), "LessThanOp": ("<", 3), "GreaterThanOp": (">", 3),
    "LessOrEqThanOp": ("<=", 3), "GreaterOrEqThanOp": (">=", 3), "EqToOp": ("==", 3), "REqOp": ("==", 3),
    "NotEqToOp": ("~=", 3), "Concat": ("..", 4), "AddOp": ("+", 5), "SubOp": ("-", 5), "MultOp": ("*", 6),
    "FloatDivOp": ("/", 6), "ModOp": ("%", 6), "ExpoOp": ("^", 8),
}  # fmt: skip
WORDS: Final = {Nil: "nil", TrueExpr: "true", FalseExpr: "false", Varargs: "...", Dots: "..."}
UNARY: Final = {"ULNotOp": "not ", "UMinusOp": "-", "ULengthOP": "#"}
_UNARY_BINDS: Final = 7
_SUFFIXED: Final = (Name, Index, Call, Invoke)


class _Printer:
    """A writer of text: brackets follow the precedence of operators, and each statement has a line."""

    def block(self, statements: list[Node], indent: str) -> str:
        return "".join(
            f"{indent}{self.statement(each, indent)}\n" for each in statements if type(each) is not SemiColon
        )

    def inner(self, block: Block, indent: str) -> str:
        return f"\n{self.block(block.body, indent + ' ')}{indent}"

    def statement(self, node: Node, indent: str) -> str:  # noqa: PLR0911  # likewise
        self.indent = indent
        if isinstance(node, LocalAssign):
            values = f" = {self.list(node.values)}" if node.values else ""
            return f"local {self.list(node.targets)}{values}"
        if isinstance(node, Assign):
            return f"{self.list(node.targets)} = {self.list(node.values)}"
        if isinstance(node, LocalFunction | Function):
            kind = "local function" if isinstance(node, LocalFunction) else "function"
            return f"{kind} {self.of(node.name)}({self.list(node.args)}){self.inner(node.body, indent)}end"
        if isinstance(node, If):
            return self.branches(node, indent)
        if isinstance(node, Fornum):
            step = f", {self.of(node.step)}" if isinstance(node.step, Node) else ""
            head = f"for {self.of(node.target)} = {self.of(node.start)}, {self.of(node.stop)}{step} do"
            return f"{head}{self.inner(node.body, indent)}end"
        if isinstance(node, Forin):
            return f"for {self.list(node.targets)} in {self.list(node.iter)} do{self.inner(node.body, indent)}end"
        if isinstance(node, While):
            return f"while {self.of(node.test)} do{self.inner(node.body, indent)}end"
        if isinstance(node, Repeat):
            return f"repeat{self.inner(node.body, indent)}until {self.of(node.test)}"
        if isinstance(node, Do):
            return f"do{self.inner(node.body, indent)}end"
        if isinstance(node, Return):
            return f"return {self.list(node.values or [])}".rstrip()
        return "break" if isinstance(node, Break) else self.of(node)

    def branches(self, node: Any, indent: str) -> str:
        text, word = "", "if"
        while isinstance(node, If | ElseIf):
            text += f"{word} {self.of(node.test)} then{self.inner(node.body, indent)}"
            node, word = node.orelse, "elseif"
        return text + (f"else{self.inner(node, indent)}" if isinstance(node, Block) and node.body else "") + "end"

    def list(self, nodes: list[Node]) -> str:
        return ", ".join(self.of(node) for node in nodes)

    def of(self, node: Node) -> str:
        text = self.expression(node)
        is_cut = isinstance(node, Call | Invoke | Dots) and node.wrapped  # only the first value counts
        return f"({text})" if is_cut else text

    def expression(self, node: Node) -> str:
        kind = type(node).__name__
        if kind in OPERATORS:
            return self.binary(node, *OPERATORS[kind])
        if kind in UNARY:
            operand = self.operand(node.operand, _UNARY_BINDS)
            return UNARY[kind] + (f"({operand})" if kind == "UMinusOp" and operand.startswith("-") else operand)
        if isinstance(node, Name):
            return node.symbol.name if node.symbol is not None else str(node.id)
        if isinstance(node, Index):
            dot = node.notation is IndexNotation.DOT
            return self.prefix(node.value) + (f".{node.idx.id}" if dot else f"[{self.of(node.idx)}]")
        if isinstance(node, Call):
            return f"{self.prefix(node.func)}({self.list(node.args)})"
        if isinstance(node, Invoke):
            return f"{self.prefix(node.source)}:{node.func.id}({self.list(node.args)})"
        if isinstance(node, AnonymousFunction):
            indent = self.indent
            text = f"function({self.list(node.args)}){self.inner(node.body, indent)}end"
            self.indent = indent
            return text
        return self.literal(node)

    def literal(self, node: Node) -> str:
        if isinstance(node, Table):
            return f"{{{', '.join(self.field(each) for each in node.fields)}}}"
        if isinstance(node, Number):
            return repr(node.n)
        if isinstance(node, String):
            quote = '"' if node.delimiter is astnodes.StringDelimiter.DOUBLE_QUOTE else "'"
            return f"{quote}{node.raw}{quote}"
        return WORDS[type(node)]

    def field(self, node: Field) -> str:
        if getattr(node, "between_brackets", False):
            return f"[{self.of(node.key)}] = {self.of(node.value)}"
        return f"{node.key.id} = {self.of(node.value)}" if isinstance(node.key, Name) else self.of(node.value)

    def prefix(self, node: Node) -> str:
        return self.of(node) if isinstance(node, _SUFFIXED) else f"({self.of(node)})"

    def binary(self, node: Any, word: str, binds: int) -> str:
        is_right = word in ("..", "^")
        left = self.operand(node.left, binds + is_right)
        right = self.operand(node.right, binds + (not is_right))
        return f"{left} {word} {right}"

    def operand(self, node: Node, least: int) -> str:
        kind = type(node).__name__
        binds = OPERATORS[kind][1] if kind in OPERATORS else _UNARY_BINDS if kind in UNARY else 9
        if isinstance(node, Number) and node.n < 0:
            binds = _UNARY_BINDS
        return f"({self.of(node)})" if binds < least else self.of(node)


Visit = Callable[[Node], Node]


def replace(node: Node, change: Visit) -> None:
    """Replace each node below by `change(node)`, from the leaves up."""
    for name in _parts(node):
        value = getattr(node, name)
        if isinstance(value, Node):
            replace(value, change)
            setattr(node, name, change(value))
        elif isinstance(value, list):
            for i, each in enumerate(value):
                if isinstance(each, Node):
                    replace(each, change)
                    value[i] = change(each)
