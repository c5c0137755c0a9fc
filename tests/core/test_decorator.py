"""`@budget.limited` without a budget: what is taken when, and that the wrapper is what it wraps."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from typing import Any

import pytest

from nexus_redis import InvalidSetting
from nexus_redis._api.decorator import F, decorator, limited_async, limited_sync
from nexus_redis._values import error_texts
from tests.harness.support import run

taken: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    taken.clear()


async def acquire(cost: float) -> None:
    taken.append(cost)


def limited(cost: Any = 1) -> Callable[[F], F]:
    return decorator(cost, lambda function, price: limited_sync(function, price, taken.append))


def limited_aio(cost: Any = 1) -> Callable[[F], F]:
    return decorator(cost, lambda function, price: limited_async(function, price, acquire))


def test_a_call_takes_its_tokens_first() -> None:
    """A call takes its tokens before its body runs."""

    @limited(2)
    def send(record: str, *, times: int = 1) -> str:
        """Sends."""
        taken.append(record)
        return record * times

    assert send("a", times=2) == "aa"
    assert taken == [2, "a"]
    assert (send.__name__, send.__doc__) == ("send", "Sends.")
    assert str(inspect.signature(send)) == "(record: 'str', *, times: 'int' = 1) -> 'str'"


def test_the_cost_may_be_a_function() -> None:
    """The cost may be a function of the arguments of the call."""

    class Store:
        @limited(lambda _self, rows, **_: len(rows))
        def insert(self, rows: list[int], table: str = "t") -> str:
            return table

    assert Store().insert([1, 2, 3], table="x") == "x"
    assert taken == [3]


def test_a_generator_stays_a_generator() -> None:
    """A generator takes the tokens with its first item and stays a generator."""

    @limited(5)
    def rows() -> Generator[Any, Any, str]:
        sent = yield 1
        try:
            yield sent
        except KeyError:
            yield "caught"
        return "end"

    assert inspect.isgeneratorfunction(rows)
    it: Any = rows()
    assert taken == []
    assert (next(it), it.send("two"), it.throw(KeyError()), taken) == (1, "two", "caught", [5])
    with pytest.raises(StopIteration, match="end"):
        next(it)


def test_async_functions_keep_their_kind() -> None:
    """A coroutine function and an async generator stay what they are."""
    closed: list[bool] = []

    @limited_aio(lambda n: n)
    async def send(n: int) -> int:
        return n

    @limited_aio(5)
    async def rows() -> AsyncIterator[Any]:
        try:
            sent = yield 1
            try:
                yield sent
            except KeyError:
                yield "caught"
            yield "last"
        finally:
            closed.append(True)

    async def main() -> None:
        assert inspect.iscoroutinefunction(send)
        assert inspect.isasyncgenfunction(rows)
        assert await send(3) == 3
        it: Any = rows()
        assert [await anext(it), await it.asend("two"), await it.athrow(KeyError())] == [1, "two", "caught"]
        assert taken == [3, 5]
        await it.aclose()
        assert closed == [True]
        assert [item async for item in rows()] == [1, None, "last"]

    run(main())


def test_a_generator_takes_one_token() -> None:
    """A generator costs one token unless its cost is given, as a function does."""

    @limited()
    def rows() -> Generator[int, None, None]:
        yield 1

    @limited_aio()
    async def rows_aio() -> AsyncIterator[int]:
        yield 1

    async def main() -> list[int]:
        return [item async for item in rows_aio()]

    assert list(rows()) == run(main()) == [1]
    assert taken == [1, 1]


async def async_def() -> None: ...


class AsyncCallable:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("function", [async_def, AsyncCallable(), partial(async_def)])
def test_a_blocking_function_is_refused(function: Any) -> None:
    """A function that would block a loop is refused when it is decorated."""
    with pytest.raises(InvalidSetting) as refused:
        limited()(function)
    assert (refused.value.field, refused.value.remedy) == ("limited", error_texts.ASYNC_LIMITED)
    assert limited_aio()(function)


def test_mistakes_show_at_decoration() -> None:
    """Mistakes show when the function is decorated."""
    with pytest.raises(InvalidSetting) as refused:
        limited_aio()(len)
    assert (refused.value.field, refused.value.remedy) == ("limited", error_texts.SYNC_LIMITED)
    with pytest.raises(InvalidSetting) as refused:
        limited(-1)
    assert refused.value.field == "cost"
    with pytest.raises(InvalidSetting) as refused:
        limited()(property(len))  # type: ignore[type-var]  # the mistake
    assert (refused.value.field, refused.value.remedy) == ("limited", error_texts.LIMITED_IS_NOT_A_FUNCTION)
    with pytest.raises(InvalidSetting) as refused:
        limited()(staticmethod(len))
    assert (refused.value.field, refused.value.remedy) == ("limited", error_texts.LIMITED_IS_NOT_A_FUNCTION)
    with pytest.raises(InvalidSetting) as refused:
        limited()(5)  # type: ignore[type-var]  # the mistake: `@budget.limited(5)`
    assert (refused.value.field, refused.value.remedy) == ("limited", error_texts.limited_by_position(5))


def test_a_free_call_runs() -> None:
    """A call that costs nothing takes no tokens and runs."""

    @limited(len)
    def insert(rows: list[int]) -> str:
        return "done"

    @limited(len)
    def rows(of: list[int]) -> Generator[int, None, None]:
        yield 1

    @limited_aio(len)
    async def send(rows: list[int]) -> str:
        return "sent"

    @limited_aio(len)
    async def items(of: list[int]) -> AsyncIterator[int]:
        yield 2

    async def both() -> list[Any]:
        return [await send([]), *[item async for item in items([])]]

    assert (insert([]), list(rows([])), run(both()), taken) == ("done", [1], ["sent", 2], [])


def test_a_cost_function_may_return_a_bool() -> None:
    """A cost function may answer yes or no."""

    @limited(lambda path: path != "/health")
    def get(path: str) -> str:
        return path

    assert [get("/health"), get("/cart")] == ["/health", "/cart"]
    assert taken == [1]


@pytest.mark.parametrize("answer", [float("nan"), -1, "3", None, 1e10])
def test_a_failing_cost_stops_the_body(answer: Any) -> None:
    """What a cost function raises reaches the caller, and the body does not run."""

    @limited(lambda: answer)
    def send() -> None:
        taken.append("sent")

    with pytest.raises(InvalidSetting) as refused:
        send()
    assert refused.value.field == "cost"
    assert taken == []


def test_an_async_cost_function_is_refused() -> None:
    """An async cost function is refused when the function is decorated."""

    async def cost() -> float:
        return 1.0

    for decorate in (limited, limited_aio):
        with pytest.raises(InvalidSetting) as refused:
            decorate(cost)
        assert (refused.value.field, refused.value.remedy) == ("cost", error_texts.COST_IS_ASYNC)
