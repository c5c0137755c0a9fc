-- The part of the budget's state that only a new budget, a new rate, the end of an epoch and the TTLs of the keys need.

-- A budget without a state starts with one token, so that a new slow budget answers at once. It never starts with a full
-- bucket, so that a lost state gives no free burst. The 2 % are for a caller on a timer, which would otherwise be a
-- millisecond early forever.
local FIRST_TOKENS = 1020000

-- `has_settings`: the budget's hash exists, so its settings are due at once.
local function new_budget(now, has_settings)
  local budget = {}
  budget.schema = SCHEMA
  budget.called_at, budget.tokens_remainder, budget.tokens = now, 0, 0
  budget.granted, budget.granted_remainder = 0, 0
  budget.peak, budget.peak_before, budget.peak_since = 0, 0, now
  budget.needs, budget.producers_in_demand, budget.retry_max = 0, 0, 0
  budget.queue_end, budget.producers_seen, budget.saved, budget.saved_until = 0, 0, 0, 0
  budget.rate, budget.bucket_size, budget.burst_us, budget.level, budget.load = 0, 0, DEFAULT_BURST, 3, 0
  budget.learns_until, budget.due_at = now + LEASE, has_settings and now or 0
  budget.epoch, budget.epoch_ends, budget.epoch_length = 1, now + EPOCH, EPOCH
  budget.refresh, budget.longest_lease, budget.longest_lease_until = REFRESH, LEASE, 0
  budget.fresh_shares, budget.late_shares, budget.idle_shares, budget.idle_producers = 0, 0, 0, 0
  budget.shares_turned_at, budget.shares_turned_before, budget.shares_halved_at = now, now, now
  budget.lost_shares, budget.lost_shares_old, budget.idle_shares_old, budget.idle_producers_old = 0, 0, 0, 0
  budget.spilled, budget.unheard_tokens, budget.unheard_until = 0, 0, 0
  budget.slow_trim, budget.is_scarce, budget.resumes_at, budget.clock_low, budget.clock_high = 0, 0, 0, 0, 0
  budget.birth, budget.reason, budget.marginal_class = now, 'unset', ''
  budget.retry_max_before, budget.trim, budget.first_tokens, budget.renewed_at = 0, 0, FIRST_TOKENS, 0
  budget.is_persistent, budget.summary_at, budget.summary_granted = 0, now, 0
  budget.is_new, budget.has_rest, budget.has_new_rate = true, true, true
  for _, name in ipairs(CLASSES) do budget[name] = {math.huge, math.huge, 0, 0, 0, 0, 0, 0} end
  return budget
end

-- A budget without a state is new, or its state was evicted. Returns nil and true if the budget is of a newer release.
local function first_budget(keys, now)
  local schema = redis.call('HGET', keys.budget, 'schema')
  if schema and not whole_number(schema, 0, COUNT) then error('damaged') end
  if schema and tonumber(schema) > SCHEMA then return nil, true end
  local budget = new_budget(now, schema)
  for _, field in ipairs(schema and redis.call('HKEYS', keys.budget) or {}) do
    if string.find(field, '_operator') then budget.is_persistent = 1 end  -- what an operator has set does not expire
  end
  return budget
end

local function read_rest(keys, budget)
  if budget.has_rest then return end
  budget.has_rest = true
  budget.retry_max_before, budget.trim, budget.first_tokens, budget.renewed_at, budget.is_persistent, budget.lost_shares_old,
    budget.idle_shares_old, budget.idle_producers_old, budget.unheard_tokens, budget.unheard_until, budget.summary_at,
    budget.summary_granted = unpacked(EPOCHAL, budget.raw, 1 + EPOCHAL_AT * WIDE)
  for _, name in ipairs(CLASSES) do budget[name] = budget[name] or read_class(budget.raw, name) end
end

-- The sums over the consumers (consumers.lua), by name.
local SUMMED = {'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free', 'load_level', 'noted_rate',
                'published_rate'}

local function read_sums(budget)
  if budget.sums then return budget.sums end
  local sums, list = {}, budget.raw and {unpacked(SUMS, budget.raw, 1 + SUMS_AT * WIDE)} or {}
  for i, name in ipairs(SUMMED) do sums[name] = list[i] or 0 end
  budget.sums = sums
  return sums
end
local function packed_sums(budget)
  if budget.raw and not budget.sums then return string.sub(budget.raw, 1 + SUMS_AT * WIDE, TERMS_AT * WIDE) end
  local sums, list = read_sums(budget), {}
  for i, name in ipairs(SUMMED) do list[i] = sums[name] end
  return pack(SUMS, unpack(list))
end

-- If the server's clock goes back, time stands still here until the clock has caught up, so that the time that passes twice
-- earns once. A clock that stays behind for STILL was set right, and from then on it counts. Until the clock is back at its
-- old time (`clock_high`), at most STILL earns between two calls. So a leap forward to there earns next to nothing.
local function steady(budget, now)
  if now < budget.called_at then
    if budget.clock_low == 0 or now < budget.clock_low then budget.clock_low, budget.has_new_terms = now, true end
    if now - budget.clock_low < STILL then return budget.called_at end
    budget.clock_high, budget.clock_low, budget.has_new_terms = math.max(budget.clock_high, budget.called_at), 0, true
    return now
  end
  if budget.clock_low > 0 then budget.clock_low, budget.has_new_terms = 0, true end
  if budget.clock_high > 0 then
    budget.called_at = math.max(budget.called_at, math.min(now, budget.clock_high) - STILL)
    if now >= budget.clock_high then budget.clock_high, budget.has_new_terms = 0, true end
  end
  return now
end

-- Whether the budget's hash is gone, and the settings with it: evicted, or deleted by hand. The state alone is worth nothing.
-- A key of another type raises an error here.
local function are_settings_lost(keys) return redis.call('HLEN', keys.budget) == 0 end

-- Returns the budget, or a new one, and the instant that counts for it.
local function open_budget(keys, now)
  local budget, newer = read_budget(keys, 'normal')
  if budget and not are_settings_lost(keys) then return budget, nil, steady(budget, now) end
  if not newer then budget, newer = first_budget(keys, now) end
  return budget, newer and 'NEXUS_SCHEMA', now
end

-- A producer pays in this life of the budget for what it got in a life that was lost.
local function pay_for_past(budget, producer, claim, learning)
  local is_of_past = claim.birth ~= '' and tonumber(claim.birth) ~= budget.birth
  if not learning and not is_of_past then return end
  local before = budget.tokens
  budget.tokens = math.min(budget.tokens, math.max(-budget.bucket_size, budget.tokens - claim.held))
  producer.holds = before - budget.tokens
end

local function is_renewal_due(budget, now) return now - budget.renewed_at >= RENEW or now < budget.renewed_at end

-- An operator's setting survives any silence. Everything else expires a week after the last call.
local function renew(keys, budget)
  for place, key in pairs(keys) do
    if place ~= 'member' and place ~= 'memory' then
      if budget.is_persistent == 1 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, KEEP_BUDGET_MS) end
    end
  end
end

-- Writes the whole state. TTLs are written again each minute, and at once (`may_be_new`) if a key may be new.
local function write_whole(keys, budget, now, may_be_new)
  if budget.has_lost_settings then                   -- the next call begins a new life, and clients open it again
    redis.call('DEL', keys.budget, keys.state)
    return
  end
  read_rest(keys, budget)
  may_be_new = may_be_new or is_renewal_due(budget, now)
  -- A claim that came with only a few keys cannot renew the others.
  if may_be_new and (keys.history or budget.is_new) then budget.renewed_at = now end
  if budget.is_new or budget.has_new_rate or budget.has_closed_epoch then write_summary(keys, budget, now) end
  local state = {
    packed_bucket(budget), packed_class(budget['normal']), packed_class(budget['high']), packed_class(budget['low']),
    pack(EPOCHAL, budget.retry_max_before, budget.trim, budget.first_tokens, budget.renewed_at, budget.is_persistent,
         budget.lost_shares_old, budget.idle_shares_old, budget.idle_producers_old, budget.unheard_tokens,
         budget.unheard_until, budget.summary_at, budget.summary_granted),
    packed_sums(budget), pack(TERMS, unpack(budget, TERMS_BEGIN, TERMS_END)),
    budget.window and packed_window(budget.window) or '',
  }
  redis.call('SET', keys.state, table.concat(state), 'KEEPTTL')
  if may_be_new then renew(keys, budget) end
end
