-- The part of the budget's state that only a new budget, a new rate, the end of an epoch and the TTLs of the keys need.

-- A budget without a state starts with one token, so that a new slow budget answers at once. It never starts with a full
-- bucket, so that a lost state gives no free burst. The 2 % are for a caller on a timer, which would otherwise be a
-- millisecond early forever.
local FIRST_TOKENS = 1020000

-- `has_settings`: the budget's hash exists, so its settings are due at once.
local function new_budget(now, has_settings)
  local b = {}
  b.schema = SCHEMA
  b.at, b.rest, b.T, b.granted, b.granted_rest, b.top, b.top_before, b.half = now, 0, 0, 0, 0, 0, 0, now
  b.needs, b.demanding, b.retry_max, b.queue, b.crowd, b.saved, b.saved_until = 0, 0, 0, 0, 0, 0, 0
  b.R, b.B, b.burst_us, b.level, b.load, b.learns_until, b.due = 0, 0, DEFAULT_BURST, 3, 0, now + LEASE, has_settings and now or 0
  b.number, b.ends, b.length, b.refresh, b.span, b.span_until = 1, now + EPOCH, EPOCH, REFRESH, LEASE, 0
  b.fresh, b.late, b.idle, b.idlers, b.turned, b.turned_before, b.halved = 0, 0, 0, 0, now, now, now
  b.lost, b.lost_old, b.idle_old, b.idlers_old, b.spilled, b.unheard, b.unheard_until = 0, 0, 0, 0, 0, 0, 0
  b.ui, b.is_scarce, b.resumes, b.behind, b.high, b.birth, b.reason, b.taker = 0, 0, 0, 0, 0, now, 'unset', ''
  b.retry_before, b.u, b.first, b.renewed, b.kept, b.told_at, b.told_granted = 0, 0, FIRST_TOKENS, 0, 0, now, 0
  b.is_new, b.has_rest, b.is_revalued = true, true, true
  for _, name in ipairs(CLASSES) do b[name] = {math.huge, math.huge, 0, 0, 0, 0, 0, 0} end
  return b
end

-- A budget without a state is new, or its state was evicted. Returns nil and true if the budget is of a newer release.
local function first_budget(keys, now)
  local schema = redis.call('HGET', keys.budget, 'schema')
  if schema and not whole_number(schema, 0, COUNT) then error('damaged') end
  if schema and tonumber(schema) > SCHEMA then return nil, true end
  local b = new_budget(now, schema)
  for _, field in ipairs(schema and redis.call('HKEYS', keys.budget) or {}) do
    if string.find(field, '_operator') then b.kept = 1 end           -- what an operator has set does not expire
  end
  return b
end

local function read_rest(keys, b)
  if b.has_rest then return end
  b.has_rest = true
  b.retry_before, b.u, b.first, b.renewed, b.kept, b.lost_old, b.idle_old, b.idlers_old, b.unheard, b.unheard_until, b.told_at,
    b.told_granted = unpacked(EPOCHAL, b.raw, 1 + EPOCHAL_AT * WIDE)
  for _, name in ipairs(CLASSES) do b[name] = b[name] or read_class(b.raw, name) end
end

-- The sums over the consumers (consumers.lua), by name.
local PARTS = {'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free', 'load_level', 'noted', 'told'}

local function read_parts(b)
  if b.parts then return b.parts end
  local parts, list = {}, b.raw and {unpacked(SUMS, b.raw, 1 + SUMS_AT * WIDE)} or {}
  for i, name in ipairs(PARTS) do parts[name] = list[i] or 0 end
  b.parts = parts
  return parts
end
local function packed_sums(b)
  if b.raw and not b.parts then return string.sub(b.raw, 1 + SUMS_AT * WIDE, TERMS_AT * WIDE) end
  local parts, list = read_parts(b), {}
  for i, name in ipairs(PARTS) do list[i] = parts[name] end
  return pack(SUMS, unpack(list))
end

-- If the server's clock goes back, time stands still here until the clock has caught up, so that the time that passes twice
-- earns once. A clock that stays behind for STILL was set right, and from then on it counts. Until the clock is back at its
-- old time (`high`), at most STILL earns between two calls. So a leap forward to there earns next to nothing.
local function steady(b, now)
  if now < b.at then
    if b.behind == 0 or now < b.behind then b.behind, b.has_new_terms = now, true end
    if now - b.behind < STILL then return b.at end
    b.high, b.behind, b.has_new_terms = math.max(b.high, b.at), 0, true
    return now
  end
  if b.behind > 0 then b.behind, b.has_new_terms = 0, true end
  if b.high > 0 then
    b.at = math.max(b.at, math.min(now, b.high) - STILL)
    if now >= b.high then b.high, b.has_new_terms = 0, true end
  end
  return now
end

-- Whether the budget's hash is gone, and the settings with it: evicted, or deleted by hand. Its state alone is worth nothing. A
-- key of another type raises an error here.
local function is_lost(keys) return redis.call('HLEN', keys.budget) == 0 end

-- Returns the budget, or a new one, and the instant that counts for it.
local function open_budget(keys, now)
  local b, newer = read_budget(keys, 'normal')
  if b and not is_lost(keys) then return b, nil, steady(b, now) end
  if not newer then b, newer = first_budget(keys, now) end
  return b, newer and 'NEXUS_SCHEMA', now
end

-- A producer pays in this life of the budget for what it got in a life that was lost.
local function pay_for_past(b, p, ask)
  local before = b.T
  b.T = math.min(b.T, math.max(-b.B, b.T - ask.held))
  p.holds = before - b.T
end

local function is_renewal_due(b, now) return now - b.renewed >= RENEW or now < b.renewed end

-- An operator's setting survives any silence. Everything else expires a week after the last call.
local function renew(keys, b)
  for place, key in pairs(keys) do
    if place ~= 'member' and place ~= 'memory' then
      if b.kept == 1 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, KEEP_BUDGET_MS) end
    end
  end
end

-- Writes the whole state. TTLs are written again each minute, and at once (`may_be_new`) if a key may be new.
local function write_whole(keys, b, now, may_be_new)
  if b.is_lost then                                    -- the next call begins a new life, and clients open it again
    redis.call('DEL', keys.budget, keys.state)
    return
  end
  read_rest(keys, b)
  may_be_new = may_be_new or is_renewal_due(b, now)
  if may_be_new and (keys.history or b.is_new) then b.renewed = now end     -- not if a claim came with only a few keys
  if b.is_new or b.is_revalued or b.is_closed then write_summary(keys, b, now) end
  local state = {packed_bucket(b), packed_class(b['normal']), packed_class(b['high']), packed_class(b['low']),
    pack(EPOCHAL, b.retry_before, b.u, b.first, b.renewed, b.kept, b.lost_old, b.idle_old, b.idlers_old, b.unheard,
         b.unheard_until, b.told_at, b.told_granted),
    packed_sums(b), pack(TERMS, unpack(b, TERMS_BEGIN, TERMS_END)),
    b.window and packed_window(b.window) or ''}
  redis.call('SET', keys.state, table.concat(state), 'KEEPTTL')
  if may_be_new then renew(keys, b) end
end
