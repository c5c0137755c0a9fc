-- What the budget's rate is. This is the only place that decides it: from what the consumers contribute (consumers.lua), the
-- budget's ceiling and floor (settings.lua), and a pause. The rate that one consumer can take is decided in law.lua.
local RISE = {70, 90, 100}      -- percent of load at which levels 1, 2 and 3 begin
local HYSTERESIS = 5            -- points below that at which the level falls again
local NOTED_CHANGE = 0.1        -- the history gets an entry each time the rate has moved this much
local MOST = 1e9 * MICRO        -- the protocol's range
local PUSHED_PERCENT = 10       -- a fall by this much is told to listeners at once
local THIN = 50                 -- a consumer that gets less than 2 % of the arrivals counts as one that gets 2 %

-- One token plus what the rate earns in the burst's seconds.
local function burst_of(rate, burst_us)
  if rate <= 0 then return 0 end
  return math.min(MICRO + math.floor(rate * burst_us / MICRO), 9e15)
end

-- A new rate keeps the tokens and scales the last result of the fair share, so that all producers follow within one claim.
local function set_rate(keys, budget, rate, burst_us)
  -- At a rate of 0 nothing is earned, and what was earned stays.
  local bucket_size = rate > 0 and burst_of(rate, burst_us) or budget.bucket_size
  read_rest(keys, budget)
  if rate ~= budget.rate then
    for _, name in ipairs(CLASSES) do
      local class = budget[name]
      if budget.rate > 0 and rate > 0 then
        class.level = class.level * (rate / budget.rate)
        class.mark = class.mark * (rate / budget.rate)
        class.room = math.floor(class.room * (rate / budget.rate))
      else
        class.level, class.mark, class.room = math.huge, math.huge, rate
      end
    end
    budget.tokens_remainder = 0
    budget.queue_end = 0                             -- promises at the rate before no longer hold
  end
  budget.rate, budget.bucket_size, budget.burst_us = rate, bucket_size, burst_us
  budget.earning_rate = rate - math.floor(math.min(budget.lost_shares, rate / 2))
  if rate > 0 and budget.first_tokens > 0 then       -- the first rate of this life
    budget.tokens, budget.first_tokens = budget.tokens + budget.first_tokens, 0
  end
  budget.tokens = math.min(budget.tokens, bucket_size)
  budget.has_new_rate = true
end

local function level_at(load_percent, was)
  local up, down = 0, 0
  for level, from in ipairs(RISE) do
    if load_percent >= from then up = level end
    if load_percent >= from - HYSTERESIS then down = level end
  end
  return math.max(up, math.min(was, down))
end

-- The rate is 0 only if a paused consumer cannot be left out. No law gives 0.
local function combined_rate(keys, sums, combine)
  if combine == 'sum' then return math.min(sums.rate, MOST) end
  local lowest = least(keys.rates)
  if combine == 'min' then return lowest end
  local rate = math.min(sums.rate, THIN * lowest, MOST)
  if sums.arrivals > 0 then rate = math.min(rate, sums.arrivals * least(keys.ratios)) end
  return math.floor(rate + 0.5)
end

local function combined_load(keys, sums, combine)
  if combine == 'sum' and sums.capacity > 0 then return sums.load / sums.capacity end
  local first = redis.call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or 0
end

-- The last consumer has left, perhaps for a restart. Until this instant it counts as if it could still take its last rate.
local function grace_end(settings)
  return settings.sums.live == 0 and settings.last_consumer_end == 'left' and settings.left_at + settings.grace or 0
end

-- Returns rate, level, load (thousandths of a percent) and reason.
local function decide(keys, settings, now)
  local sums = settings.sums
  local load = sums.live > 0 and math.floor(combined_load(keys, sums, settings.combine) + 0.5) or 0
  sums.load_level = level_at(load / 1000, sums.load_level)
  if settings.paused_until > now then return 0, 3, load, 'paused' end
  if sums.live > 0 then
    if settings.combine == 'min' and silent_consumers(keys, sums) > 0 then
      return settings.min_rate, 3, load, 'no_consumers'
    end
    local rate = combined_rate(keys, sums, settings.combine)
    if settings.rate and rate >= settings.rate then return settings.rate, sums.load_level, load, 'rate' end
    if rate == 0 then return 0, 3, load, 'paused' end
    return math.max(rate, settings.min_rate), sums.load_level, load, 'load'
  end
  if settings.last_consumer_end == 'silent' then return settings.min_rate, 3, 0, 'no_consumers' end
  if settings.lossless == 1 then return 0, 3, 0, 'window' end  -- no consumer says what it can hold
  if settings.rate and settings.left_rate < settings.rate and now < grace_end(settings) then
    return math.max(settings.left_rate, settings.min_rate), 0, 0, 'load'
  end
  if settings.rate then return settings.rate, 0, 0, 'rate' end
  return settings.min_rate, 3, 0, settings.last_consumer_end and 'no_consumers' or 'unset'
end

-- `net` only grows, so it is set back long before a double loses single micro-tokens. Under `min` each consumer has a
-- `landed` of its own.
local function rebase_window(window, keys, combine)
  if window.net < 4e15 then return end
  local base, edges = combine == 'min' and window.net or window.landed, redis.call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
  for i = 1, SNAPSHOTS do base = math.min(base, window.snapshots[i]) end
  for i = 1, #edges, 2 do base = math.min(base, tonumber(edges[i + 1]) - score(keys.frees, edges[i])) end
  window.net, window.landed = window.net - base, math.max(0, window.landed - base)
  for i = 1, SNAPSHOTS do window.snapshots[i] = window.snapshots[i] - base end
  for i = 1, #edges, 2 do redis.call('ZADD', keys.edges, whole(tonumber(edges[i + 1]) - base), edges[i]) end
end

-- What the consumers can still hold, as the claim needs it.
local function settle_window(keys, budget, settings, now)
  if settings.lossless == 1 and not budget.window then
    budget.window = new_window(now, quarter_length(budget.longest_lease, settings.transit, INTERVAL))
  end
  local window, sums = budget.window, settings.sums
  if not window then return end
  rebase_window(window, keys, settings.combine)
  window.lossless = settings.lossless
  local cold = redis.call('ZCOUNT', keys.capacities, 0, 0)
  window.active = (settings.lossless == 1 or (cold > 0 and sums.bounded >= sums.live)) and 1 or 0
  if settings.combine == 'min' then
    local known = redis.call('ZCARD', keys.edges) == redis.call('ZCARD', keys.consumers)
    -- A consumer that has not said what it holds may be full.
    window.edge = known and least(keys.edges) or math.min(window.landed, window.net)
  elseif settings.combine == 'spread' then window.edge = window.landed + (least(keys.frees) or 0)
  else window.edge = window.landed + sums.free end
end

-- A producer that listens learns of a drop before its next claim. Nobody has to listen, and nothing depends on this message:
-- a caller without the right to publish still gets its answer. The count of grants shows which answers are older than the
-- message.
local function push(keys, budget)
  redis.pcall('PUBLISH', keys.budget .. ':flow', string.format(
    '%.0f %.0f %.0f %.0f %s', budget.birth, budget.granted, budget.rate, budget.level, budget.reason))
end

-- Evaluates the budget and sets when this is due again. `by` (the cause) and `act` are for the history. If `is_act`, the
-- history always gets an entry.
local function settle(keys, budget, settings, now, by, is_act, act)
  redis.call('HSET', keys.budget, 'schema', whole(SCHEMA))     -- a server that is out of memory refuses here, before any change
  mend(keys, settings)
  local sums = settings.sums
  if sweep_consumers(keys, sums, settings.combine, now) > 0 and sums.live == 0 then
    settings.last_consumer_end = 'silent'
    redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
  end
  local rate, level, load, reason = decide(keys, settings, now)
  local turned = level ~= budget.level or reason ~= budget.reason
  sums.published_rate = math.max(sums.published_rate, budget.rate)  -- many small steps make a drop as well
  local is_drop = rate < budget.rate and 100 * rate <= (100 - PUSHED_PERCENT) * sums.published_rate
  local is_rise = budget.rate == 0 and rate > 0 and not budget.is_new
  local is_published = is_drop or is_rise or (level == 3 and budget.level < 3)
  if turned or budget.is_new or rate ~= budget.rate or settings.burst ~= budget.burst_us or load * 1000 ~= budget.load then
    set_rate(keys, budget, rate, settings.burst)
    budget.level, budget.load, budget.reason = level, load * 1000, reason
  end
  if is_act or turned or math.abs(rate - sums.noted_rate) > NOTED_CHANGE * sums.noted_rate then
    sums.noted_rate = rate
    if by == 'report' and not turned then make_room(keys) end
    note(keys, budget, by, act)
  end
  if is_published then
    push(keys, budget)
    sums.published_rate = rate
  end
  settle_window(keys, budget, settings, now)
  budget.due_at, budget.has_new_terms = least(keys.consumers) or 0, true
  budget.resumes_at = settings.paused_until > now and settings.paused_until or 0
  for _, at in ipairs({budget.resumes_at, grace_end(settings)}) do
    if at > now and (budget.due_at == 0 or at < budget.due_at) then budget.due_at = at end
  end
end

-- A clock that steps back would keep dead consumers alive. So every instant in the future moves back with it.
local function rebase_clock(keys, budget, settings, now)
  local step = budget.called_at - now
  for _, id in ipairs(redis.call('ZRANGE', keys.consumers, 0, -1)) do
    redis.call('ZINCRBY', keys.consumers, whole(-step), id)
  end
  if settings.paused_until > 0 and settings.paused_until < UNTIL_RESUMED then
    settings.paused_until = math.max(0, settings.paused_until - step)
    redis.call('HSET', keys.budget, 'paused_until_us', whole(settings.paused_until),
               'paused_until', pause_end(settings.paused_until) or '')
    budget.resumes_at = settings.paused_until
  end
  if settings.left_at > 0 then
    settings.left_at = math.max(0, settings.left_at - step)
    redis.call('HSET', keys.budget, 'left_us', whole(settings.left_at))
  end
  budget.due_at = math.max(0, budget.due_at - step)
end

-- The first steps of every script. The bucket earns at the old rate, then everything that has become due is settled.
local function advance(keys, budget, now)
  if not budget.is_new and are_settings_lost(keys) then  -- without its settings nothing is settled
    read_rest(keys, budget)
    budget.has_lost_settings = true
    return refill(budget, now)
  end
  local is_back = budget.called_at - now >= MICRO
  if is_back or (budget.due_at > 0 and now >= budget.due_at) then budget.settings = read_settings(keys, budget) end
  if is_back then rebase_clock(keys, budget, budget.settings, now) end
  -- The bucket earns again from the end of a pause, however late the first call after the pause is.
  local resumed = budget.resumes_at > budget.called_at and now >= budget.resumes_at
  refill(budget, resumed and budget.resumes_at or now)
  if budget.due_at > 0 and now >= budget.due_at then settle(keys, budget, budget.settings, now, 'deadline') end
  if resumed then refill(budget, now) end
end
