"""Ids of producers and consumers. An id belongs to the incarnation that claimed last, as long as its lease lives."""

from __future__ import annotations

import os
import re
from functools import cache


class Identity:
    """The identity of a member in Redis: its id, given or generated, and an incarnation for each stay.

    In a forked child, and after it has left, a member is a new one. So the incarnation is drawn when a stay begins, and
    an id that the caller did not give when it is first read.
    """

    __slots__ = ("_given", "_id", "has_warned", "incarnation")

    def __init__(self, given: str | None) -> None:
        self._given = self._id = given
        self.incarnation = ""
        self.has_warned = False

    @property
    def id(self) -> str:
        """Return the id in Redis, and generate it if none was given."""
        if self._id is None:
            self._id = default_id()
        return self._id

    def begin(self) -> str:
        """Begin a new stay, and return its incarnation."""
        self.incarnation = _letters(8)
        return self.incarnation

    def rename(self) -> str:
        """Take another id with a suffix, because this one is taken. Return the one that was taken."""
        taken = self.id
        self._id = f"{(self._given or taken)[:59]}.{_letters(2)}"
        return taken

    def after_fork(self) -> None:
        """Forget a generated id in a forked child; the parent keeps it."""
        self._id = self._given


def default_id() -> str:
    """Return `host-pid-random`. The host is its first label, at most 40 characters, with "-" for invalid ones."""
    return f"{_host()}-{os.getpid()}-{_letters(3)}"


@cache
def whoami() -> str:
    """Return the user and the host for the history:

    `anna@ops1`, also behind sudo. A user without a name is a number.
    """
    names = (os.environ.get(name, "") for name in ("SUDO_USER", "LOGNAME", "USER", "USERNAME"))
    user = next((name for name in names if name), "")
    if not user:
        try:
            import pwd  # not on Windows

            user = pwd.getpwuid(os.getuid()).pw_name
        except (ImportError, KeyError):  # a user in a container may have no name
            user = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{user}@{_host()}"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", _hostname().split(".")[0])[:40].lstrip("._-") or "host"


def _hostname() -> str:
    uname = getattr(os, "uname", None)  # not on Windows
    return uname().nodename if uname is not None else os.environ.get("COMPUTERNAME", "")


def _letters(size: int) -> str:
    return os.urandom(size).hex()  # like secrets.token_hex, which is slow to import
