-- What each consumer contributes to the budget is stored in sorted sets of fixed names, never only in its own hash. So any
-- caller can take out a consumer that fell silent. The state keeps the sums; ZRANGE and ZREVRANGE 0 0 give the least and the
-- highest.
--
-- A consumer is live until its deadline, then silent for ten seconds (work may still be sent to it), then forgotten. Its
-- score in `consumers` is the end of its present state. A consumer is live while it has a rate.
local SWEPT_PER_CALL = 16
local NO_RATIO = 1e300          -- rate / arrivals of a consumer that gets nothing: never the least

local function score(key, id)
  local text = redis.call('ZSCORE', key, id)
  return text and tonumber(text) or nil
end

-- Tells from the lowest and the highest score whether `sum` can be the sum of `count` scores. If it cannot be, somebody has
-- changed a score by hand. Free space may be below zero.
local function can_be_sum(key, count, sum)
  if count == 0 then return sum == 0 end
  local lowest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local highest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
  if not lowest then return false end
  lowest, highest = tonumber(lowest), tonumber(highest)
  local rounding = 1e-9 * count * math.max(math.abs(lowest), math.abs(highest))
  return sum >= highest + (count - 1) * lowest - rounding and sum <= lowest + (count - 1) * highest + rounding
end

-- Reads every key before anything is written, so that a key of a wrong type raises an error here. Returns whether the sums
-- match the sets.
local function are_whole(keys, parts)
  local size = {}
  for place, key in pairs(keys) do
    if place == 'history' then redis.call('XLEN', key)
    elseif place == 'state' or place == 'memory' then redis.call('STRLEN', key)
    elseif place == 'member' then redis.call('HLEN', key)
    elseif place ~= 'budget' then size[place] = redis.call('ZCARD', key) end
  end
  return size.rates == parts.live and size.capacities == parts.live and size.loads == parts.live
    and size.ratios == parts.live and size.frees == parts.bounded and size.consumers >= parts.live
    and can_be_sum(keys.rates, parts.live, parts.rate) and can_be_sum(keys.frees, parts.bounded, parts.free)
end

-- The sums weigh load (thousandths of a percent) by whole tokens of capacity, so that they stay exact.
local function weight_of(capacity) return math.ceil(capacity / MICRO) end

-- Takes out a consumer's rate and load. Its free space stays while work may still be on its way there.
local function withdraw_rate(keys, parts, id)
  local rate = score(keys.rates, id)
  if not rate then return end
  local weight = weight_of(score(keys.capacities, id))
  parts.live = parts.live - 1
  parts.rate = parts.rate - rate
  parts.capacity = parts.capacity - weight
  parts.load = parts.load - weight * score(keys.loads, id)
  parts.arrivals = parts.arrivals - math.floor(rate / score(keys.ratios, id))
  for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do redis.call('ZREM', key, id) end
end

local function withdraw_space(keys, parts, id)
  local free = score(keys.frees, id)
  if not free then return end
  parts.bounded, parts.free = parts.bounded - 1, parts.free - free
  redis.call('ZREM', keys.frees, id)
  redis.call('ZREM', keys.edges, id)
end

local function withdraw_consumer(keys, parts, id)
  withdraw_rate(keys, parts, id)
  withdraw_space(keys, parts, id)
  redis.call('ZREM', keys.consumers, id)
end

-- `part` is {rate, capacity, load, free or nil, edge or nil, arrivals}: rates and space in micro, load in thousandths of a
-- percent. The caller has withdrawn what the consumer contributed before. Everything added is a whole number, so that the
-- sums stay exact.
local function contribute(keys, parts, id, deadline, part)
  local weight = weight_of(part.capacity)
  local ratio = string.format('%.17g', part.rate > 0 and part.arrivals > 0 and part.rate / part.arrivals or NO_RATIO)
  parts.live = parts.live + 1
  parts.rate = parts.rate + part.rate
  parts.capacity = parts.capacity + weight
  parts.load = parts.load + weight * part.load
  parts.arrivals = parts.arrivals + math.floor(part.rate / tonumber(ratio))
  redis.call('ZADD', keys.consumers, whole(deadline), id)
  redis.call('ZADD', keys.rates, whole(part.rate), id)
  redis.call('ZADD', keys.capacities, whole(part.capacity), id)
  redis.call('ZADD', keys.loads, whole(part.load), id)
  redis.call('ZADD', keys.ratios, ratio, id)
  if part.free then
    parts.bounded, parts.free = parts.bounded + 1, parts.free + part.free
    redis.call('ZADD', keys.frees, whole(part.free), id)
  end
  if part.edge then redis.call('ZADD', keys.edges, whole(part.edge), id) end
end

-- If a key was evicted or lost, the sums do not match the sets. All consumers are then taken for silent, and each comes back
-- with its next report.
local function mend(keys, s)
  if s.is_whole then return end
  s.is_whole, s.last_end = true, 'silent'
  for _, name in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do s.parts[name] = 0 end
  redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
  for _, place in ipairs({'consumers', 'rates', 'capacities', 'loads', 'ratios', 'frees', 'edges'}) do
    redis.call('DEL', keys[place])
  end
end

local function least(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or nil
end

-- When its deadline has passed, a live consumer falls silent and a silent one is forgotten, a few per call. Returns how many
-- fell silent.
local function sweep_consumers(keys, parts, combine, now)
  local fell = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, SWEPT_PER_CALL)) do
    if score(keys.rates, id) then
      withdraw_rate(keys, parts, id)
      if combine == 'sum' then withdraw_space(keys, parts, id) end    -- nobody pulls work there any more
      redis.call('ZADD', keys.consumers, whole(now + FORGET_CONSUMER), id)
      fell = fell + 1
    else
      withdraw_consumer(keys, parts, id)
    end
  end
  return fell
end

local function silent_consumers(keys, parts) return redis.call('ZCARD', keys.consumers) - parts.live end

-- No consumer is silent, and none is so late that its recent arrivals are still unknown.
local function are_all_heard(keys, parts, now)
  local first = least(keys.consumers)
  return silent_consumers(keys, parts) == 0 and (not first or first >= now + SHORTEST_DEADLINE - 3 * INTERVAL)
end
