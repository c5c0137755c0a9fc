-- The first producer under an id, the successor of another one, and a producer that asks twice.
local UNHEARD = 2000000         -- longer than a lease and the time that a client takes to find the new primary

local function new_producer(now)
  local p = {}
  p.seq, p.at, p.credit, p.holds, p.epoch, p.d, p.n, p.weight, p.under = 0, now, 0, 0, 0, 0, 0, 0, 1
  p.until_us, p.renewed, p.slot, p.share = 0, long_ago(now), 0, 0
  return p
end

-- An id belongs to the incarnation that claimed last, as long as its lease is valid.
local function is_owned(p, b, now)
  return p.incarnation ~= '' and now >= p.at and now < math.min(p.at + b.span, p.until_us)
end

-- The next owner of an id, or the same owner in a new life of the budget. Debts stay; tokens and credit do not.
local function successor(p, b)
  if p.birth ~= b.birth then return nil end
  p.credit, p.holds, p.until_us = math.min(p.credit, 0), 0, 0
  return p
end

-- Nobody was served here for a lease. Another server may have granted all that the bucket held and has earned since. The
-- producers that know of these grants have not all come yet.
local function note_gap(keys, b, now)
  read_rest(keys, b)
  b.unheard, b.unheard_until = math.floor(math.max(0, b.T) + b.R / MICRO * (now - b.at)), now + UNHEARD
end

-- A client that saw a higher count of grants than this server knows met a server that has since lost some (a failover). For
-- grants beyond what may have been granted there (`unheard`), there is only this client's word. They are taken from the
-- bucket as if this producer had claimed them. So they cost its own share, and at most a bucket in advance.
local function repair(b, p, seen, now)
  local missing, lost = (seen - b.granted) * MICRO, 0
  if now < b.unheard_until then
    lost = math.min(missing, b.unheard)
    b.unheard = b.unheard - lost
  end
  local own = math.min(missing - lost, math.max(0, math.min(b.T - lost, p.credit + b.B)))
  p.credit = p.credit - own
  b.T = math.min(b.T, math.max(-b.B, b.T - lost - own))
  local total = b.granted_rest + lost + own
  if lost + own >= missing then b.granted, b.granted_rest = seen, 0
  else b.granted, b.granted_rest = b.granted + math.floor(total / MICRO), total % MICRO end
end

-- Grants that a failover has lost are taken from the bucket, and the window counts them as on their way. The first producer
-- that claims may not know of the last of these grants. So a lossless budget waits until it has heard of all of them.
local function make_good(keys, b, p, seen, now)
  read_rest(keys, b)
  local w, before = b.window, b.granted
  repair(b, p, seen, now)
  if not w then return end
  local missing = math.max(0, b.granted - before) * MICRO
  turn_window(w, now)
  w.net = w.net + missing
  if w.lossless == 1 and quiet_us(w, now) <= 0 then w.born = now end
end

-- The reply to a repeated claim: what it got the first time, and the budget as it is now.
local function remembered(keys, b, p, trip)
  local granted, retry, refresh, recommended, fallback, letters, wait = unpacked(ANSWER, redis.call('GET', keys.memory), p.answer_at)
  local reason
  for _, word in ipairs({'ok', 'rate', 'load', 'contended', 'learning', 'window', 'paused', 'no_consumers', 'unset'}) do
    if string.sub(word, 1, 2) == string.sub(letters, 1, 2) then reason = word end
  end
  local is_lossless = b.window and b.window.lossless == 1
  return reply(b, granted, retry, refresh * REFRESHES + (is_lossless and 0 or trip), refresh, recommended, fallback, reason or 'ok', wait,
               p.birth, p.birth == b.birth and b.granted or 0)
end
