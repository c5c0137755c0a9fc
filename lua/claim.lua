--[[ claim: refill the bucket, enter the producer's demand, give it tokens or a time to come back.

KEYS   1 budget  2 consumers  3 rates  4 loads  5 capacities  6 frees  7 edges  8 ratios  9 producers  10 history
       11 producer
ARGV   1 at_us          int   0 = the server's clock; tests pin the instant
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
Reply  1 granted (micro-tokens)  2 retry_after_us  3 lease_us  4 refresh_us  5 recommended_rate  6 fallback_rate
       7 budget_rate (all micro-tokens/s)  8 backpressure_level  9 current_load (thousandths of a percent)
       10 granted_total  11 birth  12 reason  13 lossless
       all as text, whole numbers but for birth and reason
Errors NEXUS_INVALID_<FIELD>  NEXUS_INVALID_KEYS  NEXUS_SCHEMA  NEXUS_STALE (lower seq)  NEXUS_ID_TAKEN
Cost   O(1), flat in producers and consumers; O(log n) where a consumer's deadline has passed ]]

--- @include times
--- @include number
--- @include clock
--- @include keys
--- @include state
--- @include bucket
--- @include fair
--- @include consumers
--- @include window
--- @include settings
--- @include rate
--- @include producer

local ask, invalid = read_claim()
if invalid then return {err = invalid} end
local keys, id = named_keys('producer')
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end
local now = clock(ARGV[1])

-- 0. A retry gets the remembered answer, before anything else.
local p, answer = read_producer(keys)
local refused = p and check_incarnation(p, ask, now)
if refused == 'again' then return answer_again(answer) end
if refused then return {err = refused} end

local b, newer = read_budget(keys, now)
if newer then return {err = newer} end
if p and (p.birth ~= b.birth or p.incarnation ~= ask.incarnation) then p = successor(p, b) end

-- 1. Refill, and whatever has become due meanwhile: a silent consumer, the end of a pause.
advance(keys, b, now)
local learning = now < b.learns_until
local is_first = not p
p = p or new_producer(now)
if ask.birth == b.birth then repair(b, ask.granted_total) end
roll_epoch(b, now)

-- 2. What comes back, and what will never be used.
take_back(b, p, ask, now)
if is_first and learning then                        -- what it got in a life that we lost is paid for in this one
  local before = b.T
  b.T = min(b.T, max(-b.B, b.T - ask.held))
  p.holds = before - b.T
end

-- 3. Its place in the fair share.
p.came = p.epoch == b.number                         -- seen in this epoch already
withdraw_demand(b, p)
p.weight, p.class = ask.weight, CLASS[ask.priority]
local need = ask.need
if ask.want > 0 and need == 0 then need = min(ask.want, MICRO) end
local d = ask.demand
if ask.want > 0 then d = max(d, need / b.length * MICRO) end    -- one that comes seldom counts for what it takes then
enter_demand(b, p, floor(min(b.R, d)), need)

-- 4. The rate at which its credit grows.
local contended = b.levels[p.class] < huge
local told = share_of(b, p)
local share = max(contended and told * (1 + trim_of(b, p)) or told, 1e-6)

-- 5. to 7. Tokens, or its own slot to come back.
local granted, retry = spend(b, p, ask, need, share, contended, now)
local cut = false
granted, retry, cut = admit(b, granted, retry, ask, need, now)
p.credit = p.credit - granted
grant(b, granted)
if b.window then b.window.net = b.window.net + granted end
b.retry_max = max(b.retry_max, retry)

local recommended = floor(min(ask.demand, told, b.R))
local fallback = floor(min(ask.demand, told, b.R) / 2)
local reply = {whole(granted), whole(retry), whole(LEASE), whole(REFRESH), whole(recommended), whole(fallback), whole(b.R),
               whole(b.level), whole(floor(b.load / 1000)), whole(b.granted), b.birth,
               reason_of(b, ask, recommended, learning, cut, contended),
               whole(b.window and b.window.lossless or 0)}
local is_new_id = write_producer(keys, id, b, p, ask, told, granted, retry, reply, now)
write_budget(keys, b, now, is_new_id)
return reply
