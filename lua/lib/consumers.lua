-- When a consumer counts as dead, and what each consumer contributes to the budget until then. What rate follows from all of
-- them is decided in rate.lua.
--
-- A consumer is live until its deadline (`deadline_of`); after that it counts as dead. It is called silent for
-- FORGET_CONSUMER, since work may still be sent to it, and then forgotten. Its score in `consumers` is the end of its present
-- state. Only a live consumer has an entry in `rates`.
--
-- What a consumer contributes is stored in sorted sets of fixed names, never only in its own hash. So any caller can take out
-- a consumer that fell silent (`sweep_consumers`). The state keeps the sums; ZRANGE and ZREVRANGE 0 0 give the least and the
-- highest.
local MISSED_INTERVALS = 3      -- a consumer that has not reported for so many of its intervals is dead,
local SHORTEST_DEADLINE = 2000000   -- but never sooner than this: a pause of its runtime may cost a few reports
local FORGET_CONSUMER = 10000000    -- after its deadline: what was sent to it has failed by then
local SWEPT_PER_CALL = 16
local NO_RATIO = 1e300          -- rate / arrivals of a consumer that gets nothing: never the least

-- The instant at which a consumer that reports now counts as dead, unless it reports again before.
local function deadline_of(interval, now) return now + math.max(MISSED_INTERVALS * interval, SHORTEST_DEADLINE) end

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
local function are_whole(keys, sums)
  local size = {}
  for place, key in pairs(keys) do
    if place == 'history' then redis.call('XLEN', key)
    elseif place == 'state' or place == 'memory' then redis.call('STRLEN', key)
    elseif place == 'member' then redis.call('HLEN', key)
    elseif place ~= 'budget' then size[place] = redis.call('ZCARD', key) end
  end
  return size.rates == sums.live and size.capacities == sums.live and size.loads == sums.live
    and size.ratios == sums.live and size.frees == sums.bounded and size.consumers >= sums.live
    and can_be_sum(keys.rates, sums.live, sums.rate) and can_be_sum(keys.frees, sums.bounded, sums.free)
end

-- The sums weigh load (thousandths of a percent) by whole tokens of capacity, so that they stay exact.
local function weight_of(capacity) return math.ceil(capacity / MICRO) end

-- Takes out a consumer's rate and load. Its free space stays while work may still be on its way there.
local function withdraw_rate(keys, sums, id)
  local rate = score(keys.rates, id)
  if not rate then return end
  local weight = weight_of(score(keys.capacities, id))
  sums.live = sums.live - 1
  sums.rate = sums.rate - rate
  sums.capacity = sums.capacity - weight
  sums.load = sums.load - weight * score(keys.loads, id)
  sums.arrivals = sums.arrivals - math.floor(rate / score(keys.ratios, id))
  for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do redis.call('ZREM', key, id) end
end

local function withdraw_space(keys, sums, id)
  local free = score(keys.frees, id)
  if not free then return end
  sums.bounded, sums.free = sums.bounded - 1, sums.free - free
  redis.call('ZREM', keys.frees, id)
  redis.call('ZREM', keys.edges, id)
end

local function withdraw_consumer(keys, sums, id)
  withdraw_rate(keys, sums, id)
  withdraw_space(keys, sums, id)
  redis.call('ZREM', keys.consumers, id)
end

-- `contribution` is {rate, capacity, load, free or nil, edge or nil, arrivals}: rates and space in micro, load in thousandths
-- of a percent. The caller has withdrawn what the consumer contributed before. Everything added is a whole number, so that
-- the sums stay exact.
local function contribute(keys, sums, id, deadline, contribution)
  local weight = weight_of(contribution.capacity)
  local ratio = string.format('%.17g', contribution.rate > 0 and contribution.arrivals > 0
                              and contribution.rate / contribution.arrivals or NO_RATIO)
  sums.live = sums.live + 1
  sums.rate = sums.rate + contribution.rate
  sums.capacity = sums.capacity + weight
  sums.load = sums.load + weight * contribution.load
  sums.arrivals = sums.arrivals + math.floor(contribution.rate / tonumber(ratio))
  redis.call('ZADD', keys.consumers, whole(deadline), id)
  redis.call('ZADD', keys.rates, whole(contribution.rate), id)
  redis.call('ZADD', keys.capacities, whole(contribution.capacity), id)
  redis.call('ZADD', keys.loads, whole(contribution.load), id)
  redis.call('ZADD', keys.ratios, ratio, id)
  if contribution.free then
    sums.bounded, sums.free = sums.bounded + 1, sums.free + contribution.free
    redis.call('ZADD', keys.frees, whole(contribution.free), id)
  end
  if contribution.edge then redis.call('ZADD', keys.edges, whole(contribution.edge), id) end
end

-- If a key was evicted or lost, the sums do not match the sets. All consumers are then taken for silent, and each comes back
-- with its next report.
local function mend(keys, settings)
  if settings.do_sums_match then return end
  settings.do_sums_match, settings.last_consumer_end = true, 'silent'
  for _, name in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do settings.sums[name] = 0 end
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
local function sweep_consumers(keys, sums, combine, now)
  local fell = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, SWEPT_PER_CALL)) do
    if score(keys.rates, id) then
      withdraw_rate(keys, sums, id)
      if combine == 'sum' then withdraw_space(keys, sums, id) end  -- nobody pulls work there any more
      redis.call('ZADD', keys.consumers, whole(now + FORGET_CONSUMER), id)
      fell = fell + 1
    else
      withdraw_consumer(keys, sums, id)
    end
  end
  return fell
end

local function silent_consumers(keys, sums) return redis.call('ZCARD', keys.consumers) - sums.live end

-- No consumer is silent, and none is so late that its recent arrivals are still unknown.
local function are_all_heard(keys, sums, now)
  local first = least(keys.consumers)
  return silent_consumers(keys, sums) == 0 and (not first or first >= now + SHORTEST_DEADLINE - 3 * INTERVAL)
end
