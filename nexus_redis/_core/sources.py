"""Work that is stored in Redis itself, watched from outside: a stream with a consumer group, or a list. No I/O.

A `Source` names the jobs to send before each report, and makes the report's fields from the answers.

    stream   the entries that the group has not read are the depth of the queue. Those that it has read and not
             acknowledged are in flight, and those that it has acknowledged are done: all that `drain` needs.
    list     LLEN is the depth, and Redis says no more. With a counter that the workers keep, the law is `drain`. With a
             capacity (or a `rate` on the budget) it is `range`.

**How many entries a group has not read.** Redis 7 reports it as `lag`: the entries ever added, less those that the
group has read. So `lag` stays wrong forever after entries were deleted or trimmed unread (redis#13957, valkey#1951).
Redis 6.2 does not report it. The entries in the stream can be counted in any case, and in most streams that is cheap:

    few entries after the last one delivered      they are counted: that is the depth
    few entries up to the last one delivered      they are counted: the depth is all others (workers delete done ones)
    many on both sides                            the depth at the look before, corrected by the entries added and
                                                  delivered since

The last way is right as long as no unread entry is removed. Two looks show that: the length has grown by the entries
added, or all removed entries are at or before the last entry that was delivered at the first look. In doubt, and now
and then without a doubt, the entries are counted (XRANGE in Redis), `COUNT_MOST` in a look. The next look goes on where
the one before ended. Until the count is done, the depth is the last known one, at first the lag, and at least the
number counted. Redis 6.2 reports too little for that, so there each look counts as far as the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.plans import Command, Job
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.formatting import printable
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis._values.parse import source_id
from nexus_redis._values.settings import parse_limit, parse_number
from nexus_redis.errors import InvalidSetting

NEAR: Final = 50  # entries that are counted at each look
COUNT_MOST: Final = 5_000  # entries that are counted at once: that takes Redis 5 to 20 ms
COUNTED_EACH: Final = 40  # looks for each COUNT_MOST entries: XGROUP SETID and XSETID can set any number in Redis
UNKNOWN: Final = -1

# KEYS: stream. ARGV: group; how many to count at each look, and at most, and in Redis 6.2; is the depth of the last
# look right; of the last look the last entry delivered (or ''), entries read, entries added, length, depth; the entry
# up to which was counted (or ''), and how many that were.
# Reply: '' or what is missing; pending; length; the last entry delivered; entries read; entries added; lag (-1 where
# Redis does not say); depth, or -1 where the count goes on; entries delivered since the last look; the entry up to
# which was counted, and how many, -1 where nothing had to be counted.
LOOK_AT_GROUP: Final = """
local key, group, near, most, most_62 = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local is_known, seen, read_then, added_then = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local length_then, depth_then = tonumber(ARGV[9]), tonumber(ARGV[10])
local cursor, counted = ARGV[11], tonumber(ARGV[12])
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

if redis.call('EXISTS', key) == 0 then return {'no stream', 0, 0, '', -1, -1, -1, 0, 0, '', 0} end
local stream, found = named(redis.call('XINFO', 'STREAM', key)), nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local g = named(flat)
  if g.name == group then found = g end
end
local length = stream.length
if not found then return {'no group', 0, length, '', -1, -1, -1, length, 0, '', 0} end

local last = found['last-delivered-id']
local read, added, lag = found['entries-read'] or -1, stream['entries-added'] or -1, found.lag or -1
local function is_intact()   -- nothing unread was removed since the last look
  if seen == '' or added < 0 or added < added_then or not is_at_most(seen, last) then return false end
  if length_then + added - added_then == length then return true end
  return is_at_most(stream['max-deleted-entry-id'], seen) and count('-', seen, 1) == 1
end
local function delivered()   -- since the last look; nil where that is too much to count
  local by_group = read - read_then
  if read >= 0 and read_then >= 0 and by_group >= 0 and by_group <= depth_then + added - added_then
    and (by_group == 0) == (last == seen) then
    return by_group
  end
  local there = count('(' .. seen, last, most)
  if there < most then return there end
end

local depth, is_derived = count('(' .. last, '+', near + 1), false
if depth <= near then
  cursor, counted = '', 0
else
  local before = count('-', last, near + 1)
  local gone = before > near and is_intact() and delivered()
  if before <= near then
    depth, cursor, counted = length - before, '', 0
  elseif gone and is_known == '1' then
    depth, cursor, counted, is_derived = depth_then + added - added_then - gone, '', 0, true
  else
    if gone and cursor ~= '' and is_at_most(last, cursor) then
      counted = counted - gone
    else
      cursor, counted = last, 0
    end
    local limit = added < 0 and most_62 or most
    local entries = redis.call('XRANGE', key, '(' .. cursor, '+', 'COUNT', limit)
    counted = counted + #entries
    if #entries < limit or added < 0 then
      depth, cursor = counted, ''
    else
      depth, cursor = -1, entries[#entries][1]
    end
  end
end
local since = 0
if seen ~= '' and (read < 0 or read_then < 0 or read < read_then) then since = count('(' .. seen, last, most) end
return {'', found.pending, length, last, read, added, lag, depth, since, cursor, is_derived and -1 or counted}
"""


class Look(NamedTuple):
    """The answer of the script, whose header describes the fields."""

    missing: str
    pending: int
    length: int
    last: str
    read: int
    added: int
    lag: int
    depth: int
    since: int
    cursor: str = ""
    counted: int = 0


class Source:
    """Work in Redis that is looked at before each report. Sources of the same work have the same `id`."""

    id: str
    missing: str = ""  # what did not exist at the last look: the report carries it, for `explain`

    def look(self) -> list[Job]:
        """Return the jobs to send."""
        raise NotImplementedError

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        """Return the fields of a report, from the answers to these jobs."""
        raise NotImplementedError


class StreamSource(Source):
    """The entries of a stream that a consumer group has not read, and those that it has not acknowledged."""

    def __init__(self, key: object, group: object, limit: object) -> None:
        self.key, self.group, self.limit = _key("key", key), _key("group", group), parse_limit(limit)
        is_plain = "." not in self.key + self.group
        self.id = source_id("stream", f"{self.key}.{self.group}" if is_plain else f"{self.key}:{self.group}")
        self._then: Look | None = None
        self._depth = 0
        self._uncounted = 0  # looks since the entries were counted
        self._sum = self._done = 0

    def look(self) -> list[Job]:
        then, most_62 = self._then, max(COUNT_MOST, round(self.limit))
        is_known = then is not None and then.depth != UNKNOWN
        is_due = self._uncounted >= COUNTED_EACH * max(1, self._depth / COUNT_MOST)
        before: tuple[object, ...] = "", UNKNOWN, UNKNOWN, UNKNOWN, 0, "", 0
        if then is not None:
            before = then.last, then.read, then.added, then.length, self._depth, then.cursor, max(0, then.counted)
        args = (self.key, self.group, NEAR, COUNT_MOST, most_62, int(is_known and not is_due), *before)
        return [Command(("EVAL", LOOK_AT_GROUP, 1, *args), _looked)]

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        now: Look = answers[0]
        self._note_missing(now.missing)
        if now.missing:
            self._then, self._depth = None, now.depth
        else:
            delivered = self._delivered(now)
            depth = self._depth_at(now, delivered)
            self._count_done(now, delivered)
            self._then, self._depth = now, depth
        return {
            "queue_depth": self._depth, "queue_limit": self.limit, "in_flight": now.pending, "done": self._done,
            "errors": 0,
        }  # fmt: skip

    def _depth_at(self, now: Look, delivered: int) -> int:
        self._uncounted = self._uncounted + 1 if now.counted == UNKNOWN else 0
        if now.depth != UNKNOWN:
            return now.depth
        believed = now.lag
        if self._then is not None and (now.since < COUNT_MOST or now.lag == UNKNOWN):
            believed = self._depth + now.added - self._then.added - delivered
        return min(max(now.counted, believed), now.length - NEAR - 1)

    def _delivered(self, now: Look) -> int:
        """Return how many entries were delivered since the last look."""
        then = self._then
        if then is None:
            return 0
        read = now.read - then.read if UNKNOWN not in (now.read, then.read) else UNKNOWN
        there = self._depth + max(0, now.added - then.added)  # no more than these can have been delivered
        return read if 0 <= read <= there or (read > 0 and now.added == UNKNOWN) else now.since

    def _count_done(self, now: Look, delivered: int) -> None:
        """Count the entries that were delivered and are no longer pending. The count never falls."""
        if self._then is None:
            if self._sum == 0:
                self._sum = max(0, now.read - now.pending)
        else:
            newly_pending = now.pending - self._then.pending
            self._sum += max(delivered, newly_pending) - newly_pending
        self._done = max(self._done, self._sum)

    def _note_missing(self, kind: str) -> None:
        """Log what does not exist. It counts as empty, since workers may start later; but the name may be mistyped."""
        what = {"no stream": f"stream {self.key}", "no group": f"group {self.group} of stream {self.key}"}.get(kind, "")
        if what and not self.missing:
            about = log_fields(stream=self.key, group=self.group)
            log.warning(
                log_texts.STREAM_MISSING, printable(what), printable(self.key), printable(self.group), extra=about
            )
        elif self.missing and not what:
            about = log_fields(stream=self.key, group=self.group)
            log.info(log_texts.STREAM_FOUND, printable(self.group), printable(self.key), extra=about)
        self.missing = what


class ListSource(Source):
    """The length of a list, and a counter of the work done, where the workers keep one."""

    def __init__(self, key: object, limit: object, done: object = None) -> None:
        self.key, self.limit = _key("key", key), parse_limit(limit)
        self.done = None if done is None else _key("done", done)
        self.id = source_id("list", self.key)

    def look(self) -> list[Job]:
        length: Job = Command(("LLEN", self.key), int)
        return [length] if self.done is None else [length, Command(("GET", self.done), _text)]

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        said: dict[str, float] = {"queue_depth": answers[0], "queue_limit": self.limit}
        return said if self.done is None else {**said, "done": _counter(self.done, answers[1])}


def _key(field: str, given: object) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidSetting(field, given, error_texts.NO_KEY)
    return given


def _looked(reply: Sequence[Any]) -> Look:
    words = [text(word) if isinstance(word, bytes | str) else word for word in reply]
    kinds: Sequence[Callable[[Any], Any]] = [str, int, int, str, int, int, int, int, int, str, int]
    return Look(*(kind(word) for kind, word in zip(kinds, words, strict=True)))


def _text(reply: Any) -> str:
    return "0" if reply is None else text(reply)


def _counter(key: str, found: str) -> float:
    try:
        return parse_number("done", float(found))
    except ValueError:  # InvalidSetting is one
        raise InvalidSetting("done", found, error_texts.malformed_counter(key)) from None
