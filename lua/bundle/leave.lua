--[[ leave: a producer hands back what it holds, a consumer withdraws its rate; at once, and its hash goes.

KEYS   1 budget  2 state  3 consumers  4 rates  5 loads  6 capacities  7 frees  8 edges  9 ratios  10 producers  11 history
       12 producer or consumer  13 its state
ARGV   1 at_us        int    0 = the server's clock; tests pin the instant
       2 incarnation  who leaves; another one's entry stays. `*`: whoever it is (an operator forgets a consumer)
       3 unused       micro-tokens, a producer hands back
       4 burned       micro-tokens, a producer's that expired
       5 who          who forgets a consumer, for the history; at most 64 bytes; it and the note may be left out
       6 note         why; at most 200 bytes
Reply  1 left (1, or 0: there was no such member)  2 credited (micro-tokens)  3 budget_rate (micro-tokens/s)
       all as text
Errors NEXUS_INVALID_<FIELD>  NEXUS_INVALID_KEYS  NEXUS_SCHEMA
Cost   O(log n) ]]
local is_well, reply = pcall(function()
local string_format = string.format
local math_floor = math.floor
local string_match = string.match
local string_sub = string.sub
local math_max = math.max
local math_min = math.min
local math_huge = math.huge
local redis_call = redis.call
local math_abs = math.abs

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
-- Packed state: one text of whole numbers.
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
    for kind, size in string.gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string_sub(words[i], 1, tonumber(size)) .. ' '
      elseif kind == 's' then words[i] = words[i] .. ' '
      else words[i] = string_format('%24.17g ', words[i]) end
    end
    return table.concat(words)
  end
  function unpacked(format, text, from)
    local values, at = {}, from or 1
    for kind in string.gmatch(format, '([dfIisc])%d*') do
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
local function write_whole(keys, b, now, may_be_new)
  read_rest(keys, b)
  may_be_new = may_be_new or is_renewal_due(b, now)
  if may_be_new and (keys.history or b[66]) then b[54] = now end     -- not when a claim came with a few of them
  if b[66] or b[67] or b[68] then write_summary(keys, b, now) end
  -- After the summary, which may begin a new life.
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
end
-- Weighted max-min fair shares, O(1) a claim. In an epoch every producer in demand comes once and enters its demand;
-- whoever comes first after its end (epoch.lua) finds the level at which sum(min(demand, level * weight)) is the rate, class by class.
--
-- A class keeps four sums: demand of those under the level, weight of those over it, demand of all, weight of all.
-- 120/s and three who want 1000, 50 and 10: 10 is under any level, 50 too at the end, the level comes out as 60. Who is
-- over and who under is told by the `mark`: the level of the epoch before, or what it would have been, had all not fit.
-- A second claim in an epoch replaces the first one's entry; leaving takes it out.
-- What this producer may run at, in micro-tokens a second: its level, or, uncontended, its demand and its part of the rest.
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
-- Takes a consumer's rate and load out; what it can hold stays while work may still be on its way there.
local function withdraw_rate(keys, parts, id)
  local rate = score(keys.rates, id)
  if not rate then return end
  local weight_of_1
  repeat
  local capacity = score(keys.capacities, id)
  weight_of_1 = math.ceil(capacity / 1000000)
break
  until true
  local weight = weight_of_1
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
-- The window's word on a claim: no more than the consumers can hold, and nothing while tokens of a lost state may still
-- travel. `returned` and `burned`: what the claim brought back, and what it said is lost.
-- The window: what the consumers cannot hold is not admitted. A window in the sense of TCP, over a fleet.
--
-- net = granted - handed back - burned; A = tokens no longer on the way (their work was seen at a consumer, or they are too
-- old to arrive). What is on the way is at most net - A, so with `free` room last reported, grants may go on up to the
-- edge A + free, however old that report is. Under `min` every item touches all consumers: each has an A and an edge.
-- SNAPSHOTS = 5

-- T_x: granted longer ago than this, a token has arrived or never will; in quarters. `lease`: the longest that may be out.
-- Another T_x: what was known of the old one's length ago is all that is known of the new one's.
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
-- The texts of the history and of the budget's hash: who changed what, from what to what, and why.
-- LONGEST_WHO = 64          -- bytes
-- LONGEST_NOTE = 200        -- bytes

-- Writes the wanted values into `fields`. Returns the settings of this source that were replaced, those that a value of an
-- operator hides, and a text for each of them: the values in force before and after, or, where they are hidden, this source's.
-- Who set a value, when and why: `2026-11-29T09:53:20.000Z anna@ops1: maintenance`.
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
-- One producer's part of a claim: its memory, what it hands back, what it gets.
-- CREDIT_TIME = 600000      -- credit piles up no longer than this: a late refresh is forgiven, an absence is not
-- LATE = 1.25               -- refreshes; likewise in a crowd, where each is longer
-- BORROW_ABOVE = 0.5        -- the bucket's upper half may be lent to those without credit
-- EARLY = 0.005             -- seconds: a producer that comes this much before its slot is served, not sent away
-- NEARLY = 0.9              -- of a need: credit that falls short of it by less, since the trim has changed, is enough at the slot
-- SOON = 0.7                -- of the time until it has the credit: a place in the queue that comes much sooner is of no use to it
-- PUNCTUAL = 1.02           -- a caller on a timer is a little early now and then, measured from its first call
-- PAYS = 4                  -- times what it hands back, out of its credit,
local PAYS_LEAST, PAYS_MOST = 0.25, 2     -- but no more than so many seconds of its rate, or twice that in between
-- LARGE = 0.25              -- of the bucket: a need above it is collected in pieces
-- PIECE_TIME = 0.1          -- seconds of the producer's rate in a piece
-- MOST_CREDIT = 9e15        -- as much as any bucket holds, and what seven bytes hold of it and as much debt
-- LONGEST_CLAIM = 340       -- bytes
-- SMALL = 0.17              -- seconds of the rate in a bucket that clients ask twice before it is full (CLAIM_GAP in ledger.py)

--- @record ask need want demand whole held unused burned weight priority incarnation seq birth granted_total trip share degraded

-- The claim; raises, or gives nil, where something is wrong with it. Its names are looked at where they are new.
-- at: of its last claim; holds: what it may still hold of what it was given; until_us: how long that may come back; renewed: the
-- second in which its ends were last written; slot: from its last claim to the time that is promised to it, 0 for none; share: what it may live on
-- without us (share.lua), negative where nobody waits for it to come.
--- @record p until_us came seq at credit holds left epoch d n class weight renewed under slot share incarnation birth answer_at

-- LEFT_UNIT = 32            -- microseconds
-- SLOT_UNIT = 4             -- likewise
-- AGES = 65536              -- seconds that two bytes tell apart: longer than any TTL of a member

-- When its ends were last written, of one whose were not.
local function read_producer(keys)
  local raw = redis_call('GET', keys.memory)
  if not raw then return nil end
  local p = {nil, nil, unpacked('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', raw)}
  p[1], p[15] = p[4] + p[7] * 32, p[15] * 4
  p[11] = p[11] == 'n' and 'normal' or p[11] == 'h' and 'high' or 'low'
  return p
end

-- How much of what it says comes back to the bucket, and how much will never be used.
-- Whoever hands back may have used it all the same, which nobody can see. So what others get of it is paid for with credit. Who
-- then rests, as one that is idle does, has it again before it comes back; who goes on asking has less by more than it lied.
-- One that leaves cannot pay later: as much comes back as it can pay for.
local function payable(b, p, unused)
  local class = b[p[11]]
  if class[1] == math_huge then return unused end
  return math_min(unused, math_floor(((p[5] > 0 and p[5] or 0) + PAYS_LEAST * class[1] * p[12] / 1000000) / 4))
end

-- Tokens; and else when to ask again, and when what it needs will be there.
-- `is_short`: it got less than it needs. A denial has a reason, so that is never `ok`.
-- How long what is granted may be spent, from before its claim was sent: longer by the round trip, which it spends on its way.
-- What is lossless counts on what is on its way being young.
-- One that is longer than the others is out from now on, so what the bucket held is remembered as long.
-- How it fares, for people, stands in its hash: once an epoch (in a crowd, a minute), and where its class or weight is another.
-- True where its id is a new one.
-- The shares that producers live on while Redis is away: the sum of all that may be in use is never more than half of the rate,
-- and what those that fell silent may be using is missing in the bucket of the others.
--
-- A producer lives on the share that its last answer named, halved each HALVING. The budget keeps the sum of all shares,
-- in parts by what is known of their producers:
--
--   fresh, late    of those whose return is certain, since they hold tokens or wait for some: told since the last turn, and in
--                  the turn before
--   lost           the same, not heard of for a whole turn: dead or cut off. The bucket does not earn these any more
--   idle           of those that need nothing and may be silent for long: at most half of all shares, split evenly among `idlers`
--
-- `lost_old` and `idle_old` are the parts that were told before the last halving: each share in them is halved as often as the
-- producer itself has halved it, or once less. So one addition moves all that are late, and no producer has a timer. An answer
-- may be lost, so a producer's part is the larger of what it says that it has and what it is told now.
-- HALVING = 30000000        -- as HALVED_EACH in ledger.py
-- TURN = 1000000            -- longer than a claim and its answer take on the longest way that is served

-- Takes out what this producer was told with its last answer. True where that is one of the parts that few claims need.
-- At a claim, what it entered with the last one is taken out of all sums, and what it admitted without us is paid.
-- The share that a producer is told: half of what it may run at, as far as the others leave it. It is awaited where it is certain
-- to come again, since it holds tokens, waits for some, or only asks. A caller that tries does not wait. In a crowd nobody is
-- awaited: leases are longer than an outage, and many live for a moment.
-- The turns of the outage shares (share.lua), and the claims of those that come back after one.
-- SHARE_ENDS = 300000000    -- as SHARE_LASTS in ledger.py: nobody lives on a share for longer
-- DEEPEST = 2               -- seconds of the rate that may be owed: a fleet is not stopped for longer

-- What is left of a sum from which the shares were taken that it had, each as a float of four bytes.
-- Takes out the share of one that was taken for lost, or that was idle for long.
-- What was admitted by a share was sent all the same, as if it had been granted. No more than the share can have given: for
-- one whose return was certain, until the bucket earned less for it. Tokens that nobody took meanwhile pay first.
if #ARGV ~= 4 and #ARGV ~= 6 then return {err = 'NEXUS_INVALID_ARGUMENTS'} end
if not whole_number(ARGV[1], 0, 9007199254740992) then return {err = 'NEXUS_INVALID_AT_US'} end
local incarnation, unused, burned = ARGV[2], whole_number(ARGV[3], 0, 1e16), whole_number(ARGV[4], 0, 1e16)
if incarnation ~= '' and incarnation ~= '*' and not is_name(incarnation) then return {err = 'NEXUS_INVALID_INCARNATION'} end
if not unused then return {err = 'NEXUS_INVALID_UNUSED'} end
if not burned then return {err = 'NEXUS_INVALID_BURNED'} end
local who, why = ARGV[5] or '', ARGV[6] or ''
if #who > 64 then return {err = 'NEXUS_INVALID_WHO'} end
if #why > 200 then return {err = 'NEXUS_INVALID_NOTE'} end
local keys, id = named_keys('producer')
local is_producer = keys ~= nil
if not keys then keys, id = named_keys('consumer') end
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end

-- The incarnation of a consumer, which is the first word of its state; an operator may forget one whose state is damaged.
local function reporter(keys)
  local word = string_match(redis_call('GET', keys.memory) or '', '^%S+')
  return word == '-' and '' or word
end

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
local p = is_producer and read_producer(keys)
local owner = p and p[17] or not is_producer and reporter(keys)
local is_known = score(is_producer and keys.producers or keys.consumers, id) or owner
if b[66] or not is_known or (owner and incarnation ~= '*' and owner ~= incarnation) then
  return {'0', '0', whole(b[22])}
end

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
local credited = 0
if is_producer then
  if p and p[18] == b[44] then
    read_rest(keys, b)
    repeat
      if p[8] ~= b[29] then break end
  local class = b[p[11]]
  class[7], class[8] = class[7] - p[9], class[8] - p[12]
  b[10], b[11] = b[10] - p[10], b[11] - 1
  if p[14] == 1 then class[5] = class[5] - p[9] else class[6] = class[6] - p[12] end
    until true
    local withdraw_share_1
    repeat
      local share, is_old = p[16], false
  if share > 0 then
    if p[4] >= b[40] then b[17] = b[17] - share
    elseif p[4] >= b[41] then b[18] = b[18] - share
    else is_old = true end
  elseif share < 0 then
    is_old = p[4] < b[42]
    if not is_old then b[19], b[20] = b[19] + share, b[20] - 1 end
  end
  withdraw_share_1 = is_old
  break
    until true
    local is_old = withdraw_share_1
    if is_old then 
    repeat
      read_rest(keys, b)
  local share = math_abs(p[16])
  local is_old, part = p[4] < b[42], 1
  if is_old then part = 2 ^ -math_floor((b[42] - p[4]) / 30000000) end
  share, b[65] = math_min(math_floor(share * part), p[16] > 0 and b[43] or b[19]), true
  if p[16] > 0 then
    local beyond_rounding_1
    repeat
    local sum = b[43] - share
    beyond_rounding_1 = sum > b[22] / 1e6 and sum or 0
break
    until true
    b[43] = beyond_rounding_1
    b[56] = math_min(b[43], is_old and (b[56] - share > 0 and b[56] - share or 0) or b[56])
  else
    b[19], b[20] = b[19] - share, (b[20] - part > 0 and b[20] - part or 0)
    b[57], b[58] = (b[57] - share > 0 and b[57] - share or 0), (b[58] - part > 0 and b[58] - part or 0)
  end
    until true
    end
    local before, back = b[4], payable(b, p, unused)
    local take_back_1, take_back_2
    repeat
    local held, unused, burned = 0, back, burned + unused - back
      local owned = now <= p[1] and p[6] or 0
  local returned = (owned < unused and owned or unused)
  local lost = (p[6] - returned < burned and p[6] - returned or burned)
  local credited = 0
  if returned > 0 then 
  local hand_back_1
  repeat
  local tokens = returned
    local fits = math_max(0, math_min(tokens, b[23] - math_max(b[4], b[7], b[8])))
  b[4] = b[4] + fits
  b[7] = (b[4] > b[7] and b[4] or b[7])
  hand_back_1 = fits
  break
  until true
  credited = hand_back_1
  end
  p[6] = (p[6] - returned < held and p[6] - returned or held)
  take_back_1, take_back_2 = returned, lost, credited
  break
    until true
    local returned, lost = take_back_1, take_back_2
    if b[50] then 
    repeat
    local came_at, burned, granted, retry, is_whole, need = p[4], lost, 0, 0, false, 0
      local w = b[50]
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
  local lost = returned
  if now - came_at < 4 * w.slot_us - b[33] then lost = lost + burned end
  if lost > 0 then 
  repeat
  local tokens = lost
    w.net = w.net - tokens
  for i = 1, 5 do w.snaps[i] = (w.net < w.snaps[i] and w.net or w.snaps[i]) end
  if w.A > w.net then
    w.edge = w.edge - (w.A - w.net)
    w.A = w.net
  end
  until true
  end
  local admitted_1, admitted_2, admitted_3
  repeat
    if w.active == 0 or granted == 0 then admitted_1, admitted_2, admitted_3 = granted, retry, false break end
  local room = w.edge - w.net
  local quiet_us_1
  repeat
  quiet_us_1 = w.born + 4 * w.slot_us - 3 * 250000 - now
break
  until true
  local quiet = quiet_us_1
  if w.lossless == 1 and quiet > 0 then
    admitted_1, admitted_2, admitted_3 = 0, ((100000 > quiet and 100000 or quiet) < 1000000 and (100000 > quiet and 100000 or quiet) or 1000000), true
    break
  end

  if w.lossless == 0 and room > 0 and w.net <= w.A then room = (need > room and need or room) end
  if room >= granted then admitted_1, admitted_2, admitted_3 = granted, retry, false break end
  local unit = (need < 1000000 and need or 1000000)
  local fits = math_max(0, math_floor(room / unit) * unit)
  if is_whole and fits < need then fits = 0 end
  admitted_1, admitted_2, admitted_3 = fits, (100000 > retry and 100000 or retry), true
  break
  until true
  local fits, later, is_cut = admitted_1, admitted_2, admitted_3
  w.net = w.net + fits
  local _ = fits, later, is_cut
  break
    until true
    end
    credited = b[4] - before
  end
  write_whole(keys, b, now)
  redis_call('ZREM', keys.producers, id)
else
  local s = b[71] or read_settings(keys, b)
  redis_call('HSET', keys.budget, 'schema', whole(3))
  mend(keys, s)
  local rate = score(keys.rates, id)
  withdraw_consumer(keys, s.parts, id)
  if s.parts.live == 0 then
    s.last_end = incarnation == '*' and 'forgotten' or 'left'
    s.left, s.left_rate = rate and now or 0, rate or 0   -- one that was silent before could take nothing any more
    redis_call('HSET', keys.budget, 'last_consumer_end', s.last_end, 'left_us', whole(s.left), 'left_rate_per_s', plain(s.left_rate))
  end
  local act = incarnation == '*' and {who = who, what = table.concat({'forgot', id}, ' '), why = why} or {who = id}
  settle(keys, b, s, now, incarnation == '*' and 'operator' or 'leave', incarnation == '*', act)
  write_whole(keys, b, now)
end
redis_call('DEL', keys.member, keys.memory)
return {'1', whole(credited), whole(b[22])}
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
