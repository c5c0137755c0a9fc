-- One producer's part of a claim: its memory, what it returns, what it gets.
local CREDIT_TIME = 600000      -- credit grows for no longer than this, which covers a late refresh but not an absence
local LATE = 1.25               -- refreshes: the same in a crowd, where a refresh is longer
local BORROW_ABOVE = 0.5        -- the bucket's upper half may be lent to producers without credit
local EARLY = 0.005             -- seconds: a producer that comes this much before its slot is served, not sent away
local NEARLY = 0.9              -- of a need: at the slot this much credit is enough, since the trim may have changed
local SOON = 0.7                -- of the time until it has the credit: a place in the queue that comes sooner is of no use to it
local PUNCTUAL = 1.02           -- a caller on a timer, measured from its first call, is sometimes a little early
local PAYS = 4                  -- times what it returns, paid out of its credit,
local PAYS_LEAST, PAYS_MOST = 0.25, 2     -- but at most twice what it returns; that limit lies between so many seconds of its rate
local LARGE = 0.25              -- of the bucket: a need above it is collected in pieces
local PIECE_TIME = 0.1          -- seconds of the producer's rate in a piece
local MOST_CREDIT = 9e15        -- as much as any bucket holds; seven bytes can hold this and as much debt
local LONGEST_CLAIM = 340       -- bytes
local SMALL = 0.17              -- seconds of the rate in a bucket that clients ask twice before it is full (CLAIM_GAP in ledger.py)

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
--   outage_share     what it may use while Redis is away (share.lua); negative if its next claim is not awaited
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

-- How much of what the producer reports comes back to the bucket, and how much will never be used.
local function take_back(budget, producer, held, unused, burned, now)
  local owned = now <= producer.holds_until and producer.holds or 0
  local returned = math.min(unused, owned)
  local lost = math.min(burned, producer.holds - returned)
  local credited = 0
  if returned > 0 then credited = hand_back(budget, returned) end
  producer.holds = math.min(held, producer.holds - returned)
  return returned, lost, credited
end

-- A producer that returns tokens may have used them all the same, which nobody can see. So it pays with credit for what
-- others get of them. A producer that then rests, as an idle one does, has its credit again before it comes back. A producer
-- that goes on asking loses more than a false return could gain.
local function pay_for_returned(producer, credited, credit_rate)
  local most = math.max(PAYS_LEAST * credit_rate, math.min(2 * credited, PAYS_MOST * credit_rate))
  producer.credit = math.max(math.min(producer.credit, -most), producer.credit - PAYS * credited)
end

-- A producer that leaves cannot pay later, so only as much comes back as it can pay for.
local function payable(budget, producer, unused)
  local class = budget[producer.class]
  if class.level == math.huge then return unused end
  return math.min(unused, math.floor(
    (math.max(0, producer.credit) + PAYS_LEAST * class.level * producer.weight / MICRO) / PAYS))
end

-- Returns the tokens granted, when to ask again, and when the whole need will be there.
local function spend(budget, producer, claim, need, credit_rate, refresh, is_short, now)
  local cap = math.min(math.max(math.max(CREDIT_TIME, LATE * refresh, budget.burst_us) / MICRO * credit_rate,
                                math.min(need, budget.bucket_size)), MOST_CREDIT)
  producer.credit = math.min(cap, producer.credit + credit_rate * math.max(0, now - producer.claimed_at) / MICRO)
  local room = producer.credit + cap * PUNCTUAL      -- how far it may go into debt
  local depth = usual_depth(budget)
  local spare = math.min(budget.tokens - BORROW_ABOVE * depth, room)
  if claim.whole then spare = math.min(budget.tokens, room)
  elseif is_short then spare = math.max(math.min(spare, need), math.min(budget.tokens - depth, room))
  elseif budget.burst_us > DEFAULT_BURST then spare = math.min(budget.tokens, room)
  elseif budget.tokens >= need then spare = math.max(spare, math.min(need, budget.bucket_size, room)) end
  local piece = need
  if need > LARGE * depth and not claim.whole and not (budget.window and budget.window.lossless == 1) then
    piece = math.min(need, math.max(MICRO, math.min(LARGE * depth, PIECE_TIME * credit_rate)))
  end

  local granted = 0
  local tokens = budget.tokens
  if need < budget.saved and now < budget.saved_until then tokens = tokens - budget.saved end
  -- The tokens in the bucket are promised to producers that were told a time. A producer without a time is served after them.
  -- A caller that tries and has not used up its fair part is an exception, since it does not wait for a time.
  local has_time = producer.slot > 0 and now >= producer.claimed_at + producer.slot - EARLY * SECOND
  if refresh == REFRESH and budget.queue_end > now and not has_time and not (claim.whole and producer.credit >= need) then
    tokens = tokens - need
  end
  producer.slot = 0
  local credit = math.max(producer.credit + EARLY * credit_rate, math.min(piece, producer.credit + (1 - NEARLY) * piece))
  local available = math.min(tokens, math.max(credit, spare))
  if budget.rate > 0 and claim.want > 0 then
    local first = math.min(need, claim.want)
    if available >= first then
      local unit = math.min(MICRO, first)
      granted = math.min(claim.want, first + unit * math.floor((available - first) / unit))
    elseif piece < need and available >= piece then
      granted = math.floor(available / MICRO) * MICRO
    end
  end
  if claim.want <= 0 then return granted, 0, 0 end
  local longest = math.max(LONGEST_WAIT, refresh)
  if budget.rate <= 0 then
    if budget.resumes_at <= now or budget.resumes_at >= UNTIL_RESUMED then return 0, longest, longest end
    -- The producers come one after the other, and not all in one moment.
    budget.queue_end = math.max(budget.queue_end, budget.resumes_at) + SECOND / CLAIMS_PER_S
    return 0, math.ceil(math.min(longest, budget.queue_end - now)), math.min(LONGEST_SLOT, budget.resumes_at - now)
  end
  -- The producer comes back when as much would be granted again if nobody else took any.
  local enough = (is_short and not claim.whole and producer.credit or room) - granted
  local earning_rate = budget.earning_rate
  local retry = math.max(0, (piece - enough) / credit_rate * MICRO)
  local until_earned = (piece - tokens + granted) / earning_rate * MICRO
  local is_queued = granted == 0 and until_earned > retry
    or granted > 0 and is_short and budget.is_scarce == 1 and budget.queue_end > now
  retry = math.max(retry, until_earned)
  if is_queued and refresh == REFRESH and not claim.whole then
    -- Each gets its own time; otherwise all of them would ask for every token.
    local slot = math.max(budget.queue_end + piece / earning_rate * MICRO,
                          now + (piece - budget.tokens + granted) / earning_rate * MICRO)
    if slot - now <= longest and (granted == 0 or slot - now > SOON * retry) then      -- no producer stays away for longer
      budget.queue_end = slot
      retry = math.ceil(math.max(retry, slot - now))
      producer.slot = math.min(longest, retry)
    end
  end
  -- A large cost that cannot come in pieces would never find enough, since all others take small amounts. So the bucket saves
  -- for it.
  if granted > 0 and need >= budget.saved then budget.saved = 0
  elseif granted == 0 and piece > LARGE * depth and producer.credit >= piece then
    budget.saved, budget.saved_until = piece, now + retry + REFRESH
  end
  local met = math.max(0, (need - enough) / credit_rate, (need - tokens + granted) / earning_rate) * MICRO
  return granted, math.ceil(math.min(longest, retry)), math.ceil(math.min(LONGEST_SLOT, met))
end

-- `is_short`: the producer got less than it needs. A denial always has a reason, so the answer is then never `ok`.
local function reason_of(budget, claim, recommended, learning, cut, contended, is_short)
  if budget.rate <= 0 or budget.reason == 'no_consumers' then return budget.reason end
  if cut then return 'window' end
  if learning and claim.want > 0 and budget.tokens < MICRO then return 'learning' end
  if recommended >= claim.demand and not is_short then return 'ok' end
  if contended and recommended + 1 < budget.rate then return 'contended' end
  return budget.reason
end

-- How long granted tokens may be spent, counted from before the claim was sent. The lease is longer by the round trip, which
-- passes on the way. A lossless budget gets no longer lease, since it needs all tokens on their way to be young. From now on
-- a lease that is longer than the others may be out. So what the bucket held is remembered as long.
local function lease_of(budget, refresh, trip, now)
  local lease = refresh * REFRESHES
  if trip == 0 or budget.window and budget.window.lossless == 1 then return lease end
  lease = lease + trip
  if lease > budget.longest_lease or budget.longest_lease_until > 0 and budget.longest_lease_until < now + lease then
    budget.longest_lease, budget.longest_lease_until = math.max(budget.longest_lease, lease), now + 2 * lease
    budget.has_new_terms = true
  end
  return lease
end

local function reply(budget, granted, retry, lease, refresh, recommended, fallback, reason, wait, birth, granted_total)
  return string.format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted, retry, lease, refresh, recommended,
    fallback, budget.rate, budget.level, math.floor(budget.load / 1000), granted_total, birth, reason,
    budget.window and budget.window.lossless or 0, budget.bucket_size, wait > retry and string.format(' %d', wait) or '')
end

-- True if the hash was not there.
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
