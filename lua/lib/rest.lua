-- The rest of the budget's hash: what only a new budget, a new rate, the end of an epoch and the ends of the keys need.

-- A budget that nobody knows starts with one token, so that a new slow one answers at once, and never with a full bucket,
-- so that a lost state is no free burst. The 2 % are for a caller on a timer, else a millisecond early for ever.
local FIRST_TOKENS = 1020000

local function new_budget(now)
  local b = {
    is_new = true, birth = whole(now), T = 0, granted = 0, reason = 'unset',
    at = now, rest = 0, granted_rest = 0, top = 0, top_before = 0, half = now, needs = 0, retry_max = 0,
    R = 0, B = 0, burst_us = INTERVAL, level = 3, load = 0, first = FIRST_TOKENS, learns_until = now + LEASE,
    refresh = REFRESH, span = LEASE, span_until = 0, queue = 0,
    due = 0, renewed = 0, kept = 0,
    number = 1, ends = now + EPOCH, length = EPOCH, retry_before = 0, ui = 0, u = 0,
    has_rest = true, is_revalued = true,
  }
  for _, class in ipairs(CLASSES) do
    b[class] = {level = math.huge, mark = math.huge, room = 0, trim = 0, under = 0, over = 0, demand = 0, weight = 0}
  end
  return b
end

local function read_rest(keys, b)
  if b.has_rest then return end
  b.has_rest = true
  local f = redis.call('HMGET', keys.budget, 'epoch', 'class_high', 'class_normal', 'class_low')
  local e = cjson.decode(f[1])
  b.retry_before, b.ui, b.u, b.first, b.renewed, b.kept = e[1], e[2] / MICRO, e[3] / MICRO, e[4], e[5], e[6]
  for i, class in ipairs(CLASSES) do b[class] = b[class] or read_class(f[i + 1]) end
end

-- The budget, or a new one.
local function open_budget(keys, now)
  local b, newer = read_budget(keys, now, 'normal')
  if newer then return nil, newer end
  return b or new_budget(now)
end

-- What a producer got in a life of the budget that we lost is paid for in this one.
local function pay_for_past(b, p, ask)
  local before = b.T
  b.T = math.min(b.T, math.max(-b.B, b.T - ask.held))
  p.holds = before - b.T
end

local function is_renewal_due(b, now) return now - b.renewed >= RENEW or now < b.renewed end

-- An operator's setting outlives any silence; everything else goes a week after the last call.
local function renew(keys, b)
  for place, key in pairs(keys) do
    if place ~= 'member' then
      if b.kept == 1 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, KEEP_BUDGET_MS) end
    end
  end
end

local function write_window(keys, w)
  redis.call('HSET', keys.budget, 'window', string.format(
    '[%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d]', w.active, w.edge, w.net, w.A, w.slot, w.slot_us, w.lossless, w.born,
    w.snaps[1], w.snaps[2], w.snaps[3], w.snaps[4], w.snaps[5]))
end

-- All of it. TTLs are written again each minute, and at once (`may_be_new`) where a key may be new.
local function write_whole(keys, b, now, may_be_new)
  read_rest(keys, b)
  may_be_new = may_be_new or is_renewal_due(b, now)
  if may_be_new and (keys.history or b.is_new) then b.renewed = now end     -- not when a claim came with a few of them
  local list = {'HSET', keys.budget}
  local function add(field, text)
    list[#list + 1] = field
    list[#list + 1] = text
  end
  add('tokens', string.format('%.6f', b.T / MICRO))
  add('granted_total', string.format('%d', b.granted))
  add('bucket', bucket_text(b))
  local crowd = b.span <= LEASE and '' or string.format(
    ',%d,%d,%d,%d,%d,"%s"', b.refresh, b.span, b.span_until, math.floor(b.ui * MICRO), b.is_scarce and 1 or 0, b.taker or '')
  add('terms', string.format('[%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,"%s","%s"%s]', b.R, b.B, b.burst_us, b.level, b.load,
                             b.learns_until, b.due, b.number, b.ends, b.length, b.birth, b.reason, crowd))
  add('epoch', string.format('[%d,%d,%d,%d,%d,%d]', b.retry_before, math.floor(b.ui * MICRO), math.floor(b.u * MICRO), b.first,
                             b.renewed, b.kept))
  for _, class in ipairs(CLASSES) do add('class_' .. class, class_text(b[class])) end
  if b.is_new then
    add('schema', whole(SCHEMA))
    add('birth', b.birth)
  end
  if b.is_revalued then
    add('rate_per_s', plain(b.R))
    add('burst_s', plain(b.burst_us))
    add('level', whole(b.level))
    add('load_percent', plain(b.load))
    add('reason', b.reason)
  end
  redis.call(unpack(list))
  if b.window then write_window(keys, b.window) end
  if may_be_new then renew(keys, b) end
end
