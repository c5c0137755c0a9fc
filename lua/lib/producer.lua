-- One producer's part of a claim: its memory, what it hands back, what it gets.
local CREDIT_TIME = 600000      -- credit piles up no longer than this: a late refresh is forgiven, an absence is not
local LATE = 1.25               -- refreshes; likewise in a crowd, where each is longer
local BORROW_ABOVE = 0.5        -- the bucket's upper half may be lent to those without credit
local EARLY = 0.005             -- seconds: who comes this much before its slot is served, not sent away
local PUNCTUAL = 1.02           -- a caller on a timer is a little early now and then, measured from its first call
local LARGE = 0.25              -- of the bucket: a need above it is collected in pieces
local PIECE_TIME = 0.1          -- seconds of the producer's rate in a piece
local DEFAULT_BURST = 250000
local SMALL = 0.17              -- seconds of the rate in a bucket that clients ask twice before it is full (CLAIM_GAP in ledger.py)
local PART = 0.25               -- of a small bucket: what its queue moves on by, at least

-- The one at fault in a claim: only asked when there is one.
local function fault_of_claim()
  local asked = {'need', 'tokens', 'requested_rate', 'whole', 'held', 'unused', 'burned', 'weight', 'priority', 'incarnation',
                 'seq', 'birth', 'granted_total'}
  local most = {need = 1e15, whole = 1, weight = 1e9, seq = COUNT, granted_total = COUNT}
  if #ARGV ~= 2 then return 'NEXUS_INVALID_ARGUMENTS' end
  if not whole_number(ARGV[1], 0, COUNT) then return 'NEXUS_INVALID_AT_US' end
  local i = 0
  for word in string.gmatch(string.sub(ARGV[2], 2, -2) .. ',', '([^,]*),') do
    i = i + 1
    local name, text, is_right = asked[i], string.match(word, '^"(.*)"$'), nil
    if name == 'priority' then is_right = text == 'high' or text == 'normal' or text == 'low'
    elseif name == 'incarnation' then is_right = text and (text == '' or is_name(text))
    elseif name == 'birth' then is_right = text and #text <= 20 and string.find(text, '^[%w._-]*$')
    elseif name then is_right = whole_number(word, name == 'weight' and 10000 or 0, most[name] or 1e16) end
    if name and not is_right then return 'NEXUS_INVALID_' .. string.upper(name) end
  end
  return 'NEXUS_INVALID_ARGUMENTS'
end

-- The claim, or nil and a code that names what is at fault. The pattern knows all that JSON could make of it.
local CLAIM = '^%[%d+,%d+,%d+,[01],%d+,%d+,%d+,%d+,"%l+","[%w._-]*",%d+,"[%w._-]*",%d+%]$'
local function read_claim()
  if #ARGV == 2 and #ARGV[2] <= 300 and string.find(ARGV[2], CLAIM) and whole_number(ARGV[1], 0, COUNT) then -- at most 263
    local a = cjson.decode(ARGV[2])
    local need, want, whole, priority, incarnation = a[1], a[2], a[4] == 1, a[9], a[10]
    if math.max(want, a[3], a[5], a[6], a[7]) <= 1e16 and need <= 1e15 and a[8] >= 10000 and a[8] <= 1e9 and a[11] <= COUNT
      and a[13] <= COUNT and (priority == 'normal' or priority == 'high' or priority == 'low')
      and (incarnation == '' or is_name(incarnation)) and #a[12] <= 20 then
      return {need = need, want = whole and math.max(want, need) or want, demand = a[3], whole = whole, held = a[5],
              unused = a[6], burned = a[7], weight = a[8], priority = priority, incarnation = incarnation, seq = a[11],
              birth = a[12], granted_total = a[13]}
    end
  end
  return nil, fault_of_claim()
end

-- at: of its last claim; holds: what it may still hold of what it was given; until: how long that may come back.
local function new_producer(now)
  return {seq = 0, at = now, credit = 0, epoch = 0, d = 0, n = 0, under = 1, weight = 0, holds = 0, until_us = 0,
          renewed = 0}
end

local function read_producer(keys)
  local f = redis.call('HMGET', keys.member, 'ledger', 'place', 'incarnation', 'birth', 'priority')
  if not f[1] then return nil end
  local l, e = cjson.decode(f[1]), cjson.decode(f[2])
  return {seq = l[1], at = l[2], credit = l[3], holds = l[4], until_us = l[2] + l[5], epoch = e[1], d = e[2], n = e[3],
          under = e[4], weight = e[5], renewed = l[2] - e[6], incarnation = f[3], birth = f[4], class = f[5]}
end

-- An id belongs to the incarnation that claimed last, while its lease lives.
local function check_seq(p, ask)
  if p.incarnation == ask.incarnation then
    if ask.incarnation == '' then return nil end
    if ask.seq == p.seq then return 'again' end
    return ask.seq < p.seq and 'NEXUS_STALE' or nil
  end
  return nil
end

local function is_owned(p, b, now)
  return p.incarnation ~= '' and now >= p.at and now < math.min(p.at + b.span, p.until_us)
end

-- The next owner of an id, or the same one in a new life of the budget: debts go on, tokens and credit do not.
local function successor(p, b)
  if p.birth ~= b.birth then return nil end
  p.credit, p.holds, p.until_us = math.min(p.credit, 0), 0, 0
  return p
end

-- How much of what it says comes back to the bucket, and how much will never be used.
local function take_back(b, p, ask, now)
  local owned = now <= p.until_us and p.holds or 0
  local returned = math.min(ask.unused, owned)
  local burned = math.min(ask.burned, p.holds - returned)
  if returned > 0 then hand_back(b, returned) end
  p.holds = math.min(ask.held, p.holds - returned)
  return returned, burned
end

-- Tokens; and else when to ask again, and when what it needs will be there.
local function spend(b, p, ask, need, share, refresh, contended, now)
  local cap = math.max(math.max(CREDIT_TIME, LATE * refresh, b.burst_us) / MICRO * share, math.min(need, b.B))
  p.credit = math.min(cap, p.credit + share * math.max(0, now - p.at) / MICRO)
  local room = p.credit + cap * PUNCTUAL              -- as deep as it may go into debt
  local spare = math.min(b.T - BORROW_ABOVE * b.B, room)
  if contended then spare = math.min(spare, need)
  elseif b.burst_us > DEFAULT_BURST then spare = math.min(b.T, room)
  elseif b.T >= need then spare = math.max(spare, math.min(need, b.B, room)) end
  local piece = need
  if need > LARGE * b.B and not ask.whole and not (b.window and b.window.lossless == 1) then
    piece = math.min(need, math.max(MICRO, math.min(LARGE * b.B, PIECE_TIME * share)))
  end

  local granted = 0
  local available = math.min(b.T, math.max(p.credit + EARLY * share, spare))
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
  if b.R <= 0 then return 0, longest, longest end
  local retry = math.max(0, (piece - (p.credit - granted)) / share * MICRO)
  if granted == 0 then retry = math.max(retry, (piece - b.T) / b.R * MICRO) end
  local met = math.max(0, (need - (contended and p.credit or room) + granted) / share, (need - b.T + granted) / b.R) * MICRO
  if refresh == REFRESH and not ask.whole and (contended or granted == 0) and b.B < SMALL * b.R then
    -- Each has a time of its own at which there is something for it, or all would ask for every token.
    b.queue = math.ceil(math.min(math.max(b.queue, now) + math.max(granted, piece, PART * b.B) / b.R * MICRO, now + longest))
    retry = math.max(retry, b.queue - now)
  end
  if ask.whole then retry = math.min(retry, met) end
  return granted, math.ceil(math.min(longest, retry)), math.ceil(math.min(LONGEST_SLOT, met))
end

local function reason_of(b, ask, recommended, learning, cut, contended)
  if b.R <= 0 or b.reason == 'no_consumers' then return b.reason end
  if cut then return 'window' end
  if learning and ask.want > 0 and b.T < MICRO then return 'learning' end
  if recommended >= ask.demand then return 'ok' end
  if contended and recommended + 1 < b.R then return 'contended' end
  return b.reason
end

-- Who it is stands in fields that are written when they change (not `is_same`); how it fares, for people, once an epoch (in a
-- crowd, a minute).
-- No value is longer than 64 bytes, below which a server packs a hash: half the memory. True where its id is a new one.
local function write_producer(keys, id, b, p, is_same, ask, told, granted, until_us, answer, now)
  local is_known = p.came and is_same
  local is_passing = ask.incarnation == ''             -- a one-shot sender: in the epoch, and on no list
  local is_old = not is_known and (now - p.renewed >= RENEW or now < p.renewed)
  if is_passing then p.renewed = 0 elseif is_old then p.renewed = now end
  p.holds, p.until_us = p.holds + granted, until_us
  redis.call('HSET', keys.member, 'answer', string.sub(answer, 1, 64), 'answer_2', string.sub(answer, 65),
             'ledger', string.format('[%d,%d,%d,%d,%d]', ask.seq, now, math.floor(p.credit), p.holds, until_us - now),
             'place', string.format('[%d,%d,%d,%d,%d,%d]', p.epoch, p.d, p.n, p.under, p.weight, now - p.renewed))
  if is_known then return false end
  if b.refresh > REFRESH and is_same and not is_old then   -- in a crowd, nearly every claim is the first in an epoch
    redis.call('ZADD', keys.producers, string.format('%d', now), id)
    return false
  end
  redis.call('HSET', keys.member, 'demand_per_s', string.format('%.10g', ask.demand / MICRO),
             'share_per_s', string.format('%.10g', told / MICRO), 'held', string.format('%.10g', p.holds / MICRO))
  if not is_same then
    redis.call('HSET', keys.member, 'incarnation', ask.incarnation, 'birth', b.birth, 'priority', p.class, 'weight',
               plain(p.weight))
  end
  if is_passing then
    redis.call('PEXPIRE', keys.member, math.max(KEEP_PASSING_MS, math.ceil(2 * b.length / 1000)))
    return false
  end
  if is_old then redis.call('PEXPIRE', keys.member, KEEP_MEMBER_MS) end
  return redis.call('ZADD', keys.producers, string.format('%d', now), id) == 1
end
