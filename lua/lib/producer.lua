-- What a claim says, and what is remembered of its producer from one claim to the next. How many tokens the claim gets is
-- decided in grant.lua.
local LONGEST_CLAIM = 340       -- bytes

--- @record claim need want demand whole held unused burned weight priority incarnation seq birth granted_total trip
---   fallback_rate degraded

-- Reads the claim. If something is wrong with the claim, this raises an error or returns nil. Names are checked only if they
-- are new.
local function read_claim()
  local claim = cjson.decode(ARGV[2])
  local need, want, demand, is_whole, held, unused, burned, weight, priority, incarnation, seq, birth, granted_total, trip,
    fallback_rate, degraded = unpack(claim)
  fallback_rate, degraded = fallback_rate or 0, degraded or 0
  if need >= 0 and need <= 1e15 and want >= 0 and want <= 1e16 and demand >= 0 and demand <= 1e16
    and (is_whole == 0 or is_whole == 1)
    and held >= 0 and held <= 1e16 and unused >= 0 and unused <= 1e16 and burned >= 0 and burned <= 1e16
    and weight >= 10000 and weight <= 1e9 and seq >= 0 and seq <= COUNT and granted_total >= 0 and granted_total <= COUNT
    and trip >= 0 and trip <= LONGEST_TRIP
    and fallback_rate >= 0 and fallback_rate <= 1e16 and degraded >= 0 and degraded <= 1e16
    and need % 1 + want % 1 + demand % 1 + held % 1 + unused % 1 + burned % 1 + weight % 1 + seq % 1 + granted_total % 1
        + trip % 1 + fallback_rate % 1 + degraded % 1 == 0
    and (priority == 'normal' or priority == 'high' or priority == 'low')
    and type(birth) == 'string' and #birth <= 20 and incarnation
    and #ARGV == 2 and #ARGV[2] <= LONGEST_CLAIM and (#claim == 14 or #claim == 16)
    and (ARGV[1] == '0' or whole_number(ARGV[1], 0, COUNT)) then
    claim.want, claim.whole = is_whole == 1 and math.max(want, need) or want, is_whole == 1
    claim.fallback_rate, claim.degraded = fallback_rate, degraded
    return claim
  end
end

-- The producer, place by place. What its state has (ENTRY in state.lua), and what a claim makes of it:
--
--   holds_until      until when tokens may come back; holds are the micro-tokens that it may still hold of what it got, and
--                    holds_left is the time from its last claim to holds_until, as stored
--   is_counted       its demand is in the sums of this epoch
--   claimed_at       the instant of its last claim
--   credit           the micro-tokens that it may take without any check of the other producers; below 0, a debt
--   epoch            the epoch in which it entered `demand` and `need`; 0 if it is not in demand
--   renewed_second   the second in which its TTLs were last written, modulo AGES
--   is_under_mark    1 if its demand was below the mark of its class
--   slot             the time from its last claim to its promised time; 0 if there is none
--   outage_share     what it may use while Redis is away (outage_share.lua); negative if its next claim is not awaited
--   answer_at        where its last answer begins in its state
--- @record producer holds_until is_counted seq claimed_at credit holds holds_left epoch demand need class weight
---   renewed_second is_under_mark slot outage_share incarnation birth answer_at

local LEFT_UNIT = 32            -- microseconds
local SLOT_UNIT = 4             -- likewise
local AGES = 65536              -- seconds that two bytes tell apart: longer than any TTL of a member

-- For a producer whose TTLs were never written: a `renewed_second` that is due.
local function long_ago(now) return math.floor((now - RENEW) / SECOND) % AGES end

local function read_producer(keys)
  local raw = redis.call('GET', keys.memory)
  if not raw then return nil end
  local producer = {nil, nil, unpacked(ENTRY, raw)}
  producer.holds_until, producer.slot = producer.claimed_at + producer.holds_left * LEFT_UNIT, producer.slot * SLOT_UNIT
  producer.class = producer.class == 'n' and 'normal' or producer.class == 'h' and 'high' or 'low'
  return producer
end

-- Whether nothing has changed since this producer's last claim of what its hash shows of it.
local function is_same_member(budget, producer, claim)
  return producer.incarnation == claim.incarnation and producer.birth == budget.birth
    and producer.class == claim.priority and producer.weight == claim.weight
end

-- Writes the producer's hash. Returns true if the hash was not there.
local function show_producer(keys, producer, is_same, claim, fair_rate)
  local added = redis.call('HSET', keys.member, 'demand_per_s', string.format('%.10g', claim.demand / MICRO),
                           'share_per_s', string.format('%.10g', fair_rate / MICRO),
                           'held', string.format('%.10g', producer.holds / MICRO))
  if is_same then return added > 0 end
  if producer.class == 'normal' and producer.weight == MICRO then      -- as nearly all have
    redis.call('HDEL', keys.member, 'priority', 'weight')
  else
    redis.call('HSET', keys.member, 'priority', producer.class, 'weight', string.format('%.10g', producer.weight / MICRO))
  end
  return added > 0
end

-- The producer's hash shows people how it fares. It is written once an epoch (in a crowd, once a minute), and if its class or
-- weight has changed. Returns true if the id is new.
local function write_producer(keys, budget, producer, is_same, claim, fair_rate, answer, now)
  local is_known = producer.is_counted and is_same
  local is_passing = claim.incarnation == ''         -- a one-shot sender: counted in the epoch, but on no list
  local second = math.floor(now / SECOND)
  local is_old = not is_known and (is_passing or (second - producer.renewed_second) % AGES >= RENEW / SECOND)
  if is_passing then producer.renewed_second = long_ago(now) elseif is_old then producer.renewed_second = second % AGES end
  -- In a crowd, most claims are the first one in an epoch.
  local is_shown = not is_known and (budget.refresh <= REFRESH or not is_same or is_old)
  local is_added = is_shown and show_producer(keys, producer, is_same, claim, fair_rate)
  local raw = pack(
    ENTRY, claim.seq, now, math.floor(producer.credit), producer.holds, math.floor((producer.holds_until - now) / LEFT_UNIT),
    producer.epoch, producer.demand, producer.need, producer.class, producer.weight, producer.renewed_second,
    producer.is_under_mark, math.floor(producer.slot / SLOT_UNIT), producer.outage_share, claim.incarnation, budget.birth
  ) .. answer
  redis.call('SET', keys.memory, raw, 'KEEPTTL')
  if not is_shown then return false end
  local keep_ms = is_passing and math.max(KEEP_PASSING_MS, math.ceil(2 * budget.epoch_length / 1000))
    or (is_old or is_added) and KEEP_MEMBER_MS
  if keep_ms then
    redis.call('PEXPIRE', keys.member, keep_ms)
    redis.call('PEXPIRE', keys.memory, keep_ms)
  end
  if is_passing then return false end
  return redis.call('ZADD', keys.producers, string.format('%d', now), id_of(keys)) == 1
end
