--[[ report: store what a consumer says, run its law, update the budget.

KEYS   1 budget  2 state  3 consumers  4 rates  5 loads  6 capacities  7 frees  8 edges  9 ratios  10 producers  11 history
       12 consumer  13 its state
ARGV   1 at_us        int    0 = the server's clock; tests pin the instant
       2 incarnation  text, at most 64 characters; empty: a one-shot sender
       3 seq          int    grows by one a report; the same one changes nothing
       then, empty where it is not said, as plain decimals:
       4 uptime_ms    its own monotonic clock       10 errors        failures, only grows
       5 load         percent, 0..100               11 in_flight     tokens at work
       6 capacity     tokens/s                      12 slots         at most so many tokens at work
       7 queue_depth  tokens waiting                13 latency_ms    the median of the work that ended lately
       8 queue_limit  tokens it can hold            14 interval_ms   how often it reports, 250 if not said
       9 done         successes, only grows         15 pause_ms      takes its part out this long; 0 ends that
       16 latency_p25_ms, 17 latency_p10_ms         two lower percentiles of the same work
       18 cancelled   ended since nobody wanted it any more, only grows
       19 busy_ms     time that its workers took for what is done, over their number, only grows
       20 labels      text, at most 1024 characters
Reply  1 rate (micro-tokens/s, what this consumer can take)  2 capacity (micro-tokens/s, 0 = not known yet)
       3 budget_rate (micro-tokens/s)  4 backpressure_level  5 current_load (thousandths of a percent)  6 birth
       7 law  8 reason
       all as text
Errors NEXUS_INVALID_<FIELD>  NEXUS_MISSING_<FIELD> (a lossless budget needs it)  NEXUS_INVALID_KEYS  NEXUS_SCHEMA
       NEXUS_STALE (lower seq)  NEXUS_ID_TAKEN  NEXUS_NO_LAW (no law fits what it says)
Cost   O(log n) in consumers ]]
local is_well, reply = pcall(function()
local string_format = string.format
local math_floor = math.floor
local string_match = string.match
local string_sub = string.sub
local string_gmatch = string.gmatch
local math_max = math.max
local math_min = math.min
local math_huge = math.huge
local redis_call = redis.call
local math_abs = math.abs
local math_ceil = math.ceil
local math_exp = math.exp
local math_sqrt = math.sqrt

-- Durations that several scripts share, in microseconds.
-- SECOND = 1000000
-- LEASE = 500000            -- tokens handed out may be spent this long, counted from before the claim was sent
-- REFRESH = 100000          -- how often a busy producer claims; in a crowd both are longer (crowd.lua)
-- LONGEST_TRIP = 1000000     -- of a round trip to Redis, by which a lease is longer
-- REFRESHES = 5             -- in a lease: chances to be heard
-- EPOCH = 250000            -- shortest round of the fair share: everyone in demand comes once in it
-- LONGEST_SLOT = 86400000000    -- as far ahead as a producer is told its turn: a day
-- LONGEST_WAIT = 1000000    -- no producer is told to stay away longer, or it would miss a change of the rate
-- DEFAULT_BURST = 250000     -- of the rate, in a bucket whose budget names no burst
-- INTERVAL = 250000         -- a consumer that names no interval reports this often
-- SHORTEST_DEADLINE = 2000000   -- a consumer that skips a few reports (a pause of its runtime) is not dead
-- STILL = 5000000           -- so long a server's clock that went back stands still: longer than one swings that is steered
-- GRACE = 10000000          -- what the last consumer could take stays so long when it left: a process or a container restarts
-- FORGET_CONSUMER = 10000000    -- after its deadline: what was sent to it has failed by then
-- TRANSIT = 1000000         -- from a token spent to its work seen in Redis, unless the budget says otherwise
-- UNTIL_RESUMED = 9e15      -- the end of a pause without one
-- KEEP_BUDGET_MS = 604800000    -- sweeps only, decides nothing: a week, as long as an incident and a weekend
-- KEEP_MEMBER_MS = 600000       -- likewise, for what is known of one producer or consumer
-- KEEP_PASSING_MS = 5000     -- and of one that only asked once: longer than an epoch
-- RENEW = 60000000          -- how often a TTL is written again
-- Numbers as text. Lua 5.1 knows doubles only, and its tostring() rounds at 14 digits: every number that is stored or
-- answered goes through string_format, in millionths (micro) or microseconds, and is exact to 2^53.
-- MICRO = 1000000
-- COUNT = 9007199254740992     -- 2^53: up to here a double holds every whole number

local function whole(x) return string_format('%.0f', x) end

-- 0.29 -> 290000: to the nearest, since a double of 0.29 may lie just below it.
local function micro_of(x) return math_floor(x * 1000000 + 0.5) end

-- 2500500000 -> '2500.5': for people.
local function plain(micro)
  local text = string_format('%.0f.%06.0f', math_floor(micro / 1000000), micro % 1000000)
  return (string.gsub(string.gsub(text, '0+$', ''), '%.$', ''))
end
local function unplain(text)
  local integer, fraction = string_match(text, '^(%d+)%.?(%d*)$')
  return tonumber(integer) * 1000000 + tonumber(string_sub(fraction .. '000000', 1, 6))
end

-- A plain decimal within [low, high] as a double, or nil: tonumber alone takes 'nan', 'inf', '0x10' and ' 5 '.
local function decimal(text, low, high)
  if #text > 40 or not string_match(text, '^%d+%.?%d*$') then return nil end
  local x = tonumber(text)
  if x >= low and x <= high then return x end
  return nil
end

-- Digits only, within [low, high], or nil.
local function whole_number(text, low, high)
  if #text > 17 or not string_match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end

-- What a script has written as a number.
local function finite(text)
  local x = tonumber(text)
  if not x or x - x ~= 0 then error('damaged') end
  return x
end

-- Packed state: one text of whole numbers.
local function numbers(text)
  local list, n = {}, 0
  for word in string_gmatch(text, '%S+') do
    n = n + 1
    list[n] = tonumber(word)
  end
  return list
end
local function packed(list)
  return string_format(string_sub(string.rep(' %.0f', #list), 2), unpack(list))
end
-- Packs what only the arithmetic reads with `struct`, which every server has: big-endian, so that any language unpacks it. A
-- number read as text costs several times as much, and a claim has a hundred of them. fakeredis has no `struct`: there the same
-- parts are text, a number takes WIDE characters, and nothing else differs.
local pack, unpacked
local WIDE = struct and 8 or 25     -- of a double
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string_gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string_sub(words[i], 1, tonumber(size)) .. ' '
      elseif kind == 's' then words[i] = words[i] .. ' '
      else words[i] = string_format('%24.17g ', words[i]) end
    end
    return table.concat(words)
  end
  function unpacked(format, text, from)
    local values, at = {}, from or 1
    for kind in string_gmatch(format, '([dfIisc])%d*') do
      local is_text = kind == 's' or kind == 'c'
      local last = is_text and string.find(text, ' ', at, true) or at + WIDE - 1
      if not last or last > #text then error('too short') end
      local word = string_sub(text, at, last - 1)
      values[#values + 1] = is_text and word or tonumber(word) or error('not a number')
      at = last + 1
    end
    values[#values + 1] = at
    return unpack(values)
  end
end
-- The only clock is the server's, asked once per script: hosts' clocks are never compared. A test pins the instant.
-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.
local PLACES = {'state', 'consumers', 'rates', 'loads', 'capacities', 'frees', 'edges', 'ratios', 'producers', 'history'}

local function is_name(text) return #text <= 64 and string.find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil end

-- {name}, or {name/key} of a key's budget: no name has the stroke, so no key is taken for a name.
local function is_budget(key)
  local namespace, name = string_match(key, '^(.*):{(.*)}$')
  if not namespace or #name > 64 then return false end
  local parent = string_match(name, '^(.*)/[A-Za-z0-9._-]+$')
  return is_name(namespace) and is_name(parent or name)
end

-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
local function named_keys(kind)
  if #KEYS ~= (kind and 13 or 11) or not is_budget(KEYS[1]) then return nil end
  local keys = {budget = KEYS[1], member = KEYS[12], memory = KEYS[13]}
  for i, place in ipairs(PLACES) do
    if KEYS[i + 1] ~= KEYS[1] .. ':' .. place then return nil end
    keys[place] = KEYS[i + 1]
  end
  if not kind then return keys, nil end
  local prefix = KEYS[1] .. ':' .. kind .. ':'
  local id = string_sub(keys.member, #prefix + 1)
  if keys.member ~= prefix .. id or not is_name(id) or keys.memory ~= keys.member .. ':state' then return nil end
  return keys, id
end

-- A claim may come with five of them: budget, state, producers, producer and the producer's state. Their names are looked at
-- where they are new.
-- The id of the producer that claims.
-- The budget's state: one string of packed parts, one after the other. A claim writes the first two and leaves the others.
--
--   bucket    what each claim changes; the schema comes first in every release
--   classes   normal, high, low: the fair share of each
--   epoch     what only the end of an epoch needs
--   sums      sums over the consumers
--   terms     what changes with the rate and the epoch; the last of them are texts, each with a zero at its end
--   window    what the consumers can still hold; only where there is one
-- SCHEMA = 3
local CLASSES = {'high', 'normal', 'low'}
-- BUCKET = '>ddddddddddddddddddddd'
-- CLASS = '>dddddddd'
-- EPOCHAL = '>dddddddddddd'
-- SUMS = '>dddddddddd'
-- TERMS = '>dddddddddddddddddddddddss'
-- WINDOW = '>ddddddddddddd'

-- Where they begin, in doubles from the first one.
-- NORMAL_AT = 21
-- HIGH_AT = 29
-- LOW_AT = 37
-- EPOCHAL_AT = 45
-- SUMS_AT = 57
-- TERMS_AT = 67

-- A producer's: what its next claim needs, who it is, and its last answer. There may be a million of these, so they are whole
-- numbers of as few bytes as each needs; a class is its first letter, a reason its first two.
-- ENTRY = '>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7'
-- ANSWER = '>i7I4I4i7i7c2I5'

--- @record b schema at rest T granted granted_rest top top_before half needs demanding retry_max queue crowd saved saved_until fresh late idle idlers spilled
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes behind high
---   turned turned_before halved lost birth reason taker
---   next raw earned window retry_before u first renewed kept lost_old idle_old idlers_old unheard unheard_until told_at told_granted
---   parts has_rest has_new_terms is_new is_revalued is_closed seen_demand seen_demanding settings
-- BUCKET_ENDS = 21
-- TERMS_BEGIN = 22
-- TERMS_END = 46
--- @record class level mark room trim under over demand weight

local function class_at(name) return (name == 'normal' and 21 or name == 'high' and 29 or 37) * WIDE end

local function read_class(raw, name) return {unpacked('>dddddddd', raw, 1 + class_at(name))} end
local function packed_class(class) return pack('>dddddddd', unpack(class, 1, 8)) end

local function read_window(raw, from)
  local active, edge, net, A, slot, slot_us, lossless, born, s1, s2, s3, s4, s5 = unpacked('>ddddddddddddd', raw, from)
  return {active = active, edge = edge, net = net, A = A, slot = slot, slot_us = slot_us, lossless = lossless, born = born,
          snaps = {s1, s2, s3, s4, s5}}
end

-- With one class of producers; `read_rest` reads the others. nil where there is none, and true where it is of a newer release.
local function packed_bucket(b) return pack('>ddddddddddddddddddddd', unpack(b, 1, 21)) end

local function packed_window(w)
  local s = w.snaps
  return pack('>ddddddddddddd', w.active, w.edge, w.net, w.A, w.slot, w.slot_us, w.lossless, w.born, s[1], s[2], s[3], s[4], s[5])
end

-- What each claim changes. The normal class lies behind the bucket, so that most claims write one piece.
-- The bucket: what the rate has earned and nobody has taken. T tokens of at most B, all in millionths and exact.

-- A rate of R micro-tokens a second is floor(R/1e6) a microsecond and a rest that is carried, so a budget of 1/hour
-- that is asked each millisecond loses nothing.
local function refill(b, now)
  local dt = now - b[2]
  b[2] = now
  if dt < 0 then                                     -- the clock went back: learning is not prolonged
    b[27], b[65] = (b[27] + dt > 0 and b[27] + dt or 0), true
  end
  local R, T, B = b[22], b[4], b[23]
  if b[43] > 0 then R = R - math_floor((R / 2 < b[43] and R / 2 or b[43])) end     -- share.lua
  b[49] = R
  if dt > 0 and R > 0 then
    local room = B - T
    if room <= 0 or dt >= room / R * 1000000 + 1 then
      b[21] = b[21] + (R * dt / 1000000 - room > 0 and R * dt / 1000000 - room or 0)
      T, b[3] = B, 0
    else
      local part = R % 1000000 * dt + b[3]
      T, b[3] = T + math_floor(R / 1000000) * dt + math_floor(part / 1000000), part % 1000000
      if T >= B then T, b[3] = B, 0 end
    end
    b[4] = T
  end
  if now < b[9] then
    b[9] = now                                     -- and nothing that the bucket held is forgotten sooner for it
  elseif now - b[9] > b[33] then
    b[8] = now - b[9] < 2 * b[33] and b[7] or 0
    b[7], b[9] = b[4], now
  end
  b[7] = (b[4] > b[7] and b[4] or b[7])
end

-- Grants or hand-backs change the bucket and the counter of the budget's life together.
-- Tokens that come back may be spent again only where the bucket had room for them all the while: what it held at its
-- fullest, as long as the longest lease, is already promised to that window.
-- How deep the bucket is at the burst that it has unless told. Shares are kept by what lies in this part of it; a larger
-- burst is for whoever asks first.
-- The budget's hash, for people: written when something changes, and at the end of each epoch. The settings are here as well.

-- 1800000000250000 -> '2027-01-15T08:00:00.250Z', which `date -d` reads. Days are counted from the first of March of the year 0,
-- so that a leap day is the last of its year.
local function date_of(us)
  local ms = math_floor(us / 1000)
  local s = math_floor(ms / 1000)
  local days = math_floor(s / 86400)
  local from_march = days + 719468
  local era = math_floor(from_march / 146097)
  local of_era = from_march - era * 146097
  local years = math_floor((of_era - math_floor(of_era / 1460) + math_floor(of_era / 36524) - math_floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * years + math_floor(years / 4) - math_floor(years / 100))
  local march = math_floor((5 * of_year + 2) / 153)
  local day, month = of_year - math_floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
  local year = era * 400 + years + (month <= 2 and 1 or 0)
  return string_format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math_floor(s / 3600) % 24, math_floor(s / 60) % 60,
                       s % 60, ms % 1000)
end

-- The end of a pause; nil: there is none.
local function pause_end(until_us)
  if until_us <= 0 then return nil end
  return until_us >= 9e15 and 'until it is resumed' or date_of(until_us)
end

-- The rate at which a producer of weight 1 is held, where its class wants more than there is.
local function fair_level(class)
  return class[1] < math_huge and plain(math_floor(class[1])) or 'uncontended'
end

local function write_summary(keys, b, now)
  local list = {'HSET', keys.budget, 'schema', whole(3), 'birth', whole(b[44]), 'updated_at', date_of(now),
    'rate_per_s', plain(b[22]), 'level', whole(b[25]), 'load_percent', plain(b[26]), 'reason', b[45],
    'tokens', string_format('%.6f', b[4] / 1000000), 'burst_s', plain(b[24]), 'granted_total', whole(b[5])}
  local function add(field, text)
    list[#list + 1] = field
    list[#list + 1] = text
  end
  for _, name in ipairs(CLASSES) do add('fair_level_' .. name .. '_per_s', fair_level(b[name])) end
  if b[66] or b[68] then
    add('demand_per_s', plain(b[68] and math_floor(b[69]) or 0))
    add('producers_in_demand', whole(b[68] and b[70] or 0))
    local past = now - b[61]
    add('granted_per_s', past > 0 and plain(math_floor((b[5] - b[62]) * 1000000 / past * 1000000)) or '0')
    b[61], b[62] = now, b[5]
  end
  -- Fields that were not there: somebody has lost the hash, and the settings with it. Clients open a new life of a budget again.
  if redis_call(unpack(list)) > 0 and not b[66] then
    b[44], b[28], b[54] = now, now, 0
    redis_call('HSET', keys.budget, 'birth', whole(b[44]))
  end
end
-- The rest of the budget's hash: what only a new budget, a new rate, the end of an epoch and the ends of the keys need.

-- A budget that nobody knows starts with one token, so that a new slow one answers at once, and never with a full bucket,
-- so that a lost state is no free burst. The 2 % are for a caller on a timer, else a millisecond early for ever.
-- FIRST_TOKENS = 1020000

-- `has_settings`: the budget's hash is there, so what stands in it is due at once.
-- A budget without a state: one that nobody knows, or its state was evicted. nil and true where it is of a newer release.
local function read_rest(keys, b)
  if b[64] then return end
  b[64] = true
  b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59], b[60], b[61],
    b[62] = unpacked('>dddddddddddd', b[48], 1 + 45 * WIDE)
  for _, name in ipairs(CLASSES) do b[name] = b[name] or read_class(b[48], name) end
end

-- The sums over the consumers (consumers.lua), by name.
local PARTS = {'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free', 'load_level', 'noted', 'told'}

local function read_parts(b)
  if b[63] then return b[63] end
  local parts, list = {}, b[48] and {unpacked('>dddddddddd', b[48], 1 + 57 * WIDE)} or {}
  for i, name in ipairs(PARTS) do parts[name] = list[i] or 0 end
  b[63] = parts
  return parts
end
local function packed_sums(b)
  if b[48] and not b[63] then return string_sub(b[48], 1 + 57 * WIDE, 67 * WIDE) end
  local parts, list = read_parts(b), {}
  for i, name in ipairs(PARTS) do list[i] = parts[name] end
  return pack('>dddddddddd', unpack(list))
end

-- A server's clock that goes back stands still here until it has caught up, so that what it lives twice earns once. One that
-- stays behind for STILL was set right: from then on it counts. What it lives again up to where it was (`high`) earns at most
-- STILL between two calls, so that a leap forward to there earns next to nothing.
local function steady(b, now)
  if now < b[2] then
    if b[38] == 0 or now < b[38] then b[38], b[65] = now, true end
    if now - b[38] < 5000000 then return b[2] end
    b[39], b[38], b[65] = (b[2] > b[39] and b[2] or b[39]), 0, true
    return now
  end
  if b[38] > 0 then b[38], b[65] = 0, true end
  if b[39] > 0 then
    b[2] = math_max(b[2], (b[39] < now and b[39] or now) - 5000000)
    if now >= b[39] then b[39], b[65] = 0, true end
  end
  return now
end

-- The budget, or a new one; and the instant by which it goes.
-- What a producer got in a life of the budget that we lost is paid for in this one.
local function is_renewal_due(b, now) return now - b[54] >= 60000000 or now < b[54] end

-- An operator's setting outlives any silence; everything else goes a week after the last call.
-- All of it. TTLs are written again each minute, and at once (`may_be_new`) where a key may be new.
-- What each consumer contributes to the budget lies in sorted sets of fixed names, never only in its own hash: whoever
-- comes by may take out one that fell silent. Sums are kept in the state; the least and the highest are ZRANGE 0 0.
--
-- A consumer is live until its deadline, then silent for ten seconds (work may still be sent to it), then forgotten. Its
-- score in `consumers` is the end of the state it is in; it is live while it has a rate.
-- SWEPT_PER_CALL = 16
-- NO_RATIO = 1e300          -- rate / arrivals of one to whom nothing comes: never the least

local function score(key, id)
  local text = redis_call('ZSCORE', key, id)
  return text and tonumber(text) or nil
end

-- Whether a sum can be that of so many scores, by the lowest and the highest of them. If it cannot, somebody has changed a score
-- by hand. Free space may be below zero.
local function can_be_sum(key, count, sum)
  if count == 0 then return sum == 0 end
  local lowest = redis_call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local highest = redis_call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
  if not lowest then return false end
  lowest, highest = tonumber(lowest), tonumber(highest)
  local rounding = 1e-9 * count * math_max(math_abs(lowest), math_abs(highest))
  return sum >= highest + (count - 1) * lowest - rounding and sum <= lowest + (count - 1) * highest + rounding
end

-- Touches every key before anything is written, so that one of a wrong type raises here. Are the sums those of the sets?
-- Sums weigh load (thousandths of a percent) with whole tokens of capacity, so that they stay exact.
local function weight_of(capacity) return math_ceil(capacity / 1000000) end

-- Takes a consumer's rate and load out; what it can hold stays while work may still be on its way there.
local function withdraw_rate(keys, parts, id)
  local rate = score(keys.rates, id)
  if not rate then return end
  local weight = weight_of(score(keys.capacities, id))
  parts.live = parts.live - 1
  parts.rate = parts.rate - rate
  parts.capacity = parts.capacity - weight
  parts.load = parts.load - weight * score(keys.loads, id)
  parts.arrivals = parts.arrivals - math_floor(rate / score(keys.ratios, id))
  for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do redis_call('ZREM', key, id) end
end

local function withdraw_space(keys, parts, id)
  local free = score(keys.frees, id)
  if not free then return end
  parts.bounded, parts.free = parts.bounded - 1, parts.free - free
  redis_call('ZREM', keys.frees, id)
  redis_call('ZREM', keys.edges, id)
end

local function withdraw_consumer(keys, parts, id)
  withdraw_rate(keys, parts, id)
  withdraw_space(keys, parts, id)
  redis_call('ZREM', keys.consumers, id)
end

-- part: {rate, capacity, load, free or nil, edge or nil, arrivals}; rates and space in micro, load in thousandths of a
-- percent. What it contributed before has been withdrawn. Everything added is a whole number, so that the sums stay exact.
-- A key was evicted or lost: the sums say one thing and the sets another. All consumers are taken for silent then, and
-- each comes back with its next report.
local function mend(keys, s)
  if s.is_whole then return end
  s.is_whole, s.last_end = true, 'silent'
  for _, name in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do s.parts[name] = 0 end
  redis_call('HSET', keys.budget, 'last_consumer_end', 'silent')
  for _, place in ipairs({'consumers', 'rates', 'capacities', 'loads', 'ratios', 'frees', 'edges'}) do
    redis_call('DEL', keys[place])
  end
end

local function least(key)
  local first = redis_call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or nil
end

-- Live ones whose deadline has passed fall silent, silent ones are forgotten, a few per call. Gives how many fell silent.
local function sweep_consumers(keys, parts, combine, now)
  local fell = 0
  for _, id in ipairs(redis_call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, 16)) do
    if score(keys.rates, id) then
      withdraw_rate(keys, parts, id)
      if combine == 'sum' then withdraw_space(keys, parts, id) end    -- nobody pulls there any more
      redis_call('ZADD', keys.consumers, whole(now + 10000000), id)
      fell = fell + 1
    else
      withdraw_consumer(keys, parts, id)
    end
  end
  return fell
end

local function silent_consumers(keys, parts) return redis_call('ZCARD', keys.consumers) - parts.live end

-- Nobody is silent, and nobody so late that what came to it lately has not been heard of.
-- The window: what the consumers cannot hold is not admitted. A window in the sense of TCP, over a fleet.
--
-- net = granted - handed back - burned; A = tokens no longer on the way (their work was seen at a consumer, or they are too
-- old to arrive). What is on the way is at most net - A, so with `free` room last reported, grants may go on up to the
-- edge A + free, however old that report is. Under `min` every item touches all consumers: each has an A and an edge.
-- SNAPSHOTS = 5

-- T_x: granted longer ago than this, a token has arrived or never will; in quarters. `lease`: the longest that may be out.
local function slot_length(lease, transit, interval) return math_ceil((lease + transit + 3 * (250000 > interval and 250000 or interval)) / 4) end

-- Another T_x: what was known of the old one's length ago is all that is known of the new one's.
local function set_slot_length(w, now, slot_us)
  if slot_us == w.slot_us then return end
  w.slot_us, w.slot = slot_us, math_floor(now / slot_us)
  for i = 1, 5 - 1 do w.snaps[i] = w.snaps[5] end
end

-- How long nothing may be granted, since what went out before this window was born may still be on its way.
-- Keeps five values of net, a quarter of T_x apart: the oldest is at least T_x old.
-- Tokens that will never arrive anywhere.
-- Settings as they stand: what an operator set wins over what code set, and taking it away brings the code's back.
-- Both are kept, one field each, so that HGETALL shows who wants what.
local SETTINGS = {'rate', 'min_rate', 'burst', 'law', 'combine', 'latency_target_ms', 'lossless', 'transit', 'grace'}

local function per_second(text)
  local x = decimal(text, 0, 1e9)
  if not x or (x > 0 and x < 1e-6) then return nil end
  return micro_of(x)
end
local function duration(text)
  local x = decimal(text, 0, 86400)
  return x and micro_of(x)
end
local function one_of(...)
  local words = {}
  for _, word in ipairs({...}) do words[word] = word end
  return function(text) return words[text] end
end

-- Each gives the value in the unit of the arithmetic, or nil when the text is not one.
local READ = {
  rate = per_second, min_rate = per_second, burst = duration, law = one_of('range', 'drain', 'aimd'),
  combine = one_of('sum', 'spread', 'min'), latency_target_ms = function(text) return decimal(text, 0, 86400000) end,
  lossless = function(text) return ({['0'] = 0, ['1'] = 1})[text] end, transit = duration,
  grace = duration,
}
local DEFAULT = {min_rate = 0, burst = 250000, combine = 'sum', lossless = 0, grace = 10000000}

-- fields: texts by name, 'rate_by_code' and so on.
-- What one source wants by itself.
local function number_of(text) return text and (tonumber(text) or error('damaged')) or 0 end

-- The settings, and what a change of the rate needs beside them.
local function read_settings(keys, b)
  local names = {'last_consumer_end', 'paused_until_us', 'left_us', 'left_rate_per_s'}
  for _, name in ipairs(SETTINGS) do
    names[#names + 1] = name .. '_by_operator'
    names[#names + 1] = name .. '_by_code'
  end
  local found, fields = redis_call('HMGET', keys.budget, unpack(names)), {}
  for i, name in ipairs(names) do fields[name] = found[i] or nil end
  local effective_1
  repeat
    local s = {}
  for _, name in ipairs(SETTINGS) do
    local text = fields[name .. '_by_operator'] or fields[name .. '_by_code']
    if text then s[name] = READ[name](text) or error('damaged') else s[name] = DEFAULT[name] end
  end
  s.floor = s.min_rate
  if s.rate then s.min_rate = (s.rate < s.min_rate and s.rate or s.min_rate) end
  s.loop_delay = math_max(0.5, (s.transit or 0) / 1000000)
  s.transit = s.transit or 1000000
  effective_1 = s
  break
  until true
  local s = effective_1
  s.fields, s.parts, s.last_end = fields, read_parts(b), fields.last_consumer_end
  s.left, s.left_rate = number_of(fields.left_us), unplain(fields.left_rate_per_s or '0')
  local are_whole_1
  repeat
  local parts = s.parts
    local size = {}
  for place, key in pairs(keys) do
    if place == 'history' then redis_call('XLEN', key)
    elseif place == 'state' or place == 'memory' then redis_call('STRLEN', key)
    elseif place ~= 'budget' and place ~= 'member' then size[place] = redis_call('ZCARD', key) end
  end
  are_whole_1 = size.rates == parts.live and size.capacities == parts.live and size.loads == parts.live
    and size.ratios == parts.live and size.frees == parts.bounded and size.consumers >= parts.live
    and can_be_sum(keys.rates, parts.live, parts.rate) and can_be_sum(keys.frees, parts.bounded, parts.free)
  break
  until true
  s.is_whole = are_whole_1
  s.paused_until = number_of(fields.paused_until_us)
  return s
end
-- The one place where the budget's rate is decided: from what its consumers contribute, its ceiling and floor, a pause.
local RISE = {70, 90, 100}      -- percent of load at which levels 1, 2 and 3 begin
-- HYSTERESIS = 5            -- points below that, the level falls again
-- NOTED_CHANGE = 0.1        -- the history has an entry each time the rate moved this much
local MOST = 1e9 * 1000000        -- the protocol's range
-- PUSHED_PERCENT = 10       -- a fall by so much is told at once to whoever listens
-- THIN = 50                 -- a consumer that gets less than 2 % of the arrivals counts as one that gets 2 %

-- One token and the burst's seconds of the rate.
local function burst_of(R, burst_us)
  if R <= 0 then return 0 end
  return math_min(1000000 + math_floor(R * burst_us / 1000000), 9e15)
end

-- A new rate keeps the tokens and scales what the fair share last found, so that all follow within one claim.
-- Never 0 but where one whose part cannot be left out is paused: no law says 0.
local function combined_load(keys, parts, combine)
  if combine == 'sum' and parts.capacity > 0 then return parts.load / parts.capacity end
  local first = redis_call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or 0
end

-- The last consumer left, as in a restart: until then it counts as if it could take what it could.
local function grace_end(s) return s.parts.live == 0 and s.last_end == 'left' and s.left + s.grace or 0 end

-- rate, level, load (thousandths of a percent), reason
-- net only grows, so it starts again long before a double forgets single micro-tokens. Under `min` each consumer has an A.
local function rebase_window(w, keys, combine)
  if w.net < 4e15 then return end
  local base, edges = combine == 'min' and w.net or w.A, redis_call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
  for i = 1, 5 do base = (w.snaps[i] < base and w.snaps[i] or base) end
  for i = 1, #edges, 2 do base = math_min(base, tonumber(edges[i + 1]) - score(keys.frees, edges[i])) end
  w.net, w.A = w.net - base, (w.A - base > 0 and w.A - base or 0)
  for i = 1, 5 do w.snaps[i] = w.snaps[i] - base end
  for i = 1, #edges, 2 do redis_call('ZADD', keys.edges, whole(tonumber(edges[i + 1]) - base), edges[i]) end
end

-- What the consumers can still hold, as the claim needs it.
-- `act`: who did it, what changed, and why. An empty text is left out.
-- Whoever listens hears of a drop before its next claim tells it. Nobody has to, and nothing rests on it: a caller without
-- the right to publish has its answer all the same. The count of grants says which answers are older than this.
-- Evaluates the budget and says when that is due again. `by` (the cause) and `act` are for the history, which always has an
-- entry if `is_act`.
local function settle(keys, b, s, now, by, is_act, act)
  redis_call('HSET', keys.budget, 'schema', whole(3))     -- a server without memory refuses here, before any change
  mend(keys, s)
  local parts = s.parts
  if sweep_consumers(keys, parts, s.combine, now) > 0 and parts.live == 0 then
    s.last_end = 'silent'
    redis_call('HSET', keys.budget, 'last_consumer_end', 'silent')
  end
  local decide_1, decide_2, decide_3, decide_4
  repeat
  local keys = keys
    local parts = s.parts
  local load = parts.live > 0 and math_floor(combined_load(keys, parts, s.combine) + 0.5) or 0
  local level_at_1
  repeat
  local load_percent, was = load / 1000, parts.load_level
    local up, down = 0, 0
  for level, from in ipairs(RISE) do
    if load_percent >= from then up = level end
    if load_percent >= from - 5 then down = level end
  end
  level_at_1 = ((down < was and down or was) > up and (down < was and down or was) or up)
  break
  until true
  parts.load_level = level_at_1
  if s.paused_until > now then decide_1, decide_2, decide_3, decide_4 = 0, 3, load, 'paused' break end
  if parts.live > 0 then
    if s.combine == 'min' and silent_consumers(keys, parts) > 0 then decide_1, decide_2, decide_3, decide_4 = s.min_rate, 3, load, 'no_consumers' break end
    local combined_rate_1
    repeat
    local combine = s.combine
      if combine == 'sum' then combined_rate_1 = (MOST < parts.rate and MOST or parts.rate) break end
  local lowest = least(keys.rates)
  if combine == 'min' then combined_rate_1 = lowest break end
  local rate = math_min(parts.rate, 50 * lowest, MOST)
  if parts.arrivals > 0 then rate = math_min(rate, parts.arrivals * least(keys.ratios)) end
  combined_rate_1 = math_floor(rate + 0.5)
  break
    until true
    local rate = combined_rate_1
    if s.rate and rate >= s.rate then decide_1, decide_2, decide_3, decide_4 = s.rate, parts.load_level, load, 'rate' break end
    if rate == 0 then decide_1, decide_2, decide_3, decide_4 = 0, 3, load, 'paused' break end
    decide_1, decide_2, decide_3, decide_4 = (s.min_rate > rate and s.min_rate or rate), parts.load_level, load, 'load'
    break
  end
  if s.last_end == 'silent' then decide_1, decide_2, decide_3, decide_4 = s.min_rate, 3, 0, 'no_consumers' break end
  if s.lossless == 1 then decide_1, decide_2, decide_3, decide_4 = 0, 3, 0, 'window' break end
  if s.rate and s.left_rate < s.rate and now < grace_end(s) then decide_1, decide_2, decide_3, decide_4 = (s.min_rate > s.left_rate and s.min_rate or s.left_rate), 0, 0, 'load' break end
  if s.rate then decide_1, decide_2, decide_3, decide_4 = s.rate, 0, 0, 'rate' break end
  decide_1, decide_2, decide_3, decide_4 = s.min_rate, 3, 0, s.last_end and 'no_consumers' or 'unset'
  break
  until true
  local rate, level, load, reason = decide_1, decide_2, decide_3, decide_4
  local turned = level ~= b[25] or reason ~= b[45]
  parts.told = (b[22] > parts.told and b[22] or parts.told)               -- many small steps are a drop as well
  local is_drop = rate < b[22] and 100 * rate <= (100 - 10) * parts.told
  local is_rise = b[22] == 0 and rate > 0 and not b[66]
  local is_told = is_drop or is_rise or (level == 3 and b[25] < 3)
  if turned or b[66] or rate ~= b[22] or s.burst ~= b[24] or load * 1000 ~= b[26] then
    repeat
    local R, burst_us = rate, s.burst
      local B = R > 0 and burst_of(R, burst_us) or b[23]
  read_rest(keys, b)
  if R ~= b[22] then
    for _, name in ipairs(CLASSES) do
      local class = b[name]
      if b[22] > 0 and R > 0 then
        class[1], class[2], class[3] = class[1] * (R / b[22]), class[2] * (R / b[22]), math_floor(class[3] * (R / b[22]))
      else
        class[1], class[2], class[3] = math_huge, math_huge, R
      end
    end
    b[3] = 0
    b[13] = 0
  end
  b[22], b[23], b[24], b[49] = R, B, burst_us, R - math_floor((R / 2 < b[43] and R / 2 or b[43]))
  if R > 0 and b[53] > 0 then b[4], b[53] = b[4] + b[53], 0 end
  b[4] = (B < b[4] and B or b[4])
  b[67] = true
    until true
    b[25], b[26], b[45] = level, load * 1000, reason
  end
  if is_act or turned or math_abs(rate - parts.noted) > 0.1 * parts.noted then
    parts.noted = rate
    repeat
      local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(b[22]), 'level', whole(b[25]),
                 'load_percent', plain(b[26]), 'reason', b[45], 'by', by}
  for _, field in ipairs({'who', 'what', 'why'}) do
    local told = act and act[field]
    if told and told ~= '' then
      entry[#entry + 1] = field
      entry[#entry + 1] = told
    end
  end
  redis_call(unpack(entry))
  read_rest(keys, b)
  if b[55] == 0 then redis_call('PEXPIRE', keys.history, 604800000) end
    until true
  end
  if is_told then
    repeat
      redis.pcall('PUBLISH', keys.budget .. ':flow',
              string_format('%.0f %.0f %.0f %.0f %s', b[44], b[5], b[22], b[25], b[45]))
    until true
    parts.told = rate
  end
  repeat
    local w, parts = b[50], s.parts
  if not w then break end
  rebase_window(w, keys, s.combine)
  w.lossless = s.lossless
  local cold = redis_call('ZCOUNT', keys.capacities, 0, 0)
  w.active = (s.lossless == 1 or (cold > 0 and parts.bounded >= parts.live)) and 1 or 0
  if s.combine == 'min' then
    local known = redis_call('ZCARD', keys.edges) == redis_call('ZCARD', keys.consumers)
    w.edge = known and least(keys.edges) or (w.net < w.A and w.net or w.A)
  elseif s.combine == 'spread' then w.edge = w.A + (least(keys.frees) or 0)
  else w.edge = w.A + parts.free end
  until true
  b[28], b[65] = least(keys.consumers) or 0, true
  b[37] = s.paused_until > now and s.paused_until or 0
  for _, at in ipairs({b[37], grace_end(s)}) do
    if at > now and (b[28] == 0 or at < b[28]) then b[28] = at end
  end
end

-- A clock that steps back would keep the dead alive: what lies in the future moves back with it.
-- Every script's first steps: the bucket earns at the old rate, then what has become due is settled.
-- The laws: from the reports of one consumer to the rate that it can take. What they share is here: a floor, from which a
-- law finds its way back; ceilings; and a memory between two reports, kept over incarnations of the same id.
--
-- Time is the consumer's own (dt, from its uptime): no host's clock is compared with another's, and a server clock that
-- steps moves only how long the best is remembered.
-- number: see above
-- MOST_RATE = 1e9           -- tokens per second: the protocol's range
-- LONG = 86400              -- seconds: no clock of a law counts further
-- SLOWEST = 0.2             -- one token per 5 s
-- LEAST_OF_BEST = 0.01      -- the floor, of the best seen
-- BEST_FADES = 600          -- seconds
local UNSEEN, UNSEEN_FADES = 60, 30       -- seconds of work without half of the best: from then on it fades so fast
local SURGE, SURGE_ITEMS = 4, 20          -- times the speed known, and so many items beside: more is not credible in one report
-- QUIET = 5                 -- seconds: of one who does not say what is in flight, as much may leave at once
-- MISSED_REPORTS = 3        -- two may be lost before the time between two reports says nothing
-- SHORTEST_STEP = 0.125     -- seconds: half of the usual interval; over less, a count of done says little
-- SHORTEST_DELAY = 0.5      -- seconds: no fleet's loop is shorter than a lease
-- LOOKING_ON = 2            -- seconds after which one who has done nothing may not be one who counts what it does
-- FIRST_RATE = 10           -- tokens per second for one of whom nothing is known

-- D: from a change of the rate to its effect in a report.
local function loop_delay(setting) return math_max(0.5, setting.loop_delay or 0, setting.interval) end

-- One step of an exponential mean; the first value is taken as it is.
local function towards(old, new, dt, tau)
  if not old then return new end
  return old + (1 - math_exp(-dt / tau)) * (new - old)
end

-- The law of those who only say how full they are: like a thermostat, all of the capacity while it is easy, nothing when
-- full, a straight line between. capacity 400 at load 95: 400 x (100 - 95)/20 = 100/s.
local EASY, FULL = 80, 100      -- percent of load

-- The fullest of its resources in percent, or nil.
local function fullest(report)
  if report.load then return report.load end
  local queue = report.depth and report.limit and report.limit > 0 and 100 * report.depth / report.limit
  local work = report.in_flight and report.slots and report.slots > 0 and 100 * report.in_flight / report.slots
  if queue and work then return (work > queue and work or queue) end
  return queue or work or nil
end

local function range(memory, report, setting)
  local capacity, load = report.capacity or setting.rate, fullest(report)
  if not capacity then return memory.rate, 0, 0, 1 end
  if not load then return memory.rate, 0, capacity, 1 end
  local rate = capacity * math_min(1, math_max(0, (FULL - load) / (FULL - EASY)))
  return rate, rate, capacity, 1
end
-- The law of those who show their queue: learn how fast it is emptied, and keep it short.
--
-- The work done per second is the capacity only while there was always work to do, and most of the time there is not: a
-- law that took throughput for capacity would believe an idle consumer to be a slow one, and make it so. Hence *proof*:
-- what was queued and at work before is more than what left and what is at work now, so some of it never left the queue.
-- Without proof the capacity only grows: when more is done than was thought possible, or in a *probe*, when producers use
-- what they may, the queue is short, and nobody knows what more it could do.
--
-- A consumer that measures how long its workers were busy (`busy_ms`) needs no proof: work done per busy second is what
-- they can do, whatever the queue holds. It may be a lower bound (of a bulk call, of workers that were never all needed),
-- so it lowers the capacity only where items wait. A short queue has no room for a rate that is a little too high: so the
-- shorter the queue, the more of the capacity stays unused.
--
-- A counter that stands still while there is work at hand is no sample: work may come in batches. `beat` is how long it
-- usually stands still; much longer is a stall. Through a stall the capacity is kept, or seconds of it would be paid for
-- with a minute of climbing; but the rate only fills what is left of the queue.
local drain
do
  local SETTLE = 5              -- seconds in which the rate brings the queue to its aim; 3 loops where those are long
  local AIM, AIM_OF_LIMIT = 0.2, 0.4        -- of a second's work, of the queue's limit: enough to prove that there is work
  local AIM_MEASURED = 0.2      -- of the limit, where no proof is needed
  local LEARN, LEARN_ITEMS = 1, 10          -- the mean of the proven rate: over 1 s, or 10 items where those take longer
  local DOWN = 0.5              -- of that time when it falls: too high a rate fills queues, too low a one only wastes
  local PROBE, PROBE_MOST, PROBE_BACK = 0.05, 0.2, 0.5      -- growth per loop: first, at most, on the way back to its best
  local FAR_BELOW = 0.9         -- of the best seen: on the way back
  local TETHER, TETHER_BACK = 1.6, 2        -- times the work that it was seen to do: as far as a probe goes
  local USED = 0.65             -- of its rate arrived: its producers want more
  local OVERFLOWING = 0.5       -- of the limit, mean of two reports: errors may be work that found the queue full
  local CROWDED = 0.5           -- of the limit: in both reports the queue was hardly empty between them, in one it is filling
  local UNUSED, UNUSED_ITEMS, UNUSED_MOST = 0.002, 0.15, 0.035      -- seconds and items over the queue's limit; of the capacity
  local STALL, STALL_BEATS = 0.5, 2         -- standing still for both of these is a stall: two reports, two usual beats
  local BEAT_MEMORY = 4         -- a beat is the mean of about so many
  local OPENING, OPENING_GROWTH = 0.1, 4    -- of the limit, per loop: the window of a consumer not yet known
  local SHORT_QUEUE = 0.1       -- of the limit: it opens no further while more than this waits
  local FILLING = 4             -- times a second that its producers may fill that window
  local LOOKING = 4             -- loops that a cold consumer must be seen to work before its best is its capacity
  local MOST_LOOPS = 10         -- growth at once, after batches; the tether ends it long before

  local function aim(m, report)
    local wanted = AIM * m.capacity
    if report.limit and report.limit > 0 then wanted = math_min(wanted, (report.busy_ms and AIM_MEASURED or AIM_OF_LIMIT) * report.limit) end
    return (wanted > 1 and wanted or 1)
  end

  local function is_stalled(m) return m.still > (STALL_BEATS * m.beat > STALL and STALL_BEATS * m.beat or STALL) end

  local function stop_probing(m) m.probe, m.probe_age = PROBE, 0 end

  local function warm_up(m, speed, never_empty, step, report, delay)
    m.highest = (speed > m.highest and speed or m.highest)
    if never_empty and speed > 0 then
      m.capacity = speed
    elseif m.highest > 0 and report.limit then
      m.working_for = m.working_for + step.dt
      if m.working_for > LOOKING * delay then m.capacity = m.highest end
    end
  end

  local function reach(m, span, delay)
    local most, tether = PROBE_MOST, TETHER
    if m.capacity < FAR_BELOW * m.best then most, tether = PROBE_BACK, TETHER_BACK end
    if m.probe_age >= delay then m.probe, m.probe_age = (2 * m.probe < most and 2 * m.probe or most), 0 end
    if most == PROBE_BACK then m.probe = (PROBE_MOST > m.probe and PROBE_MOST or m.probe) end
    local top = math_max(m.capacity, tether * (m.ok or 0))
    m.capacity = math_min(top, m.capacity * (1 + m.probe) ^ (span / delay < MOST_LOOPS and span / delay or MOST_LOOPS))
  end

  local function follow(m, speed, seconds, is_urgent)
    local tau = (LEARN_ITEMS / m.capacity > LEARN and LEARN_ITEMS / m.capacity or LEARN) * (is_urgent and speed < m.capacity and DOWN or 1)
    m.capacity = towards(m.capacity, speed, seconds, tau)
  end

  -- Returns the work per second that it has just seen, 0 where the report is no sample.
  local function learn(m, was, report, step, delay)
    m.probe_age = m.probe_age + step.dt
    local at_work, depth, depth_was = report.in_flight or 0, report.depth or 0, was.depth or 0
    local limit = report.limit or math_huge
    local has_come = step.arrived > 0 or m.cold_for > 0
    if m.capacity == 0 and has_come and depth <= SHORT_QUEUE * limit then
      m.cold_for = (m.cold_for + step.dt < 86400 and m.cold_for + step.dt or 86400)      -- what comes is done as it comes: more may come
    end
    if step.done == 0 and at_work + depth > 0 then
      m.still = (m.still + step.dt < 86400 and m.still + step.dt or 86400)
      if is_stalled(m) then m.capacity = (m.before > m.capacity and m.before or m.capacity) end      -- the last sample was cut short by it
      return 0
    end
    local is_whole, span = step.is_unbroken and not is_stalled(m), step.dt + m.still
    m.beat, m.still = m.beat + (m.still - m.beat) / BEAT_MEMORY, 0

    local speed = (step.done / span < 1e9 and step.done / span or 1e9)
    local busy = was.busy_ms and report.busy_ms and step.part * (report.busy_ms - was.busy_ms) / 1000 or 0
    if busy > 0 and step.done > 0 then
      m.ok = towards(m.ok, speed, step.dt, delay)
      local able = (step.done / busy < 1e9 and step.done / busy or 1e9)
      local peak = (depth > depth_was and depth or depth_was)
      if (depth < depth_was and depth or depth_was) > CROWDED * limit then able = (speed < able and speed or able) end
      if m.capacity == 0 then
        m.capacity = (m.rate > able and m.rate or able)
      else
        m.before = m.capacity
        able = ((able > m.capacity / SURGE and able or m.capacity / SURGE) < SURGE * m.capacity and (able > m.capacity / SURGE and able or m.capacity / SURGE) or SURGE * m.capacity)
        local is_urgent = peak > CROWDED * limit or depth > aim(m, report)
        follow(m, able, busy, is_urgent)
      end
      return m.ok
    end
    if not is_whole then                    -- it can do at least this, perhaps far more
      m.highest = (speed > m.highest and speed or m.highest)
      if m.capacity > 0 then m.capacity = (speed > m.capacity and speed or m.capacity) end
      return 0
    end
    m.ok = towards(m.ok, speed, step.dt, delay)
    local never_empty = depth_was > 0 and depth_was + (was.in_flight or 0) > step.left + at_work
    if m.capacity == 0 then
      warm_up(m, speed, never_empty, step, report, delay)
      return m.ok
    end

    m.before = m.capacity
    local overflowed = step.errors > 0 and depth_was + depth > OVERFLOWING * limit
    local crowded = (depth < depth_was and depth or depth_was) > CROWDED * limit
    if never_empty or overflowed or crowded then
      follow(m, speed, step.dt, true)
      stop_probing(m)
    elseif speed > m.capacity then
      m.capacity = speed
    elseif step.arrived / step.dt >= USED * m.rate and depth <= aim(m, report) then
      reach(m, span, delay)
    else
      stop_probing(m)
    end
    return m.ok
  end

  function drain(m, was, report, step, setting)
    local delay = loop_delay(setting)
    if m.capacity == 0 and report.capacity then m.capacity = report.capacity end
    local seen = 0
    if step then
      seen = learn(m, was, report, step, delay)
    else
      m.still = 0
      stop_probing(m)
    end
    m.capacity = math_min(m.capacity, report.capacity or 1e9)

    local limit, depth = report.limit and report.limit > 0 and report.limit, report.depth or 0
    if m.capacity > 0 then
      local unused = 0
      if report.busy_ms and limit then
        unused = math_min(UNUSED_MOST, (UNUSED * m.capacity + UNUSED_ITEMS) / limit)
      end
      local rate = m.capacity * (1 - unused) - (depth - aim(m, report)) / (3 * delay > SETTLE and 3 * delay or SETTLE)
      if limit and is_stalled(m) then rate = math_min(rate, (limit - depth > 0 and limit - depth or 0) / delay) end
      return rate, seen, m.capacity, 1
    end
    if limit then
      local window = math_min(1, OPENING * OPENING_GROWTH ^ (m.cold_for / delay < MOST_LOOPS and m.cold_for / delay or MOST_LOOPS))
      return (FILLING * window * limit > 10 and FILLING * window * limit or 10), seen, 0, window
    end
    local rate = m.rate > 0 and m.rate or 10
    if step and step.is_unbroken and step.arrived / step.dt >= USED * rate then rate = rate * 2 ^ (step.dt / delay) end
    return rate, seen, 0, 1
  end
end
-- How slow is it? Times its usual latency.
--
-- Long requests beside short ones must not count, nor another mix of them. So three low percentiles are looked at, each
-- has a usual value of its own, and the middle one of the three ratios is the answer: a queue delays all work, while a
-- mix that changes moves one percentile at a time.
--
-- The usual latency is that of a consumer that has little to do: it follows quickly down and slowly up.
local USUAL_DOWN, USUAL_UP = 30, 600      -- seconds
-- USUAL_MOST = 10           -- times: one report counts for no more
-- FIRST_WORK = 20           -- tokens done or failed before a latency means something, where no target is set
-- BY_CHANCE = 0.2           -- of the way to a latency that few pieces of work had
-- SHORTEST_MS = 0.001

local function latency_ratio(m, field, latency, found, dt)
  if not latency then return end
  local value = ((latency > 0.001 and latency or 0.001) < 1e9 and (latency > 0.001 and latency or 0.001) or 1e9)
  local usual = m[field] > 0 and m[field] or value
  local moved = ((value / usual > 1 / 10 and value / usual or 1 / 10) < 10 and (value / usual > 1 / 10 and value / usual or 1 / 10) or 10)
  usual = usual * moved ^ (1 - math_exp(-dt / (value < usual and USUAL_DOWN or USUAL_UP)))
  m[field] = usual
  found[#found + 1] = {(value / usual < 1e9 and value / usual or 1e9), value}
end

-- The slowdown, and the latency that shows it. Latency counts only with work that left: an idle consumer may repeat an old
-- one for ever.
local function slowdown(m, report, step, target)
  if not report.latency_ms or step.left == 0 then return nil end
  if not target and report.done + (report.errors or 0) < 20 then return nil end
  local found = {}
  latency_ratio(m, 'usual', report.latency_ms, found, step.dt)
  latency_ratio(m, 'usual_p25', report.latency_p25_ms, found, step.dt)
  latency_ratio(m, 'usual_p10', report.latency_p10_ms, found, step.dt)
  table.sort(found, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  local middle = found[math_ceil(#found / 2)]
  return middle[1], middle[2]
end

-- `part` of the way from the usual latency to the one that is seen, if that is longer: all of it where it is accepted.
local function expect_latency(m, report, part)
  for field, latency in pairs({usual = report.latency_ms or 0, usual_p25 = report.latency_p25_ms or 0,
                               usual_p10 = report.latency_p10_ms or 0}) do
    if m[field] > 0 then m[field] = m[field] * ((latency / m[field] > 1 and latency / m[field] or 1) < 1e9 and (latency / m[field] > 1 and latency / m[field] or 1) or 1e9) ^ part end
  end
end
-- The law of a consumer that shows no queue, only its errors and its latency: probe for the limit, and step back from it.
--
-- known_good is the last rate that was good, 0 before the first overload. The law rests just below it for two loops,
-- then adds an excess that grows by itself: slowly at first, so that the limit is found with few failures, and soon by
-- doubling, because without any sign of overload the capacity has grown. An overload ends the probe.
--
-- Failures are the first sign. What a downstream refuses is more than it can do, so the rate goes back to what succeeded.
-- Where nothing succeeds, they say nothing of a limit: a few requests go on, and when they succeed, the rate doubles back to
-- what was good, each time only as far as what has succeeded allows. Failures at a rate that is known to be good are the
-- work's own (`own`), and no sign.
--
-- Latency is the second sign. Long requests beside short ones must not count, nor another mix of them, so the law looks
-- at three low percentiles and takes the middle one of their ratios to the usual: a queue delays all work, long requests
-- move one percentile at most. The rate goes to where what has queued up is worked off. If nothing was queued, and the
-- latency does not follow a lower rate either, it is the new usual one: a deploy, another mix, somebody else's load.
local aimd
do
  local LOOP, LOOP_ITEMS, LONGEST_LOOP = 0.75, 4, 10        -- seconds; as long as so many outcomes take, up to the last
  local BOUND = 0.999           -- of the capacity: the rate was as high as that allowed
  local USED, USED_ITEMS = 0.5, 2           -- of its rate arrived, in the time of so many: else calm says nothing about it
  local FADES = 0.5             -- seconds over which failures and successes are summed up
  local TOLERATED, TOLERATED_COLD, TOLERATED_MOST = 0.005, 0.05, 0.075    -- failures per outcome, beside its own
  local OWN_TIMES = 1.5         -- what fails by itself fails by chance: sometimes more often
  local OWN_ITEMS, OWN_STEP = 100, 0.1      -- `own` is the mean of so many outcomes, each report's no more than this
  local BALANCE, BALANCE_ITEMS, BALANCE_MOST = 2, 30, 30    -- seconds, items, seconds: for arrivals against outcomes

  local REST, REST_LOOPS, BACK_IN = 0.995, 2, 0.5           -- of known_good; so long; the way back there, in seconds
  local NEAR = 0.99             -- of known_good: close enough to rest
  local EXCESS, PACE = 0.01, 1.1            -- of known_good: where a probe starts, and its growth per loop
  local EASY, EASY_EXCESS = 1.2, 0.1        -- times the usual latency: there a probe starts with more
  local TETHER, COLD_TETHER = 2, 3          -- times the successes of late: as far as it goes beyond what was good, and to it

  local BACK_LEAST, BACK_MOST, BACK_COLD = 0.005, 0.3, 0.3  -- of known_good: how far it steps back for failures
  local SAME, SHARE = 0.1, 0.3  -- a limit that differs less is the same one, and moves by a share of the difference
  local FAR = 0.05              -- of known_good: so much less was done since the cut, which was too small then
  local STALL = 0.5             -- of the rate: no cut assumes less, since a stall does nothing for a moment
  local ECHO_MOST, ECHO_GROWS = 3, 1.5      -- seconds; times, when a second cut was needed
  local ENOUGH = 20             -- outcomes, or failures: they tell a rate

  local SLOW, SLOW_MS = 3, 10   -- times the usual latency, and more than this, is overload where no target is set
  local NOTHING, FEW = 0.1, 4   -- times the failures, and successes since the last cut: fewer tell of no limit
  local TRICKLE = 2             -- requests per loop that go on while nothing is done
  local RUN_LOOPS = 4           -- cuts that are closer to each other are one overload

  local VAIN = 0.1              -- of what leaves is done at most: callers do not wait so long
  local DRAIN = 2               -- seconds in which the excess of latency is to be worked off
  local EASE_LEAST, EASE_MOST, EASE_TRIAL = 0.03, 0.5, 0.4  -- of what is done
  local KEEPS = 0.9             -- of known_good, in a cut for latency while nothing queues up
  local RELIEF, WAIT_MOST = 0.85, 30        -- of the slowdown: a trial had an effect; seconds that it waits at most

  local function items_time(m, items, shortest, longest)
    if m.left == 0 then return longest end
    return ((items / m.left > shortest and items / m.left or shortest) < longest and (items / m.left > shortest and items / m.left or shortest) or longest)
  end

  local function count(m, step)
    local tau = 1
    if m.ok and m.ok > 0 then tau = ((10 / m.ok > 1 and 10 / m.ok or 1) < 10 and (10 / m.ok > 1 and 10 / m.ok or 1) or 10) end
    m.ok = towards(m.ok, (step.done / step.dt < 1e9 and step.done / step.dt or 1e9), step.dt, tau)
    local kept = math_exp(-step.dt / FADES)
    m.right = (m.right * kept + step.done < 1e9 and m.right * kept + step.done or 1e9)
    m.wrong = (m.wrong * kept + step.errors < 1e9 and m.wrong * kept + step.errors or 1e9)
    m.did = (m.did + step.done < 1e9 and m.did + step.done or 1e9)
    local balance = items_time(m, BALANCE_ITEMS, BALANCE, BALANCE_MOST)
    m.came = towards(m.came, (step.arrived / step.dt < 1e9 and step.arrived / step.dt or 1e9), step.dt, balance)
    m.left = towards(m.left, (step.left / step.dt < 1e9 and step.left / step.dt or 1e9), step.dt, balance)
  end

  -- How long failures go on after the cut that ended a probe tells how long the loop is; no setting has to.
  local function hear(m, step, rate, loop, is_failing)
    local outcomes = step.done + step.errors
    if m.echoing > 0 then
      m.echoing = m.echoing + step.dt
      local is_ebbing = step.errors * (m.wrong + m.right) < m.wrong * outcomes / 2
      if is_ebbing or not is_failing then m.echo, m.echoing = ((m.echoing - 0.25 > 0 and m.echoing - 0.25 or 0) < ECHO_MOST and (m.echoing - 0.25 > 0 and m.echoing - 0.25 or 0) or ECHO_MOST), 0 end
    end
    if outcomes > 0 and rate <= m.known_good and m.since_cut >= (1 + m.was_probe) * loop then
      local tau = items_time(m, OWN_ITEMS, 2, OWN_ITEMS)
      m.own = towards(m.own, (step.errors / outcomes < OWN_STEP and step.errors / outcomes or OWN_STEP), step.dt, tau)
    end
  end

  -- While work waits, what is done is what can be done.
  local function good_rate(m, rate)
    local ok = m.ok
    if m.since_cut < 3 and m.did >= 10 then ok = m.did / m.since_cut end
    m.lowest = STALL * rate
    if m.known_good > 0 then m.lowest = (m.lowest < m.known_good and m.lowest or m.known_good) end
    return (m.lowest > ok and m.lowest or ok)
  end

  local function is_same(m, rate, good) return m.known_good > 0 and rate > m.known_good and math_abs(good / m.known_good - 1) < SAME end

  local function cut(m, rate, good, back)
    if m.known_good == 0 then back = (BACK_COLD > back and BACK_COLD or back)
    elseif is_same(m, rate, good) then good = m.known_good + SHARE * (good - m.known_good) end
    m.known_good = (good < 1e9 and good or 1e9)
    m.since_cut, m.right, m.wrong, m.did = 0, 0, 0, 0
    return math_min(rate, (1 - back) * m.known_good)
  end

  -- Nothing is done: an outage, which says nothing of a limit. What was good stays so, and a few requests find the end.
  local function try_on(m, rate, loop, delay)
    local trickle = TRICKLE / delay
    if m.since_cut < 2 * loop or rate <= trickle then return rate end
    m.known_good = math_max(m.known_good > 0 and m.known_good or rate, m.before)
    m.since_cut, m.right, m.wrong, m.did, m.echoing = 0, 0, 0, 0, 0
    m.was_slow, m.slow_cuts, m.is_trial, m.was_probe = 0, 0, 0, 0
    return math_max(trickle, (1 - BACK_MOST) * STALL * rate)
  end

  local function fall(m, rate, step, loop, delay)
    if m.right < NOTHING * m.wrong or m.did < FEW then return try_on(m, rate, loop, delay) end
    local outcomes = m.wrong + m.right
    if m.since_cut < 2 * loop then                -- the first failures told little: correct the cut by what came since
      local thought = m.known_good * m.since_cut
      if m.since_cut < 0.5 or math_abs(m.did - thought) <= 2 * math_sqrt(m.did) then return rate end
      m.known_good = (m.did / m.since_cut > m.lowest and m.did / m.since_cut or m.lowest)
      if m.did >= (1 - FAR) * thought then return rate end
      return math_min(rate, (1 - ((m.wrong / outcomes > BACK_LEAST and m.wrong / outcomes or BACK_LEAST) < BACK_MOST and (m.wrong / outcomes > BACK_LEAST and m.wrong / outcomes or BACK_LEAST) or BACK_MOST)) * m.known_good)
    end
    m.was_probe = m.known_good > 0 and rate > m.known_good and 1 or 0
    if m.echoing > 0 then m.echo, m.echoing = (ECHO_GROWS * loop < ECHO_MOST and ECHO_GROWS * loop or ECHO_MOST), 0
    elseif m.was_probe > 0 and outcomes >= ENOUGH then m.echoing = 1e-6 end
    if m.since_cut > RUN_LOOPS * loop then m.before = m.known_good end
    local good = good_rate(m, rate)
    if step.errors >= ENOUGH then good = ((step.done / step.dt < good and step.done / step.dt or good) > m.lowest and (step.done / step.dt < good and step.done / step.dt or good) or m.lowest) end
    local back = math_min(BACK_MOST, math_max(BACK_LEAST, (m.wrong - math_sqrt(m.wrong)) / outcomes))
    if is_same(m, rate, good) then back = BACK_LEAST end
    m.was_slow, m.slow_cuts, m.is_trial = 0, 0, 0
    return cut(m, rate, good, back)
  end

  local function ease(m, rate, report, step, slow, excess, loop, target)
    local hold = 2 * loop + 1
    if m.since_cut < hold then return rate end
    local balance = items_time(m, BALANCE_ITEMS, BALANCE, BALANCE_MOST)
    local slack = 0.1 * m.left + math_sqrt(m.left / balance)
    local is_vain = step.left > step.done + step.errors and m.ok < VAIN * m.left      -- it was all given up
    local is_growing = is_vain or m.came > m.left + slack
    local is_first = m.slow_cuts == 0 or target
    if not is_first and m.left > m.came + slack then return rate end         -- the queue is being worked off
    local is_trial = not is_first and not is_growing
    if is_trial then
      local wait = hold + (report.latency_ms / 1000 < WAIT_MOST and report.latency_ms / 1000 or WAIT_MOST)
      if m.since_cut < wait then return rate end
      if m.is_trial > 0 and slow >= RELIEF * m.slow_at then
        expect_latency(m, report, 1)
        m.slow_cuts, m.is_trial, m.is_slow = 0, 0, 0
        return rate
      end
    end
    if not is_growing and not target and balance > BALANCE then expect_latency(m, report, 0.2) end
    local good = good_rate(m, rate)
    local back = math_min(EASE_MOST, math_max(is_trial and EASE_TRIAL or EASE_LEAST, excess / DRAIN))
    if m.known_good > 0 and not is_growing then   -- no more comes than is done, so more may be possible
      good = (KEEPS * m.known_good > m.ok and KEEPS * m.known_good or m.ok)
      back = 1 - (1 - back) * (m.ok / good < 1 and m.ok / good or 1)
    end
    m.slow_cuts, m.is_trial, m.slow_at, m.was_slow = 1, is_trial and 1 or 0, slow, 1
    return cut(m, rate, good, back)
  end

  local function climb(m, rate, dt, loop, delay, is_easy)
    if m.known_good == 0 then return math_max(rate, math_min(rate * 2 ^ (dt / delay), COLD_TETHER * m.ok)) end
    m.slow_cuts, m.is_trial = 0, 0
    local lately = m.right * (1 - math_exp(-dt / FADES)) / dt
    if rate < NEAR * m.known_good then
      m.calm = 0
      local back = math_min(REST * m.known_good, towards(rate, m.known_good, dt, BACK_IN))
      return math_max(rate, math_min(back, rate * 2 ^ (dt / delay), COLD_TETHER * lately))
    end
    m.calm = (m.calm + dt < 86400 and m.calm + dt or 86400)
    if m.calm < REST_LOOPS * loop and not is_easy then return rate end
    local excess = math_max(is_easy and EASY_EXCESS or EXCESS, rate / m.known_good - 1)
    local grown = rate + m.known_good * PACE * excess * dt / loop
    return math_max(rate, math_min(grown, rate * 2 ^ (dt / loop), TETHER * lately))
  end

  local function follow(m, rate, report, step, setting)
    count(m, step)
    m.asked = towards(m.asked, (step.arrived / step.dt < 1e9 and step.arrived / step.dt or 1e9), step.dt, USED_ITEMS / rate)
    local tolerated = TOLERATED_COLD
    if m.known_good > 0 then tolerated = (TOLERATED + OWN_TIMES * m.own < TOLERATED_MOST and TOLERATED + OWN_TIMES * m.own or TOLERATED_MOST) end
    local is_failing = step.errors > 0 and m.wrong - math_sqrt(m.wrong) > tolerated * (m.wrong + m.right)
    local delay, few = loop_delay(setting), m.left > 0 and (LOOP_ITEMS / m.left < LONGEST_LOOP and LOOP_ITEMS / m.left or LONGEST_LOOP) or 0
    local loop = math_max(LOOP, delay, m.echo, few)
    hear(m, step, rate, loop, is_failing)
    local target, is_slow, excess = setting.latency_target_ms, false, 0
    local slow, latency = slowdown(m, report, step, target)
    if slow then
      if target then
        is_slow, excess = report.latency_ms > target, (report.latency_ms - target) / 1000
      else
        is_slow, excess = slow > SLOW and latency > SLOW_MS, latency * (1 - 1 / slow) / 1000
      end
      m.is_slow = is_slow and 1 or 0
    end
    if is_failing or is_slow then
      m.calm = 0
      if is_failing then return fall(m, rate, step, loop, delay) end
      return ease(m, rate, report, step, slow, excess, loop, target)
    end
    -- More is done than may come: what waited is worked off, and shows what can be done.
    if m.known_good > 0 and m.ok - math_sqrt(m.ok) > rate then m.known_good = (m.ok > m.known_good and m.ok or m.known_good) end
    if m.asked < USED * rate or m.since_cut < loop or m.is_slow > 0 or step.errors > tolerated * step.done then return rate end
    return climb(m, rate, step.dt, loop, delay, m.was_slow > 0 and slow and slow < EASY and not target)
  end

  -- The rate was as high as the capacity allowed, which has risen: it goes with it to where an unknown consumer begins. And
  -- all the way where nothing came, since what waits may need more.
  local function unbound(m, rate, before, now, step)
    if not before or not now or rate < BOUND * before or step.errors + m.is_slow > 0 then return rate end
    return math_max(rate, step.arrived > 0 and (10 < now and 10 or now) or now)
  end

  function aimd(m, was, report, step, setting)
    local rate = m.rate > 0 and m.rate or report.capacity or 10
    local seen = 0
    if step then
      rate = unbound(m, rate, was.capacity, report.capacity, step)
      m.since_cut = (m.since_cut + step.dt < 86400 and m.since_cut + step.dt or 86400)
      if step.is_unbroken then
        rate = follow(m, rate, report, step, setting)
        seen = m.ok
      end
    end
    return rate, seen, report.capacity or m.known_good, 1
  end
end

-- law_memory and law_text keep this order; new numbers go to the end. What is absent is -1.
local MEMORY = {
  range = {'rate', 'best', 'best_at'},
  drain = {'rate', 'best', 'best_at', 'capacity', 'before', 'ok', 'probe', 'probe_age', 'still', 'beat', 'cold_for',
           'working_for', 'highest', 'unseen', 'surged', 'quiet'},
  aimd = {'rate', 'best', 'best_at', 'ok', 'known_good', 'since_cut', 'calm', 'right', 'wrong', 'own', 'did', 'lowest',
          'echo', 'echoing', 'came', 'left', 'usual', 'usual_p25', 'usual_p10', 'is_slow', 'slow_cuts', 'is_trial',
          'slow_at', 'was_slow', 'was_probe', 'before', 'asked', 'unseen', 'surged', 'quiet'},
}
local AT_FIRST = {probe = 0.05, since_cut = 86400}       -- all else 0, and no `ok`

local function start_memory(memory, name)
  for key in pairs(memory) do memory[key] = nil end
  memory.law = name
  for _, field in ipairs(MEMORY[name]) do
    if field ~= 'ok' then memory[field] = AT_FIRST[field] or 0 end
  end
end

local function law_memory(text)
  local memory = {}
  local name = string_match(text or '', '^%S+')
  if not name then return nil, memory end
  if not MEMORY[name] then error('damaged') end
  start_memory(memory, name)
  for i, number in ipairs(numbers(string_sub(text, #name + 1))) do
    local field = MEMORY[name][i]
    if number - number ~= 0 then error('damaged') end
    if field and number >= 0 then memory[field] = number / 1000000 end
  end
  return name, memory
end

local function law_text(name, memory)
  local list = {}
  for i, field in ipairs(MEMORY[name]) do list[i] = memory[field] and memory[field] * 1000000 or -1 end
  return name .. ' ' .. packed(list)
end

local function law_fits(name, report, setting)
  if name == 'drain' then return report.depth ~= nil and report.done ~= nil end
  if name == 'range' then return fullest(report) ~= nil and (report.capacity or setting.rate) ~= nil end
  return name == 'aimd' and report.done ~= nil and (report.errors or report.latency_ms) ~= nil
end

-- All that ever left, however it ended: an item that was cancelled has come as well.
local function left_of(report) return (report.done or 0) + (report.errors or 0) + (report.cancelled or 0) end

-- It has been here a while, and nothing was ever done or begun: it may look at a queue that others empty and count nothing.
local function only_looks_on(memory, report, setting)
  local has_worked = memory.law == 'drain' and memory.capacity + memory.highest > 0
  return not has_worked and left_of(report) + (report.in_flight or 0) == 0
         and setting.here >= 2
end

-- The one set, else the first that fits; one chosen is left only for one before it. A report that says too little for the
-- chosen law keeps it: it is no sample. Only load without any capacity is an error at once, since nothing follows from it,
-- also for one that was just there and idle, and so `aimd`.
-- Who only looks on would stay in drain's cold start for ever, so where a capacity is known it is `range` until it works.
local function choose_law(set, memory, report, setting)
  local chosen, knows = memory.law, false
  local looks_on = law_fits('range', report, setting) and only_looks_on(memory, report, setting)
  for _, name in ipairs(set and {set} or looks_on and {'range'} or {'drain', 'range', 'aimd'}) do
    if law_fits(name, report, setting) then return name end
    if name == chosen then
      knows = name == 'drain' or fullest(report) == nil
      break
    end
  end
  return knows and chosen or nil
end

-- What happened between two reports, or nil where they say nothing.
local function step_between(was, report, dt, setting)
  if not was or not dt or dt < (0.125 < setting.interval / 2 and 0.125 or setting.interval / 2) or not was.done or not report.done then return nil end
  local done, errors = report.done - was.done, (report.errors or 0) - (was.errors or 0)
  local cancelled = (report.cancelled or 0) - (was.cancelled or 0)
  if done < 0 or errors < 0 or cancelled < 0 then return nil end
  local left = done + errors + cancelled
  local held = (report.in_flight or 0) + (report.depth or 0) - (was.in_flight or 0) - (was.depth or 0)
  return {
    part = 1, dt = (86400 < dt and 86400 or dt), done = done, errors = errors, left = left, arrived = (left + held > 0 and left + held or 0),
    is_unbroken = dt <= 3 * setting.interval,
  }
end

-- A counter may jump: it was corrected, or another process behind the same proxy has answered. More than a consumer held
-- and its history makes credible is no sample the first time; when it goes on, each report counts for as much as is credible.
-- What was seen once and not again in a minute of work is soon forgotten.
-- rate and capacity in tokens per second (capacity 0: not known yet), and the part of its queue that may be filled.
-- One consumer's part of a report: what it says, what it said before, where its work stands.
local SAID = {'uptime_ms', 'load', 'capacity', 'queue_depth', 'queue_limit', 'done', 'errors', 'in_flight', 'slots',
              'latency_ms', 'interval_ms', 'pause_ms', 'latency_p25_ms', 'latency_p10_ms', 'cancelled', 'busy_ms'}
local SHOWN = {'queue_depth', 'queue_limit', 'done', 'errors', 'cancelled', 'in_flight', 'latency_ms'}     -- in fields of their own
local SAID_MOST = {
  uptime_ms = 9007199254740992, load = 100, capacity = 1e9, queue_depth = 9007199254740992, queue_limit = 9007199254740992, done = 9007199254740992, errors = 9007199254740992,
  in_flight = 9007199254740992, slots = 9007199254740992, latency_ms = 86400000, interval_ms = 86400000, pause_ms = 86400000,
  latency_p25_ms = 86400000, latency_p10_ms = 86400000, cancelled = 9007199254740992, busy_ms = 9007199254740992,
}
-- LEAP = 5                  -- seconds that its clock may gain on ours: a report is late by less
-- ARRIVALS_TIME = 1         -- seconds over which a consumer's part of the arrivals is averaged

-- The report's arguments by name (nil where nothing is said), or nil and a code that names the one at fault.
local function read_report()
  if #ARGV ~= #SAID + 4 then return nil, 'NEXUS_INVALID_ARGUMENTS' end
  if not whole_number(ARGV[1], 0, 9007199254740992) then return nil, 'NEXUS_INVALID_AT_US' end
  local r = {incarnation = ARGV[2], labels = ARGV[#ARGV]}
  if r.incarnation ~= '' and not is_name(r.incarnation) then return nil, 'NEXUS_INVALID_INCARNATION' end
  r.seq = whole_number(ARGV[3], 0, 9007199254740992)
  if not r.seq then return nil, 'NEXUS_INVALID_SEQ' end
  for i, name in ipairs(SAID) do
    local text = ARGV[i + 3]
    if text ~= '' then
      r[name] = decimal(text, 0, SAID_MOST[name])
      if not r[name] then return nil, 'NEXUS_INVALID_' .. string.upper(name) end
    end
  end
  if #r.labels > 1024 then return nil, 'NEXUS_INVALID_LABELS' end
  if r.queue_limit == 0 then return nil, 'NEXUS_INVALID_QUEUE_LIMIT' end
  if r.slots == 0 then return nil, 'NEXUS_INVALID_SLOTS' end
  if r.capacity and r.capacity < 1e-6 then return nil, 'NEXUS_INVALID_CAPACITY' end
  r.depth, r.limit = r.queue_depth, r.queue_limit
  r.interval = r.interval_ms and (r.interval_ms * 1000 > 1000 and r.interval_ms * 1000 or 1000) or 250000
  if not r.load and (r.limit and r.depth or r.slots and r.in_flight) then
    local queue = r.limit and r.depth and r.depth / r.limit or 0
    local work = r.slots and r.in_flight and r.in_flight / r.slots or 0
    r.load = math_min(100, 100 * (work > queue and work or queue))
  end
  return r
end

local function load_of(said) return said.load or 0 end

local function missing_for_lossless(said)
  for _, name in ipairs({'queue_limit', 'queue_depth', 'done', 'errors', 'in_flight'}) do
    if not said[name] then return 'NEXUS_MISSING_' .. string.upper(name) end
  end
  return nil
end

local function new_consumer(now)
  return {memory = {}, arrivals = 0, paused_until = 0, incarnation = '', said = {at = now}, joined = now}
end

-- What its next report needs, as words: HEAD, then the instant of its last report and what it said (`-`: nothing), then its law
-- and what that remembers.
local HEAD = {'incarnation', 'seq', 'rate', 'capacity', 'arrivals', 'paused_until', 'joined'}

local function read_consumer(keys)
  local raw = redis_call('GET', keys.memory)
  if not raw then return nil end
  local head, tail = string_match(raw, '^([^\n]*)\n([^\n]*)$')
  local words = {}
  for word in string_gmatch(head, '%S+') do words[#words + 1] = word end
  if #words ~= #HEAD + 1 + #SAID then error('damaged') end
  local c, said = {}, {at = finite(words[#HEAD + 1])}
  for i, name in ipairs(HEAD) do c[name] = i == 1 and words[i] or finite(words[i]) end
  for i, name in ipairs(SAID) do
    local word = words[#HEAD + 1 + i]
    said[name] = word ~= '-' and finite(word) or nil
  end
  if c.incarnation == '-' then c.incarnation = '' end
  said.depth, said.limit = said.queue_depth, said.queue_limit
  c.said, c.law, c.memory = said, law_memory(tail)
  return c
end

-- An id belongs to the incarnation that reported last, while its reports live.
local function check_reporter(keys, c, id, said, now)
  c.deadline = score(keys.consumers, id)
  if c.incarnation == said.incarnation then
    if said.incarnation == '' then return nil end
    if said.seq == c.seq then return 'again' end
    return said.seq < c.seq and 'NEXUS_STALE' or nil
  end
  if c.incarnation ~= '' and c.deadline and c.deadline > now and score(keys.rates, id) then return 'NEXUS_ID_TAKEN' end
  return nil
end

-- Is this a base (no differences to the one before), and else how long is it since that one, in seconds. One that was
-- forgotten starts anew: what came to it meanwhile counts as arrived already.
local function since_last(c, said, now)
  if not c or c.incarnation ~= said.incarnation or not c.deadline then return true end
  local was = c.said
  for _, counter in ipairs({'done', 'errors', 'cancelled'}) do
    if (said[counter] or 0) < (was[counter] or 0) then return true end
  end
  if said.uptime_ms and was.uptime_ms then
    local dt, passed = (said.uptime_ms - was.uptime_ms) / 1000, (now - was.at) / 1000000
    if dt < 0 or dt > (passed > 0 and passed or 0) + 5 then return true end
    return false, dt
  end
  return false, (now - was.at > 0 and now - was.at or 0) / 1000000
end

-- Everything that ever came to it and was seen there.
local function came(said) return left_of(said) + (said.in_flight or 0) + (said.queue_depth or 0) end

-- A counter that jumps makes it no more than a surge of what the budget gives.
local function arrivals(b, c, was, said, dt)
  if not was then return 0 end
  local arrived = came(said) - came(was)
  if dt > 0 then
    local most = math_min(MOST, SURGE * math_max(b[22], c.arrivals, 10 * 1000000))
    local rate = math_min(most, (arrived > 0 and arrived or 0) / dt * 1000000)
    c.arrivals = c.arrivals + (dt / 1 < 1 and dt / 1 or 1) * (rate - c.arrivals)
  end
  return arrived
end

-- Under `min`: how many of the tokens were seen to come to this one, or are too old to come.
local function seen_by(keys, id)
  local edge, free = score(keys.edges, id), score(keys.frees, id)
  return edge and free and edge - free
end

-- Its arrivals shorten what is on the way; its space is what it may still be sent. Its entries in the sets are withdrawn.
local function write_consumer(keys, c, said, name, part, now)
  c.incarnation, c.seq, c.rate, c.capacity, c.law = said.incarnation, said.seq, part.rate, part.capacity, name
  local words = {c.incarnation ~= '' and c.incarnation or '-'}
  for i = 2, #HEAD do words[i] = whole(c[HEAD[i]]) end
  words[#words + 1] = whole(now)
  for _, field in ipairs(SAID) do words[#words + 1] = said[field] and string_format('%.17g', said[field]) or '-' end
  local keep_ms = whole((6 * said.interval / 1000 > 600000 and 6 * said.interval / 1000 or 600000))
  redis_call('SET', keys.memory, table.concat(words, ' ') .. '\n' .. law_text(name, c.memory), 'PX', keep_ms)
  local list = {'HSET', keys.member, 'law', name, 'rate_per_s', plain(part.rate), 'capacity_per_s', plain(part.capacity),
    'load_percent', plain(part.load * 1000), 'arrivals_per_s', plain(math_floor(c.arrivals)), 'joined_at', date_of(c.joined),
    'reported_at', date_of(now), 'labels', said.labels}
  local gone = {'HDEL', keys.member}
  local function show(field, text)
    if text then
      list[#list + 1] = field
      list[#list + 1] = text
    else gone[#gone + 1] = field end
  end
  show('paused_until', c.paused_until > now and date_of(c.paused_until))
  for _, field in ipairs(SHOWN) do show(field, said[field] and string_format('%.17g', said[field])) end
  redis_call(unpack(list))
  if #gone > 2 then redis_call(unpack(gone)) end
  redis_call('PEXPIRE', keys.member, keep_ms)
end

local function consumer_reply(b, c)
  return {whole(c.rate), whole(c.capacity), whole(b[22]), whole(b[25]), whole(math_floor(b[26] / 1000)), whole(b[44]), c.law,
          b[45]}
end

local said, invalid = read_report()
if invalid then return {err = invalid} end
local keys, id = named_keys('consumer')
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end
local open_budget_1, open_budget_2, open_budget_3
repeat
local clock_1
repeat
local at_us = ARGV[1]
  if at_us ~= '0' then
    local at = whole_number(at_us, 0, 9007199254740992)
    if not at or at > 0 then clock_1 = at break end
  end

  if not redis.REDIS_VERSION_NUM and redis.replicate_commands then redis.replicate_commands() end
  local time = redis_call('TIME')
  clock_1 = time[1] * 1000000 + time[2]
  break
until true
local now = clock_1
  local read_budget_1, read_budget_2
  repeat
  local class_name = 'normal'
    local raw = redis_call('GET', keys.state)
  if not raw then read_budget_1, read_budget_2 = nil break end
  local schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved,
    saved_until, fresh, late, idle, idlers, spilled = unpacked('>ddddddddddddddddddddd', raw)
  if schema > 3 and schema < 1000 and schema % 1 == 0 then read_budget_1, read_budget_2 = nil, true break end
  local R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes,
    behind, high, turned, turned_before, halved, lost, birth, reason, taker, next = unpacked('>dddddddddddddddddddddddss', raw, 1 + 67 * WIDE)

  local sum = at + rest + T + granted + granted_rest + top + top_before + half + needs + demanding + retry_max + queue + crowd
    + saved + saved_until + fresh + late + idle + idlers + spilled + R + B + burst_us + level + load + learns_until + due + number
    + ends + length + refresh + span + span_until + ui + is_scarce + resumes + behind + high + turned + turned_before + halved + lost + birth
  if schema ~= 3 or sum - sum ~= 0 then error('damaged') end
  local b = {schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved,
             saved_until, fresh, late, idle, idlers, spilled, R, B, burst_us, level, load, learns_until, due, number, ends,
             length, refresh, span, span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth,
             reason, taker, next, raw, R, next <= #raw and read_window(raw, next) or nil, [class_name] = read_class(raw, class_name)}
  read_budget_1, read_budget_2 = b
  break
  until true
  local b, newer = read_budget_1, read_budget_2
  if b then open_budget_1, open_budget_2, open_budget_3 = b, nil, steady(b, now) break end
  if not newer then 
  local first_budget_1, first_budget_2
  repeat
    local schema = redis_call('HGET', keys.budget, 'schema')
  if schema and not whole_number(schema, 0, 9007199254740992) then error('damaged') end
  if schema and tonumber(schema) > 3 then first_budget_1, first_budget_2 = nil, true break end
  local new_budget_1, new_budget_2
  repeat
  local has_settings = schema
    local b = {}
  b[1] = 3
  b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9] = now, 0, 0, 0, 0, 0, 0, now
  b[10], b[11], b[12], b[13], b[14], b[15], b[16] = 0, 0, 0, 0, 0, 0, 0
  b[22], b[23], b[24], b[25], b[26], b[27], b[28] = 0, 0, 250000, 3, 0, now + 500000, has_settings and now or 0
  b[29], b[30], b[31], b[32], b[33], b[34] = 1, now + 250000, 250000, 100000, 500000, 0
  b[17], b[18], b[19], b[20], b[40], b[41], b[42] = 0, 0, 0, 0, now, now, now
  b[43], b[56], b[57], b[58], b[21], b[59], b[60] = 0, 0, 0, 0, 0, 0, 0
  b[35], b[36], b[37], b[38], b[39], b[44], b[45], b[46] = 0, 0, 0, 0, 0, now, 'unset', ''
  b[51], b[52], b[53], b[54], b[55], b[61], b[62] = 0, 0, 1020000, 0, 0, now, 0
  b[66], b[64], b[67] = true, true, true
  for _, name in ipairs(CLASSES) do b[name] = {math_huge, math_huge, 0, 0, 0, 0, 0, 0} end
  new_budget_1, new_budget_2 = b
  break
  until true
  first_budget_1, first_budget_2 = new_budget_1, new_budget_2
  break
  until true
  b, newer = first_budget_1, first_budget_2
  end
  open_budget_1, open_budget_2, open_budget_3 = b, newer and 'NEXUS_SCHEMA', now
  break
until true
local b, newer, now = open_budget_1, open_budget_2, open_budget_3
if newer then return {err = newer} end
local c = read_consumer(keys)
local refused = c and check_reporter(keys, c, id, said, now)
if refused and refused ~= 'again' then return {err = refused} end
if refused then return consumer_reply(b, c) end

-- Its law, and what it says of its space, before anything is written.
local s = read_settings(keys, b)
local missing = s.lossless == 1 and missing_for_lossless(said)
if missing then return {err = missing} end
local is_base, dt = since_last(c, said, now)
c = c or new_consumer(now)
if is_base then c.joined = now end
local too_soon = not is_base and dt < (250000 < said.interval and 250000 or said.interval) / 1000000 / 2
local law_setting_1
repeat
  law_setting_1 = {rate = s.rate and s.rate / 1000000, latency_target_ms = s.latency_target_ms, loop_delay = s.loop_delay,
          interval = said.interval / 1000000, here = (now - c.joined) / 1000000}
  break
until true
local setting = law_setting_1
local name = choose_law(s.law, c.memory, said, setting)
if not name then return {err = 'NEXUS_NO_LAW'} end
if too_soon and name == c.memory.law and name ~= 'range' and said.pause_ms == nil then return consumer_reply(b, c) end

repeat
  local is_back = b[2] - now >= 1000000
  if is_back or (b[28] > 0 and now >= b[28]) then b[71] = read_settings(keys, b) end
  if is_back then 
  repeat
  local s = b[71]
    local step = b[2] - now
  for _, id in ipairs(redis_call('ZRANGE', keys.consumers, 0, -1)) do
    redis_call('ZINCRBY', keys.consumers, whole(-step), id)
  end
  if s.paused_until > 0 and s.paused_until < 9e15 then
    s.paused_until = (s.paused_until - step > 0 and s.paused_until - step or 0)
    redis_call('HSET', keys.budget, 'paused_until_us', whole(s.paused_until), 'paused_until', pause_end(s.paused_until) or '')
    b[37] = s.paused_until
  end
  if s.left > 0 then
    s.left = (s.left - step > 0 and s.left - step or 0)
    redis_call('HSET', keys.budget, 'left_us', whole(s.left))
  end
  b[28] = (b[28] - step > 0 and b[28] - step or 0)
  until true
  end

  local resumed = b[37] > b[2] and now >= b[37]
  refill(b, resumed and b[37] or now)
  if b[28] > 0 and now >= b[28] then settle(keys, b, b[71], now, 'deadline') end
  if resumed then refill(b, now) end
until true
if b[71] then s = b[71] end                -- the sweep has just written newer sums
local was = not is_base and c.said or nil
local run_law_1, run_law_2, run_law_3
repeat
local memory, report, at = c.memory, said, now / 1000000
  if memory.law ~= name then start_memory(memory, name) end
  local step
  if name ~= 'range' then 
  local credible_1
  repeat
  local m, step = memory, step_between(was, report, dt, setting)
    if not step then
    m.surged, m.quiet = 0, 0
    credible_1 = nil
    break
  end
  local known = math_max(10, m.rate, m.best, m.ok or 0, m.capacity or 0, m.known_good or 0, m.before or 0, report.capacity or 0)
  local most = SURGE_ITEMS + (was.in_flight or 0) + (was.depth or 0) + known * (SURGE * step.dt + m.quiet)
  local is_quiet = step.left == 0 and not report.in_flight
  m.quiet = is_quiet and (m.quiet + step.dt < 5 and m.quiet + step.dt or 5) or 0
  step.arrived = (most < step.arrived and most or step.arrived)
  if step.left <= most then
    if step.left > 0 then m.surged = 0 end
    credible_1 = step
    break
  end
  if m.surged == 0 then
    m.surged = 1
    credible_1 = nil
    break
  end
  step.part = most / step.left
  step.done, step.errors, step.left = step.done * step.part, step.errors * step.part, most
  credible_1 = step
  break
  until true
  step = credible_1
  end
  local rate, seen, capacity, window
  if name == 'drain' then rate, seen, capacity, window = drain(memory, was, report, step, setting)
  elseif name == 'range' then rate, seen, capacity, window = range(memory, report, setting)
  else rate, seen, capacity, window = aimd(memory, was, report, step, setting) end

  repeat
  local m = memory
    local unseen = m.unseen or 0
  if seen >= m.best / 2 then unseen = 0
  elseif step and step.done > 0 then unseen = (unseen + step.dt < 86400 and unseen + step.dt or 86400) end
  local fades = unseen > UNSEEN and UNSEEN_FADES or 600
  m.unseen = unseen
  m.best = math_max(seen, m.best * math_exp(-(at - m.best_at > 0 and at - m.best_at or 0) / fades))
  m.best_at = at
  until true
  local ceiling = math_min(report.capacity or 1e9, setting.rate or 1e9, 1e9)
  memory.rate = math_min(ceiling, math_max(rate, 0.2, 0.01 * (ceiling < memory.best and ceiling or memory.best)))
  run_law_1, run_law_2, run_law_3 = memory.rate, capacity, window
  break
until true
local rate, capacity, fraction = run_law_1, run_law_2, run_law_3
c.paused_until = c.paused_until - (c.said.at - now > 0 and c.said.at - now or 0)             -- the clock went back
if said.pause_ms then c.paused_until = said.pause_ms > 0 and now + said.pause_ms * 1000 or 0 end
if c.paused_until > now then rate = 0 end

redis_call('HSET', keys.budget, 'schema', whole(3))     -- a server without memory refuses here, before any change
mend(keys, s)
local arrived, seen = arrivals(b, c, was, said, dt), seen_by(keys, id)
local part = {
  rate = micro_of(rate), capacity = micro_of(capacity), load = math_floor(load_of(said) * 1000 + 0.5), arrivals = c.arrivals,
}
withdraw_consumer(keys, s.parts, id)
repeat
local seen = seen
  if not (said.limit and said.depth) then break end
  part.free = math_max(-MOST, math_min(MOST, math_floor((fraction * said.limit - said.depth) * 1000000)))
  local slot_us = slot_length(b[33], s.transit, said.interval)
  if not b[50] then 
  local new_window_1
  repeat
  local slot_us = slot_us
    new_window_1 = {active = 0, edge = 0, net = 0, A = 0, slot = math_floor(now / slot_us), slot_us = slot_us, lossless = 0, born = now,
          snaps = {0, 0, 0, 0, 0}}
  break
  until true
  b[50] = new_window_1
  end
  local w = b[50]
  if slot_us > w.slot_us then set_slot_length(w, now, slot_us) end
  repeat
    local slot = math_floor(now / w.slot_us)
  if slot < w.slot then w.slot = slot end
  w.born = (now < w.born and now or w.born)
  local turns = (5 < slot - w.slot and 5 or slot - w.slot)
  for _ = 1, turns do
    for i = 5, 2, -1 do w.snaps[i] = w.snaps[i - 1] end
    w.snaps[1] = w.net
  end
  w.slot = slot
  until true

  local are_all_heard_1
  repeat
  local parts = s.parts
    local first = least(keys.consumers)
  are_all_heard_1 = silent_consumers(keys, parts) == 0 and (not first or first >= now + 2000000 - 3 * 250000)
  break
  until true
  local healing = are_all_heard_1
  local oldest, came_now = w.snaps[5], math_floor(arrived * 1000000)
  if s.combine == 'min' then
    seen = math_min(w.net, (seen or oldest) + came_now)
    if healing then seen = (oldest > seen and oldest or seen) end
    part.edge = seen + part.free
  else
    w.A = (w.A + came_now < w.net and w.A + came_now or w.net)
    if healing then w.A = (oldest > w.A and oldest or w.A) end

    local first = s.combine == 'sum' and s.lossless == 1 and least(keys.consumers)
    if first and first <= c.joined + 2000000 then part.free = -math_floor(said.depth * 1000000) end
  end
until true
repeat
local parts, deadline = s.parts, now + (2000000 > 3 * said.interval and 2000000 or 3 * said.interval)
  local weight = weight_of(part.capacity)
  local ratio = string_format('%.17g', part.rate > 0 and part.arrivals > 0 and part.rate / part.arrivals or 1e300)
  parts.live = parts.live + 1
  parts.rate = parts.rate + part.rate
  parts.capacity = parts.capacity + weight
  parts.load = parts.load + weight * part.load
  parts.arrivals = parts.arrivals + math_floor(part.rate / tonumber(ratio))
  redis_call('ZADD', keys.consumers, whole(deadline), id)
  redis_call('ZADD', keys.rates, whole(part.rate), id)
  redis_call('ZADD', keys.capacities, whole(part.capacity), id)
  redis_call('ZADD', keys.loads, whole(part.load), id)
  redis_call('ZADD', keys.ratios, ratio, id)
  if part.free then
    parts.bounded, parts.free = parts.bounded + 1, parts.free + part.free
    redis_call('ZADD', keys.frees, whole(part.free), id)
  end
  if part.edge then redis_call('ZADD', keys.edges, whole(part.edge), id) end
until true
settle(keys, b, s, now, 'report', false, {who = id})
write_consumer(keys, c, said, name, part, now)
repeat
local may_be_new = true
  read_rest(keys, b)
  may_be_new = may_be_new or is_renewal_due(b, now)
  if may_be_new and (keys.history or b[66]) then b[54] = now end
  if b[66] or b[67] or b[68] then write_summary(keys, b, now) end

  local state = {packed_bucket(b), packed_class(b['normal']), packed_class(b['high']), packed_class(b['low']),
    pack('>dddddddddddd', b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59],
         b[60], b[61], b[62]),
    packed_sums(b), pack('>dddddddddddddddddddddddss', unpack(b, 22, 46)),
    b[50] and packed_window(b[50]) or ''}
  redis_call('SET', keys.state, table.concat(state), 'KEEPTTL')
  if may_be_new then 
  repeat
    for place, key in pairs(keys) do
    if place ~= 'member' and place ~= 'memory' then
      if b[55] == 1 then redis_call('PERSIST', key) else redis_call('PEXPIRE', key, 604800000) end
    end
  end
  until true
  end
until true
return consumer_reply(b, c)
end)
if is_well then return reply end
local string_match = string.match
local string_gmatch = string.gmatch
local string_sub = string.sub
-- What lies in Redis and cannot be what a script wrote: a key of another type, a state that is too short, a number that is none, a
-- setting that no script would have taken. Looked for when a script has failed, and by repair.lua.
-- Numbers as text. Lua 5.1 knows doubles only, and its tostring() rounds at 14 digits: every number that is stored or
-- answered goes through string.format, in millionths (micro) or microseconds, and is exact to 2^53.
-- MICRO = 1000000
-- COUNT = 9007199254740992     -- 2^53: up to here a double holds every whole number

-- 0.29 -> 290000: to the nearest, since a double of 0.29 may lie just below it.
local function micro_of(x) return math.floor(x * 1000000 + 0.5) end

-- 2500500000 -> '2500.5': for people.
-- A plain decimal within [low, high] as a double, or nil: tonumber alone takes 'nan', 'inf', '0x10' and ' 5 '.
local function decimal(text, low, high)
  if #text > 40 or not string_match(text, '^%d+%.?%d*$') then return nil end
  local x = tonumber(text)
  if x >= low and x <= high then return x end
  return nil
end

-- Digits only, within [low, high], or nil.
local function whole_number(text, low, high)
  if #text > 17 or not string_match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end

-- What a script has written as a number.
-- Packed state: one text of whole numbers.
-- Durations that several scripts share, in microseconds.
-- SECOND = 1000000
-- LEASE = 500000            -- tokens handed out may be spent this long, counted from before the claim was sent
-- REFRESH = 100000          -- how often a busy producer claims; in a crowd both are longer (crowd.lua)
-- LONGEST_TRIP = 1000000     -- of a round trip to Redis, by which a lease is longer
-- REFRESHES = 5             -- in a lease: chances to be heard
-- EPOCH = 250000            -- shortest round of the fair share: everyone in demand comes once in it
-- LONGEST_SLOT = 86400000000    -- as far ahead as a producer is told its turn: a day
-- LONGEST_WAIT = 1000000    -- no producer is told to stay away longer, or it would miss a change of the rate
-- DEFAULT_BURST = 250000     -- of the rate, in a bucket whose budget names no burst
-- INTERVAL = 250000         -- a consumer that names no interval reports this often
-- SHORTEST_DEADLINE = 2000000   -- a consumer that skips a few reports (a pause of its runtime) is not dead
-- STILL = 5000000           -- so long a server's clock that went back stands still: longer than one swings that is steered
-- GRACE = 10000000          -- what the last consumer could take stays so long when it left: a process or a container restarts
-- FORGET_CONSUMER = 10000000    -- after its deadline: what was sent to it has failed by then
-- TRANSIT = 1000000         -- from a token spent to its work seen in Redis, unless the budget says otherwise
-- UNTIL_RESUMED = 9e15      -- the end of a pause without one
-- KEEP_BUDGET_MS = 604800000    -- sweeps only, decides nothing: a week, as long as an incident and a weekend
-- KEEP_MEMBER_MS = 600000       -- likewise, for what is known of one producer or consumer
-- KEEP_PASSING_MS = 5000     -- and of one that only asked once: longer than an epoch
-- RENEW = 60000000          -- how often a TTL is written again
-- Packs what only the arithmetic reads with `struct`, which every server has: big-endian, so that any language unpacks it. A
-- number read as text costs several times as much, and a claim has a hundred of them. fakeredis has no `struct`: there the same
-- parts are text, a number takes WIDE characters, and nothing else differs.
local pack, unpacked
local WIDE = struct and 8 or 25     -- of a double
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string_gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string_sub(words[i], 1, tonumber(size)) .. ' '
      elseif kind == 's' then words[i] = words[i] .. ' '
      else words[i] = string.format('%24.17g ', words[i]) end
    end
    return table.concat(words)
  end
  function unpacked(format, text, from)
    local values, at = {}, from or 1
    for kind in string_gmatch(format, '([dfIisc])%d*') do
      local is_text = kind == 's' or kind == 'c'
      local last = is_text and string.find(text, ' ', at, true) or at + WIDE - 1
      if not last or last > #text then error('too short') end
      local word = string_sub(text, at, last - 1)
      values[#values + 1] = is_text and word or tonumber(word) or error('not a number')
      at = last + 1
    end
    values[#values + 1] = at
    return unpack(values)
  end
end
-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.

-- {name}, or {name/key} of a key's budget: no name has the stroke, so no key is taken for a name.
-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
-- A claim may come with five of them: budget, state, producers, producer and the producer's state. Their names are looked at
-- where they are new.
-- The id of the producer that claims.
-- The budget's state: one string of packed parts, one after the other. A claim writes the first two and leaves the others.
--
--   bucket    what each claim changes; the schema comes first in every release
--   classes   normal, high, low: the fair share of each
--   epoch     what only the end of an epoch needs
--   sums      sums over the consumers
--   terms     what changes with the rate and the epoch; the last of them are texts, each with a zero at its end
--   window    what the consumers can still hold; only where there is one
-- SCHEMA = 3
-- BUCKET = '>ddddddddddddddddddddd'
-- CLASS = '>dddddddd'
-- EPOCHAL = '>dddddddddddd'
-- SUMS = '>dddddddddd'
-- TERMS = '>dddddddddddddddddddddddss'
-- WINDOW = '>ddddddddddddd'

-- Where they begin, in doubles from the first one.
-- NORMAL_AT = 21
-- HIGH_AT = 29
-- LOW_AT = 37
-- EPOCHAL_AT = 45
-- SUMS_AT = 57
-- TERMS_AT = 67

-- A producer's: what its next claim needs, who it is, and its last answer. There may be a million of these, so they are whole
-- numbers of as few bytes as each needs; a class is its first letter, a reason its first two.
-- ENTRY = '>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7'
-- ANSWER = '>i7I4I4i7i7c2I5'

--- @record b schema at rest T granted granted_rest top top_before half needs demanding retry_max queue crowd saved saved_until fresh late idle idlers spilled
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes behind high
---   turned turned_before halved lost birth reason taker
---   next raw earned window retry_before u first renewed kept lost_old idle_old idlers_old unheard unheard_until told_at told_granted
---   parts has_rest has_new_terms is_new is_revalued is_closed seen_demand seen_demanding settings
-- BUCKET_ENDS = 21
-- TERMS_BEGIN = 22
-- TERMS_END = 46
--- @record class level mark room trim under over demand weight

-- With one class of producers; `read_rest` reads the others. nil where there is none, and true where it is of a newer release.
-- What each claim changes. The normal class lies behind the bucket, so that most claims write one piece.
-- Settings as they stand: what an operator set wins over what code set, and taking it away brings the code's back.
-- Both are kept, one field each, so that HGETALL shows who wants what.
local SETTINGS = {'rate', 'min_rate', 'burst', 'law', 'combine', 'latency_target_ms', 'lossless', 'transit', 'grace'}

local function per_second(text)
  local x = decimal(text, 0, 1e9)
  if not x or (x > 0 and x < 1e-6) then return nil end
  return micro_of(x)
end
local function duration(text)
  local x = decimal(text, 0, 86400)
  return x and micro_of(x)
end
local function one_of(...)
  local words = {}
  for _, word in ipairs({...}) do words[word] = word end
  return function(text) return words[text] end
end

-- Each gives the value in the unit of the arithmetic, or nil when the text is not one.
local READ = {
  rate = per_second, min_rate = per_second, burst = duration, law = one_of('range', 'drain', 'aimd'),
  combine = one_of('sum', 'spread', 'min'), latency_target_ms = function(text) return decimal(text, 0, 86400000) end,
  lossless = function(text) return ({['0'] = 0, ['1'] = 1})[text] end, transit = duration,
  grace = duration,
}

-- fields: texts by name, 'rate_by_code' and so on.
-- What one source wants by itself.
-- The settings, and what a change of the rate needs beside them.
local NUMBERS = {'schema', 'paused_until_us', 'pause_of_operator_us', 'left_us'}

-- Where the value behind these parts begins; nil where they cannot be read. The level of a class is infinite where it is not
-- contended.
local function read_parts_of(text, from, formats)
  for _, format in ipairs(formats) do
    local is_long_enough, values = pcall(function() return {unpacked(format, text, from)} end)
    if not is_long_enough then return nil end
    from = table.remove(values)
    for _, value in ipairs(values) do
      if type(value) == 'number' and (value ~= value or format ~= '>dddddddd' and value - value ~= 0) then return nil end
    end
  end
  return from
end

local function is_state(text)
  local ends = read_parts_of(text, 1, {'>ddddddddddddddddddddd', '>dddddddd', '>dddddddd', '>dddddddd', '>dddddddddddd', '>dddddddddd', '>dddddddddddddddddddddddss'})
  if ends and ends <= #text then ends = read_parts_of(text, ends, {'>ddddddddddddd'}) end
  return ends == #text + 1 and unpacked('>ddddddddddddddddddddd', text) == 3
end

local function is_producer_state(text) return read_parts_of(text, 1, {'>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', '>i7I4I4i7i7c2I5'}) == #text + 1 end

local function is_consumer_state(text)
  local head, law = string_match(text, '^%S+( [^\n]*)\n%a+([^\n]*)$')
  local count = 0
  for word in string_gmatch((head or 'x') .. (law or ''), '%S+') do
    count = count + 1
    local x = tonumber(word)
    if word ~= '-' and (not x or x - x ~= 0) then return false end
  end
  return count >= 23
end

-- The names of those fields of the budget's hash that cannot be read.
local function damaged_fields(f)
  local bad = {}
  local function check(field, is_right)
    if f[field] and not is_right then bad[#bad + 1] = field end
  end
  for _, field in ipairs(NUMBERS) do check(field, whole_number(f[field] or '', 0, 9007199254740992)) end
  check('left_rate_per_s', f.left_rate_per_s and string_match(f.left_rate_per_s, '^%d+%.?%d*$'))
  for _, name in ipairs(SETTINGS) do
    for _, source in ipairs({'_by_code', '_by_operator'}) do check(name .. source, f[name .. source] and READ[name](f[name .. source])) end
  end
  table.sort(bad)
  return bad
end

-- What a key of a budget holds, by what stands behind the budget's name.
-- A list of {key, field}; the field is '' where the whole key is damaged.
local function damages()
  local found = {}
  for _, key in ipairs(KEYS) do
    local kind_of_1, kind_of_2
    repeat
    local rest = string_sub(key, #KEYS[1] + 1)
      if rest == '' then kind_of_1, kind_of_2 = 'hash', damaged_fields break end
  if rest == ':state' then kind_of_1, kind_of_2 = 'string', is_state break end
  if rest == ':history' then kind_of_1, kind_of_2 = 'stream' break end
  local member, tail = string_match(rest, '^:(%a+):[^:]+(.*)$')
  if not member then kind_of_1, kind_of_2 = 'zset' break end
  if tail == '' then kind_of_1, kind_of_2 = 'hash' break end
  kind_of_1, kind_of_2 = 'string', member == 'producer' and is_producer_state or is_consumer_state
  break
    until true
    local kind, look = kind_of_1, kind_of_2
    local is = redis.pcall('TYPE', key)
    is = is.ok or is
    if string.find(key, '[^%w._:{}/-]') or type(is) ~= 'string' then return {} end
    if is ~= 'none' and is ~= kind then found[#found + 1] = {key, ''}
    elseif is == 'string' then
      if not look(redis.call('GET', key)) then found[#found + 1] = {key, ''} end
    elseif is == 'hash' and look then
      local flat, f = redis.pcall('HGETALL', key), {}
      for i = 1, #flat, 2 do f[flat[i]] = flat[i + 1] end
      for _, field in ipairs(look(f)) do found[#found + 1] = {key, field} end
    end
  end
  return found
end

local found = damages()[1]
if not found then error(reply, 0) end
return {err = string.format('NEXUS_DAMAGED %s %s', found[1], found[2])}
