-- This is the only place that decides the budget's rate. It decides from what the consumers contribute, the budget's ceiling
-- and floor, and a pause.
local RISE = {70, 90, 100}      -- percent of load at which levels 1, 2 and 3 begin
local HYSTERESIS = 5            -- points below that at which the level falls again
local NOTED_CHANGE = 0.1        -- the history gets an entry each time the rate has moved this much
local MOST = 1e9 * MICRO        -- the protocol's range
local PUSHED_PERCENT = 10       -- a fall by this much is told to listeners at once
local THIN = 50                 -- a consumer that gets less than 2 % of the arrivals counts as one that gets 2 %

-- One token plus what the rate earns in the burst's seconds.
local function burst_of(R, burst_us)
  if R <= 0 then return 0 end
  return math.min(MICRO + math.floor(R * burst_us / MICRO), 9e15)
end

-- A new rate keeps the tokens and scales the last result of the fair share, so that all producers follow within one claim.
local function set_rate(keys, b, R, burst_us)
  local B = R > 0 and burst_of(R, burst_us) or b.B       -- at a rate of 0 nothing is earned, and what was earned stays
  read_rest(keys, b)
  if R ~= b.R then
    for _, name in ipairs(CLASSES) do
      local class = b[name]
      if b.R > 0 and R > 0 then
        class.level, class.mark, class.room = class.level * (R / b.R), class.mark * (R / b.R), math.floor(class.room * (R / b.R))
      else
        class.level, class.mark, class.room = math.huge, math.huge, R
      end
    end
    b.rest = 0
    b.queue = 0                                        -- promises at the rate before no longer hold
  end
  b.R, b.B, b.burst_us, b.earned = R, B, burst_us, R - math.floor(math.min(b.lost, R / 2))
  if R > 0 and b.first > 0 then b.T, b.first = b.T + b.first, 0 end    -- the first rate of this life
  b.T = math.min(b.T, B)
  b.is_revalued = true
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
local function combined_rate(keys, parts, combine)
  if combine == 'sum' then return math.min(parts.rate, MOST) end
  local lowest = least(keys.rates)
  if combine == 'min' then return lowest end
  local rate = math.min(parts.rate, THIN * lowest, MOST)
  if parts.arrivals > 0 then rate = math.min(rate, parts.arrivals * least(keys.ratios)) end
  return math.floor(rate + 0.5)
end

local function combined_load(keys, parts, combine)
  if combine == 'sum' and parts.capacity > 0 then return parts.load / parts.capacity end
  local first = redis.call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or 0
end

-- The last consumer has left, perhaps for a restart. Until this instant it counts as if it could still take its last rate.
local function grace_end(s) return s.parts.live == 0 and s.last_end == 'left' and s.left + s.grace or 0 end

-- Returns rate, level, load (thousandths of a percent) and reason.
local function decide(keys, s, now)
  local parts = s.parts
  local load = parts.live > 0 and math.floor(combined_load(keys, parts, s.combine) + 0.5) or 0
  parts.load_level = level_at(load / 1000, parts.load_level)
  if s.paused_until > now then return 0, 3, load, 'paused' end
  if parts.live > 0 then
    if s.combine == 'min' and silent_consumers(keys, parts) > 0 then return s.min_rate, 3, load, 'no_consumers' end
    local rate = combined_rate(keys, parts, s.combine)
    if s.rate and rate >= s.rate then return s.rate, parts.load_level, load, 'rate' end
    if rate == 0 then return 0, 3, load, 'paused' end
    return math.max(rate, s.min_rate), parts.load_level, load, 'load'
  end
  if s.last_end == 'silent' then return s.min_rate, 3, 0, 'no_consumers' end
  if s.lossless == 1 then return 0, 3, 0, 'window' end      -- no consumer says what it can hold
  if s.rate and s.left_rate < s.rate and now < grace_end(s) then return math.max(s.left_rate, s.min_rate), 0, 0, 'load' end
  if s.rate then return s.rate, 0, 0, 'rate' end
  return s.min_rate, 3, 0, s.last_end and 'no_consumers' or 'unset'
end

-- `net` only grows, so it is set back long before a double loses single micro-tokens. Under `min` each consumer has its own
-- A.
local function rebase_window(w, keys, combine)
  if w.net < 4e15 then return end
  local base, edges = combine == 'min' and w.net or w.A, redis.call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
  for i = 1, SNAPSHOTS do base = math.min(base, w.snaps[i]) end
  for i = 1, #edges, 2 do base = math.min(base, tonumber(edges[i + 1]) - score(keys.frees, edges[i])) end
  w.net, w.A = w.net - base, math.max(0, w.A - base)
  for i = 1, SNAPSHOTS do w.snaps[i] = w.snaps[i] - base end
  for i = 1, #edges, 2 do redis.call('ZADD', keys.edges, whole(tonumber(edges[i + 1]) - base), edges[i]) end
end

-- What the consumers can still hold, as the claim needs it.
local function settle_window(keys, b, s, now)
  if s.lossless == 1 and not b.window then b.window = new_window(now, slot_length(b.span, s.transit, INTERVAL)) end
  local w, parts = b.window, s.parts
  if not w then return end
  rebase_window(w, keys, s.combine)
  w.lossless = s.lossless
  local cold = redis.call('ZCOUNT', keys.capacities, 0, 0)
  w.active = (s.lossless == 1 or (cold > 0 and parts.bounded >= parts.live)) and 1 or 0
  if s.combine == 'min' then
    local known = redis.call('ZCARD', keys.edges) == redis.call('ZCARD', keys.consumers)
    w.edge = known and least(keys.edges) or math.min(w.A, w.net)      -- a consumer that has not said what it holds may be full
  elseif s.combine == 'spread' then w.edge = w.A + (least(keys.frees) or 0)
  else w.edge = w.A + parts.free end
end

-- `act`: who did it, what changed, and why. An empty text is left out.
local function note(keys, b, by, act)
  local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(b.R), 'level', whole(b.level),
                 'load_percent', plain(b.load), 'reason', b.reason, 'by', by}
  for _, field in ipairs({'who', 'what', 'why'}) do
    local told = act and act[field]
    if told and told ~= '' then
      entry[#entry + 1] = field
      entry[#entry + 1] = told
    end
  end
  redis.call(unpack(entry))
  read_rest(keys, b)
  if b.kept == 0 then redis.call('PEXPIRE', keys.history, KEEP_BUDGET_MS) end
end

-- A producer that listens learns of a drop before its next claim. Nobody has to listen, and nothing depends on this message:
-- a caller without the right to publish still gets its answer. The count of grants shows which answers are older than the
-- message.
local function push(keys, b)
  redis.pcall('PUBLISH', keys.budget .. ':flow',
              string.format('%.0f %.0f %.0f %.0f %s', b.birth, b.granted, b.R, b.level, b.reason))
end

-- Evaluates the budget and sets when this is due again. `by` (the cause) and `act` are for the history. If `is_act`, the
-- history always gets an entry.
local function settle(keys, b, s, now, by, is_act, act)
  redis.call('HSET', keys.budget, 'schema', whole(SCHEMA))     -- a server that is out of memory refuses here, before any change
  mend(keys, s)
  local parts = s.parts
  if sweep_consumers(keys, parts, s.combine, now) > 0 and parts.live == 0 then
    s.last_end = 'silent'
    redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
  end
  local rate, level, load, reason = decide(keys, s, now)
  local turned = level ~= b.level or reason ~= b.reason
  parts.told = math.max(parts.told, b.R)               -- many small steps make a drop as well
  local is_drop = rate < b.R and 100 * rate <= (100 - PUSHED_PERCENT) * parts.told
  local is_rise = b.R == 0 and rate > 0 and not b.is_new
  local is_told = is_drop or is_rise or (level == 3 and b.level < 3)
  if turned or b.is_new or rate ~= b.R or s.burst ~= b.burst_us or load * 1000 ~= b.load then
    set_rate(keys, b, rate, s.burst)
    b.level, b.load, b.reason = level, load * 1000, reason
  end
  if is_act or turned or math.abs(rate - parts.noted) > NOTED_CHANGE * parts.noted then
    parts.noted = rate
    note(keys, b, by, act)
  end
  if is_told then
    push(keys, b)
    parts.told = rate
  end
  settle_window(keys, b, s, now)
  b.due, b.has_new_terms = least(keys.consumers) or 0, true
  b.resumes = s.paused_until > now and s.paused_until or 0
  for _, at in ipairs({b.resumes, grace_end(s)}) do
    if at > now and (b.due == 0 or at < b.due) then b.due = at end
  end
end

-- A clock that steps back would keep dead consumers alive. So every instant in the future moves back with it.
local function rebase_clock(keys, b, s, now)
  local step = b.at - now
  for _, id in ipairs(redis.call('ZRANGE', keys.consumers, 0, -1)) do
    redis.call('ZINCRBY', keys.consumers, whole(-step), id)
  end
  if s.paused_until > 0 and s.paused_until < UNTIL_RESUMED then
    s.paused_until = math.max(0, s.paused_until - step)
    redis.call('HSET', keys.budget, 'paused_until_us', whole(s.paused_until), 'paused_until', pause_end(s.paused_until) or '')
    b.resumes = s.paused_until
  end
  if s.left > 0 then
    s.left = math.max(0, s.left - step)
    redis.call('HSET', keys.budget, 'left_us', whole(s.left))
  end
  b.due = math.max(0, b.due - step)
end

-- The first steps of every script. The bucket earns at the old rate, then everything that has become due is settled.
local function advance(keys, b, now)
  if not b.is_new and is_lost(keys) then               -- without its settings nothing is settled
    read_rest(keys, b)
    b.is_lost = true
    return refill(b, now)
  end
  local is_back = b.at - now >= MICRO
  if is_back or (b.due > 0 and now >= b.due) then b.settings = read_settings(keys, b) end
  if is_back then rebase_clock(keys, b, b.settings, now) end
  -- The bucket earns again from the end of a pause, however late the first call after the pause is.
  local resumed = b.resumes > b.at and now >= b.resumes
  refill(b, resumed and b.resumes or now)
  if b.due > 0 and now >= b.due then settle(keys, b, b.settings, now, 'deadline') end
  if resumed then refill(b, now) end
end
