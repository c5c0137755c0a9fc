"""Work that lies in Redis itself: a stream's consumer group, a list. Looked at from outside, without its consumers.

A `Source` says what to ask before each report, and makes the report's fields of the answers. No I/O.

    stream   lag (not read yet) is the depth, pending (read, not acknowledged) is in flight, read less pending is done:
             all that `drain` needs. Redis 6.2 knows neither lag nor entries-read, nor does a later one after XDEL or
             XGROUP SETID: then the entries are counted in Redis (XRANGE, without their contents).
    list     LLEN is the depth, and that is all there is. With a counter that the workers keep it is `drain`, with a
             capacity (or a `rate` on the budget) it is `range`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nexus_redis.calls import Command, Job, text
from nexus_redis.config import parse_limit, parse_number
from nexus_redis.errors import InvalidSetting
from nexus_redis.logs import log
from nexus_redis.values import keyed_name
from nexus_redis.words import printable

COUNT_AT_LEAST: Final = 10_000  # entries that may be read between two looks and are still counted one by one

# KEYS: stream; ARGV: group, the last id that was seen as delivered, how far to count.
# Reply: which kind of answer; pending; lag or count; entries read in all, or since that id; the last id delivered.
LOOK_AT_GROUP: Final = """
local key, group, seen, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', key) == 0 then return {'no stream', 0, 0, 0, ''} end
local found
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local g = {}
  for i = 1, #flat, 2 do g[flat[i]] = flat[i + 1] end
  if g.name == group then found = g end
end
if not found then return {'no group', 0, redis.call('XLEN', key), 0, ''} end
local last = found['last-delivered-id']
if found.lag and found['entries-read'] then
  return {'told', found.pending, found.lag, found['entries-read'], last}
end
local function between(from, to) return #redis.call('XRANGE', key, '(' .. from, to, 'COUNT', most) end
return {'counted', found.pending, between(last, '+'), seen ~= '' and between(seen, last) or 0, last}
"""


class Source:
    """Something to look at before each report. `id`: whoever looks at the same has the same."""

    id: str
    missing: str = ""  # what was not there at the last look: goes with the report, and `explain` says so

    def look(self) -> list[Job]:
        """What to ask."""
        raise NotImplementedError

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        """The report's fields."""
        raise NotImplementedError


class StreamSource(Source):
    """The entries of a stream that a consumer group has not read, and those that it has not acknowledged."""

    def __init__(self, key: object, group: object, limit: object) -> None:
        self.key, self.group, self.limit = _key("key", key), _key("group", group), parse_limit(limit)
        is_plain = "." not in self.key + self.group
        self.id = keyed_name("stream", f"{self.key}.{self.group}" if is_plain else f"{self.key}:{self.group}")
        self._last = ""
        self._kind = ""
        self._read = self._done = self._offset = 0

    def look(self) -> list[Job]:
        most = max(COUNT_AT_LEAST, round(self.limit))
        return [Command(("EVAL", LOOK_AT_GROUP, 1, self.key, self.group, self._last, most), _looked)]

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        kind, pending, depth, read, last = answers[0]
        self._note_missing(kind)
        self._read = read if kind == "told" else self._read + read
        if kind != self._kind:  # what was done goes on from where it was, whatever it is counted by from now on
            self._offset = self._done - (self._read - pending) if self._kind or kind == "counted" else 0
        self._kind, self._last = kind, last
        self._done = max(0, self._read - pending + self._offset)
        return {
            "queue_depth": depth, "queue_limit": self.limit, "in_flight": pending, "done": self._done, "errors": 0,
        }  # fmt: skip

    def _note_missing(self, kind: str) -> None:
        """It counts as empty: workers may start later. It is said, too, since a slip of the pen looks the same."""
        what = {"no stream": f"stream {self.key}", "no group": f"group {self.group} of stream {self.key}"}.get(kind, "")
        if what and not self.missing:
            log.warning(
                "watch_stream: there is no %s; until there is, nothing in it counts as read or done "
                "(XGROUP CREATE %s %s 0 MKSTREAM makes both)",
                printable(what), printable(self.key), printable(self.group),
            )  # fmt: skip
        elif self.missing and not what:
            log.info("watch_stream: there is a group %s of stream %s now", printable(self.group), printable(self.key))
        self.missing = what


class ListSource(Source):
    """The length of a list, and a counter of what was done, where there is one."""

    def __init__(self, key: object, limit: object, done: object = None) -> None:
        self.key, self.limit = _key("key", key), parse_limit(limit)
        self.done = None if done is None else _key("done", done)
        self.id = keyed_name("list", self.key)

    def look(self) -> list[Job]:
        length: Job = Command(("LLEN", self.key), int)
        return [length] if self.done is None else [length, Command(("GET", self.done), _text)]

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        said: dict[str, float] = {"queue_depth": answers[0], "queue_limit": self.limit}
        return said if self.done is None else {**said, "done": _counter(self.done, answers[1])}


def _key(field: str, given: object) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidSetting(field, given, "use the name that it has in Redis")
    return given


def _looked(reply: Sequence[Any]) -> tuple[str, int, int, int, str]:
    kind, pending, depth, read, last = (text(word) if isinstance(word, bytes | str) else word for word in reply)
    return str(kind), int(pending), int(depth), int(read), str(last)


def _text(reply: Any) -> str:
    return "0" if reply is None else text(reply)


def _counter(key: str, found: str) -> float:
    try:
        return parse_number("done", float(found))
    except ValueError:  # InvalidSetting is one
        raise InvalidSetting("done", found, f"the key {key} must hold a number that only grows (INCRBY)") from None
