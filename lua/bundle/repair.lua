--[[ repair: find what was damaged by hand, and take it away; what has a reason to stay stays: settings, pauses, history.

KEYS   1 budget  2 consumers  3 rates  4 loads  5 capacities  6 frees  7 edges  8 ratios  9 producers  10 history
       11 producer or consumer; may be left out
Reply  key and field in turn of all that was damaged; the field is empty where the whole key was of another type
Errors NEXUS_INVALID_KEYS
Cost   O(1) ]]
local string_match = string.match
local string_gmatch = string.gmatch
local string_sub = string.sub
local string_find = string.find
local redis_call = redis.call

-- What lies in Redis and cannot be what a script wrote: a key of another type, a packed value that is too short, a number that
-- is none, a setting that no script would have taken. Looked for when a script has failed, and by repair.lua.
-- Numbers as text. Lua 5.1 knows doubles only, and its tostring() rounds at 14 digits: every number that is stored or
-- answered goes through string.format, in millionths (micro) or microseconds, and is exact to 2^53.
-- MICRO = 1000000
-- COUNT = 9007199254740992     -- 2^53: up to here a double holds every whole number

local function whole(x) return string.format('%.0f', x) end

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
-- What the arithmetic alone reads is packed with `struct`, which every server has: big-endian, so that any language unpacks it
-- likewise. A number read as text costs a multiple, and there are a hundred in a claim. fakeredis has no `struct`:
-- there it is text, and only there.
local pack, unpacked
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string_gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string_sub(words[i], 1, tonumber(size))
      elseif kind ~= 's' then words[i] = string.format('%.17g', words[i]) end
    end
    return table.concat(words, ' ') .. ' '
  end
  function unpacked(format, text)
    local words, kinds = {}, string.gsub(format, '[^dfIisc]', '')
    for word in string_gmatch(text, '([^ ]*) ') do
      local i = #words + 1
      words[i] = string_find(string_sub(kinds, i, i), '[sc]') and word or tonumber(word)
    end
    return unpack(words)
  end
end
-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.

local function is_name(text) return #text <= 64 and string_find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil end

-- {name}, or {name/key} of a key's budget: no name has the stroke, so no key is taken for a name.
local function is_budget(key)
  local namespace, name = string_match(key, '^(.*):{(.*)}$')
  if not namespace or #name > 64 then return false end
  local parent = string_match(name, '^(.*)/[A-Za-z0-9._-]+$')
  return is_name(namespace) and is_name(parent or name)
end

-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
-- A claim may come with three of them: budget, producers, producer. Their names are looked at where they are new.
-- The id of the producer that claims.
-- The budget's hash. What people read is plain; what the arithmetic reads is packed, as doubles. What each call changes, what
-- changes with the rate or the epoch, and what only the end of an epoch needs lie apart, a value each, and so does each class
-- of producers: a claim reads and writes only what it needs. The last of the terms are texts, each with a zero at its end.
-- SCHEMA = 2
-- BUCKET = '>ddddddddddddddddddd'
-- TERMS = '>ddddddddddddddddddddddsss'
-- CLASS = '>dddddddd'
-- WINDOW = '>ddddddddddddd'
-- EPOCHAL = '>dddddddddd'

-- A producer's: its memory, and its last answer.
-- There may be a million of these, and no value is longer than 64 bytes, below which a server packs a hash: half the memory. So
-- they are whole numbers of as few bytes as each needs; a class is its first letter, a reason its first two.
-- ENTRY = '>i7i7i7i7I3I4i7i7c1I4I2i1I3f'
-- ANSWER = '>i7I4I4i7i7i7i1I3i7c2i1i7I5'

--- @record b at rest T granted granted_rest top top_before half needs retry_max queue crowd saved saved_until fresh late idle idlers spilled earned
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes behind high
---   turned turned_before halved lost birth reason taker
---   window retry_before u first renewed kept lost_old idle_old idlers_old unheard unheard_until has_rest has_new_terms is_new is_revalued settings
-- BUCKET_ENDS = 19
-- TERMS_BEGIN = 21
-- TERMS_END = 45
--- @record class level mark room trim under over demand weight

-- With one class of producers; `read_rest` reads the others. nil where there is none, and a code when the state is of a newer
-- release; the third is true where only settings are to be had of it (schema 1, which never was in a release).
-- `tokens` and `granted_total` are for people: the bucket has them to the micro-token.
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
local PACKED = {bucket = '>ddddddddddddddddddd', terms = '>ddddddddddddddddddddddsss', class_high = '>dddddddd', class_normal = '>dddddddd', class_low = '>dddddddd', window = '>ddddddddddddd', epoch = '>dddddddddd'}
local NUMBERS = {'paused_until_us', 'pause_of_operator_us', 'left_us', 'seq', 'arrivals_micro', 'joined_us'}
local RATES = {'left_rate_per_s', 'rate_per_s', 'capacity_per_s'}

local function is_finite(x) return x ~= nil and x - x == 0 end

-- A class' level is infinite where it is not contended.
local function can_unpack(format, text, may_be_infinite)
  local is_long_enough, values = pcall(function() return {unpacked(format, text)} end)
  if not is_long_enough then return false end
  for _, value in ipairs(values) do
    if type(value) == 'number' and (value ~= value or not may_be_infinite and value - value ~= 0) then return false end
  end
  return #values > 1
end

local function are_numbers(text)
  for word in string_gmatch(text, '%S+') do
    if word ~= '-' and not is_finite(tonumber(word)) then return false end
  end
  return true
end

local function are_parts(text)
  local is_json, list = pcall(cjson.decode, text)
  if not is_json or type(list) ~= 'table' then return false end
  for _, number in ipairs(list) do
    if type(number) ~= 'number' or not is_finite(number) then return false end
  end
  return true
end

-- The names of those fields of the budget's hash that cannot be read.
local function damaged_fields(f)
  local bad = {}
  local function check(field, is_right)
    if f[field] and not is_right then bad[#bad + 1] = field end
  end
  check('schema', f.schema and string_match(f.schema, '^%d+$'))
  for field, format in pairs(PACKED) do
    local is_needed = f.bucket and f.schema == whole(2) and field ~= 'window' and not f[field]
    if is_needed then bad[#bad + 1] = field end
    check(field, f.schema ~= whole(2) or f[field] and can_unpack(format, f[field], format == '>dddddddd'))
  end
  check('parts', f.parts and are_parts(f.parts))
  for _, field in ipairs(NUMBERS) do check(field, f[field] and is_finite(tonumber(f[field]))) end
  for _, field in ipairs(RATES) do check(field, f[field] and string_match(f[field], '^%d+%.?%d*$')) end
  for _, name in ipairs(SETTINGS) do
    for _, source in ipairs({'_by_code', '_by_operator'}) do check(name .. source, f[name .. source] and READ[name](f[name .. source])) end
  end
  table.sort(bad)
  return bad
end

local function damaged_producer(f)
  if f.entry and not (can_unpack('>i7i7i7i7I3I4i7i7c1I4I2i1I3f', f.entry) and f.incarnation and f.birth) then return {'entry'} end
  if f.entry and not (f.answer and can_unpack('>i7I4I4i7i7i7i1I3i7c2i1i7I5', f.answer)) then return {'answer'} end
  return {}
end

local function damaged_consumer(f)
  if not f.seq then return {} end
  for _, field in ipairs({'incarnation', 'said', 'memory', 'rate_per_s', 'capacity_per_s', 'arrivals_micro', 'paused_until_us', 'joined_us'}) do
    if not f[field] then return {field} end
  end
  if not are_numbers(f.said) then return {'said'} end
  if not are_numbers(string.gsub(f.memory, '^%S*', '')) then return {'memory'} end
  return damaged_fields({seq = f.seq, arrivals_micro = f.arrivals_micro, paused_until_us = f.paused_until_us,
                         joined_us = f.joined_us, rate_per_s = f.rate_per_s, capacity_per_s = f.capacity_per_s})
end

-- A list of {key, field}; the field is '' where the whole key is of another type.
local function damages()
  local found = {}
  for i, key in ipairs(KEYS) do
    local member = i > 1 and string_match(string_sub(key, #KEYS[1] + 1), '^:(%a+):')
    local kind = (i == 1 or member) and 'hash' or string_sub(key, -8) == ':history' and 'stream' or 'zset'
    local is = redis.pcall('TYPE', key)
    is = is.ok or is
    if string_find(key, '[^%w._:{}/-]') or type(is) ~= 'string' then return {} end
    if is ~= 'none' and is ~= kind then found[#found + 1] = {key, ''}
    elseif kind == 'hash' and is == 'hash' then
      local flat, f = redis.pcall('HGETALL', key), {}
      for j = 1, #flat, 2 do f[flat[j]] = flat[j + 1] end
      local bad = not member and damaged_fields(f) or member == 'producer' and damaged_producer(f) or damaged_consumer(f)
      for _, field in ipairs(bad) do found[#found + 1] = {key, field} end
    end
  end
  return found
end

if not is_budget(KEYS[1]) then return {err = 'NEXUS_INVALID_KEYS'} end
for i = 2, #KEYS do
  if string_sub(KEYS[i], 1, #KEYS[1] + 1) ~= KEYS[1] .. ':' then return {err = 'NEXUS_INVALID_KEYS'} end
end
local told = {}
for _, one in ipairs(damages()) do
  local key, field = one[1], one[2]
  if field == '' or key ~= KEYS[1] then redis_call('DEL', key)
  else
    redis_call('HDEL', key, field)
    -- What is packed belongs together. Without it the budget begins another life with its settings, and its consumers count as
    -- silent until they report.
    if PACKED[field] or field == 'parts' or field == 'schema' then
      redis_call('HDEL', key, 'bucket', 'terms', 'class_high', 'class_normal', 'class_low', 'window', 'epoch', 'parts')
    end
  end
  told[#told + 1] = key
  told[#told + 1] = field
end
return told
