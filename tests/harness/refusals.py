"""What a call refuses, by the fields of its error, so that no test repeats the words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nexus_redis import Closed, InvalidSetting


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Return the field and the remedy of the `InvalidSetting` that `call` raises."""
    with pytest.raises(InvalidSetting) as refused:
        call()
    return refused.value.field, refused.value.remedy


def closed(call: Callable[[], object]) -> str:
    """Return what the `Closed` that `call` raises names."""
    with pytest.raises(Closed) as refused:
        call()
    return refused.value.what
