"""The order in which people expect names: `host-2` before `host-10`, as the live page has it, too."""

import re
from functools import lru_cache
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]+(?![a-z0-9])")
_DIGITS: Final = 12


@lru_cache(maxsize=20_000)
def natural(name: str) -> str:
    """Return a text that sorts names as people expect. Digits before a letter, as in a hash, are letters.

    >>> sorted(["host-10", "Host-2", "9f3a", "15b"], key=natural)
    ['15b', '9f3a', 'Host-2', 'host-10']
    """
    return _NUMBER.sub(lambda found: found[0].zfill(_DIGITS), name.casefold())
