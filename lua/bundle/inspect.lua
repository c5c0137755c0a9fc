--[[ inspect: the budget and a page of its members, at one instant; writes nothing.

KEYS   1 budget  2 state  3 consumers  4 rates  5 loads  6 capacities  7 frees  8 edges  9 ratios  10 producers  11 history
ARGV   1 at_us   int   0 = the server's clock; tests pin the instant
       2 offset  int   of the page
       3 count   int   members a page, at most 1000
Reply  1 now_us  2 fields and values of the budget's hash (empty: there is none), exact at this instant  3 consumers and the end of their state
       4 producers and when they were last seen (us)  5 number of consumers  6 number of producers
       7 the live ones among the consumers of 3
       numbers as text
Errors NEXUS_INVALID_<FIELD>  NEXUS_INVALID_KEYS
Cost   O(page) ]]
local is_well, reply = pcall(function()
local string_format = string.format
local string_match = string.match
local redis_call = redis.call
local string_sub = string.sub

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
-- 2500500000 -> '2500.5': for people.
-- A plain decimal within [low, high] as a double, or nil: tonumber alone takes 'nan', 'inf', '0x10' and ' 5 '.
-- Digits only, within [low, high], or nil.
local function whole_number(text, low, high)
  if #text > 17 or not string_match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end

-- What a script has written as a number.
-- Packed state: one text of whole numbers.
-- The only clock is the server's, asked once per script: hosts' clocks are never compared. A test pins the instant.
local function clock(at_us)
  if at_us ~= '0' then
    local at = whole_number(at_us, 0, 9007199254740992)
    if not at or at > 0 then return at end
  end
  -- Redis 6.2 with `lua-replicate-commands no` else lets no script write that has asked for the time.
  if not redis.REDIS_VERSION_NUM and redis.replicate_commands then redis.replicate_commands() end
  local time = redis_call('TIME')
  return time[1] * 1000000 + time[2]
end
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

local function class_at(name) return (name == 'normal' and 21 or name == 'high' and 29 or 37) * WIDE end

local function read_class(raw, name) return {unpacked('>dddddddd', raw, 1 + class_at(name))} end
local function read_window(raw, from)
  local active, edge, net, A, slot, slot_us, lossless, born, s1, s2, s3, s4, s5 = unpacked('>ddddddddddddd', raw, from)
  return {active = active, edge = edge, net = net, A = A, slot = slot, slot_us = slot_us, lossless = lossless, born = born,
          snaps = {s1, s2, s3, s4, s5}}
end

-- With one class of producers; `read_rest` reads the others. nil where there is none, and true where it is of a newer release.
-- What each claim changes. The normal class lies behind the bucket, so that most claims write one piece.
if #ARGV ~= 3 then return {err = 'NEXUS_INVALID_ARGUMENTS'} end
local now, offset, count = clock(ARGV[1]), whole_number(ARGV[2], 0, 1e9), whole_number(ARGV[3], 1, 1000)
if not now then return {err = 'NEXUS_INVALID_AT_US'} end
if not offset then return {err = 'NEXUS_INVALID_OFFSET'} end
if not count then return {err = 'NEXUS_INVALID_COUNT'} end
local keys = named_keys(nil)
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end

local function page(key) return redis_call('ZRANGE', key, whole(offset), whole(offset + count - 1), 'WITHSCORES') end
local consumers, live = page(keys.consumers), {}
for i = 1, #consumers, 2 do
  if redis_call('ZSCORE', keys.rates, consumers[i]) then live[#live + 1] = consumers[i] end
end
-- The hash as it stands, with what has changed since it was written. Of another schema there is only that.
local found, fields = redis_call('HGETALL', keys.budget), {}
for i = 1, #found, 2 do fields[found[i]] = found[i + 1] end
local read_budget_1
repeat
local class_name = 'normal'
  local raw = redis_call('GET', keys.state)
  if not raw then read_budget_1 = nil break end
  local schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved,
    saved_until, fresh, late, idle, idlers, spilled = unpacked('>ddddddddddddddddddddd', raw)
  if schema > 3 and schema < 1000 and schema % 1 == 0 then read_budget_1 = nil, true break end
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
  read_budget_1 = b
  break
until true
local b = read_budget_1
if b then
  fields.tokens, fields.granted_total = string_format('%.6f', b[4] / 1000000), whole(b[5])
  fields.called_at_us, fields.due_us, fields.refresh_us = whole(b[2]), whole(b[28]), whole(b[32])
end
local list = {}
for field, text in pairs(fields) do
  list[#list + 1] = field
  list[#list + 1] = text
end
return {whole(now), list, consumers, page(keys.producers),
        whole(redis_call('ZCARD', keys.consumers)), whole(redis_call('ZCARD', keys.producers)), live}
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
