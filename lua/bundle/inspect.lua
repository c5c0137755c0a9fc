--[[ inspect: the budget and a page of its members, at one instant; writes nothing.

KEYS   1 budget  2 consumers  3 rates  4 loads  5 capacities  6 frees  7 edges  8 ratios  9 producers  10 history
ARGV   1 at_us   int   0 = the server's clock; tests pin the instant
       2 offset  int   of the page
       3 count   int   members a page, at most 1000
Reply  1 now_us  2 fields and values of the budget's hash (empty: there is none)  3 consumers and the end of their state
       4 producers and when they were last seen (us)  5 number of consumers  6 number of producers
       7 the live ones among the consumers of 3
       numbers as text
Errors NEXUS_INVALID_<FIELD>  NEXUS_INVALID_KEYS
Cost   O(page) ]]
local string_format = string.format
local redis_call = redis.call
local string_sub = string.sub

-- Durations that several scripts share, in microseconds.
-- SECOND = 1000000
-- LEASE = 500000            -- tokens handed out may be spent this long, counted from before the claim was sent
-- REFRESH = 100000          -- how often a busy producer claims; in a crowd both are longer (crowd.lua)
-- REFRESHES = 5             -- in a lease: chances to be heard
-- EPOCH = 250000            -- shortest round of the fair share: everyone in demand comes once in it
-- LONGEST_SLOT = 86400000000    -- as far ahead as a producer is told its turn: a day
-- LONGEST_WAIT = 1000000    -- no producer is told to stay away longer, or it would miss a change of the rate
-- DEFAULT_BURST = 250000     -- of the rate, in a bucket whose budget names no burst
-- INTERVAL = 250000         -- a consumer that names no interval reports this often
-- SHORTEST_DEADLINE = 2000000   -- a consumer that skips a few reports (a pause of its runtime) is not dead
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
  if #text > 17 or not string.match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end

-- Packed state: one text of whole numbers.
-- The only clock is the server's, asked once per script: hosts' clocks are never compared. A test pins the instant.
local function clock(at_us)
  if at_us ~= '0' then
    local at = whole_number(at_us, 0, 9007199254740992)
    if not at or at > 0 then return at end
  end
  local time = redis_call('TIME')
  return time[1] * 1000000 + time[2]
end
-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.
local PLACES = {'consumers', 'rates', 'loads', 'capacities', 'frees', 'edges', 'ratios', 'producers', 'history'}

local function is_name(text) return #text <= 64 and string.find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil end

local function is_budget(key)
  local namespace, name = string.match(key, '^(.*):{(.*)}$')
  return namespace ~= nil and is_name(namespace) and is_name(name)
end

-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
local function named_keys(kind)
  if #KEYS ~= (kind and 11 or 10) or not is_budget(KEYS[1]) then return nil end
  local keys = {budget = KEYS[1], member = KEYS[11]}
  for i, place in ipairs(PLACES) do
    if KEYS[i + 1] ~= KEYS[1] .. ':' .. place then return nil end
    keys[place] = KEYS[i + 1]
  end
  if not kind then return keys, nil end
  local prefix = KEYS[1] .. ':' .. kind .. ':'
  local id = string_sub(KEYS[11], #prefix + 1)
  if string_sub(KEYS[11], 1, #prefix) ~= prefix or not is_name(id) then return nil end
  return keys, id
end

-- A claim may come with three of them: budget, producers, producer. Their names are looked at where they are new.
-- What the arithmetic alone reads is packed with `struct`, which every server has: big-endian, so that any language unpacks it
-- likewise. A number read as text costs a multiple, and there are a hundred in a claim. fakeredis has no `struct`:
-- there it is text, and only there.
local pack, unpacked
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string.gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string_sub(words[i], 1, tonumber(size))
      elseif kind ~= 's' then words[i] = string_format('%.17g', words[i]) end
    end
    return table.concat(words, ' ') .. ' '
  end
  function unpacked(format, text)
    local words, kinds = {}, string.gsub(format, '[^dfIisc]', '')
    for word in string.gmatch(text, '([^ ]*) ') do
      local i = #words + 1
      words[i] = string.find(string_sub(kinds, i, i), '[sc]') and word or tonumber(word)
    end
    return unpack(words)
  end
end
-- The budget's hash. What people read is plain; what the arithmetic reads is packed, as doubles. What each call changes, what
-- changes with the rate or the epoch, and what only the end of an epoch needs lie apart, a value each, and so does each class
-- of producers: a claim reads and writes only what it needs. The last of the terms are texts, each with a zero at its end.
-- SCHEMA = 2
-- BUCKET = '>ddddddddddddddddddd'
-- TERMS = '>ddddddddddddddddddddsss'
-- CLASS = '>dddddddd'
-- WINDOW = '>ddddddddddddd'
-- EPOCHAL = '>dddddddd'

--- @record b at rest T granted granted_rest top top_before half needs retry_max queue crowd saved saved_until fresh late idle idlers spilled earned
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes
---   turned turned_before halved lost birth reason taker
---   window retry_before u first renewed kept lost_old idle_old idlers_old has_rest has_new_terms is_new is_revalued settings
-- BUCKET_ENDS = 19
-- TERMS_BEGIN = 21
-- TERMS_END = 43
--- @record class level mark room trim under over demand weight

-- With one class of producers; `read_rest` reads the others. nil where there is none, and a code when the state is of a newer
-- release; the third is true where only settings are to be had of it (schema 1, which never was in a release).
-- `tokens` and `granted_total` are for people: the bucket has them to the micro-token.
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
-- What is packed, as text: numbers with a space between. Of another schema it is left out.
local PACKED = {bucket = '>ddddddddddddddddddd', terms = '>ddddddddddddddddddddsss', class_high = '>dddddddd', class_normal = '>dddddddd', class_low = '>dddddddd', window = '>ddddddddddddd',
                epoch = '>dddddddd'}
local is_own = redis_call('HGET', keys.budget, 'schema') == whole(2)
local found, fields = redis_call('HGETALL', keys.budget), {}
for i = 1, #found, 2 do
  local field, text, format = found[i], found[i + 1], PACKED[found[i]]
  if format and is_own then
    local values = {unpacked(format, text)}
    for place, value in ipairs(values) do values[place] = type(value) == 'number' and string_format('%.17g', value) or value end
    text = table.concat(values, ' ', 1, #format - 1)
  end
  if is_own or not format then
    fields[#fields + 1] = field
    fields[#fields + 1] = text
  end
end
return {whole(now), fields, consumers, page(keys.producers),
        whole(redis_call('ZCARD', keys.consumers)), whole(redis_call('ZCARD', keys.producers)), live}
