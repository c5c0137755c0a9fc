--[[ leave: a producer returns what it holds, or a consumer withdraws its rate; its hash is deleted at once.

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

--- @include times
--- @include number
--- @include packing
--- @include clock
--- @include keys
--- @include state
--- @include bucket
--- @include summary
--- @include rest
--- @include fair
--- @include consumers
--- @include admit
--- @include settings
--- @include act
--- @include history
--- @include rate
--- @include producer
--- @include returns
--- @include outage_share
--- @include outage_turn

if #ARGV ~= 4 and #ARGV ~= 6 then return {err = 'NEXUS_INVALID_ARGUMENTS'} end
if not whole_number(ARGV[1], 0, COUNT) then return {err = 'NEXUS_INVALID_AT_US'} end
local incarnation, unused, burned = ARGV[2], whole_number(ARGV[3], 0, 1e16), whole_number(ARGV[4], 0, 1e16)
if incarnation ~= '' and incarnation ~= '*' and not is_name(incarnation) then return {err = 'NEXUS_INVALID_INCARNATION'} end
if not unused then return {err = 'NEXUS_INVALID_UNUSED'} end
if not burned then return {err = 'NEXUS_INVALID_BURNED'} end
local who, why = ARGV[5] or '', ARGV[6] or ''
if #who > LONGEST_WHO then return {err = 'NEXUS_INVALID_WHO'} end
if #why > LONGEST_NOTE then return {err = 'NEXUS_INVALID_NOTE'} end
local keys, id = named_keys('producer')
local is_producer = keys ~= nil
if not keys then keys, id = named_keys('consumer') end
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end

-- The incarnation of a consumer, which is the first word of its state. An operator may forget a consumer whose state is
-- damaged.
local function reporter(keys)
  local word = string.match(redis.call('GET', keys.memory) or '', '^%S+')
  return word == '-' and '' or word
end

local budget, newer, now = open_budget(keys, clock(ARGV[1]))
if newer then return {err = newer} end
local producer = is_producer and read_producer(keys)
local owner = producer and producer.incarnation or not is_producer and reporter(keys)
local is_known = score(is_producer and keys.producers or keys.consumers, id) or owner
if budget.is_new or not is_known or (owner and incarnation ~= '*' and owner ~= incarnation) then
  return {'0', '0', whole(budget.rate)}
end

advance(keys, budget, now)
local credited = 0
if is_producer then
  if producer and producer.birth == budget.birth then
    read_rest(keys, budget)
    withdraw_demand(budget, producer)
    local is_old = withdraw_share(budget, producer)
    if is_old then withdraw_old_share(keys, budget, producer) end
    local before, back = budget.tokens, payable(budget, producer, unused)
    local returned, lost = take_back(budget, producer, 0, back, burned + unused - back, now)
    if budget.window then admit(budget, producer.claimed_at, returned, lost, 0, 0, false, 0, now) end
    credited = budget.tokens - before
  end
  write_whole(keys, budget, now)
  redis.call('ZREM', keys.producers, id)
else
  local settings = budget.settings or read_settings(keys, budget)
  redis.call('HSET', keys.budget, 'schema', whole(SCHEMA))
  mend(keys, settings)
  local rate = score(keys.rates, id)
  withdraw_consumer(keys, settings.sums, id)
  if settings.sums.live == 0 then
    settings.last_consumer_end = incarnation == '*' and 'forgotten' or 'left'
    -- A consumer that was silent before could take nothing any more.
    settings.left_at, settings.left_rate = rate and now or 0, rate or 0
    redis.call('HSET', keys.budget, 'last_consumer_end', settings.last_consumer_end, 'left_us', whole(settings.left_at),
               'left_rate_per_s', plain(settings.left_rate))
  end
  local act = incarnation == '*' and {who = who, what = table.concat({'forgot', id}, ' '), why = why} or {who = id}
  settle(keys, budget, settings, now, incarnation == '*' and 'operator' or 'leave', incarnation == '*', act)
  write_whole(keys, budget, now)
end
redis.call('DEL', keys.member, keys.memory)
return {'1', whole(credited), whole(budget.rate)}
