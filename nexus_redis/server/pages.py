"""`/docs`: the API as a page that needs no script, made from the OpenAPI document and the table of problems."""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any, Final

from nexus_redis.server import texts
from nexus_redis.server.openapi import document
from nexus_redis.server.problems import KINDS

METHODS: Final = ("get", "put", "post", "delete")


@cache
def docs_page() -> bytes:
    """Return the page."""
    api = document()
    operations = "".join(
        _operation(method, path, path_item[method])
        for path, path_item in api["paths"].items()
        for method in METHODS
        if method in path_item
    )
    problems = "".join(
        f'<tr id="{name}"><td>{name}</td><td>{kind.status}</td><td>{escape(kind.title)}</td>'
        f"<td>{escape(kind.remedy)}</td></tr>"
        for name, kind in KINDS.items()
    )
    schemas = "".join(_schema(name, schema) for name, schema in api["components"]["schemas"].items())
    return texts.DOCS_PAGE.format(
        version=escape(api["info"]["version"]), operations=operations, problems=problems, schemas=schemas
    ).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    body = ""
    if "requestBody" in operation:
        body = f"<p>Body: {_linked(operation['requestBody']['content']['application/json']['schema'])}</p>"
    rows = "".join(
        f"<tr><td>{status}</td><td>{_linked(_answer_schema(answer))}</td><td>{escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    return (
        f'<section id="{operation["operationId"]}"><h3><code>{method.upper()} {escape(path)}</code></h3>'
        f"<p>{escape(operation['summary'])} {escape(operation['description'])}</p>{body}"
        f"<table><thead><tr><th>Status</th><th>Answer</th><th>Meaning</th></tr></thead><tbody>{rows}</tbody></table>"
        "</section>"
    )


def _answer_schema(answer: dict[str, Any]) -> dict[str, Any]:
    content = answer.get("content", {})
    for kind in ("application/json", "application/problem+json"):
        if kind in content:
            found: dict[str, Any] = content[kind]["schema"]
            return found
    return {}


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_linked(kind)}</td>"
        f"<td>{'yes' if field in required else ''}</td></tr>"
        for field, kind in schema.get("properties", {}).items()
    )
    text = escape(schema.get("description", "").replace("`", ""))
    return (
        f'<section id="schema-{escape(name)}"><h3>{escape(name)}</h3><p>{text}</p>'
        f"<table><thead><tr><th>Field</th><th>Type</th><th>Required</th></tr></thead><tbody>{rows}</tbody></table>"
        "</section>"
    )


def _linked(schema: dict[str, Any]) -> str:
    """Return a type in words, with links to those that have a section."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_linked(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(escape(str(each)) for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_linked(schema.get('items', {}))}"
    kind = schema.get("type", "")
    limits = [f"{sign} {schema[key]:g}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return escape(" ".join([kind if isinstance(kind, str) else " or ".join(kind), *limits]))
