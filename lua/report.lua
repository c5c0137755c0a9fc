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

--- @include times
--- @include number
--- @include packing
--- @include clock
--- @include keys
--- @include state
--- @include bucket
--- @include summary
--- @include rest
--- @include consumers
--- @include window
--- @include settings
--- @include history
--- @include rate
--- @include law
--- @include consumer

local said, invalid = read_report()
if invalid then return {err = invalid} end
local keys, id = named_keys('consumer')
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end
local budget, newer, now = open_budget(keys, clock(ARGV[1]))
if newer then return {err = newer} end
local consumer = read_consumer(keys)
local refused = consumer and check_reporter(keys, consumer, id, said, now)
if refused and refused ~= 'again' then return {err = refused} end
if refused then return consumer_reply(budget, consumer) end

-- Choose its law and check what it says of its space, before anything is written.
local settings = read_settings(keys, budget)
local missing = settings.lossless == 1 and missing_for_lossless(said)
if missing then return {err = missing} end
local is_base, dt = since_last(consumer, said, now)
consumer = consumer or new_consumer(now)
if is_base then consumer.joined = now end
local too_soon = not is_base and dt < math.min(said.interval, INTERVAL) / MICRO / 2
local setting = law_setting(settings, consumer, said, now)
local name = choose_law(settings.law, consumer.memory, said, setting)
if not name then return {err = 'NEXUS_NO_LAW'} end
if too_soon and name == consumer.memory.law and name ~= 'range' and said.pause_ms == nil then
  return consumer_reply(budget, consumer)
end

advance(keys, budget, now)
if budget.settings then settings = budget.settings end  -- the sweep has just written newer sums
local was = not is_base and consumer.said or nil
local rate, capacity, fraction = run_law(name, consumer.memory, was, said, dt, now / MICRO, setting)
consumer.paused_until = consumer.paused_until - math.max(0, consumer.said.at - now)  -- the clock went back
if said.pause_ms then consumer.paused_until = said.pause_ms > 0 and now + said.pause_ms * 1000 or 0 end
if consumer.paused_until > now then rate = 0 end

redis.call('HSET', keys.budget, 'schema', whole(SCHEMA))     -- a server that is out of memory refuses here, before any change
mend(keys, settings)
local arrived, seen = arrivals(budget, consumer, was, said, dt), seen_by(keys, id)
local contribution = {
  rate = micro_of(rate), capacity = micro_of(capacity), load = math.floor(load_of(said) * 1000 + 0.5),
  arrivals = consumer.arrivals,
}
withdraw_consumer(keys, settings.sums, id)
place_in_window(keys, budget, settings, consumer, said, contribution, seen, arrived, fraction, now)
local deadline = deadline_of(said.interval, now)
contribute(keys, settings.sums, id, deadline, contribution)
settle(keys, budget, settings, now, 'report', false, {who = id})
write_consumer(keys, consumer, said, name, contribution, now)
write_whole(keys, budget, now, true)
return consumer_reply(budget, consumer)
