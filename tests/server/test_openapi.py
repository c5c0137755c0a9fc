"""The API keeps to its OpenAPI document: schemathesis calls every operation with what the document allows, and with
what it does not allow, and looks at the answers. No answer may be a 500, or one that the document does not describe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from nexus_redis.server.openapi import document
from nexus_redis.server.operations import OPERATIONS, OTHERS
from tests.harness.support import PATIENCE
from tests.server.served import Served

CHECKS: Final = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance, checks.response_headers_conformance, checks.negative_data_rejection,
]  # fmt: skip
KNOWN: Final = "pay"  # a budget that is there: a made-up name is unknown, and most operations end with that
NAMES: Final = ("budget", "consumer_id")  # the fields of bodies that name it
FINITE: Final = [each for each in (*OPERATIONS, *OTHERS) if each.path != "/v1/events"]
LONGEST_MS: Final = 5.0  # that a call may wait for tokens
SETTINGS: Final = st.fixed_dictionaries({}, optional={
    "rate": st.sampled_from([0, 5, "100/s", "1e3/min", None]),
    "min_rate": st.sampled_from([0, 1, None]),
    "burst": st.sampled_from([0, 0.5, "2s", None]),
    "law": st.sampled_from(["range", "drain", "aimd", None]),
    "combine": st.sampled_from(["sum", "spread", "min", None]),
    "lossless": st.booleans(),
})  # fmt: skip
Calls = Counter[tuple[str, int]]


def operations(served: Served) -> Iterator[APIOperation[Any, Any, Any, Any]]:
    """Every operation that the server's document describes, but for the stream that has no end."""
    schema = schemathesis.openapi.from_url(f"{served.address}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # of a document that is valid
        if operation.path != "/v1/events":
            yield operation


def aimed(case: Case[Any], settings_asked: Any) -> Case[Any]:
    """A case about a budget that is there, with a short deadline; a PUT with settings that there are."""
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = KNOWN
        case.query.pop("key", None)
    if isinstance(case.body, dict):
        case.body.pop("key", None)
        case.body.update({name: KNOWN for name in NAMES if name in case.body})
        if case.path == "/v1/report":  # most of what the schema allows contradicts itself: done that fell, and the like
            known = ("action", "consumer_id", "instance_id", "labels", "queue_depth")
            case.body = {name: value for name, value in case.body.items() if name in known} | {
                "load": 50,
                "capacity": 9,
            }
        if "settings" in case.body and settings_asked:
            case.body["settings"] = settings_asked
    return case


def called(served: Served, examples: int) -> Calls:
    """Call every operation, `examples` times in each of three ways, and count the answers by status."""
    answers: Calls = Counter()
    for operation in operations(served):
        as_said = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        ways = [as_said, st.builds(aimed, as_said, SETTINGS)]
        if operation.path_parameters or operation.body:  # nothing else can be said wrongly
            ways.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        for way in ways:
            call(served, operation.label, way, examples, answers)
    return answers


def call(served: Served, label: str, way: st.SearchStrategy[Case[Any]], examples: int, answers: Calls) -> None:
    """Call one operation in one way."""

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(way)
    def each(case: Case[Any]) -> None:
        if isinstance(case.body, dict) and case.path == "/v1/acquire":
            wait = case.body.get("timeout_ms")
            if wait is None or isinstance(wait, int | float):  # without one, a large cost waits for half a minute
                case.body["timeout_ms"] = LONGEST_MS if wait is None else min(wait, LONGEST_MS)
        if case.method == "DELETE":
            served.put(KNOWN, rate=1e6)
        answer = case.call(timeout=PATIENCE)
        answers[label, answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    served.put(KNOWN, rate=1e6)
    each()


def test_the_document_is_openapi() -> None:
    """The document is valid OpenAPI 3.1, and each schema in it is valid JSON Schema."""
    found = document()
    schemathesis.openapi.from_dict(found).validate()
    for schema in found["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    assert {each.handler.rstrip("_") for each in (*OPERATIONS, *OTHERS)} == {
        operation["operationId"] for path in found["paths"].values() for operation in path.values()
    }


def test_answers_are_as_documented(served: Served) -> None:
    """Every operation answers hundreds of right and wrong calls as the document says, and none with a 500."""
    answers = called(served, 12)
    print(answers.total(), "calls")
    assert answers.total() >= 300
    done = {label for label, status in answers if status < 300}
    assert done == {f"{each.method} {each.path}" for each in FINITE}, "some operations were always refused"


@pytest.mark.soak
def test_thousands_of_calls(served: Served) -> None:
    """The same with thousands of calls."""
    answers = called(served, 400)
    print(answers.total(), "calls")
    assert answers.total() >= 5_000
