"""The OpenAPI 3.1 document of the API, made from the table of operations."""

from __future__ import annotations

import types
from functools import cache, reduce
from importlib.metadata import version
from operator import or_
from typing import (
    Any,
    Final,
    Literal,
    NotRequired,  # pydantic depends on it
    get_args,
    get_type_hints,
    is_typeddict,
)

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from nexus_redis.errors import LONGEST_KEY, SETTINGS
from nexus_redis.server import texts
from nexus_redis.server.operations import OPERATIONS, OTHERS, Operation
from nexus_redis.server.problems import CONTENT_TYPE, KINDS

ALWAYS: Final = ("invalid-request", "cross-site-request", "wrong-host", "internal-error")
GUARDED: Final = ("not-authenticated", "not-allowed")
WITH_BODY: Final = ("too-slow", "body-too-large", "wrong-content-type")
SCHEMAS: Final = "#/components/schemas/"
QUERY: Final[dict[str, dict[str, Any]]] = {
    "budget": {"description": texts.API_BUDGET, "schema": {"type": "string"}},
    "key": {
        "description": texts.API_KEY, "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    },
}  # fmt: skip
KEYED: Final = ("acquire", "try_")  # operations that an Idempotency-Key may name


@cache
def document() -> dict[str, Any]:
    """Return the document. Do not change it."""
    schemas: dict[str, Any] = {"Problem": _problem()}
    paths: dict[str, Any] = {}
    for each in (*OPERATIONS, *OTHERS):
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nexus-redis", "version": version("nexus-backpressure"), "summary": texts.API_SUMMARY,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": texts.API_TOKEN}},
        },
    }  # fmt: skip


def _operation(each: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": each.handler.rstrip("_"),
        "summary": each.summary,
        "description": texts.API_OPEN if each.is_open else texts.roles_needed(each.roles),
        "parameters": _parameters(each),
        "responses": _responses(each, schemas),
    }
    if each.is_open:
        found["security"] = [{}]
    if each.request is not None:
        is_required = any(field.is_required() for field in each.request.model_fields.values())
        found["requestBody"] = {"required": is_required, "content": _content(_schema(each.request, schemas))}
    return found


def _parameters(each: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{name}" in each.path:
        schema: dict[str, Any] = {"type": "string"}
        found.append({"name": "name", "in": "path", "required": True, "description": texts.API_NAME, "schema": schema})
    found += [{"name": name, "in": "query", **QUERY[name]} for name in each.query]
    if each.handler in KEYED:
        schema = {"type": "string", "maxLength": 255}
        found.append({"name": "Idempotency-Key", "in": "header", "description": texts.API_ONCE, "schema": schema})
    return found


def _responses(each: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status in each.statuses:
        found[str(status)] = {"description": texts.API_DONE}
        if each.answer is not None:
            schema = _schema(each.answer, schemas)
            content = {each.media: {"schema": schema}} if each.media else _content(schema)
            found[str(status)]["content"] = content
    names = [
        *ALWAYS,
        *(() if each.is_open else GUARDED),
        *(WITH_BODY if each.request is not None else ()),
        *each.problems,
    ]
    for status in sorted({KINDS[name].status for name in names}):
        kinds = [name for name in names if KINDS[name].status == status]
        response: dict[str, Any] = {
            "description": "; ".join(dict.fromkeys(f"{name}: {KINDS[name].title}" for name in kinds)),
            "content": {CONTENT_TYPE.decode(): {"schema": {"$ref": f"{SCHEMAS}Problem"}}},
        }
        if status in (429, 503):
            response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": texts.API_RETRY_AFTER}}
        found[str(status)] = response
    return found


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}, "application/msgpack": {"schema": schema}}


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type, and put those that it refers to into `schemas`."""
    found = TypeAdapter(_readable(kind)).json_schema(ref_template=SCHEMAS + "{model}")
    schemas.update(found.pop("$defs", {}))
    name = found.get("title") if found.get("type") == "object" else None
    if not isinstance(name, str):
        return found
    if name == "SetRequest":
        value = {"type": ["number", "string", "boolean", "null"]}
        found["properties"]["settings"] = {
            "type": "object", "properties": dict.fromkeys(SETTINGS, value), "additionalProperties": False,
            "minProperties": 1,
        }  # fmt: skip
    schemas[name] = found
    return {"$ref": SCHEMAS + name}


@cache
def _readable(kind: Any) -> Any:
    """Return a type that pydantic can read: before Python 3.12 it refuses the TypedDict of the standard library."""
    if is_typeddict(kind):
        hints = {
            field: _readable(hint) if field in kind.__required_keys__ else NotRequired[_readable(hint)]
            for field, hint in get_type_hints(kind).items()
        }
        found = TypedDict(kind.__name__, hints)  # type: ignore[misc]  # made at run time
        found.__doc__ = kind.__doc__
        return found
    parts = get_args(kind)
    if isinstance(kind, types.UnionType):
        return reduce(or_, map(_readable, parts))
    return kind if not parts or kind.__origin__ is Literal else kind.__origin__[tuple(map(_readable, parts))]


def _problem() -> dict[str, Any]:
    text, number = {"type": "string"}, {"type": "number"}
    return {
        "type": "object",
        "description": texts.API_PROBLEM,
        "properties": {
            "type": {"type": "string", "enum": [kind.type(name) for name, kind in KINDS.items()]},
            "title": text, "status": {"type": "integer"}, "detail": text, "budget": text, "reason": text,
            "retry_after_ms": number, "field": text, "remedy": text, "code": text,
            "violated-policies": {"type": "array", "items": text},
        },
        "required": ["type", "title", "status", "detail"],
    }  # fmt: skip
