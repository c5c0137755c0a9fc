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
Reply  one text of words with a space between, as it is remembered for a retry:
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
--- @include share
--- @include admit

-- A server defines a script's functions at each call. It defines these only if one of them is called (bundle_lua.py).
--- @holds rarely fault summary rest succession consumers settings rate turn epoch

local is_read, ask = pcall(read_claim)
local keys = few_keys()
if not keys then keys = rarely().named_keys('producer') end
if not is_read or not ask then return {err = rarely().fault_of_claim()} end
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end
local now = clock(ARGV[1])
local p = read_producer(keys)
if not p or p.incarnation ~= ask.incarnation then
  local fault = rarely().fault_of_names(keys, ask)
  if fault then return {err = fault} end
end

local b, newer = read_budget(keys, ask.priority)
if not b and not newer then b, newer = rarely().first_budget(keys, now) end
if newer then return {err = 'NEXUS_SCHEMA'} end

-- 0. A retry gets the remembered answer, before anything else.
if p and p.incarnation == ask.incarnation and ask.incarnation ~= '' and ask.seq <= p.seq then
  if ask.seq == p.seq then return rarely().remembered(keys, b, p, ask.trip) end
  return {err = 'NEXUS_STALE'}
end
if now < b.at or b.behind + b.high > 0 then now = rarely().steady(b, now) end
if p and (p.birth ~= b.birth or p.incarnation ~= ask.incarnation) then
  if p.incarnation ~= ask.incarnation and rarely().is_owned(p, b, now) then return {err = 'NEXUS_ID_TAKEN'} end
  p = rarely().successor(p, b)
end

-- 1. Refill, and settle what has become due meanwhile: a silent consumer, the end of a pause.
if now - b.at >= LEASE then rarely().note_gap(keys, b, now) end
if (b.due > 0 and now >= b.due) or b.at - now >= MICRO then
  if not keys.history then return {err = 'NEXUS_NEEDS_KEYS'} end
  rarely().advance(keys, b, now)
else
  refill(b, now)
end
local learning, is_first = now < b.learns_until, not p
p = p or rarely().new_producer(now)
if ask.granted_total > b.granted and tonumber(ask.birth) == b.birth then rarely().make_good(keys, b, p, ask.granted_total, now) end
if now >= b.ends or b.ends - now > b.length then
  rarely().roll_epoch(keys, b, now)
  if not keys.history and not b.is_new and rarely().is_renewal_due(b, now) then return {err = 'NEXUS_NEEDS_KEYS'} end
  rarely().sweep_producers(keys, now)
end

-- 2. Take back what is returned or will never be used.
local returned, burned, credited = take_back(b, p, ask.held, ask.unused, ask.burned, now)
if is_first and (learning or (ask.birth ~= '' and tonumber(ask.birth) ~= b.birth)) then rarely().pay_for_past(b, p, ask) end

-- 3. Enter the producer in the fair share.
if ask.incarnation ~= '' and (is_first or p.at < b.ends - b.length or p.at > now) then b.crowd = b.crowd + 1 end
p.came = p.epoch == b.number                         -- already in this epoch's sums
if p.came and not b[p.class] then rarely().read_rest(keys, b) end
withdraw(keys, b, p, ask.degraded, now)
local is_same = p.incarnation == ask.incarnation and p.birth == b.birth and p.class == ask.priority and p.weight == ask.weight
p.weight, p.class = ask.weight, ask.priority
local need = ask.want > 0 and ask.need == 0 and math.min(ask.want, MICRO) or ask.need
local d = ask.want > 0 and math.max(ask.demand, need / b.length * MICRO) or ask.demand  -- one that claims rarely counts at its full need
enter_demand(b, p, math.floor(math.min(b.R, d)), need)

-- 4. The rate at which its credit grows.
local class, refresh = b[p.class], REFRESH
local contended = class.level < math.huge
local told = share_of(b, class, p)
local faster = class.trim
if b.refresh > REFRESH and b.taker == ask.priority then faster = trim(b) end    -- in a crowd, an epoch is longer than the bucket lasts
local share = math.max(contended and told * (1 + faster) or told, 1e-6)

if credited > 0 and contended then pay_for_returned(p, credited, share) end

-- 5. to 7. Grant tokens, or tell its own slot to come back.
if b.refresh > REFRESH then refresh = refresh_of(b, math.min(d, told)) end
local is_short, cut = contended and (refresh == REFRESH or faster < PLENTY), false
local granted, retry, slot = spend(b, p, ask, need, share, refresh, is_short, now)
if refresh > REFRESH and ask.want > 0 then
  retry = space_out(b, p, ask, granted, math.min(retry, slot), share, refresh, is_short, now)
end
if b.window then
  granted, retry, cut = admit(b, p.at, returned, burned, granted, retry, ask.whole, need, now)
end
p.credit, b.retry_max = p.credit - granted, math.max(b.retry_max, retry)
grant(b, granted)

local recommended = math.floor(math.min(ask.demand, told))
local lease = lease_of(b, refresh, ask.trip, now)
p.holds, p.until_us = p.holds + granted, now + lease + retry
local fallback = outage_share(b, p, ask, d, told, need, granted, recommended)
local reason = reason_of(b, ask, recommended, learning, cut, contended, ask.want > 0 and granted < need)
local answer = pack(ANSWER, granted, retry, refresh, recommended, fallback, reason, slot)
local is_new_id = write_producer(keys, b, p, is_same, ask, told, answer, now)
if is_new_id or b.has_rest or b.has_new_terms then
  rarely().write_whole(keys, b, now, is_new_id)
else
  write_budget(keys, b, p.class)
end
return reply(b, granted, retry, lease, refresh, recommended, fallback, reason, slot, b.birth, b.granted)
