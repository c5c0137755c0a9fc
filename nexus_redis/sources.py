"""Work that lies in Redis itself: a stream's consumer group, a list. Looked at from outside, without its consumers.

A `Source` says what to ask before each report, and makes the report's fields of the answers. No I/O.

    stream   what the group has not read is the depth, what it has read and not acknowledged is in flight, what it has
             read less that is done: all that `drain` needs.
    list     LLEN is the depth, and that is all there is. With a counter that the workers keep it is `drain`, with a
             capacity (or a `rate` on the budget) it is `range`.

**How many entries a group has not read.** Redis 7 says so: `lag`. It is the number of entries ever added less the
number that the group has read, so it is wrong for ever after entries were deleted or trimmed unread (redis#13957,
valkey#1951). Redis 6.2 does not say it. What is there can be counted in any case, and most streams make that cheap:

    few entries behind the last one delivered     counted: that is the depth
    few entries up to the last one delivered      counted: the depth is all others (workers delete what they have done)
    many on both sides                            `lag`, corrected by what it was wrong at the last count

The correction stays right as long as nothing unread is removed. Two looks tell: the length has grown by what was added,
or all that was removed is at or before the last entry that was delivered at the first look. In doubt, and now and then
without, the entries are counted (XRANGE in Redis, at most `COUNT_MOST`; in Redis 6.2 as far as the limit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nexus_redis.calls import Command, Job, text
from nexus_redis.config import parse_limit, parse_number
from nexus_redis.errors import InvalidSetting
from nexus_redis.logs import log
from nexus_redis.values import keyed_name
from nexus_redis.words import printable

NEAR: Final = 50  # entries that are counted at each look
COUNT_MOST: Final = 10_000  # entries that are counted at once, where there is another way
COUNTED_EACH: Final = 40  # looks: a number that somebody gave Redis (XGROUP SETID, XSETID) may be any
UNKNOWN: Final = -1

# KEYS: stream. ARGV: group; how many to count at each look, and at most, and in Redis 6.2; is the correction known; of
# the last look the last entry delivered (or ''), entries read, entries added, length, depth.
# Reply: '' or what is missing; pending; length; the last entry delivered; entries read; entries added; lag (-1 where
# Redis does not say); depth, or -1 where lag and the correction say it; entries delivered since the last look.
LOOK_AT_GROUP: Final = """
local key, group, near, most, most_62 = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local is_known, seen, read_then, added_then = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local length_then, depth_then = tonumber(ARGV[9]), tonumber(ARGV[10])
local function named(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end
local function count(from, to, limit) return #redis.call('XRANGE', key, from, to, 'COUNT', limit) end
local function parts(id)
  local ms, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(number)
end
local function is_at_most(a, b)
  local a_ms, a_number = parts(a)
  local b_ms, b_number = parts(b)
  if math.max(a_ms, a_number, b_ms, b_number) >= 2 ^ 53 then return false end
  return a_ms < b_ms or (a_ms == b_ms and a_number <= b_number)
end

if redis.call('EXISTS', key) == 0 then return {'no stream', 0, 0, '', -1, -1, -1, 0, 0} end
local stream, found = named(redis.call('XINFO', 'STREAM', key)), nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local g = named(flat)
  if g.name == group then found = g end
end
local length = stream.length
if not found then return {'no group', 0, length, '', -1, -1, -1, length, 0} end

local last = found['last-delivered-id']
local read, added, lag = found['entries-read'] or -1, stream['entries-added'] or -1, found.lag or -1
if added < 0 then most = most_62 end
local function is_still_right()
  if is_known ~= '1' or read < 0 or added < added_then or lag < 0 or not is_at_most(seen, last) then return false end
  local new = added - added_then
  if read < read_then or read - read_then > depth_then + new or (read == read_then) ~= (last == seen) then
    return false
  end
  if length_then + new == length then return true end
  return is_at_most(stream['max-deleted-entry-id'], seen) and count('-', seen, 1) == 1
end

local depth = count('(' .. last, '+', near + 1)
if depth > near then
  local before = count('-', last, near + 1)
  if before <= near then
    depth = length - before
  elseif is_still_right() then
    depth = -1
  else
    depth = count('(' .. last, '+', most)
  end
end
local since = 0
if seen ~= '' and (read < 0 or read_then < 0 or read < read_then) then since = count('(' .. seen, last, most) end
return {'', found.pending, length, last, read, added, lag, depth, since}
"""


class Look(NamedTuple):
    """What the script answers."""

    missing: str
    pending: int
    length: int
    last: str
    read: int
    added: int
    lag: int
    depth: int
    since: int


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
        self._then: Look | None = None
        self._depth = 0
        self._excess: int | None = None  # of lag, over what there was at the last count
        self._uncounted = 0  # looks since then
        self._sum = self._done = 0

    def look(self) -> list[Job]:
        then, most_62 = self._then, max(COUNT_MOST, round(self.limit))
        is_known = self._excess is not None and self._uncounted < COUNTED_EACH
        before = (then.last, then.read, then.added, then.length) if then else ("", UNKNOWN, UNKNOWN, UNKNOWN)
        args = (self.key, self.group, NEAR, COUNT_MOST, most_62, int(is_known), *before, self._depth)
        return [Command(("EVAL", LOOK_AT_GROUP, 1, *args), _looked)]

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        now: Look = answers[0]
        self._note_missing(now.missing)
        if now.missing:
            self._then, self._excess = None, None
            depth = now.depth
        else:
            depth = self._depth_at(now)
            self._count_done(now)
            self._then = now
        self._depth = depth
        return {
            "queue_depth": depth, "queue_limit": self.limit, "in_flight": now.pending, "done": self._done, "errors": 0,
        }  # fmt: skip

    def _depth_at(self, now: Look) -> int:
        if now.depth == UNKNOWN:
            self._uncounted += 1
            return min(max(NEAR + 1, now.lag - (self._excess or 0)), now.length - NEAR - 1)
        self._uncounted = 0
        if now.depth < COUNT_MOST or now.added == UNKNOWN:
            self._excess = None if now.lag == UNKNOWN else now.lag - now.depth
            return now.depth
        # There are more than were counted: of so many, those that are wrong are few.
        if now.lag != UNKNOWN:
            self._excess = self._excess or 0
            guess = now.lag - self._excess
        else:
            new = now.added - self._then.added if self._then else 0
            guess = self._depth + new - now.since
        return min(max(now.depth, guess), now.length)

    def _count_done(self, now: Look) -> None:
        """What was delivered and is pending no more. It only grows, whatever happens to the group."""
        then = self._then
        if then is None:
            if self._sum == 0:
                self._sum = max(0, now.read - now.pending)
        else:
            read = now.read - then.read if UNKNOWN not in (now.read, then.read) else UNKNOWN
            there = self._depth + max(0, now.added - then.added)  # no more than these can have been delivered
            since = read if 0 <= read <= there or (read > 0 and now.added == UNKNOWN) else now.since
            newly_pending = now.pending - then.pending
            self._sum += max(since, newly_pending) - newly_pending
        self._done = max(self._done, self._sum)

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


def _looked(reply: Sequence[Any]) -> Look:
    words = [text(word) if isinstance(word, bytes | str) else word for word in reply]
    kinds: Sequence[Callable[[Any], Any]] = [str, int, int, str, int, int, int, int, int]
    return Look(*(kind(word) for kind, word in zip(kinds, words, strict=True)))


def _text(reply: Any) -> str:
    return "0" if reply is None else text(reply)


def _counter(key: str, found: str) -> float:
    try:
        return parse_number("done", float(found))
    except ValueError:  # InvalidSetting is one
        raise InvalidSetting("done", found, f"the key {key} must hold a number that only grows (INCRBY)") from None
