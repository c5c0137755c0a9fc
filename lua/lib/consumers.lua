-- What each consumer contributes to the budget lies in sorted sets of fixed names, never only in its own hash: whoever
-- comes by may take out one that fell silent. Sums are kept in b.parts; the least and the highest are ZRANGE 0 0.
--
-- A consumer is live until its deadline, then silent for ten seconds (work may still be sent to it), then forgotten. Its
-- score in `consumers` is the end of the state it is in; it is live while it has a rate.
local SWEPT_PER_CALL = 16

local function score(key, id)
  local text = redis.call('ZSCORE', key, id)
  return text and tonumber(text) or nil
end

local function read_parts(text)
  local p = text and numbers(text) or {0, 0, 0, 0, 0, 0, 0, 0}
  return {live = p[1], rate = p[2], capacity = p[3], load = p[4], free = p[5], arrivals = p[6], load_level = p[7],
          noted = p[8]}
end
local function parts_text(p)
  return packed({p.live, p.rate, p.capacity, p.load, p.free, p.arrivals, p.load_level, p.noted})
end

-- Sums weigh load (thousandths of a percent) with whole tokens of capacity, so that they stay exact.
local function weight_of(capacity) return ceil(capacity / MICRO) end

-- Takes a consumer's rate and load out; what it can hold stays while work may still be on its way there.
local function withdraw_rate(keys, parts, id)
  local rate = score(keys.rates, id)
  if not rate then return end
  local capacity, load, ratio = score(keys.capacities, id) or 0, score(keys.loads, id) or 0, score(keys.ratios, id)
  parts.live = parts.live - 1
  parts.rate = parts.rate - rate
  parts.capacity = parts.capacity - weight_of(capacity)
  parts.load = parts.load - weight_of(capacity) * load
  if ratio and ratio > 0 then parts.arrivals = parts.arrivals - rate / ratio end
  for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do redis.call('ZREM', key, id) end
  if parts.live <= 0 then parts.live, parts.rate, parts.capacity, parts.load, parts.arrivals = 0, 0, 0, 0, 0 end
end

local function withdraw_space(keys, parts, id)
  local free = score(keys.frees, id)
  if free then parts.free = parts.free - free end
  redis.call('ZREM', keys.frees, id)
  redis.call('ZREM', keys.edges, id)
end

local function withdraw_consumer(keys, parts, id)
  withdraw_rate(keys, parts, id)
  withdraw_space(keys, parts, id)
  redis.call('ZREM', keys.consumers, id)
end

-- part: {rate, capacity, load, free or nil, edge or nil, arrivals}; rates and space in micro, load in thousandths of a percent.
local function contribute(keys, parts, id, deadline, part)
  withdraw_rate(keys, parts, id)
  withdraw_space(keys, parts, id)
  parts.live = parts.live + 1
  parts.rate = parts.rate + part.rate
  parts.capacity = parts.capacity + weight_of(part.capacity)
  parts.load = parts.load + weight_of(part.capacity) * part.load
  redis.call('ZADD', keys.consumers, whole(deadline), id)
  redis.call('ZADD', keys.rates, whole(part.rate), id)
  redis.call('ZADD', keys.capacities, whole(part.capacity), id)
  redis.call('ZADD', keys.loads, whole(part.load), id)
  if part.arrivals > 0 and part.rate > 0 then
    local ratio = format('%.17g', part.rate / part.arrivals)
    parts.arrivals = parts.arrivals + part.rate / tonumber(ratio)
    redis.call('ZADD', keys.ratios, ratio, id)
  end
  if part.free then
    parts.free = parts.free + part.free
    redis.call('ZADD', keys.frees, whole(part.free), id)
  end
  if part.edge then redis.call('ZADD', keys.edges, whole(part.edge), id) end
end

local function least(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or nil
end

-- Live ones whose deadline has passed fall silent, silent ones are forgotten, a few per call. Gives how many fell silent.
local function sweep_consumers(keys, parts, combine, now)
  local fell = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, SWEPT_PER_CALL)) do
    if score(keys.rates, id) then
      withdraw_rate(keys, parts, id)
      if combine == 'sum' then withdraw_space(keys, parts, id) end    -- nobody pulls there any more
      redis.call('ZADD', keys.consumers, whole(now + FORGET_CONSUMER), id)
      fell = fell + 1
    else
      withdraw_consumer(keys, parts, id)
    end
  end
  return fell
end

local function silent_consumers(keys, parts) return redis.call('ZCARD', keys.consumers) - parts.live end
