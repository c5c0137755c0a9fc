--[[ claim: refill the bucket, enter the producer's demand, give it tokens or a time to come back.

KEYS   1 budget  2 state  3 consumers  4 rates  5 loads  6 capacities  7 frees  8 edges  9 ratios  10 producers  11 history
       12 producer  13 its state
       or only five of them: budget, state, producers, producer, its state. That is cheaper, and enough as long as nothing
       has become due
ARGV   1 at_us          int   0 = the server's clock; tests pin the instant
       and one more, a JSON array of the others: [0,1000000,...,"normal","k3f9",7,"",0,0]
       2 need           micro-tokens   cost of the waiter at the head, less what is collected for it
       3 tokens         micro-tokens   wanted now; 0 = only asks
       4 requested_rate micro-tokens/s its demand
       5 whole          0 or 1         all of `need` or nothing
       6 held           micro-tokens   in hand, live
       7 unused         micro-tokens   handed back with this call (no more in `held`)
       8 burned         micro-tokens   expired in hand since the last call
       9 weight         millionths     10000 (0.01) .. 1000000000 (1000)
       10 priority      high, normal or low
       11 incarnation   text, at most 64 characters; empty: no retry is recognised
       12 seq           int, grows by one a call; the same one is answered again and never charged twice
       13 birth         the life of the budget that this producer knows, or empty
       14 granted_total int            the highest count that it saw in that life
       15 trip          microseconds   a round trip to Redis, where it is far: at most 1000000; else 0
       16 fallback_rate micro-tokens/s as its last answer said, less what has ended of it since; may be left out, as 17
       17 degraded      micro-tokens   admitted by it while we could not be reached, and not told yet
Reply  one text of words with a space between; a retry gets the same tokens again, and the budget as it is then:
       1 granted (micro-tokens)  2 retry_after_us  3 lease_us  4 refresh_us  5 recommended_rate  6 fallback_rate
       7 budget_rate (all micro-tokens/s)  8 backpressure_level  9 current_load (thousandths of a percent)
       10 granted_total  11 birth  12 reason  13 lossless  14 burst (micro-tokens: a `whole` need above it is never met)
       whole numbers but for the reason; one more, wait_us, where the need will not be met at retry_after_us yet
Errors NEXUS_INVALID_<FIELD>  NEXUS_INVALID_KEYS  NEXUS_SCHEMA  NEXUS_STALE (lower seq)  NEXUS_ID_TAKEN
       NEXUS_NEEDS_KEYS (something is due: the same call again, with all keys)
Cost   O(1), flat in producers and consumers; O(log n) where a consumer's deadline has passed ]]

--- @include times
--- @include number
--- @include packing
--- @include clock
--- @include keys
--- @include state
--- @include bucket
--- @include fair
--- @include crowd
--- @include producer
--- @include returns
--- @include grant
--- @include outage_share
--- @include admit
--- @include answer

-- The functions of these files are inside of one function, `rarely`, which is defined only if a call needs it (bundle_lua.py).
--- @holds rarely fault summary rest succession consumers settings history rate outage_turn epoch

local is_read, claim = pcall(read_claim)
local keys = few_keys()
if not keys then keys = rarely().named_keys('producer') end
if not is_read or not claim then return {err = rarely().fault_of_claim()} end
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end
local now = clock(ARGV[1])
local producer = read_producer(keys)
if not producer or producer.incarnation ~= claim.incarnation then
  local fault = rarely().fault_of_names(keys, claim)
  if fault then return {err = fault} end
end

local budget, newer = read_budget(keys, claim.priority)
if not budget and not newer then budget, newer = rarely().first_budget(keys, now) end
if newer then return {err = 'NEXUS_SCHEMA'} end

-- 0. A retry gets the remembered answer, before anything else.
if producer and producer.incarnation == claim.incarnation and claim.incarnation ~= '' and claim.seq <= producer.seq then
  if claim.seq == producer.seq then return rarely().remembered(keys, budget, producer, claim.trip) end
  return {err = 'NEXUS_STALE'}
end
if now < budget.called_at or budget.clock_low + budget.clock_high > 0 then now = rarely().steady(budget, now) end
if producer and (producer.birth ~= budget.birth or producer.incarnation ~= claim.incarnation) then
  if rarely().is_owned(producer, budget, claim.incarnation, now) then return {err = 'NEXUS_ID_TAKEN'} end
  producer = rarely().successor(producer, budget)
end

-- 1. Refill, and settle what has become due meanwhile: a silent consumer, the end of a pause.
if now - budget.called_at >= LEASE then rarely().note_gap(keys, budget, now) end
if (budget.due_at > 0 and now >= budget.due_at) or budget.called_at - now >= MICRO then
  if not keys.history then return {err = 'NEXUS_NEEDS_KEYS'} end
  rarely().advance(keys, budget, now)
else
  refill(budget, now)
end
local learning, is_first = now < budget.learns_until, not producer
producer = producer or rarely().new_producer(now)
if claim.granted_total > budget.granted then rarely().make_good(keys, budget, producer, claim, now) end
if now >= budget.epoch_ends or budget.epoch_ends - now > budget.epoch_length then
  rarely().roll_epoch(keys, budget, now)
  if not keys.history and not budget.is_new and rarely().is_renewal_due(budget, now) then
    return {err = 'NEXUS_NEEDS_KEYS'}
  end
  rarely().sweep_producers(keys, now)
end

-- 2. Take back what is returned or will never be used (returns.lua).
local returned, burned, credited = take_back(budget, producer, claim.held, claim.unused, claim.burned, now)
if is_first then rarely().pay_for_past(budget, producer, claim, learning) end

-- 3. Enter the producer's demand in the fair share (fair.lua).
if claim.incarnation ~= '' then count_producer(budget, producer, is_first, now) end
producer.is_counted = producer.epoch == budget.epoch
take_out_of_sums(keys, budget, producer, claim.degraded, now)
local is_same = is_same_member(budget, producer, claim)
producer.weight, producer.class = claim.weight, claim.priority
local need = claim.want > 0 and claim.need == 0 and math.min(claim.want, MICRO) or claim.need
-- A producer that claims rarely counts at its full need.
local demand = claim.want > 0 and math.max(claim.demand, need / budget.epoch_length * MICRO) or claim.demand
enter_demand(budget, producer, math.floor(math.min(budget.rate, demand)), need)

-- 4. The rate at which the producer's credit grows (fair.lua).
local class, refresh = budget[producer.class], REFRESH
local contended = class.level < math.huge
local fair_rate = fair_rate_of(budget, class, producer)
local faster = class.trim
if budget.refresh > REFRESH and budget.marginal_class == claim.priority then faster = trim(budget) end    -- crowd.lua
local credit_rate = math.max(contended and fair_rate * (1 + faster) or fair_rate, 1e-6)

if credited > 0 and contended then pay_for_returned(producer, credited, credit_rate) end

-- 5. to 7. Grant tokens (grant.lua, crowd.lua, admit.lua), or tell the producer its own slot to come back.
if budget.refresh > REFRESH then refresh = refresh_of(budget, math.min(demand, fair_rate)) end
local is_rationed, cut = contended and (refresh == REFRESH or faster < PLENTY), false
local granted, retry, met_in = grant(budget, producer, claim, need, credit_rate, refresh, is_rationed, now)
if refresh > REFRESH and claim.want > 0 then
  retry = space_out(budget, producer, claim, granted, math.min(retry, met_in), credit_rate, refresh, is_rationed, now)
end
if budget.window then
  granted, retry, cut = admit(budget, producer.claimed_at, returned, burned, granted, retry, claim.whole, need, now)
end
producer.credit, budget.retry_max = producer.credit - granted, math.max(budget.retry_max, retry)
take_out(budget, granted)

local recommended = math.floor(math.min(claim.demand, fair_rate))
local lease = lease_of(budget, refresh, claim.trip, now)
producer.holds, producer.holds_until = producer.holds + granted, now + lease + retry
local fallback = outage_share(budget, producer, claim, demand, fair_rate, need, granted, recommended)
local reason = reason_of(budget, claim, recommended, learning, cut, contended, claim.want > 0 and granted < need)
local answer = pack(ANSWER, granted, retry, refresh, recommended, fallback, reason, met_in)
local is_new_id = write_producer(keys, budget, producer, is_same, claim, fair_rate, answer, now)
if is_new_id or budget.has_rest or budget.has_new_terms then
  rarely().write_whole(keys, budget, now, is_new_id)
else
  write_budget(keys, budget, producer.class)
end
return reply(budget, granted, retry, lease, refresh, recommended, fallback, reason, met_in, budget.birth, budget.granted)
