-- Who comes first under an id, who comes after another, and who asks twice.

local function new_producer(now)
  local p = {}
  p.seq, p.at, p.credit, p.holds, p.epoch, p.d, p.n, p.weight, p.under = 0, now, 0, 0, 0, 0, 0, 0, 1
  p.until_us, p.renewed, p.slot, p.share = 0, long_ago(now), 0, 0
  return p
end

-- An id belongs to the incarnation that claimed last, while its lease lives.
local function is_owned(p, b, now)
  return p.incarnation ~= '' and now >= p.at and now < math.min(p.at + b.span, p.until_us)
end

-- The next owner of an id, or the same one in a new life of the budget: debts go on, tokens and credit do not.
local function successor(p, b)
  if p.birth ~= b.birth then return nil end
  p.credit, p.holds, p.until_us = math.min(p.credit, 0), 0, 0
  return p
end

-- The reply to the same claim once more.
local function remembered(keys, p)
  local bytes = redis.call('HGET', keys.member, 'answer')
  local granted, retry, refresh, recommended, fallback, R, level, load, total, letters, lossless, B, wait = unpacked(ANSWER, bytes)
  local reason
  for _, word in ipairs({'ok', 'rate', 'load', 'contended', 'learning', 'window', 'paused', 'no_consumers', 'unset'}) do
    if string.sub(word, 1, 2) == string.sub(letters, 1, 2) then reason = word end
  end
  return reply(granted, retry, refresh, recommended, fallback, R, level, load, total, reason, lossless, B, wait, p.birth)
end
