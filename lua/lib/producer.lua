-- One producer's part of a claim: its memory, what it hands back, what it gets.
local CREDIT_TIME = 600000      -- credit piles up no longer than this: a late refresh is forgiven, an absence is not
local BORROW_ABOVE = 0.5        -- the bucket's upper half may be lent to those without credit
local EARLY = 0.005             -- seconds: who comes this much before its slot is served, not sent away
local PUNCTUAL = 1.02           -- a caller on a timer is a little early now and then, measured from its first call
local LARGE = 0.25              -- of the bucket: a need above it is collected in pieces
local PIECE_TIME = 0.1          -- seconds of the producer's rate in a piece
local DEFAULT_BURST = 250000

local ASKED = {'need', 'tokens', 'requested_rate', 'whole', 'held', 'unused', 'burned', 'weight'}
local RANGE = {
  need = {0, 1e15}, tokens = {0, 1e16}, requested_rate = {0, 1e16}, whole = {0, 1}, held = {0, 1e16}, unused = {0, 1e16},
  burned = {0, 1e16}, weight = {10000, 1e9},
}

-- The claim's arguments, or nil and a code that names the one at fault.
local function read_claim()
  if #ARGV ~= 14 then return nil, 'NEXUS_INVALID_ARGUMENTS' end
  if not whole_number(ARGV[1], 0, COUNT) then return nil, 'NEXUS_INVALID_AT_US' end
  local a = {}
  for i, name in ipairs(ASKED) do
    a[name] = whole_number(ARGV[i + 1], RANGE[name][1], RANGE[name][2])
    if not a[name] then return nil, 'NEXUS_INVALID_' .. string.upper(name) end
  end
  a.priority, a.incarnation, a.birth = ARGV[10], ARGV[11], ARGV[13]
  a.seq, a.granted_total = whole_number(ARGV[12], 0, COUNT), whole_number(ARGV[14], 0, COUNT)
  if not CLASS[a.priority] then return nil, 'NEXUS_INVALID_PRIORITY' end
  if a.incarnation ~= '' and not is_name(a.incarnation) then return nil, 'NEXUS_INVALID_INCARNATION' end
  if not a.seq then return nil, 'NEXUS_INVALID_SEQ' end
  if #a.birth > 20 then return nil, 'NEXUS_INVALID_BIRTH' end
  if not a.granted_total then return nil, 'NEXUS_INVALID_GRANTED_TOTAL' end
  a.want, a.demand = a.tokens, a.requested_rate
  if a.whole == 1 then a.want = a.need end
  return a
end

-- at: of its last claim; holds: what it may still hold of what it was given; until: how long that may come back.
local function new_producer(now)
  return {seq = 0, at = now, credit = 0, epoch = 0, d = 0, n = 0, under = 1, weight = 0, class = NORMAL, holds = 0,
          until_us = 0, renewed = 0}
end

local function read_producer(keys)
  local f = redis.call('HMGET', keys.member, 'state', 'answer', 'incarnation', 'birth')
  if not f[1] then return nil end
  local s = numbers(f[1])
  return {seq = s[1], at = s[2], credit = s[3], epoch = s[4], d = s[5], n = s[6], under = s[7], weight = s[8], class = s[9],
          holds = s[10], until_us = s[11], renewed = s[12], incarnation = f[3], birth = f[4]}, f[2]
end

-- An id belongs to the incarnation that claimed last, while its lease lives.
local function check_incarnation(p, ask, now)
  if p.incarnation == ask.incarnation then
    if ask.incarnation == '' then return nil end
    if ask.seq == p.seq then return 'again' end
    return ask.seq < p.seq and 'NEXUS_STALE' or nil
  end
  if p.incarnation ~= '' and now >= p.at and now < p.at + LEASE then return 'NEXUS_ID_TAKEN' end
  return nil
end

local function answer_again(text)
  local reply, n = {}, 0
  for word in string.gmatch(text, '%S+') do
    n = n + 1
    reply[n] = word
  end
  return reply
end

-- The next owner of an id, or the same one in a new life of the budget: debts go on, tokens and credit do not.
local function successor(p, b)
  if p.birth ~= b.birth then return nil end
  p.credit, p.holds, p.until_us = min(p.credit, 0), 0, 0
  return p
end

local function take_back(b, p, ask, now)
  local w = b.window
  if w then turn_window(w, now) end
  local owned = now <= p.until_us and p.holds or 0
  local returned = min(ask.unused, owned)
  local burned = min(ask.burned, p.holds - returned)
  if returned > 0 then hand_back(b, returned) end
  if w and returned > 0 then withdraw_net(w, returned) end
  -- Older ones the window has already written off by itself.
  if w and burned > 0 and now - p.at < 4 * w.slot_us - LEASE then withdraw_net(w, burned) end
  p.holds = min(ask.held, p.holds - returned)
end

local function spend(b, p, ask, need, share, contended, now)
  local cap = max(max(CREDIT_TIME, b.burst_us) / MICRO * share, min(need, b.B))
  p.credit = min(cap, p.credit + share * max(0, now - p.at) / MICRO)
  local room = p.credit + cap * PUNCTUAL              -- as deep as it may go into debt
  local spare = min(b.T - BORROW_ABOVE * b.B, room)
  if contended then spare = min(spare, need)
  elseif b.burst_us > DEFAULT_BURST then spare = min(b.T, room)
  elseif b.T >= need then spare = max(spare, min(need, b.B, room)) end
  local piece = need
  if need > LARGE * b.B and ask.whole == 0 then piece = min(need, max(MICRO, min(LARGE * b.B, PIECE_TIME * share))) end

  local granted = 0
  local available = min(b.T, max(p.credit + EARLY * share, spare))
  if b.R > 0 and ask.want > 0 then
    local first = min(need, ask.want)
    if available >= first then
      local unit = min(MICRO, first)
      granted = min(ask.want, first + unit * floor((available - first) / unit))
    elseif piece < need and available >= piece then
      granted = floor(available / MICRO) * MICRO
    end
  end
  local retry = 0
  if ask.want > 0 then
    local longest = max(LONGEST_WAIT, REFRESH)
    if b.R <= 0 then return 0, longest end
    retry = max(0, (piece - (p.credit - granted)) / share * MICRO)
    if granted == 0 then retry = max(retry, (piece - b.T) / b.R * MICRO) end
    retry = ceil(min(longest, retry))
  end
  return granted, retry
end

-- The window's word: no more than the consumers can hold, and nothing while tokens of a lost state may still travel.
local function admit(b, granted, retry, ask, need, now)
  local w = b.window
  if not w or w.active == 0 or granted == 0 then return granted, retry, false end
  local room, quiet = w.edge - w.net, quiet_us(w, now)
  if w.lossless == 1 and quiet > 0 then
    return 0, min(LONGEST_WAIT, max(quiet, REFRESH)), true
  end
  if room >= granted then return granted, retry, false end
  w.refused = 1
  local unit = min(MICRO, need)
  local fits = max(0, floor(room / unit) * unit)
  if ask.whole == 1 then fits = 0 end
  return fits, max(retry, REFRESH), true
end

local function reason_of(b, ask, recommended, learning, cut, contended)
  if b.R <= 0 or b.reason == 'no_consumers' then return b.reason end
  if cut then return 'window' end
  if learning and ask.want > 0 and b.T < MICRO then return 'learning' end
  if recommended >= ask.demand then return 'ok' end
  if contended and recommended + 1 < b.R then return 'contended' end
  return b.reason
end

-- Those that left without a word go from the list; their hashes go by their TTL.
local function sweep_producers(keys, now)
  local gone = redis.call('ZRANGEBYSCORE', keys.producers, '-inf', whole(now - KEEP_MEMBER_MS * 1000), 'LIMIT', 0, 8)
  if #gone > 0 then redis.call('ZREM', keys.producers, unpack(gone)) end
end

local function write_producer(keys, id, b, p, ask, told, granted, retry, reply, now)
  p.holds = p.holds + granted
  p.until_us = now + LEASE + retry
  local is_new_id = not p.came and redis.call('ZADD', keys.producers, whole(now), id) == 1
  local renew = now - p.renewed >= RENEW or now < p.renewed
  if renew then p.renewed = now end
  redis.call('HSET', keys.member, 'weight', plain(ask.weight), 'priority', ask.priority,
    'demand_per_s', plain(ask.demand), 'share_per_s', plain(floor(told)), 'held', plain(p.holds), 'seq', whole(ask.seq),
    'incarnation', ask.incarnation, 'birth', b.birth,
    'state', packed({ask.seq, now, floor(p.credit), p.epoch, p.d, p.n, p.under, p.weight, p.class, p.holds, p.until_us,
                     p.renewed}),
    'answer', table.concat(reply, ' '))
  if renew then redis.call('PEXPIRE', keys.member, KEEP_MEMBER_MS) end
  if b.rolled then sweep_producers(keys, now) end
  return is_new_id
end
