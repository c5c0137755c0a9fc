-- The budget's hash. What people read is plain; what the arithmetic reads is packed, as arrays of whole numbers. What each
-- call changes, what changes with the rate or the epoch, and what only the end of an epoch needs lie apart, a text each,
-- and so does each class of producers: a claim reads and writes only what it needs.
local SCHEMA = 1
local NO_LEVEL = -1                     -- a class without contention, as stored
local MOST_LEVEL = 9e18                 -- billionths: 9e9/s at weight 1, 9e7/s at the lowest; what a %d holds
local CLASSES = {'high', 'normal', 'low'}

local function read_class(text)
  local c = cjson.decode(text)
  local level, mark = c[1], c[8] or c[1]                                                               -- in billionths
  return {level = level == NO_LEVEL and math.huge or level / 1000, mark = mark == NO_LEVEL and math.huge or mark / 1000,
          room = c[2], trim = c[3] / MICRO, under = c[4], over = c[5], demand = c[6], weight = c[7]}
end

local function class_text(c)
  local level = c.level == math.huge and NO_LEVEL or math.min(math.floor(c.level * 1000), MOST_LEVEL)
  local mark = c.mark == math.huge and NO_LEVEL or math.min(math.floor(c.mark * 1000), MOST_LEVEL)
  -- The sums are of so many producers that they may be more than %d can print.
  return string.format('[%d,%d,%d,%.0f,%.0f,%.0f,%.0f,%d]', level, c.room, math.floor(c.trim * MICRO), c.under, c.over,
                       c.demand, c.weight, mark)
end

local function read_window(text)
  local w = cjson.decode(text)
  return {active = w[1], edge = w[2], net = w[3], A = w[4], slot = w[5], slot_us = w[6], lossless = w[7], born = w[8],
          snaps = {w[9], w[10], w[11], w[12], w[13]}}
end

-- With one class of producers; `read_rest` reads the others. nil where there is none, nil and a code when the state is of a
-- newer release.
local function read_budget(keys, now, class)
  local f = redis.call('HMGET', keys.budget, 'schema', 'bucket', 'terms', 'window', 'class_' .. class)
  if f[1] and tonumber(f[1]) > SCHEMA then return nil, 'NEXUS_SCHEMA' end
  if not f[3] then return nil end
  local k, t = cjson.decode(f[2]), cjson.decode(f[3])
  return {
    at = k[1], rest = k[2], T = k[3], granted = k[4], granted_rest = k[5], top = k[6], top_before = k[7], half = k[8],
    needs = k[9], retry_max = k[10], queue = k[11] or 0,                  -- it is there in a crowd, as are three of the terms
    R = t[1], B = t[2], burst_us = t[3], level = t[4], load = t[5], learns_until = t[6], due = t[7],
    number = t[8], ends = t[9], length = t[10], birth = t[11], reason = t[12],
    refresh = t[13] or REFRESH, span = t[14] or LEASE, span_until = t[15] or 0, ui = (t[16] or 0) / MICRO, is_scarce = t[17] == 1,
    taker = t[18],
    window = f[4] and read_window(f[4]), [class] = read_class(f[5]),
  }
end

local function bucket_text(b)
  return string.format(b.queue == 0 and '[%d,%d,%d,%d,%d,%d,%d,%d,%d,%d]' or '[%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d]', b.at, b.rest,
                       b.T, b.granted, b.granted_rest, b.top, b.top_before, b.half, b.needs, b.retry_max, b.queue)
end

-- `tokens` and `granted_total` are for people: the bucket has them to the micro-token.
local function write_budget(keys, b, class)
  redis.call('HSET', keys.budget, 'tokens', string.format('%.6f', b.T / MICRO), 'granted_total',
             string.format('%d', b.granted), 'bucket', bucket_text(b), 'class_' .. class, class_text(b[class]))
end
