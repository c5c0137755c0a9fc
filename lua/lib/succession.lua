-- The first producer under an id, the successor of another one, and a producer that asks twice.
local UNHEARD = 2000000         -- longer than a lease and the time that a client takes to find the new primary

local function new_producer(now)
  local producer = {}
  producer.seq, producer.claimed_at, producer.credit, producer.holds = 0, now, 0, 0
  producer.epoch, producer.demand, producer.need, producer.weight, producer.is_under_mark = 0, 0, 0, 0, 1
  producer.holds_until, producer.renewed_second = 0, long_ago(now)
  producer.slot, producer.outage_share = 0, 0
  return producer
end

-- An id belongs to the incarnation that claimed last, as long as its lease is valid.
local function is_owned(producer, budget, incarnation, now)
  return producer.incarnation ~= incarnation and producer.incarnation ~= '' and now >= producer.claimed_at
    and now < math.min(producer.claimed_at + budget.longest_lease, producer.holds_until)
end

-- The next owner of an id, or the same owner in a new life of the budget. Debts stay; tokens and credit do not.
local function successor(producer, budget)
  if producer.birth ~= budget.birth then return nil end
  producer.credit, producer.holds, producer.holds_until = math.min(producer.credit, 0), 0, 0
  return producer
end

-- Nobody was served here for a lease. Another server may have granted all that the bucket held and has earned since. The
-- producers that know of these grants have not all come yet.
local function note_gap(keys, budget, now)
  read_rest(keys, budget)
  budget.unheard_tokens = math.floor(math.max(0, budget.tokens) + budget.rate / MICRO * (now - budget.called_at))
  budget.unheard_until = now + UNHEARD
end

-- A client that saw a higher count of grants than this server knows met a server that has since lost some (a failover). For
-- grants beyond what may have been granted there (`unheard_tokens`), there is only this client's word. They are taken from the
-- bucket as if this producer had claimed them. So they cost its own share, and at most a bucket in advance.
local function repair(budget, producer, seen, now)
  local missing, lost = (seen - budget.granted) * MICRO, 0
  if now < budget.unheard_until then
    lost = math.min(missing, budget.unheard_tokens)
    budget.unheard_tokens = budget.unheard_tokens - lost
  end
  local own = math.min(missing - lost, math.max(0, math.min(budget.tokens - lost, producer.credit + budget.bucket_size)))
  producer.credit = producer.credit - own
  budget.tokens = math.min(budget.tokens, math.max(-budget.bucket_size, budget.tokens - lost - own))
  local total = budget.granted_remainder + lost + own
  if lost + own >= missing then budget.granted, budget.granted_remainder = seen, 0
  else budget.granted, budget.granted_remainder = budget.granted + math.floor(total / MICRO), total % MICRO end
end

-- Grants that a failover has lost are taken from the bucket, and the window counts them as on their way. The first producer
-- that claims may not know of the last of these grants. So a lossless budget waits until it has heard of all of them.
local function make_good(keys, budget, producer, claim, now)
  if tonumber(claim.birth) ~= budget.birth then return end
  read_rest(keys, budget)
  local window, before = budget.window, budget.granted
  repair(budget, producer, claim.granted_total, now)
  if not window then return end
  local missing = math.max(0, budget.granted - before) * MICRO
  turn_window(window, now)
  window.net = window.net + missing
  if window.lossless == 1 and quiet_us(window, now) <= 0 then window.began_at = now end
end

-- The reply to a repeated claim: what it got the first time, and the budget as it is now.
local function remembered(keys, budget, producer, trip)
  local granted, retry, refresh, recommended, fallback, letters, wait
    = unpacked(ANSWER, redis.call('GET', keys.memory), producer.answer_at)
  local reason
  for _, word in ipairs({'ok', 'rate', 'load', 'contended', 'learning', 'window', 'paused', 'no_consumers', 'unset'}) do
    if string.sub(word, 1, 2) == string.sub(letters, 1, 2) then reason = word end
  end
  local is_lossless = budget.window and budget.window.lossless == 1
  return reply(budget, granted, retry, refresh * REFRESHES + (is_lossless and 0 or trip), refresh, recommended, fallback,
               reason or 'ok', wait, producer.birth, producer.birth == budget.birth and budget.granted or 0)
end
