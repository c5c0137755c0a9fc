"""Who may call: bearer tokens with roles and budget patterns, of which a file holds the hashes.

    # name     hash of the token                roles                budgets
    grafana    sha256:5f1c0d...                 observer             *
    shop       sha256:9b02aa...                 producer             stripe,stripe/*
    anna       sha256:e3771b...                 operator             *

`nexus-redis token` makes a token, shows it once, and adds its line. A token is 256 random bits, so a plain SHA-256 is
enough. The file is read again when it has changed, so a line that is removed ends a token within a second.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, TypedDict

from nexus_redis.errors import InvalidSetting
from nexus_redis.server import texts
from nexus_redis.server.problems import Problem
from nexus_redis.server.trouble import Trouble

OBSERVER, PRODUCER, CONSUMER, OPERATOR = "observer", "producer", "consumer", "operator"
ROLES: Final = (OBSERVER, PRODUCER, CONSUMER, OPERATOR)
EVERY: Final = "*"  # the pattern of all budgets
PREFIX: Final = "nxr_"
HASH: Final = "sha256:"
LOOK_EACH: Final = 1.0  # seconds between two looks at the file
_LINE: Final = re.compile(r"(\S+)\s+sha256:([0-9a-f]{64})\s+(\S+)\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller as its token says: a name, roles, and the patterns of the budgets that it may use."""

    name: str
    roles: frozenset[str]
    patterns: tuple[str, ...]

    def may(self, role: str, budget: str | None = None) -> bool:
        """Return whether it may act in a role, on a budget. An operator may do everything."""
        return (role in self.roles or OPERATOR in self.roles) and (budget is None or self.sees(budget))

    def sees(self, budget: str) -> bool:
        """Return whether a budget is one of its own.

        >>> Caller("shop", frozenset(["producer"]), ("stripe", "stripe/*")).sees("stripe/cust-42")
        True
        """
        return any(pattern == EVERY or fnmatchcase(budget, pattern) for pattern in self.patterns)

    def require(self, role: str, budget: str | None = None) -> None:
        """Raise the problem `not-allowed` unless it may act in a role, on a budget."""
        if not self.may(role, budget):
            raise Problem("not-allowed", texts.not_allowed(self.name, role, budget))


class WhoamiJson(TypedDict):
    """What a caller may do: its roles and its patterns of budgets. `needs_token` is false where everybody may call."""

    name: str
    roles: list[str]
    budgets: list[str]
    needs_token: bool


ANYONE: Final = Caller("", frozenset(ROLES), ("*",))  # where no tokens are needed


class Access:
    """The tokens of a file. Without a file, every caller is `ANYONE`."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._callers = path, dict[str, Caller]()
        self._stamp: tuple[float, int] | None = None
        self._looks_at = 0.0
        self._trouble = Trouble("tokens_file_unreadable", texts.TOKENS_KEPT, texts.TOKENS_READ)
        if path is not None:
            self._read(path)

    @property
    def needs_token(self) -> bool:
        """Return whether a caller must show a token."""
        return self._path is not None

    def caller(self, authorization: bytes | None) -> Caller:
        """Return the caller that an `Authorization` header names. Raise the problem `not-authenticated`."""
        if self._path is None:
            return ANYONE
        if time.monotonic() >= self._looks_at:
            self._read(self._path)
        scheme, _, token = (authorization or b"").partition(b" ")
        found = self._callers.get(hashlib.sha256(token.strip()).hexdigest()) if scheme.lower() == b"bearer" else None
        if found is None:
            challenge = [(b"www-authenticate", b'Bearer realm="nexus-redis"')]
            raise Problem(
                "not-authenticated", texts.WRONG_TOKEN if authorization else texts.NO_TOKEN, headers=challenge
            )
        return found

    def is_still(self, caller: Caller, authorization: bytes | None) -> bool:
        """Return whether a header still names a caller that was found before, with the same rights."""
        try:
            return self.caller(authorization) == caller
        except Problem:
            return False

    def _read(self, path: Path) -> None:
        """Read the file if it has changed. Keep the tokens that are known while it cannot be read."""
        self._looks_at = time.monotonic() + LOOK_EACH
        try:
            found = path.stat()
            stamp = (found.st_mtime, found.st_size)
            if stamp != self._stamp:
                self._callers, self._stamp = read(path), stamp
            self._trouble.end()
        except (OSError, InvalidSetting) as error:
            if self._stamp is None:
                raise InvalidSetting("tokens", str(path), texts.tokens_unreadable(str(error))) from None
            self._trouble.note(str(error))


def read(path: Path) -> dict[str, Caller]:
    """Return the callers of a file by the hash of their token. Raise `OSError`, or `InvalidSetting` for its content."""
    try:
        return parsed(path.read_text("utf-8"), path)
    except UnicodeDecodeError as error:
        raise InvalidSetting("tokens", str(path), texts.tokens_unreadable(str(error))) from None


def parsed(text: str, path: Path) -> dict[str, Caller]:
    """Return the callers of a file by the hash of their token. Raise `InvalidSetting`, which names the line."""
    callers: dict[str, Caller] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        roles = frozenset(match[3].split(",")) if match else frozenset[str]()
        if match is None or not roles <= set(ROLES):
            raise InvalidSetting("tokens", f"{path}:{number}", texts.token_line(ROLES))
        callers[match[2]] = Caller(match[1], roles, tuple(match[4].split(",")))
    return callers


def new_token(name: str, roles: Iterable[str], patterns: Iterable[str]) -> tuple[str, str]:
    """Return a new token, and the line of it for the file."""
    token = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    return token, f"{name} {HASH}{digest} {','.join(roles)} {','.join(patterns)}"
