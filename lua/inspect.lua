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

--- @include times
--- @include number
--- @include clock
--- @include keys
--- @include packing
--- @include state

if #ARGV ~= 3 then return {err = 'NEXUS_INVALID_ARGUMENTS'} end
local now, offset, count = clock(ARGV[1]), whole_number(ARGV[2], 0, 1e9), whole_number(ARGV[3], 1, 1000)
if not now then return {err = 'NEXUS_INVALID_AT_US'} end
if not offset then return {err = 'NEXUS_INVALID_OFFSET'} end
if not count then return {err = 'NEXUS_INVALID_COUNT'} end
local keys = named_keys(nil)
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end

local function page(key) return redis.call('ZRANGE', key, whole(offset), whole(offset + count - 1), 'WITHSCORES') end
local consumers, live = page(keys.consumers), {}
for i = 1, #consumers, 2 do
  if redis.call('ZSCORE', keys.rates, consumers[i]) then live[#live + 1] = consumers[i] end
end
-- What is packed, as text: numbers with a space between. Of another schema it is left out.
local PACKED = {bucket = BUCKET, terms = TERMS, class_high = CLASS, class_normal = CLASS, class_low = CLASS, window = WINDOW,
                epoch = EPOCHAL}
local is_own = redis.call('HGET', keys.budget, 'schema') == whole(SCHEMA)
local found, fields = redis.call('HGETALL', keys.budget), {}
for i = 1, #found, 2 do
  local field, text, format = found[i], found[i + 1], PACKED[found[i]]
  if format and is_own then
    local values = {unpacked(format, text)}
    for place, value in ipairs(values) do values[place] = type(value) == 'number' and string.format('%.17g', value) or value end
    text = table.concat(values, ' ', 1, #format - 1)
  end
  if is_own or not format then
    fields[#fields + 1] = field
    fields[#fields + 1] = text
  end
end
return {whole(now), fields, consumers, page(keys.producers),
        whole(redis.call('ZCARD', keys.consumers)), whole(redis.call('ZCARD', keys.producers)), live}
