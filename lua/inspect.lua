--[[ inspect: the budget and a page of its members, at one instant; writes nothing.

KEYS   1 budget  2 state  3 consumers  4 rates  5 loads  6 capacities  7 frees  8 edges  9 ratios  10 producers  11 history
ARGV   1 at_us   int   0 = the server's clock; tests pin the instant
       2 offset  int   of the page
       3 count   int   members a page, at most 1000
Reply  1 now_us  2 fields and values of the budget's hash (empty: there is none), exact at this instant
       3 consumers and the end of their state
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
-- The hash as it is stored, with what has changed since it was written. If it is of another schema, only the stored hash is
-- given.
local found, fields = redis.call('HGETALL', keys.budget), {}
for i = 1, #found, 2 do fields[found[i]] = found[i + 1] end
local budget = read_budget(keys, 'normal')
if budget then
  fields.tokens, fields.granted_total = string.format('%.6f', budget.tokens / MICRO), whole(budget.granted)
  fields.called_at_us, fields.due_us, fields.refresh_us = whole(budget.called_at), whole(budget.due_at), whole(budget.refresh)
end
local list = {}
for field, text in pairs(fields) do
  list[#list + 1] = field
  list[#list + 1] = text
end
return {whole(now), list, consumers, page(keys.producers),
        whole(redis.call('ZCARD', keys.consumers)), whole(redis.call('ZCARD', keys.producers)), live}
