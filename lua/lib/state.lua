-- The budget's hash, read once and written once. What people read is plain; what the arithmetic alone reads is packed.
local SCHEMA = 1
local HIGH, NORMAL, LOW = 0, 4, 8       -- where a class begins in b.sums
local CLASS = {high = HIGH, normal = NORMAL, low = LOW}
local NO_LEVEL = -1                     -- a class without contention, as stored

-- A budget that nobody knows: it starts with one token, so that a new slow one answers at once, and never with a full
-- bucket, so that a lost state is no free burst. The 2 % are for a caller on a timer, else a millisecond early for ever.
local FIRST_TOKENS = 1020000

local function new_budget(now)
  return {
    is_new = true, birth = whole(now), R = 0, T = 0, B = 0, first = FIRST_TOKENS, level = 3, load = 0, reason = 'unset',
    granted = 0, granted_rest = 0, at = now, rest = 0, burst_us = INTERVAL, top = 0, top_before = 0, half = now,
    due = 0, renewed = 0, kept = 0, learns_until = now + LEASE,
    number = 1, ends = now + EPOCH, length = EPOCH, retry_before = 0, ui = 0, u = 0,
    sums = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, needs = 0, retry_max = 0,
    levels = {[HIGH] = huge, [NORMAL] = huge, [LOW] = huge}, rooms = {[HIGH] = 0, [NORMAL] = 0, [LOW] = 0},
    rate_changed = true, rolled = true,
  }
end

local function read_window(text)
  local w = numbers(text)
  return {active = w[1], edge = w[2], net = w[3], A = w[4], refused = w[5], slot = w[6], slot_us = w[7],
          lossless = w[8], born = w[9], snaps = {w[10], w[11], w[12], w[13], w[14]}}
end

-- nil and a code when the state belongs to a newer release.
local function read_budget(keys, now)
  local f = redis.call('HMGET', keys.budget, 'schema', 'birth', 'rate_per_s', 'tokens', 'level', 'load_percent', 'reason',
                       'granted_total', 'bucket', 'epoch', 'sums', 'shares', 'window')
  if f[1] and tonumber(f[1]) > SCHEMA then return nil, 'NEXUS_SCHEMA' end
  if not f[2] then return new_budget(now) end
  local bucket, epoch, sums, shares = numbers(f[9]), numbers(f[10]), numbers(f[11]), numbers(f[12])
  local b = {
    birth = f[2], R = unplain(f[3]), T = unfixed(f[4]), level = tonumber(f[5]), load = unplain(f[6]), reason = f[7],
    granted = tonumber(f[8]), at = bucket[1], rest = bucket[2], B = bucket[3], burst_us = bucket[4], top = bucket[5],
    top_before = bucket[6], half = bucket[7], granted_rest = bucket[8], due = bucket[9], renewed = bucket[10],
    kept = bucket[11], first = bucket[12], learns_until = bucket[13],
    number = epoch[1], ends = epoch[2], length = epoch[3], retry_before = epoch[4], ui = epoch[5] / MICRO,
    u = epoch[6] / MICRO,
    sums = sums, needs = sums[13], retry_max = sums[14],
    levels = {}, rooms = {},
  }
  for class = HIGH, LOW, 4 do
    local level = shares[class / 4 + 1]
    b.levels[class] = level == NO_LEVEL and huge or level / 1000    -- stored in billionths: a slow budget's levels are small
    b.rooms[class] = shares[class / 4 + 4]
  end
  if f[13] then b.window = read_window(f[13]) end
  return b
end

-- TTLs are written again now and then, and at once (`is_renewed`) where a key may be new. An operator's setting outlives any
-- silence; everything else goes a week after the last call.
local function write_budget(keys, b, now, is_renewed)
  is_renewed = is_renewed or b.is_new or now - b.renewed >= RENEW or now < b.renewed
  if is_renewed then b.renewed = now end
  local s = b.sums
  local list = {'HSET', keys.budget,
    'tokens', fixed(b.T), 'granted_total', whole(b.granted),
    'bucket', packed({b.at, b.rest, b.B, b.burst_us, b.top, b.top_before, b.half, b.granted_rest, b.due, b.renewed, b.kept,
                      b.first, b.learns_until}),
    'sums', packed({s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], b.needs, b.retry_max})}
  local n = #list
  local function add(field, text)
    list[n + 1], list[n + 2] = field, text
    n = n + 2
  end
  if b.is_new then
    add('schema', whole(SCHEMA))
    add('birth', b.birth)
  end
  if b.rolled then
    add('epoch', packed({b.number, b.ends, b.length, b.retry_before, floor(b.ui * MICRO), floor(b.u * MICRO)}))
  end
  if b.rolled or b.rate_changed then
    local shares = {}
    for class = HIGH, LOW, 4 do
      local level = b.levels[class]
      shares[class / 4 + 1] = level == huge and NO_LEVEL or min(floor(level * 1000), 9e15)
      shares[class / 4 + 4] = b.rooms[class]
    end
    add('shares', packed(shares))
  end
  if b.rate_changed then
    add('rate_per_s', plain(b.R))
    add('burst_s', plain(b.burst_us))
    add('level', whole(b.level))
    add('load_percent', plain(b.load))
    add('reason', b.reason)
  end
  if b.window then
    local w = b.window
    add('window', packed({w.active, w.edge, w.net, w.A, w.refused, w.slot, w.slot_us, w.lossless, w.born,
                          w.snaps[1], w.snaps[2], w.snaps[3], w.snaps[4], w.snaps[5]}))
  end
  redis.call(unpack(list))
  if not is_renewed then return end
  for place, key in pairs(keys) do
    if place ~= 'member' then
      if b.kept == 1 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, KEEP_BUDGET_MS) end
    end
  end
end
