-- The one place where the budget's rate is decided: from what its consumers contribute, its ceiling and floor, a pause.
local RISE = {70, 90, 100}      -- percent of load at which levels 1, 2 and 3 begin
local HYSTERESIS = 5            -- points below that, the level falls again
local NOTED_CHANGE = 0.1        -- the history has an entry each time the rate moved this much
local MOST = 1e9 * MICRO        -- the protocol's range
local THIN = 50                 -- a consumer that gets less than 2 % of the arrivals counts as one that gets 2 %

local function level_at(load_percent, was)
  local up, down = 0, 0
  for level, from in ipairs(RISE) do
    if load_percent >= from then up = level end
    if load_percent >= from - HYSTERESIS then down = level end
  end
  return max(up, min(was, down))
end

-- Never 0 but where one whose part cannot be left out is paused: no law says 0.
local function combined_rate(keys, parts, combine)
  if combine == 'sum' then return min(parts.rate, MOST) end
  local lowest = least(keys.rates)
  if combine == 'min' then return lowest end
  local rate = min(parts.rate, THIN * lowest, MOST)
  if parts.arrivals > 0 then rate = min(rate, parts.arrivals * least(keys.ratios)) end
  return floor(rate + 0.5)
end

local function combined_load(keys, parts, combine)
  if combine == 'sum' and parts.capacity > 0 then return parts.load / parts.capacity end
  local fullest = redis.call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
  return fullest[2] and tonumber(fullest[2]) or 0
end

-- rate, level, load (thousandths of a percent), reason
local function decide(keys, s, now)
  local parts = s.parts
  local load = parts.live > 0 and floor(combined_load(keys, parts, s.combine) + 0.5) or 0
  parts.load_level = level_at(load / 1000, parts.load_level)
  if s.paused_until > now then return 0, 3, load, 'paused' end
  if parts.live > 0 then
    if s.combine == 'min' and silent_consumers(keys, parts) > 0 then return s.min_rate, 3, load, 'no_consumers' end
    local rate = combined_rate(keys, parts, s.combine)
    if s.rate and rate >= s.rate then return s.rate, parts.load_level, load, 'rate' end
    if rate == 0 then return 0, 3, load, 'paused' end
    return max(rate, s.min_rate), parts.load_level, load, 'load'
  end
  if s.last_end == 'silent' then return s.min_rate, 3, 0, 'no_consumers' end
  if s.rate then return s.rate, 0, 0, 'rate' end
  return s.min_rate, 3, 0, s.last_end and 'no_consumers' or 'unset'
end

-- What the consumers can still hold, as the claim needs it.
local function settle_window(keys, b, s)
  local w, parts = b.window, s.parts
  if not w then return end
  rebase_window(w, keys, s.combine)
  w.lossless = s.lossless
  local cold = redis.call('ZCOUNT', keys.capacities, 0, 0)
  w.active = (s.lossless == 1 or (cold > 0 and parts.bounded >= parts.live)) and 1 or 0
  if s.combine == 'min' then
    local known = redis.call('ZCARD', keys.edges) == redis.call('ZCARD', keys.consumers)
    w.edge = known and least(keys.edges) or min(w.A, w.net)      -- one that has not said what it holds may be full
  elseif s.combine == 'spread' then w.edge = w.A + (least(keys.frees) or 0)
  else w.edge = w.A + parts.free end
end

local function note(keys, b, by)
  redis.call('XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(b.R), 'level', whole(b.level),
             'load_percent', plain(b.load), 'reason', b.reason, 'by', by)
  if b.kept == 0 then redis.call('PEXPIRE', keys.history, KEEP_BUDGET_MS) end
end

-- Evaluates the budget and says when that is due again. `by`: whose word it was, for the history; an act is always noted.
local function settle(keys, b, s, now, by, is_act)
  redis.call('HSET', keys.budget, 'schema', whole(SCHEMA))     -- a server without memory refuses here, before any change
  mend(keys, s)
  local parts = s.parts
  if sweep_consumers(keys, parts, s.combine, now) > 0 and parts.live == 0 then
    s.last_end = 'silent'
    redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
  end
  local rate, level, load, reason = decide(keys, s, now)
  local turned = level ~= b.level or reason ~= b.reason
  if turned or b.is_new or rate ~= b.R or s.burst ~= b.burst_us or load * 1000 ~= b.load then
    set_rate(b, rate, s.burst)
    b.level, b.load, b.reason = level, load * 1000, reason
  end
  if is_act or turned or math.abs(rate - parts.noted) > NOTED_CHANGE * parts.noted then
    parts.noted = rate
    note(keys, b, by)
  end
  settle_window(keys, b, s)
  b.due = least(keys.consumers) or 0
  if s.paused_until > now and (b.due == 0 or s.paused_until < b.due) then b.due = s.paused_until end
  redis.call('HSET', keys.budget, 'parts', parts_text(parts))
end

-- A clock that steps back would keep the dead alive: what lies in the future moves back with it.
local function rebase_clock(keys, b, s, now)
  local step = b.at - now
  for _, id in ipairs(redis.call('ZRANGE', keys.consumers, 0, -1)) do
    redis.call('ZINCRBY', keys.consumers, whole(-step), id)
  end
  if s.paused_until > 0 and s.paused_until < UNTIL_RESUMED then
    s.paused_until = max(0, s.paused_until - step)
    redis.call('HSET', keys.budget, 'paused_until_us', whole(s.paused_until))
  end
  b.due = max(0, b.due - step)
end

-- Every script's first steps: the bucket earns at the old rate, then what has become due is settled.
local function advance(keys, b, now)
  local is_back = b.at - now >= MICRO
  if is_back or (b.due > 0 and now >= b.due) then b.settings = read_settings(keys) end
  if is_back then rebase_clock(keys, b, b.settings, now) end
  refill(b, now)
  if b.due > 0 and now >= b.due then settle(keys, b, b.settings, now, 'deadline') end
end
