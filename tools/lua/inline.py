"""Replace the call of a function by its body, if it is called once.

A call that is a statement of its own can be replaced: `f(x)`, `a, b = f(x)`, `local a = f(x)`, `return f(x)`. Variables
are objects, so a variable of one function is never taken for one of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    Forin,
    Fornum,
    Function,
    If,
    Invoke,
    LocalAssign,
    LocalFunction,
    Name,
    Nil,
    Node,
    Number,
    Repeat,
    Return,
    String,
    TrueExpr,
    Varargs,
    While,
)

from tools.lua.syntax import Symbol, blocks, children, count_again, name_of, replace, walk, walk_all

LOOPS = (Fornum, Forin, While, Repeat)
FUNCTIONS = (LocalFunction, Function, AnonymousFunction)


@dataclass
class Site:
    """A statement that only calls one function, and the list that it is in."""

    statements: list[Node]
    at: Node
    call: Call


def write_in(statements: list[Node]) -> None:
    """Replace calls by bodies until no more can be replaced."""
    refused: set[int] = set()
    while True:
        count_again(statements)
        sites = {id(site.call.func): site for site in _sites(statements)}
        todo: dict[int, tuple[Any, list[Node], Site]] = {}
        for block in blocks(statements):
            for each in block:
                if isinstance(each, LocalFunction) and id(each) not in refused:
                    site = _only_site(each, sites)
                    if site is not None:
                        todo[id(site.call.func)] = (each, block, site)
        if not todo:
            return
        # Functions that call no other of these come first, because a body that is moved takes its statements along.
        for definition, block, site in todo.values():
            if any(id(node) in todo for node in walk(definition.body)):
                continue
            written = _written(definition, site)
            if written is None:
                refused.add(id(definition))
                continue
            place = next(i for i, each in enumerate(site.statements) if each is site.at)
            site.statements[place : place + 1] = written
            block[:] = [each for each in block if each is not definition]


def _only_site(definition: Any, sites: dict[int, Site]) -> Site | None:
    symbol: Symbol = definition.name.symbol
    return sites.get(id(symbol.reads[0])) if len(symbol.reads) == 1 and not symbol.writes else None


def _sites(statements: list[Node]) -> list[Site]:
    found: list[Site] = []
    for each in statements:
        values = each.values if isinstance(each, LocalAssign | Assign | Return) else [each]
        if values and len(values) == 1 and isinstance(values[0], Call) and not values[0].wrapped:
            found.append(Site(statements, each, values[0]))
        for block in _blocks(each):
            found += _sites(block.body)
    return found


def _blocks(node: Node) -> list[Block]:
    """Return the blocks below a node, but not the blocks within these."""
    if isinstance(node, Block):
        return [node]
    return [block for child in children(node) for block in _blocks(child)]


# --- the body in the place of the call --------------------------------------------------------------------------------


def _written(definition: Any, site: Site) -> list[Node] | None:
    body: list[Node] = definition.body.body
    is_end = isinstance(site.at, Return)
    returns = [node for node in walk_all(body) if isinstance(node, Return)]
    is_left_early = [each for each in returns if each is not body[-1]] != []
    if any(isinstance(arg, Varargs) for arg in definition.args) or len(site.call.args) > len(definition.args):
        return None
    if any(isinstance(node, (*FUNCTIONS, Dots)) for node in walk_all(body)):
        return None
    if is_left_early and not is_end and _is_left_from_a_loop(body):
        return None
    begin = _parameters(definition, site.call)
    if is_end:
        end = [] if body and isinstance(body[-1], Return) else [Return([])]
        return [Do(Block([*begin, *body, *end]))]
    targets, before, after = _results(definition, site.at)
    left = [*begin, *_leaving(body, targets, is_last=True)]
    if not is_left_early:
        return [*before, Do(Block(left)), *after]
    return [*before, Repeat(Block([*left, Break()]), TrueExpr()), *after]


def _is_left_from_a_loop(body: list[Node]) -> bool:
    loops = [node for node in walk_all(body) if isinstance(node, LOOPS)]
    return any(isinstance(node, Return) for loop in loops for node in walk(loop))


def _results(definition: Any, at: Node) -> tuple[list[Node], list[Node], list[Node]]:
    """Return the variables for the results, and the statements before and after the body."""
    if isinstance(at, LocalAssign):
        return at.targets, [LocalAssign(at.targets, [])], []
    if isinstance(at, Assign):
        results = [Symbol(f"{definition.name.id}_{i}") for i in range(1, len(at.targets) + 1)]
        targets: list[Node] = [name_of(result) for result in results]
        return targets, [LocalAssign(targets, [])], [Assign(at.targets, [name_of(each) for each in results])]
    return [], [], []


def _leaving(body: list[Node], targets: list[Node], *, is_last: bool) -> list[Node]:
    """Return the body with an assignment and a `break` for each `return`; the last one needs no `break`."""
    left: list[Node] = []
    for i, each in enumerate(body):
        if isinstance(each, Return):
            left += _result(each.values or [], targets)
            left += [] if is_last and i == len(body) - 1 else [Break()]
            continue
        _leave_within(each, targets)
        left.append(each)
    return left


def _leave_within(node: Any, targets: list[Node]) -> None:
    if isinstance(node, If | ElseIf):
        node.body.body[:] = _leaving(node.body.body, targets, is_last=False)
        if isinstance(node.orelse, Block):
            node.orelse.body[:] = _leaving(node.orelse.body, targets, is_last=False)
        elif node.orelse is not None:
            _leave_within(node.orelse, targets)
    elif isinstance(node, Do):
        node.body.body[:] = _leaving(node.body.body, targets, is_last=False)


def _result(values: list[Node], targets: list[Node]) -> list[Node]:
    if targets:
        return [Assign([name_of(target.symbol) for target in targets if isinstance(target, Name)], values or [Nil()])]
    if any(isinstance(node, Call | Invoke) for value in values for node in walk(value)):
        return [LocalAssign([name_of(Symbol("_"))], values)]
    return []


def _parameters(definition: Any, call: Call) -> list[Node]:
    """Return the line that gives a body its parameters. Numbers, and variables that never change, need no line."""
    written = {target.symbol for target in _targets(definition.body.body)}
    plain: dict[Symbol, Node] = {}
    names: list[Node] = []
    values: list[Node] = []
    # A call as the last argument may return several values, which stand for the missing arguments.
    is_open = bool(call.args) and len(call.args) < len(definition.args) and isinstance(call.args[-1], Call | Invoke)
    is_quiet = not is_open and not any(isinstance(node, Call | Invoke) for arg in call.args for node in walk(arg))
    for i, name in enumerate(definition.args):
        value = call.args[i] if i < len(call.args) else None
        is_plain = isinstance(value, Number | String | TrueExpr | FalseExpr | Nil) or (
            isinstance(value, Name) and _stays(value.symbol, call) and value.symbol not in written and is_quiet
        )
        if is_plain and not is_open and name.symbol not in written and i < len(call.args):
            plain[name.symbol] = value
        else:
            names.append(name)
            values += [value] if value is not None else [] if is_open else [Nil()]
    if plain:
        holder = Block(definition.body.body)
        replace(holder, lambda node: _copy(plain[node.symbol]) if _is_one_of(node, plain) else node)
        definition.body.body[:] = holder.body
    return [LocalAssign(names, values)] if names else []


def _stays(symbol: Symbol | None, call: Call) -> bool:
    """Return whether no function that the body calls can change a variable: only the calling function changes it."""
    return symbol is not None and all(write.owner is call.func.owner is symbol.owner for write in symbol.writes)


def _targets(body: list[Node]) -> list[Name]:
    return [
        target
        for node in walk_all(body)
        if type(node) is Assign
        for target in node.targets
        if isinstance(target, Name) and target.symbol is not None
    ]


def _is_one_of(node: Node, plain: dict[Symbol, Node]) -> bool:
    return isinstance(node, Name) and node.symbol in plain


def _copy(node: Node) -> Node:
    if isinstance(node, Name):
        return name_of(node.symbol)
    if isinstance(node, Number):
        return Number(node.n)
    return node
