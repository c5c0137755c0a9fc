-- One producer's part of a claim: its memory, what it hands back, what it gets.
local CREDIT_TIME = 600000      -- credit piles up no longer than this: a late refresh is forgiven, an absence is not
local LATE = 1.25               -- refreshes; likewise in a crowd, where each is longer
local BORROW_ABOVE = 0.5        -- the bucket's upper half may be lent to those without credit
local EARLY = 0.005             -- seconds: a producer that comes this much before its slot is served, not sent away
local NEARLY = 0.9              -- of a need: credit that falls short of it by less, since the trim has changed, is enough at the slot
local SOON = 0.7                -- of the time until it has the credit: a place in the queue that comes much sooner is of no use to it
local PUNCTUAL = 1.02           -- a caller on a timer is a little early now and then, measured from its first call
local PAYS = 4                  -- times what it hands back, out of its credit,
local PAYS_LEAST, PAYS_MOST = 0.25, 2     -- but no more than so many seconds of its rate, or twice that in between
local LARGE = 0.25              -- of the bucket: a need above it is collected in pieces
local PIECE_TIME = 0.1          -- seconds of the producer's rate in a piece
local MOST_CREDIT = 9e15        -- as much as any bucket holds, and what seven bytes hold of it and as much debt
local LONGEST_CLAIM = 340       -- bytes
local SMALL = 0.17              -- seconds of the rate in a bucket that clients ask twice before it is full (CLAIM_GAP in ledger.py)

--- @record ask need want demand whole held unused burned weight priority incarnation seq birth granted_total trip share degraded

-- The claim; raises, or gives nil, where something is wrong with it. Its names are looked at where they are new.
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

-- at: of its last claim; holds: what it may still hold of what it was given; until_us: how long that may come back; renewed: the
-- second in which its ends were last written; slot: from its last claim to the time that is promised to it, 0 for none; share: what it may live on
-- without us (share.lua), negative where nobody waits for it to come.
--- @record p until_us came seq at credit holds left epoch d n class weight renewed under slot share incarnation birth answer_at

local LEFT_UNIT = 32            -- microseconds
local SLOT_UNIT = 4             -- likewise
local AGES = 65536              -- seconds that two bytes tell apart: longer than any TTL of a member

-- When its ends were last written, of one whose were not.
local function long_ago(now) return math.floor((now - RENEW) / SECOND) % AGES end

local function read_producer(keys)
  local raw = redis.call('GET', keys.memory)
  if not raw then return nil end
  local p = {nil, nil, unpacked(ENTRY, raw)}
  p.until_us, p.slot = p.at + p.left * LEFT_UNIT, p.slot * SLOT_UNIT
  p.class = p.class == 'n' and 'normal' or p.class == 'h' and 'high' or 'low'
  return p
end

-- How much of what it says comes back to the bucket, and how much will never be used.
local function take_back(b, p, held, unused, burned, now)
  local owned = now <= p.until_us and p.holds or 0
  local returned = math.min(unused, owned)
  local lost = math.min(burned, p.holds - returned)
  local credited = 0
  if returned > 0 then credited = hand_back(b, returned) end
  p.holds = math.min(held, p.holds - returned)
  return returned, lost, credited
end

-- Whoever hands back may have used it all the same, which nobody can see. So what others get of it is paid for with credit. Who
-- then rests, as one that is idle does, has it again before it comes back; who goes on asking has less by more than it lied.
local function pay_for_returned(p, credited, share)
  local most = math.max(PAYS_LEAST * share, math.min(2 * credited, PAYS_MOST * share))
  p.credit = math.max(math.min(p.credit, -most), p.credit - PAYS * credited)
end

-- One that leaves cannot pay later: as much comes back as it can pay for.
local function payable(b, p, unused)
  local class = b[p.class]
  if class.level == math.huge then return unused end
  return math.min(unused, math.floor((math.max(0, p.credit) + PAYS_LEAST * class.level * p.weight / MICRO) / PAYS))
end

-- Tokens; and else when to ask again, and when what it needs will be there.
local function spend(b, p, ask, need, share, refresh, contended, now)
  local cap = math.min(math.max(math.max(CREDIT_TIME, LATE * refresh, b.burst_us) / MICRO * share, math.min(need, b.B)), MOST_CREDIT)
  p.credit = math.min(cap, p.credit + share * math.max(0, now - p.at) / MICRO)
  local room = p.credit + cap * PUNCTUAL              -- as deep as it may go into debt
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
  -- What is there is promised to those who were told a time. A producer without one comes behind them, but not a try that
  -- has not used up its fair part: it does not wait for a time.
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
  -- When as much again would be granted, if nobody else took any: that is when to come back.
  local enough = (contended and not ask.whole and p.credit or room) - granted
  local R = b.earned
  local retry, earned = math.max(0, (piece - enough) / share * MICRO), (piece - T + granted) / R * MICRO
  local is_queued = granted == 0 and earned > retry or granted > 0 and contended and b.is_scarce == 1 and b.queue > now
  retry = math.max(retry, earned)
  if is_queued and refresh == REFRESH and not ask.whole then
    -- A time for each, or all of them would ask for every token.
    local slot = math.max(b.queue + piece / R * MICRO, now + (piece - b.T + granted) / R * MICRO)
    if slot - now <= longest and (granted == 0 or slot - now > SOON * retry) then      -- nobody stays away for longer
      b.queue = slot
      retry = math.ceil(math.max(retry, slot - now))
      p.slot = math.min(longest, retry)
    end
  end
  -- A large cost that cannot come in pieces would never find enough in a bucket from which all others take small ones.
  if granted > 0 and need >= b.saved then b.saved = 0
  elseif granted == 0 and piece > LARGE * depth and p.credit >= piece then
    b.saved, b.saved_until = piece, now + retry + REFRESH
  end
  local met = math.max(0, (need - enough) / share, (need - T + granted) / R) * MICRO
  return granted, math.ceil(math.min(longest, retry)), math.ceil(math.min(LONGEST_SLOT, met))
end

-- `is_short`: it got less than it needs. A denial has a reason, so that is never `ok`.
local function reason_of(b, ask, recommended, learning, cut, contended, is_short)
  if b.R <= 0 or b.reason == 'no_consumers' then return b.reason end
  if cut then return 'window' end
  if learning and ask.want > 0 and b.T < MICRO then return 'learning' end
  if recommended >= ask.demand and not is_short then return 'ok' end
  if contended and recommended + 1 < b.R then return 'contended' end
  return b.reason
end

-- How long what is granted may be spent, from before its claim was sent: longer by the round trip, which it spends on its way.
-- What is lossless counts on what is on its way being young.
-- One that is longer than the others is out from now on, so what the bucket held is remembered as long.
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

local function show_producer(keys, p, is_same, ask, told)
  redis.call('HSET', keys.member, 'demand_per_s', string.format('%.10g', ask.demand / MICRO),
             'share_per_s', string.format('%.10g', told / MICRO), 'held', string.format('%.10g', p.holds / MICRO))
  if is_same then return end
  if p.class == 'normal' and p.weight == MICRO then redis.call('HDEL', keys.member, 'priority', 'weight')   -- as of nearly all
  else redis.call('HSET', keys.member, 'priority', p.class, 'weight', string.format('%.10g', p.weight / MICRO)) end
end

-- How it fares, for people, stands in its hash: once an epoch (in a crowd, a minute), and where its class or weight is another.
-- True where its id is a new one.
local function write_producer(keys, b, p, is_same, ask, told, answer, now)
  local is_known = p.came and is_same
  local is_passing = ask.incarnation == ''             -- a one-shot sender: in the epoch, and on no list
  local second = math.floor(now / SECOND)
  local is_old = not is_known and (is_passing or (second - p.renewed) % AGES >= RENEW / SECOND)
  if is_passing then p.renewed = long_ago(now) elseif is_old then p.renewed = second % AGES end
  -- In a crowd, most claims are the first in an epoch.
  local is_shown = not is_known and (b.refresh <= REFRESH or not is_same or is_old)
  if is_shown then show_producer(keys, p, is_same, ask, told) end
  local raw = pack(ENTRY, ask.seq, now, math.floor(p.credit), p.holds, math.floor((p.until_us - now) / LEFT_UNIT), p.epoch, p.d, p.n, p.class,
                   p.weight, p.renewed, p.under, math.floor(p.slot / SLOT_UNIT), p.share, ask.incarnation, b.birth) .. answer
  redis.call('SET', keys.memory, raw, 'KEEPTTL')
  if not is_shown then return false end
  local keep_ms = is_passing and math.max(KEEP_PASSING_MS, math.ceil(2 * b.length / 1000)) or is_old and KEEP_MEMBER_MS
  if keep_ms then
    redis.call('PEXPIRE', keys.member, keep_ms)
    redis.call('PEXPIRE', keys.memory, keep_ms)
  end
  if is_passing then return false end
  return redis.call('ZADD', keys.producers, string.format('%d', now), id_of(keys)) == 1
end
