"""`@budget.limited`: each call of a function takes tokens first. No I/O; a face gives its own `acquire`.

The tokens are taken before the body runs; for a generator, when its first item is asked for. They are spent even if the
body raises. The wrapper is of the same kind as the function that it wraps (`inspect` says so too), with the same name,
signature and docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeVar

from nexus_redis._values import error_texts
from nexus_redis._values.cost import Cost, is_async, price_of
from nexus_redis.errors import InvalidSetting

F = TypeVar("F", bound=Callable[..., Any])


def decorator(cost: Cost, wrap: Callable[[Any, Callable[..., float]], Any]) -> Callable[[F], F]:
    """Return the decorator `limited(cost=...)`. It checks when it decorates, so that a mistake shows at import."""
    price = price_of(cost)

    def decorate(function: F) -> F:
        given: object = function
        if isinstance(given, int | float):
            raise InvalidSetting("limited", given, error_texts.limited_by_position(given))
        if not callable(given) or isinstance(given, staticmethod):  # called by its class, its wrapper would be a method
            raise InvalidSetting("limited", type(given).__name__, error_texts.LIMITED_IS_NOT_A_FUNCTION)
        wrapped: F = wrap(function, price)
        return wrapped

    return decorate


def limited_sync(function: Any, price: Callable[..., float], acquire: Callable[[float], object]) -> Any:
    """Wrap a def or a generator so that it takes its tokens by a blocking `acquire`."""
    if is_async(function):
        raise InvalidSetting("limited", _name(function), error_texts.ASYNC_LIMITED)
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generate(*args: Any, **given: Any) -> Generator[Any, Any, Any]:
            if (tokens := price(*args, **given)) > 0:
                acquire(tokens)
            result: Any = yield from function(*args, **given)
            return result

        return generate

    @wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        if (tokens := price(*args, **given)) > 0:
            acquire(tokens)
        return function(*args, **given)

    return call


def limited_async(function: Any, price: Callable[..., float], acquire: Callable[[float], Awaitable[object]]) -> Any:
    """Wrap an async def or an async generator so that it takes its tokens by an awaited `acquire`."""
    if not is_async(function):
        raise InvalidSetting("limited", _name(function), error_texts.SYNC_LIMITED)
    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def generate(*args: Any, **given: Any) -> AsyncIterator[Any]:
            if (tokens := price(*args, **given)) > 0:
                await acquire(tokens)
            async with aclosing(function(*args, **given)) as items:
                try:
                    item = await anext(items)
                    while True:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:  # noqa: BLE001  # thrown in: it is the wrapped one's to handle
                            item = await items.athrow(error)
                        else:
                            item = await items.asend(sent)
                except StopAsyncIteration:
                    return

        return generate

    @wraps(function)
    async def call(*args: Any, **given: Any) -> Any:
        if (tokens := price(*args, **given)) > 0:
            await acquire(tokens)
        return await function(*args, **given)

    return call


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
