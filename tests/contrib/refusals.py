"""What a helper says about a value that it refuses, by field and remedy instead of by prose."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nexus_redis import InvalidSetting
from nexus_redis.contrib import _texts


def refusal(make: Callable[[], object]) -> tuple[str, str]:
    """Call `make` and return the field and the remedy of the `InvalidSetting` that it raises."""
    with pytest.raises(InvalidSetting) as caught:
        make()
    return caught.value.field, caught.value.remedy


def wrong_kind(kind: str, face: str) -> str:
    """Return the remedy for an object that is not a `kind` of `face`, sync or async."""
    module = {"sync": "nexus_redis", "async": "nexus_redis.asyncio"}[face]
    return _texts.wrong_kind(kind, module)
