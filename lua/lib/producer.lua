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

--- @record ask need want demand whole held unused burned weight priority incarnation seq birth granted_total trip share degraded

-- Reads the claim. If something is wrong with the claim, this raises an error or returns nil. Names are checked only if they
-- are new.
local function read_claim()
  local ask = cjson.decode(ARGV[2])
  local need, want, demand, is_whole, held, unused, burned, weight, priority, incarnation, seq, birth, granted_total,
    trip, share, degraded = unpack(ask)
  share, degraded = share or 0, degraded or 0
  if need >= 0 and need <= 1e15 and want >= 0 and want <= 1e16 and demand >= 0 and demand <= 1e16 and (is_whole == 0 or is_whole == 1)
    and held >= 0 and held <= 1e16 and unused >= 0 and unused <= 1e16 and burned >= 0 and burned <= 1e16
    and weight >= 10000 and weight <= 1e9 and seq >= 0 and seq <= COUNT and granted_total >= 0 and granted_total <= COUNT
    and trip >= 0 and trip <= LONGEST_TRIP
    and share >= 0 and share <= 1e16 and degraded >= 0 and degraded <= 1e16
    and need % 1 + want % 1 + demand % 1 + held % 1 + unused % 1 + burned % 1 + weight % 1 + seq % 1 + granted_total % 1 + trip % 1 + share % 1 + degraded % 1 == 0
    and (priority == 'normal' or priority == 'high' or priority == 'low')
    and type(birth) == 'string' and #birth <= 20 and incarnation and #ARGV == 2 and #ARGV[2] <= LONGEST_CLAIM and (#ask == 14 or #ask == 16)
    and (ARGV[1] == '0' or whole_number(ARGV[1], 0, COUNT)) then
    ask.want, ask.whole = is_whole == 1 and math.max(want, need) or want, is_whole == 1
    ask.share, ask.degraded = share, degraded
    return ask
  end
end

-- at: the time of its last claim. holds: what it may still hold of what it got. until_us: until when that may come back.
-- renewed: the second in which its TTLs were last written. slot: the time from its last claim to its promised time, 0 if
-- there is none. share: what it may use while Redis is away (share.lua); negative if nobody waits for its return.
--- @record p until_us came seq at credit holds left epoch d n class weight renewed under slot share incarnation birth answer_at

local LEFT_UNIT = 32            -- microseconds
local SLOT_UNIT = 4             -- likewise
local AGES = 65536              -- seconds that two bytes tell apart: longer than any TTL of a member

-- For a producer whose TTLs were never written: a `renewed` that is due.
local function long_ago(now) return math.floor((now - RENEW) / SECOND) % AGES end

local function read_producer(keys)
  local raw = redis.call('GET', keys.memory)
  if not raw then return nil end
  local p = {nil, nil, unpacked(ENTRY, raw)}
  p.until_us, p.slot = p.at + p.left * LEFT_UNIT, p.slot * SLOT_UNIT
  p.class = p.class == 'n' and 'normal' or p.class == 'h' and 'high' or 'low'
  return p
end

-- How much of what the producer reports comes back to the bucket, and how much will never be used.
local function take_back(b, p, held, unused, burned, now)
  local owned = now <= p.until_us and p.holds or 0
  local returned = math.min(unused, owned)
  local lost = math.min(burned, p.holds - returned)
  local credited = 0
  if returned > 0 then credited = hand_back(b, returned) end
  p.holds = math.min(held, p.holds - returned)
  return returned, lost, credited
end

-- A producer that returns tokens may have used them all the same, which nobody can see. So it pays with credit for what
-- others get of them. A producer that then rests, as an idle one does, has its credit again before it comes back. A producer
-- that goes on asking loses more than a false return could gain.
local function pay_for_returned(p, credited, share)
  local most = math.max(PAYS_LEAST * share, math.min(2 * credited, PAYS_MOST * share))
  p.credit = math.max(math.min(p.credit, -most), p.credit - PAYS * credited)
end

-- A producer that leaves cannot pay later, so only as much comes back as it can pay for.
local function payable(b, p, unused)
  local class = b[p.class]
  if class.level == math.huge then return unused end
  return math.min(unused, math.floor((math.max(0, p.credit) + PAYS_LEAST * class.level * p.weight / MICRO) / PAYS))
end

-- Returns the tokens granted, when to ask again, and when the whole need will be there.
local function spend(b, p, ask, need, share, refresh, contended, now)
  local cap = math.min(math.max(math.max(CREDIT_TIME, LATE * refresh, b.burst_us) / MICRO * share, math.min(need, b.B)), MOST_CREDIT)
  p.credit = math.min(cap, p.credit + share * math.max(0, now - p.at) / MICRO)
  local room = p.credit + cap * PUNCTUAL              -- how far it may go into debt
  local depth = usual_depth(b)
  local spare = math.min(b.T - BORROW_ABOVE * depth, room)
  if ask.whole then spare = math.min(b.T, room)
  elseif contended then spare = math.max(math.min(spare, need), math.min(b.T - depth, room))
  elseif b.burst_us > DEFAULT_BURST then spare = math.min(b.T, room)
  elseif b.T >= need then spare = math.max(spare, math.min(need, b.B, room)) end
  local piece = need
  if need > LARGE * depth and not ask.whole and not (b.window and b.window.lossless == 1) then
    piece = math.min(need, math.max(MICRO, math.min(LARGE * depth, PIECE_TIME * share)))
  end

  local granted = 0
  local T = b.T
  if need < b.saved and now < b.saved_until then T = T - b.saved end
  -- The tokens in the bucket are promised to producers that were told a time. A producer without a time is served after them.
  -- A caller that tries and has not used up its fair part is an exception, since it does not wait for a time.
  local has_time = p.slot > 0 and now >= p.at + p.slot - EARLY * SECOND
  if refresh == REFRESH and b.queue > now and not has_time and not (ask.whole and p.credit >= need) then T = T - need end
  p.slot = 0
  local credit = math.max(p.credit + EARLY * share, math.min(piece, p.credit + (1 - NEARLY) * piece))
  local available = math.min(T, math.max(credit, spare))
  if b.R > 0 and ask.want > 0 then
    local first = math.min(need, ask.want)
    if available >= first then
      local unit = math.min(MICRO, first)
      granted = math.min(ask.want, first + unit * math.floor((available - first) / unit))
    elseif piece < need and available >= piece then
      granted = math.floor(available / MICRO) * MICRO
    end
  end
  if ask.want <= 0 then return granted, 0, 0 end
  local longest = math.max(LONGEST_WAIT, refresh)
  if b.R <= 0 then
    if b.resumes <= now or b.resumes >= UNTIL_RESUMED then return 0, longest, longest end
    b.queue = math.max(b.queue, b.resumes) + SECOND / CLAIMS_PER_S       -- one after the other, and not all in one moment
    return 0, math.ceil(math.min(longest, b.queue - now)), math.min(LONGEST_SLOT, b.resumes - now)
  end
  -- The producer comes back when as much would be granted again if nobody else took any.
  local enough = (contended and not ask.whole and p.credit or room) - granted
  local R = b.earned
  local retry, earned = math.max(0, (piece - enough) / share * MICRO), (piece - T + granted) / R * MICRO
  local is_queued = granted == 0 and earned > retry or granted > 0 and contended and b.is_scarce == 1 and b.queue > now
  retry = math.max(retry, earned)
  if is_queued and refresh == REFRESH and not ask.whole then
    -- Each gets its own time; otherwise all of them would ask for every token.
    local slot = math.max(b.queue + piece / R * MICRO, now + (piece - b.T + granted) / R * MICRO)
    if slot - now <= longest and (granted == 0 or slot - now > SOON * retry) then      -- no producer stays away for longer
      b.queue = slot
      retry = math.ceil(math.max(retry, slot - now))
      p.slot = math.min(longest, retry)
    end
  end
  -- A large cost that cannot come in pieces would never find enough, since all others take small amounts. So the bucket saves
  -- for it.
  if granted > 0 and need >= b.saved then b.saved = 0
  elseif granted == 0 and piece > LARGE * depth and p.credit >= piece then
    b.saved, b.saved_until = piece, now + retry + REFRESH
  end
  local met = math.max(0, (need - enough) / share, (need - T + granted) / R) * MICRO
  return granted, math.ceil(math.min(longest, retry)), math.ceil(math.min(LONGEST_SLOT, met))
end

-- `is_short`: the producer got less than it needs. A denial always has a reason, so the answer is then never `ok`.
local function reason_of(b, ask, recommended, learning, cut, contended, is_short)
  if b.R <= 0 or b.reason == 'no_consumers' then return b.reason end
  if cut then return 'window' end
  if learning and ask.want > 0 and b.T < MICRO then return 'learning' end
  if recommended >= ask.demand and not is_short then return 'ok' end
  if contended and recommended + 1 < b.R then return 'contended' end
  return b.reason
end

-- How long granted tokens may be spent, counted from before the claim was sent. The lease is longer by the round trip, which
-- passes on the way. A lossless budget gets no longer lease, since it needs all tokens on their way to be young. From now on
-- a lease that is longer than the others may be out. So what the bucket held is remembered as long.
local function lease_of(b, refresh, trip, now)
  local lease = refresh * REFRESHES
  if trip == 0 or b.window and b.window.lossless == 1 then return lease end
  lease = lease + trip
  if lease > b.span or b.span_until > 0 and b.span_until < now + lease then
    b.span, b.span_until, b.has_new_terms = math.max(b.span, lease), now + 2 * lease, true
  end
  return lease
end

local function reply(b, granted, retry, lease, refresh, recommended, fallback, reason, wait, birth, granted_total)
  return string.format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted, retry, lease, refresh, recommended,
    fallback, b.R, b.level, math.floor(b.load / 1000), granted_total, birth, reason, b.window and b.window.lossless or 0, b.B,
    wait > retry and string.format(' %d', wait) or '')
end

-- True if the hash was not there.
local function show_producer(keys, p, is_same, ask, told)
  local added = redis.call('HSET', keys.member, 'demand_per_s', string.format('%.10g', ask.demand / MICRO),
             'share_per_s', string.format('%.10g', told / MICRO), 'held', string.format('%.10g', p.holds / MICRO))
  if is_same then return added > 0 end
  if p.class == 'normal' and p.weight == MICRO then redis.call('HDEL', keys.member, 'priority', 'weight')   -- as nearly all have
  else redis.call('HSET', keys.member, 'priority', p.class, 'weight', string.format('%.10g', p.weight / MICRO)) end
  return added > 0
end

-- The producer's hash shows people how it fares. It is written once an epoch (in a crowd, once a minute), and if its class or
-- weight has changed. Returns true if the id is new.
local function write_producer(keys, b, p, is_same, ask, told, answer, now)
  local is_known = p.came and is_same
  local is_passing = ask.incarnation == ''             -- a one-shot sender: counted in the epoch, but on no list
  local second = math.floor(now / SECOND)
  local is_old = not is_known and (is_passing or (second - p.renewed) % AGES >= RENEW / SECOND)
  if is_passing then p.renewed = long_ago(now) elseif is_old then p.renewed = second % AGES end
  -- In a crowd, most claims are the first one in an epoch.
  local is_shown = not is_known and (b.refresh <= REFRESH or not is_same or is_old)
  local is_added = is_shown and show_producer(keys, p, is_same, ask, told)
  local raw = pack(ENTRY, ask.seq, now, math.floor(p.credit), p.holds, math.floor((p.until_us - now) / LEFT_UNIT), p.epoch, p.d, p.n, p.class,
                   p.weight, p.renewed, p.under, math.floor(p.slot / SLOT_UNIT), p.share, ask.incarnation, b.birth) .. answer
  redis.call('SET', keys.memory, raw, 'KEEPTTL')
  if not is_shown then return false end
  local keep_ms = is_passing and math.max(KEEP_PASSING_MS, math.ceil(2 * b.length / 1000)) or (is_old or is_added) and KEEP_MEMBER_MS
  if keep_ms then
    redis.call('PEXPIRE', keys.member, keep_ms)
    redis.call('PEXPIRE', keys.memory, keep_ms)
  end
  if is_passing then return false end
  return redis.call('ZADD', keys.producers, string.format('%d', now), id_of(keys)) == 1
end
