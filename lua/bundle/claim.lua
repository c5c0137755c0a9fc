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
local is_well, reply = pcall(function()
local string_sub = string.sub
local string_format = string.format
local math_min = math.min
local math_max = math.max
local math_floor = math.floor
local redis_call = redis.call
local math_huge = math.huge
local math_ceil = math.ceil

-- Durations that several scripts share, in microseconds.
-- SECOND = 1000000
-- LEASE = 500000            -- tokens handed out may be spent this long, counted from before the claim was sent
-- REFRESH = 100000          -- how often a busy producer claims; in a crowd both are longer (crowd.lua)
-- LONGEST_TRIP = 1000000     -- of a round trip to Redis, by which a lease is longer
-- REFRESHES = 5             -- in a lease: chances to be heard
-- EPOCH = 250000            -- shortest round of the fair share: everyone in demand comes once in it
-- LONGEST_SLOT = 86400000000    -- as far ahead as a producer is told its turn: a day
-- LONGEST_WAIT = 1000000    -- no producer is told to stay away longer, or it would miss a change of the rate
-- DEFAULT_BURST = 250000     -- of the rate, in a bucket whose budget names no burst
-- INTERVAL = 250000         -- a consumer that names no interval reports this often
-- SHORTEST_DEADLINE = 2000000   -- a consumer that skips a few reports (a pause of its runtime) is not dead
-- STILL = 5000000           -- so long a server's clock that went back stands still: longer than one swings that is steered
-- GRACE = 10000000          -- what the last consumer could take stays so long when it left: a process or a container restarts
-- FORGET_CONSUMER = 10000000    -- after its deadline: what was sent to it has failed by then
-- TRANSIT = 1000000         -- from a token spent to its work seen in Redis, unless the budget says otherwise
-- UNTIL_RESUMED = 9e15      -- the end of a pause without one
-- KEEP_BUDGET_MS = 604800000    -- sweeps only, decides nothing: a week, as long as an incident and a weekend
-- KEEP_MEMBER_MS = 600000       -- likewise, for what is known of one producer or consumer
-- KEEP_PASSING_MS = 5000     -- and of one that only asked once: longer than an epoch
-- RENEW = 60000000          -- how often a TTL is written again
-- Numbers as text. Lua 5.1 knows doubles only, and its tostring() rounds at 14 digits: every number that is stored or
-- answered goes through string_format, in millionths (micro) or microseconds, and is exact to 2^53.
-- MICRO = 1000000
-- COUNT = 9007199254740992     -- 2^53: up to here a double holds every whole number

-- 0.29 -> 290000: to the nearest, since a double of 0.29 may lie just below it.
-- 2500500000 -> '2500.5': for people.
-- A plain decimal within [low, high] as a double, or nil: tonumber alone takes 'nan', 'inf', '0x10' and ' 5 '.
-- Digits only, within [low, high], or nil.
local function whole_number(text, low, high)
  if #text > 17 or not string.match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end

-- What a script has written as a number.
-- Packed state: one text of whole numbers.
-- Packs what only the arithmetic reads with `struct`, which every server has: big-endian, so that any language unpacks it. A
-- number read as text costs several times as much, and a claim has a hundred of them. fakeredis has no `struct`: there the same
-- parts are text, a number takes WIDE characters, and nothing else differs.
local pack, unpacked
local WIDE = struct and 8 or 25     -- of a double
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string.gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string_sub(words[i], 1, tonumber(size)) .. ' '
      elseif kind == 's' then words[i] = words[i] .. ' '
      else words[i] = string_format('%24.17g ', words[i]) end
    end
    return table.concat(words)
  end
  function unpacked(format, text, from)
    local values, at = {}, from or 1
    for kind in string.gmatch(format, '([dfIisc])%d*') do
      local is_text = kind == 's' or kind == 'c'
      local last = is_text and string.find(text, ' ', at, true) or at + WIDE - 1
      if not last or last > #text then error('too short') end
      local word = string_sub(text, at, last - 1)
      values[#values + 1] = is_text and word or tonumber(word) or error('not a number')
      at = last + 1
    end
    values[#values + 1] = at
    return unpack(values)
  end
end
-- The only clock is the server's, asked once per script: hosts' clocks are never compared. A test pins the instant.
-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.

-- {name}, or {name/key} of a key's budget: no name has the stroke, so no key is taken for a name.
-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
-- A claim may come with five of them: budget, state, producers, producer and the producer's state. Their names are looked at
-- where they are new.
-- The id of the producer that claims.
local function id_of(keys) return string_sub(keys.member, #keys.budget + #':producer:' + 1) end
-- The budget's state: one string of packed parts, one after the other. A claim writes the first two and leaves the others.
--
--   bucket    what each claim changes; the schema comes first in every release
--   classes   normal, high, low: the fair share of each
--   epoch     what only the end of an epoch needs
--   sums      sums over the consumers
--   terms     what changes with the rate and the epoch; the last of them are texts, each with a zero at its end
--   window    what the consumers can still hold; only where there is one
-- SCHEMA = 3
-- BUCKET = '>ddddddddddddddddddddd'
-- CLASS = '>dddddddd'
-- EPOCHAL = '>dddddddddddd'
-- SUMS = '>dddddddddd'
-- TERMS = '>dddddddddddddddddddddddss'
-- WINDOW = '>ddddddddddddd'

-- Where they begin, in doubles from the first one.
-- NORMAL_AT = 21
-- HIGH_AT = 29
-- LOW_AT = 37
-- EPOCHAL_AT = 45
-- SUMS_AT = 57
-- TERMS_AT = 67

-- A producer's: what its next claim needs, who it is, and its last answer. There may be a million of these, so they are whole
-- numbers of as few bytes as each needs; a class is its first letter, a reason its first two.
-- ENTRY = '>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7'
-- ANSWER = '>i7I4I4i7i7c2I5'

--- @record b schema at rest T granted granted_rest top top_before half needs demanding retry_max queue crowd saved saved_until fresh late idle idlers spilled
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes behind high
---   turned turned_before halved lost birth reason taker
---   next raw earned window retry_before u first renewed kept lost_old idle_old idlers_old unheard unheard_until told_at told_granted
---   parts has_rest has_new_terms is_new is_revalued is_closed seen_demand seen_demanding settings
-- BUCKET_ENDS = 21
-- TERMS_BEGIN = 22
-- TERMS_END = 46
--- @record class level mark room trim under over demand weight

local function class_at(name) return (name == 'normal' and 21 or name == 'high' and 29 or 37) * WIDE end

local function read_class(raw, name) return {unpacked('>dddddddd', raw, 1 + class_at(name))} end
local function read_window(raw, from)
  local active, edge, net, A, slot, slot_us, lossless, born, s1, s2, s3, s4, s5 = unpacked('>ddddddddddddd', raw, from)
  return {active = active, edge = edge, net = net, A = A, slot = slot, slot_us = slot_us, lossless = lossless, born = born,
          snaps = {s1, s2, s3, s4, s5}}
end

-- With one class of producers; `read_rest` reads the others. nil where there is none, and true where it is of a newer release.
local function packed_bucket(b) return pack('>ddddddddddddddddddddd', unpack(b, 1, 21)) end

local function packed_window(w)
  local s = w.snaps
  return pack('>ddddddddddddd', w.active, w.edge, w.net, w.A, w.slot, w.slot_us, w.lossless, w.born, s[1], s[2], s[3], s[4], s[5])
end

-- What each claim changes. The normal class lies behind the bucket, so that most claims write one piece.
-- The bucket: what the rate has earned and nobody has taken. T tokens of at most B, all in millionths and exact.

-- A rate of R micro-tokens a second is floor(R/1e6) a microsecond and a rest that is carried, so a budget of 1/hour
-- that is asked each millisecond loses nothing.
-- Grants or hand-backs change the bucket and the counter of the budget's life together.
-- Tokens that come back may be spent again only where the bucket had room for them all the while: what it held at its
-- fullest, as long as the longest lease, is already promised to that window.
-- How deep the bucket is at the burst that it has unless told. Shares are kept by what lies in this part of it; a larger
-- burst is for whoever asks first.
local function usual_depth(b) return (1000000 + b[22] * 250000 / 1000000 < b[23] and 1000000 + b[22] * 250000 / 1000000 or b[23]) end
-- Weighted max-min fair shares, O(1) a claim. In an epoch every producer in demand comes once and enters its demand;
-- whoever comes first after its end (epoch.lua) finds the level at which sum(min(demand, level * weight)) is the rate, class by class.
--
-- A class keeps four sums: demand of those under the level, weight of those over it, demand of all, weight of all.
-- 120/s and three who want 1000, 50 and 10: 10 is under any level, 50 too at the end, the level comes out as 60. Who is
-- over and who under is told by the `mark`: the level of the epoch before, or what it would have been, had all not fit.
-- A second claim in an epoch replaces the first one's entry; leaving takes it out.
-- What this producer may run at, in micro-tokens a second: its level, or, uncontended, its demand and its part of the rest.
-- One producer's part of a claim: its memory, what it hands back, what it gets.
-- CREDIT_TIME = 600000      -- credit piles up no longer than this: a late refresh is forgiven, an absence is not
-- LATE = 1.25               -- refreshes; likewise in a crowd, where each is longer
-- BORROW_ABOVE = 0.5        -- the bucket's upper half may be lent to those without credit
-- EARLY = 0.005             -- seconds: a producer that comes this much before its slot is served, not sent away
-- NEARLY = 0.9              -- of a need: credit that falls short of it by less, since the trim has changed, is enough at the slot
-- SOON = 0.7                -- of the time until it has the credit: a place in the queue that comes much sooner is of no use to it
-- PUNCTUAL = 1.02           -- a caller on a timer is a little early now and then, measured from its first call
-- PAYS = 4                  -- times what it hands back, out of its credit,
local PAYS_LEAST, PAYS_MOST = 0.25, 2     -- but no more than so many seconds of its rate, or twice that in between
-- LARGE = 0.25              -- of the bucket: a need above it is collected in pieces
-- PIECE_TIME = 0.1          -- seconds of the producer's rate in a piece
-- MOST_CREDIT = 9e15        -- as much as any bucket holds, and what seven bytes hold of it and as much debt
-- LONGEST_CLAIM = 340       -- bytes
-- SMALL = 0.17              -- seconds of the rate in a bucket that clients ask twice before it is full (CLAIM_GAP in ledger.py)

--- @record ask need want demand whole held unused burned weight priority incarnation seq birth granted_total trip share degraded

-- The claim; raises, or gives nil, where something is wrong with it. Its names are looked at where they are new.
local function read_claim()
  local ask = cjson.decode(ARGV[2])
  local need, want, demand, is_whole, held, unused, burned, weight, priority, incarnation, seq, birth, granted_total,
    trip, share, degraded = unpack(ask)
  share, degraded = share or 0, degraded or 0
  if need >= 0 and need <= 1e15 and want >= 0 and want <= 1e16 and demand >= 0 and demand <= 1e16 and (is_whole == 0 or is_whole == 1)
    and held >= 0 and held <= 1e16 and unused >= 0 and unused <= 1e16 and burned >= 0 and burned <= 1e16
    and weight >= 10000 and weight <= 1e9 and seq >= 0 and seq <= 9007199254740992 and granted_total >= 0 and granted_total <= 9007199254740992
    and trip >= 0 and trip <= 1000000
    and share >= 0 and share <= 1e16 and degraded >= 0 and degraded <= 1e16
    and need % 1 + want % 1 + demand % 1 + held % 1 + unused % 1 + burned % 1 + weight % 1 + seq % 1 + granted_total % 1 + trip % 1 + share % 1 + degraded % 1 == 0
    and (priority == 'normal' or priority == 'high' or priority == 'low')
    and type(birth) == 'string' and #birth <= 20 and incarnation and #ARGV == 2 and #ARGV[2] <= 340 and (#ask == 14 or #ask == 16)
    and (ARGV[1] == '0' or whole_number(ARGV[1], 0, 9007199254740992)) then
    ask[2], ask[4] = is_whole == 1 and (need > want and need or want) or want, is_whole == 1
    ask[15], ask[16] = share, degraded
    return ask
  end
end

-- at: of its last claim; holds: what it may still hold of what it was given; until_us: how long that may come back; renewed: the
-- second in which its ends were last written; slot: from its last claim to the time that is promised to it, 0 for none; share: what it may live on
-- without us (share.lua), negative where nobody waits for it to come.
--- @record p until_us came seq at credit holds left epoch d n class weight renewed under slot share incarnation birth answer_at

-- LEFT_UNIT = 32            -- microseconds
-- SLOT_UNIT = 4             -- likewise
-- AGES = 65536              -- seconds that two bytes tell apart: longer than any TTL of a member

-- When its ends were last written, of one whose were not.
local function long_ago(now) return math_floor((now - 60000000) / 1000000) % 65536 end

-- How much of what it says comes back to the bucket, and how much will never be used.
-- Whoever hands back may have used it all the same, which nobody can see. So what others get of it is paid for with credit. Who
-- then rests, as one that is idle does, has it again before it comes back; who goes on asking has less by more than it lied.
-- One that leaves cannot pay later: as much comes back as it can pay for.
-- Tokens; and else when to ask again, and when what it needs will be there.
-- `is_short`: it got less than it needs. A denial has a reason, so that is never `ok`.
-- How long what is granted may be spent, from before its claim was sent: longer by the round trip, which it spends on its way.
-- What is lossless counts on what is on its way being young.
-- One that is longer than the others is out from now on, so what the bucket held is remembered as long.
-- How it fares, for people, stands in its hash: once an epoch (in a crowd, a minute), and where its class or weight is another.
-- True where its id is a new one.
-- The shares that producers live on while Redis is away: the sum of all that may be in use is never more than half of the rate,
-- and what those that fell silent may be using is missing in the bucket of the others.
--
-- A producer lives on the share that its last answer named, halved each HALVING. The budget keeps the sum of all shares,
-- in parts by what is known of their producers:
--
--   fresh, late    of those whose return is certain, since they hold tokens or wait for some: told since the last turn, and in
--                  the turn before
--   lost           the same, not heard of for a whole turn: dead or cut off. The bucket does not earn these any more
--   idle           of those that need nothing and may be silent for long: at most half of all shares, split evenly among `idlers`
--
-- `lost_old` and `idle_old` are the parts that were told before the last halving: each share in them is halved as often as the
-- producer itself has halved it, or once less. So one addition moves all that are late, and no producer has a timer. An answer
-- may be lost, so a producer's part is the larger of what it says that it has and what it is told now.
-- HALVING = 30000000        -- as HALVED_EACH in ledger.py
-- TURN = 1000000            -- longer than a claim and its answer take on the longest way that is served

-- Takes out what this producer was told with its last answer. True where that is one of the parts that few claims need.
-- At a claim, what it entered with the last one is taken out of all sums, and what it admitted without us is paid.
-- The share that a producer is told: half of what it may run at, as far as the others leave it. It is awaited where it is certain
-- to come again, since it holds tokens, waits for some, or only asks. A caller that tries does not wait. In a crowd nobody is
-- awaited: leases are longer than an outage, and many live for a moment.
-- A large fleet comes less often, so that Redis stays below a core up to a million producers: CLAIMS_PER_S of them, at some 30
-- us each. 100 producers and 1,000 refresh each 0.1 s; 10,000 each 1 s, 100,000 each 10 s. Leases are as much longer.
--
-- The crowd's refresh is found at the end of each epoch (epoch.lua) from those who came in it. Who takes a large part of
-- the budget is spared: however many others there are, those who use 1/k of it are at most k.
-- CLAIMS_PER_S = 10000
-- MOST_OF = 0.85            -- as a client's own gap between two claims
-- FULL = 0.375              -- how full the bucket should stand: room above for what is handed back, below for jitter
-- PLENTY = 0.3              -- of the trim: the bucket is full, or not empty and was full for long
-- SAVE = 0.05               -- few tokens, many waiters: so much slower do credits grow while the bucket is empty

-- For one who is going to use `rate` of the budget's R.
-- Who comes back when. One who got all that was due to it is not back before most of a refresh has passed, if others wait.
-- One who found the bucket empty, as most do in a fleet that started in one moment, has a place in a queue that moves at
-- the budget's rate; from then on, each comes at a time of its own.
--
-- Where nobody is short, all come as soon as in a small fleet: a newcomer cannot say yet what it will use, and who lives for
-- a second has no refresh to wait for. Those back soon stand in that queue too: they are no more than CLAIMS_PER_S.
-- So it is when the bucket is full whatever the level says, which counts those who lived for a second as those who live on:
-- what would have overflowed is no debt.
-- In a crowd an epoch is longer than the bucket is deep, so this is asked at each claim; else at the end of an epoch.
-- One trim for all keeps the bucket from standing full, where rate is lost, and empty, where everyone waits.
-- The window's word on a claim: no more than the consumers can hold, and nothing while tokens of a lost state may still
-- travel. `returned` and `burned`: what the claim brought back, and what it said is lost.
-- The window: what the consumers cannot hold is not admitted. A window in the sense of TCP, over a fleet.
--
-- net = granted - handed back - burned; A = tokens no longer on the way (their work was seen at a consumer, or they are too
-- old to arrive). What is on the way is at most net - A, so with `free` room last reported, grants may go on up to the
-- edge A + free, however old that report is. Under `min` every item touches all consumers: each has an A and an edge.
-- SNAPSHOTS = 5

-- T_x: granted longer ago than this, a token has arrived or never will; in quarters. `lease`: the longest that may be out.
-- Another T_x: what was known of the old one's length ago is all that is known of the new one's.
-- How long nothing may be granted, since what went out before this window was born may still be on its way.
-- Keeps five values of net, a quarter of T_x apart: the oldest is at least T_x old.
-- Tokens that will never arrive anywhere.
-- A server defines a script's functions at each call; these only when one of them is called (bundle_lua.py).
local rarely_given
local function rarely()
  if rarely_given then return rarely_given end
local function whole(x) return string.format('%.0f', x) end
local function micro_of(x) return math.floor(x * 1000000 + 0.5) end
local function plain(micro)
  local text = string.format('%.0f.%06.0f', math.floor(micro / 1000000), micro % 1000000)
  return (string.gsub(string.gsub(text, '0+$', ''), '%.$', ''))
end
local function unplain(text)
  local integer, fraction = string.match(text, '^(%d+)%.?(%d*)$')
  return tonumber(integer) * 1000000 + tonumber(string.sub(fraction .. '000000', 1, 6))
end
local function decimal(text, low, high)
  if #text > 40 or not string.match(text, '^%d+%.?%d*$') then return nil end
  local x = tonumber(text)
  if x >= low and x <= high then return x end
  return nil
end
local function whole_number(text, low, high)
  if #text > 17 or not string.match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end
local PLACES = {'state', 'consumers', 'rates', 'loads', 'capacities', 'frees', 'edges', 'ratios', 'producers', 'history'}
local function is_name(text) return #text <= 64 and string.find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil end
local function is_budget(key)
  local namespace, name = string.match(key, '^(.*):{(.*)}$')
  if not namespace or #name > 64 then return false end
  local parent = string.match(name, '^(.*)/[A-Za-z0-9._-]+$')
  return is_name(namespace) and is_name(parent or name)
end
local function named_keys(kind)
  if #KEYS ~= (kind and 13 or 11) or not is_budget(KEYS[1]) then return nil end
  local keys = {budget = KEYS[1], member = KEYS[12], memory = KEYS[13]}
  for i, place in ipairs(PLACES) do
    if KEYS[i + 1] ~= KEYS[1] .. ':' .. place then return nil end
    keys[place] = KEYS[i + 1]
  end
  if not kind then return keys, nil end
  local prefix = KEYS[1] .. ':' .. kind .. ':'
  local id = string.sub(keys.member, #prefix + 1)
  if keys.member ~= prefix .. id or not is_name(id) or keys.memory ~= keys.member .. ':state' then return nil end
  return keys, id
end
local function id_of(keys) return string.sub(keys.member, #keys.budget + #':producer:' + 1) end
local CLASSES = {'high', 'normal', 'low'}
local function class_at(name) return (name == 'normal' and 21 or name == 'high' and 29 or 37) * WIDE end
local function read_class(raw, name) return {unpacked('>dddddddd', raw, 1 + class_at(name))} end
local function packed_class(class) return pack('>dddddddd', unpack(class, 1, 8)) end
local function packed_bucket(b) return pack('>ddddddddddddddddddddd', unpack(b, 1, 21)) end
local function packed_window(w)
  local s = w.snaps
  return pack('>ddddddddddddd', w.active, w.edge, w.net, w.A, w.slot, w.slot_us, w.lossless, w.born, s[1], s[2], s[3], s[4], s[5])
end
local function refill(b, now)
  local dt = now - b[2]
  b[2] = now
  if dt < 0 then                                     -- the clock went back: learning is not prolonged
    b[27], b[65] = (b[27] + dt > 0 and b[27] + dt or 0), true
  end
  local R, T, B = b[22], b[4], b[23]
  if b[43] > 0 then R = R - math.floor((R / 2 < b[43] and R / 2 or b[43])) end     -- share.lua
  b[49] = R
  if dt > 0 and R > 0 then
    local room = B - T
    if room <= 0 or dt >= room / R * 1000000 + 1 then
      b[21] = b[21] + (R * dt / 1000000 - room > 0 and R * dt / 1000000 - room or 0)
      T, b[3] = B, 0
    else
      local part = R % 1000000 * dt + b[3]
      T, b[3] = T + math.floor(R / 1000000) * dt + math.floor(part / 1000000), part % 1000000
      if T >= B then T, b[3] = B, 0 end
    end
    b[4] = T
  end
  if now < b[9] then
    b[9] = now                                     -- and nothing that the bucket held is forgotten sooner for it
  elseif now - b[9] > b[33] then
    b[8] = now - b[9] < 2 * b[33] and b[7] or 0
    b[7], b[9] = b[4], now
  end
  b[7] = (b[4] > b[7] and b[4] or b[7])
end
local function usual_depth(b) return (1000000 + b[22] * 250000 / 1000000 < b[23] and 1000000 + b[22] * 250000 / 1000000 or b[23]) end
local function long_ago(now) return math.floor((now - 60000000) / 1000000) % 65536 end
local function reply(b, granted, retry, lease, refresh, recommended, fallback, reason, wait, birth, granted_total)
  return string.format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted, retry, lease, refresh, recommended,
    fallback, b[22], b[25], math.floor(b[26] / 1000), granted_total, birth, reason, b[50] and b[50].lossless or 0, b[23],
    wait > retry and string.format(' %d', wait) or '')
end
local function trim(b)
  if b[22] <= 0 then return 0 end
  local depth = usual_depth(b)
  if b[36] == 1 then
    -- Few tokens, many waiters: credits must not grow faster than tokens, or waiters in step starve one another.
    return math.min(1.25, math.max(0, b[4] - (1000000 > 0.8 * depth and 1000000 or 0.8 * depth)) / (0.2 * depth)) - 0.05 * math.max(0, 1 - b[4] / (0.375 * depth))
  end
  return math.min(1.25, math.max(-0.2, b[35] + 0.25 * (b[4] - 0.375 * depth) / (0.5 * depth)))
end
local function quiet_us(w, now) return w.born + 4 * w.slot_us - 3 * 250000 - now end
local function turn_window(w, now)
  local slot = math.floor(now / w.slot_us)
  if slot < w.slot then w.slot = slot end            -- the clock went back: the snapshots only look younger
  w.born = (now < w.born and now or w.born)
  local turns = (5 < slot - w.slot and 5 or slot - w.slot)
  for _ = 1, turns do
    for i = 5, 2, -1 do w.snaps[i] = w.snaps[i - 1] end
    w.snaps[1] = w.net
  end
  w.slot = slot
end
-- What is wrong with a claim, for its refusal.

-- The field at fault in a claim that cannot be read.
local function fault_of_claim()
  local asked = {'need', 'tokens', 'requested_rate', 'whole', 'held', 'unused', 'burned', 'weight', 'priority', 'incarnation',
                 'seq', 'birth', 'granted_total', 'trip', 'fallback_rate', 'degraded'}
  local most = {need = 1e15, whole = 1, weight = 1e9, seq = 9007199254740992, granted_total = 9007199254740992, trip = 1000000}
  if #ARGV ~= 2 then return 'NEXUS_INVALID_ARGUMENTS' end
  if not whole_number(ARGV[1], 0, 9007199254740992) then return 'NEXUS_INVALID_AT_US' end
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

-- Names are looked at where the producer is new, or another's: what is known by them was right.
local function fault_of_names(keys, ask)
  if not is_budget(keys.budget) or not is_name(id_of(keys)) then return 'NEXUS_INVALID_KEYS' end
  if type(ask[10]) ~= 'string' or ask[10] ~= '' and not is_name(ask[10]) then return 'NEXUS_INVALID_INCARNATION' end
  return not string.find(ask[12], '^[%w._-]*$') and 'NEXUS_INVALID_BIRTH'
end

-- The budget's hash, for people: written when something changes, and at the end of each epoch. The settings are here as well.

-- 1800000000250000 -> '2027-01-15T08:00:00.250Z', which `date -d` reads. Days are counted from the first of March of the year 0,
-- so that a leap day is the last of its year.
local function date_of(us)
  local ms = math.floor(us / 1000)
  local s = math.floor(ms / 1000)
  local days = math.floor(s / 86400)
  local from_march = days + 719468
  local era = math.floor(from_march / 146097)
  local of_era = from_march - era * 146097
  local years = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * years + math.floor(years / 4) - math.floor(years / 100))
  local march = math.floor((5 * of_year + 2) / 153)
  local day, month = of_year - math.floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
  local year = era * 400 + years + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(s / 3600) % 24, math.floor(s / 60) % 60,
                       s % 60, ms % 1000)
end

-- The end of a pause; nil: there is none.
local function pause_end(until_us)
  if until_us <= 0 then return nil end
  return until_us >= 9e15 and 'until it is resumed' or date_of(until_us)
end

-- The rate at which a producer of weight 1 is held, where its class wants more than there is.
local function fair_level(class)
  return class[1] < math.huge and plain(math.floor(class[1])) or 'uncontended'
end

local function write_summary(keys, b, now)
  local list = {'HSET', keys.budget, 'schema', whole(3), 'birth', whole(b[44]), 'updated_at', date_of(now),
    'rate_per_s', plain(b[22]), 'level', whole(b[25]), 'load_percent', plain(b[26]), 'reason', b[45],
    'tokens', string.format('%.6f', b[4] / 1000000), 'burst_s', plain(b[24]), 'granted_total', whole(b[5])}
  local function add(field, text)
    list[#list + 1] = field
    list[#list + 1] = text
  end
  for _, name in ipairs(CLASSES) do add('fair_level_' .. name .. '_per_s', fair_level(b[name])) end
  if b[66] or b[68] then
    add('demand_per_s', plain(b[68] and math.floor(b[69]) or 0))
    add('producers_in_demand', whole(b[68] and b[70] or 0))
    local past = now - b[61]
    add('granted_per_s', past > 0 and plain(math.floor((b[5] - b[62]) * 1000000 / past * 1000000)) or '0')
    b[61], b[62] = now, b[5]
  end
  -- Fields that were not there: somebody has lost the hash, and the settings with it. Clients open a new life of a budget again.
  if redis.call(unpack(list)) > 0 and not b[66] then
    b[44], b[28], b[54] = now, now, 0
    redis.call('HSET', keys.budget, 'birth', whole(b[44]))
  end
end

-- The rest of the budget's hash: what only a new budget, a new rate, the end of an epoch and the ends of the keys need.

-- A budget that nobody knows starts with one token, so that a new slow one answers at once, and never with a full bucket,
-- so that a lost state is no free burst. The 2 % are for a caller on a timer, else a millisecond early for ever.
-- FIRST_TOKENS = 1020000

-- `has_settings`: the budget's hash is there, so what stands in it is due at once.
local function new_budget(now, has_settings)
  local b = {}
  b[1] = 3
  b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9] = now, 0, 0, 0, 0, 0, 0, now
  b[10], b[11], b[12], b[13], b[14], b[15], b[16] = 0, 0, 0, 0, 0, 0, 0
  b[22], b[23], b[24], b[25], b[26], b[27], b[28] = 0, 0, 250000, 3, 0, now + 500000, has_settings and now or 0
  b[29], b[30], b[31], b[32], b[33], b[34] = 1, now + 250000, 250000, 100000, 500000, 0
  b[17], b[18], b[19], b[20], b[40], b[41], b[42] = 0, 0, 0, 0, now, now, now
  b[43], b[56], b[57], b[58], b[21], b[59], b[60] = 0, 0, 0, 0, 0, 0, 0
  b[35], b[36], b[37], b[38], b[39], b[44], b[45], b[46] = 0, 0, 0, 0, 0, now, 'unset', ''
  b[51], b[52], b[53], b[54], b[55], b[61], b[62] = 0, 0, 1020000, 0, 0, now, 0
  b[66], b[64], b[67] = true, true, true
  for _, name in ipairs(CLASSES) do b[name] = {math.huge, math.huge, 0, 0, 0, 0, 0, 0} end
  return b
end

-- A budget without a state: one that nobody knows, or its state was evicted. nil and true where it is of a newer release.
local function first_budget(keys, now)
  local schema = redis.call('HGET', keys.budget, 'schema')
  if schema and not whole_number(schema, 0, 9007199254740992) then error('damaged') end
  if schema and tonumber(schema) > 3 then return nil, true end
  return new_budget(now, schema)
end

local function read_rest(keys, b)
  if b[64] then return end
  b[64] = true
  b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59], b[60], b[61],
    b[62] = unpacked('>dddddddddddd', b[48], 1 + 45 * WIDE)
  for _, name in ipairs(CLASSES) do b[name] = b[name] or read_class(b[48], name) end
end

-- The sums over the consumers (consumers.lua), by name.
local PARTS = {'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free', 'load_level', 'noted', 'told'}

local function read_parts(b)
  if b[63] then return b[63] end
  local parts, list = {}, b[48] and {unpacked('>dddddddddd', b[48], 1 + 57 * WIDE)} or {}
  for i, name in ipairs(PARTS) do parts[name] = list[i] or 0 end
  b[63] = parts
  return parts
end
local function packed_sums(b)
  if b[48] and not b[63] then return string.sub(b[48], 1 + 57 * WIDE, 67 * WIDE) end
  local parts, list = read_parts(b), {}
  for i, name in ipairs(PARTS) do list[i] = parts[name] end
  return pack('>dddddddddd', unpack(list))
end

-- A server's clock that goes back stands still here until it has caught up, so that what it lives twice earns once. One that
-- stays behind for STILL was set right: from then on it counts. What it lives again up to where it was (`high`) earns at most
-- STILL between two calls, so that a leap forward to there earns next to nothing.
local function steady(b, now)
  if now < b[2] then
    if b[38] == 0 or now < b[38] then b[38], b[65] = now, true end
    if now - b[38] < 5000000 then return b[2] end
    b[39], b[38], b[65] = (b[2] > b[39] and b[2] or b[39]), 0, true
    return now
  end
  if b[38] > 0 then b[38], b[65] = 0, true end
  if b[39] > 0 then
    b[2] = math.max(b[2], (b[39] < now and b[39] or now) - 5000000)
    if now >= b[39] then b[39], b[65] = 0, true end
  end
  return now
end

-- The budget, or a new one; and the instant by which it goes.
-- What a producer got in a life of the budget that we lost is paid for in this one.
local function pay_for_past(b, p, ask)
  local before = b[4]
  b[4] = ((b[4] - ask[5] > -b[23] and b[4] - ask[5] or -b[23]) < b[4] and (b[4] - ask[5] > -b[23] and b[4] - ask[5] or -b[23]) or b[4])
  p[6] = before - b[4]
end

local function is_renewal_due(b, now) return now - b[54] >= 60000000 or now < b[54] end

-- An operator's setting outlives any silence; everything else goes a week after the last call.
local function renew(keys, b)
  for place, key in pairs(keys) do
    if place ~= 'member' and place ~= 'memory' then
      if b[55] == 1 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, 604800000) end
    end
  end
end

-- All of it. TTLs are written again each minute, and at once (`may_be_new`) where a key may be new.
local function write_whole(keys, b, now, may_be_new)
  read_rest(keys, b)
  may_be_new = may_be_new or is_renewal_due(b, now)
  if may_be_new and (keys.history or b[66]) then b[54] = now end     -- not when a claim came with a few of them
  if b[66] or b[67] or b[68] then write_summary(keys, b, now) end
  -- After the summary, which may begin a new life.
  local state = {packed_bucket(b), packed_class(b['normal']), packed_class(b['high']), packed_class(b['low']),
    pack('>dddddddddddd', b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59],
         b[60], b[61], b[62]),
    packed_sums(b), pack('>dddddddddddddddddddddddss', unpack(b, 22, 46)),
    b[50] and packed_window(b[50]) or ''}
  redis.call('SET', keys.state, table.concat(state), 'KEEPTTL')
  if may_be_new then renew(keys, b) end
end

-- Who comes first under an id, who comes after another, and who asks twice.
-- UNHEARD = 2000000         -- longer than a lease and the time that a client takes to find the new primary

local function new_producer(now)
  local p = {}
  p[3], p[4], p[5], p[6], p[8], p[9], p[10], p[12], p[14] = 0, now, 0, 0, 0, 0, 0, 0, 1
  p[1], p[13], p[15], p[16] = 0, long_ago(now), 0, 0
  return p
end

-- An id belongs to the incarnation that claimed last, while its lease lives.
local function is_owned(p, b, now)
  return p[17] ~= '' and now >= p[4] and now < (p[1] < p[4] + b[33] and p[1] or p[4] + b[33])
end

-- The next owner of an id, or the same one in a new life of the budget: debts go on, tokens and credit do not.
local function successor(p, b)
  if p[18] ~= b[44] then return nil end
  p[5], p[6], p[1] = (0 < p[5] and 0 or p[5]), 0, 0
  return p
end

-- Nobody was served here for a lease: another server may have granted all that was in the bucket and has been earned since, and
-- those who know of it have not all come yet.
local function note_gap(keys, b, now)
  read_rest(keys, b)
  b[59], b[60] = math.floor((b[4] > 0 and b[4] or 0) + b[22] / 1000000 * (now - b[2])), now + 2000000
end

-- A client that saw a higher count of grants than we know met a server that has since forgotten some (a failover). More than
-- may have been granted there (`unheard`) is the word of one: it is taken from the bucket as if this producer had
-- claimed it, so it costs its own share, and a bucket in advance at most.
local function repair(b, p, seen, now)
  local missing, lost = (seen - b[5]) * 1000000, 0
  if now < b[60] then
    lost = (b[59] < missing and b[59] or missing)
    b[59] = b[59] - lost
  end
  local own = math.min(missing - lost, ((p[5] + b[23] < b[4] - lost and p[5] + b[23] or b[4] - lost) > 0 and (p[5] + b[23] < b[4] - lost and p[5] + b[23] or b[4] - lost) or 0))
  p[5] = p[5] - own
  b[4] = ((b[4] - lost - own > -b[23] and b[4] - lost - own or -b[23]) < b[4] and (b[4] - lost - own > -b[23] and b[4] - lost - own or -b[23]) or b[4])
  local total = b[6] + lost + own
  if lost + own >= missing then b[5], b[6] = seen, 0
  else b[5], b[6] = b[5] + math.floor(total / 1000000), total % 1000000 end
end

-- Grants that a failover has lost are taken from the bucket, and they are on their way for the window. The first who claims
-- may not be the one that knows of the last of them, so a lossless budget waits until all of them have been heard.
local function make_good(keys, b, p, seen, now)
  read_rest(keys, b)
  local w, before = b[50], b[5]
  repair(b, p, seen, now)
  if not w then return end
  local missing = (b[5] - before > 0 and b[5] - before or 0) * 1000000
  turn_window(w, now)
  w.net = w.net + missing
  if w.lossless == 1 and quiet_us(w, now) <= 0 then w.born = now end
end

-- The reply to the same claim once more: what it got, and the budget as it is now.
local function remembered(keys, b, p, trip)
  local granted, retry, refresh, recommended, fallback, letters, wait = unpacked('>i7I4I4i7i7c2I5', redis.call('GET', keys.memory), p[19])
  local reason
  for _, word in ipairs({'ok', 'rate', 'load', 'contended', 'learning', 'window', 'paused', 'no_consumers', 'unset'}) do
    if string.sub(word, 1, 2) == string.sub(letters, 1, 2) then reason = word end
  end
  local is_lossless = b[50] and b[50].lossless == 1
  return reply(b, granted, retry, refresh * 5 + (is_lossless and 0 or trip), refresh, recommended, fallback, reason or 'ok', wait,
               p[18], p[18] == b[44] and b[5] or 0)
end

-- What each consumer contributes to the budget lies in sorted sets of fixed names, never only in its own hash: whoever
-- comes by may take out one that fell silent. Sums are kept in the state; the least and the highest are ZRANGE 0 0.
--
-- A consumer is live until its deadline, then silent for ten seconds (work may still be sent to it), then forgotten. Its
-- score in `consumers` is the end of the state it is in; it is live while it has a rate.
-- SWEPT_PER_CALL = 16
-- NO_RATIO = 1e300          -- rate / arrivals of one to whom nothing comes: never the least

local function score(key, id)
  local text = redis.call('ZSCORE', key, id)
  return text and tonumber(text) or nil
end

-- Whether a sum can be that of so many scores, by the lowest and the highest of them. If it cannot, somebody has changed a score
-- by hand. Free space may be below zero.
local function can_be_sum(key, count, sum)
  if count == 0 then return sum == 0 end
  local lowest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local highest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
  if not lowest then return false end
  lowest, highest = tonumber(lowest), tonumber(highest)
  local rounding = 1e-9 * count * math.max(math.abs(lowest), math.abs(highest))
  return sum >= highest + (count - 1) * lowest - rounding and sum <= lowest + (count - 1) * highest + rounding
end

-- Touches every key before anything is written, so that one of a wrong type raises here. Are the sums those of the sets?
local function are_whole(keys, parts)
  local size = {}
  for place, key in pairs(keys) do
    if place == 'history' then redis.call('XLEN', key)
    elseif place == 'state' or place == 'memory' then redis.call('STRLEN', key)
    elseif place ~= 'budget' and place ~= 'member' then size[place] = redis.call('ZCARD', key) end
  end
  return size.rates == parts.live and size.capacities == parts.live and size.loads == parts.live
    and size.ratios == parts.live and size.frees == parts.bounded and size.consumers >= parts.live
    and can_be_sum(keys.rates, parts.live, parts.rate) and can_be_sum(keys.frees, parts.bounded, parts.free)
end

-- Sums weigh load (thousandths of a percent) with whole tokens of capacity, so that they stay exact.
local function weight_of(capacity) return math.ceil(capacity / 1000000) end

-- Takes a consumer's rate and load out; what it can hold stays while work may still be on its way there.
local function withdraw_rate(keys, parts, id)
  local rate = score(keys.rates, id)
  if not rate then return end
  local weight = weight_of(score(keys.capacities, id))
  parts.live = parts.live - 1
  parts.rate = parts.rate - rate
  parts.capacity = parts.capacity - weight
  parts.load = parts.load - weight * score(keys.loads, id)
  parts.arrivals = parts.arrivals - math.floor(rate / score(keys.ratios, id))
  for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do redis.call('ZREM', key, id) end
end

local function withdraw_space(keys, parts, id)
  local free = score(keys.frees, id)
  if not free then return end
  parts.bounded, parts.free = parts.bounded - 1, parts.free - free
  redis.call('ZREM', keys.frees, id)
  redis.call('ZREM', keys.edges, id)
end

local function withdraw_consumer(keys, parts, id)
  withdraw_rate(keys, parts, id)
  withdraw_space(keys, parts, id)
  redis.call('ZREM', keys.consumers, id)
end

-- part: {rate, capacity, load, free or nil, edge or nil, arrivals}; rates and space in micro, load in thousandths of a
-- percent. What it contributed before has been withdrawn. Everything added is a whole number, so that the sums stay exact.
-- A key was evicted or lost: the sums say one thing and the sets another. All consumers are taken for silent then, and
-- each comes back with its next report.
local function mend(keys, s)
  if s.is_whole then return end
  s.is_whole, s.last_end = true, 'silent'
  for _, name in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do s.parts[name] = 0 end
  redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
  for _, place in ipairs({'consumers', 'rates', 'capacities', 'loads', 'ratios', 'frees', 'edges'}) do
    redis.call('DEL', keys[place])
  end
end

local function least(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or nil
end

-- Live ones whose deadline has passed fall silent, silent ones are forgotten, a few per call. Gives how many fell silent.
local function sweep_consumers(keys, parts, combine, now)
  local fell = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, 16)) do
    if score(keys.rates, id) then
      withdraw_rate(keys, parts, id)
      if combine == 'sum' then withdraw_space(keys, parts, id) end    -- nobody pulls there any more
      redis.call('ZADD', keys.consumers, whole(now + 10000000), id)
      fell = fell + 1
    else
      withdraw_consumer(keys, parts, id)
    end
  end
  return fell
end

local function silent_consumers(keys, parts) return redis.call('ZCARD', keys.consumers) - parts.live end

-- Nobody is silent, and nobody so late that what came to it lately has not been heard of.
-- Settings as they stand: what an operator set wins over what code set, and taking it away brings the code's back.
-- Both are kept, one field each, so that HGETALL shows who wants what.
local SETTINGS = {'rate', 'min_rate', 'burst', 'law', 'combine', 'latency_target_ms', 'lossless', 'transit', 'grace'}

local function per_second(text)
  local x = decimal(text, 0, 1e9)
  if not x or (x > 0 and x < 1e-6) then return nil end
  return micro_of(x)
end
local function duration(text)
  local x = decimal(text, 0, 86400)
  return x and micro_of(x)
end
local function one_of(...)
  local words = {}
  for _, word in ipairs({...}) do words[word] = word end
  return function(text) return words[text] end
end

-- Each gives the value in the unit of the arithmetic, or nil when the text is not one.
local READ = {
  rate = per_second, min_rate = per_second, burst = duration, law = one_of('range', 'drain', 'aimd'),
  combine = one_of('sum', 'spread', 'min'), latency_target_ms = function(text) return decimal(text, 0, 86400000) end,
  lossless = function(text) return ({['0'] = 0, ['1'] = 1})[text] end, transit = duration,
  grace = duration,
}
local DEFAULT = {min_rate = 0, burst = 250000, combine = 'sum', lossless = 0, grace = 10000000}

-- fields: texts by name, 'rate_by_code' and so on.
local function effective(fields)
  local s = {}
  for _, name in ipairs(SETTINGS) do
    local text = fields[name .. '_by_operator'] or fields[name .. '_by_code']
    if text then s[name] = READ[name](text) or error('damaged') else s[name] = DEFAULT[name] end
  end
  s.floor = s.min_rate
  if s.rate then s.min_rate = (s.rate < s.min_rate and s.rate or s.min_rate) end        -- a floor of one source under a ceiling of the other
  s.loop_delay = math.max(0.5, (s.transit or 0) / 1000000)
  s.transit = s.transit or 1000000
  return s
end

-- What one source wants by itself.
local function number_of(text) return text and (tonumber(text) or error('damaged')) or 0 end

-- The settings, and what a change of the rate needs beside them.
local function read_settings(keys, b)
  local names = {'last_consumer_end', 'paused_until_us', 'left_us', 'left_rate_per_s'}
  for _, name in ipairs(SETTINGS) do
    names[#names + 1] = name .. '_by_operator'
    names[#names + 1] = name .. '_by_code'
  end
  local found, fields = redis.call('HMGET', keys.budget, unpack(names)), {}
  for i, name in ipairs(names) do fields[name] = found[i] or nil end
  local s = effective(fields)
  s.fields, s.parts, s.last_end = fields, read_parts(b), fields.last_consumer_end
  s.left, s.left_rate = number_of(fields.left_us), unplain(fields.left_rate_per_s or '0')
  s.is_whole = are_whole(keys, s.parts)
  s.paused_until = number_of(fields.paused_until_us)
  return s
end

-- The one place where the budget's rate is decided: from what its consumers contribute, its ceiling and floor, a pause.
local RISE = {70, 90, 100}      -- percent of load at which levels 1, 2 and 3 begin
-- HYSTERESIS = 5            -- points below that, the level falls again
-- NOTED_CHANGE = 0.1        -- the history has an entry each time the rate moved this much
local MOST = 1e9 * 1000000        -- the protocol's range
-- PUSHED_PERCENT = 10       -- a fall by so much is told at once to whoever listens
-- THIN = 50                 -- a consumer that gets less than 2 % of the arrivals counts as one that gets 2 %

-- One token and the burst's seconds of the rate.
local function burst_of(R, burst_us)
  if R <= 0 then return 0 end
  return math.min(1000000 + math.floor(R * burst_us / 1000000), 9e15)
end

-- A new rate keeps the tokens and scales what the fair share last found, so that all follow within one claim.
local function set_rate(keys, b, R, burst_us)
  local B = R > 0 and burst_of(R, burst_us) or b[23]       -- at a rate of 0 nothing is earned, and what was earned stays
  read_rest(keys, b)
  if R ~= b[22] then
    for _, name in ipairs(CLASSES) do
      local class = b[name]
      if b[22] > 0 and R > 0 then
        class[1], class[2], class[3] = class[1] * (R / b[22]), class[2] * (R / b[22]), math.floor(class[3] * (R / b[22]))
      else
        class[1], class[2], class[3] = math.huge, math.huge, R
      end
    end
    b[3] = 0
    b[13] = 0                                        -- what was promised at the rate before holds no more
  end
  b[22], b[23], b[24], b[49] = R, B, burst_us, R - math.floor((R / 2 < b[43] and R / 2 or b[43]))
  if R > 0 and b[53] > 0 then b[4], b[53] = b[4] + b[53], 0 end    -- the first rate of this life
  b[4] = (B < b[4] and B or b[4])
  b[67] = true
end

local function level_at(load_percent, was)
  local up, down = 0, 0
  for level, from in ipairs(RISE) do
    if load_percent >= from then up = level end
    if load_percent >= from - 5 then down = level end
  end
  return ((down < was and down or was) > up and (down < was and down or was) or up)
end

-- Never 0 but where one whose part cannot be left out is paused: no law says 0.
local function combined_rate(keys, parts, combine)
  if combine == 'sum' then return (MOST < parts.rate and MOST or parts.rate) end
  local lowest = least(keys.rates)
  if combine == 'min' then return lowest end
  local rate = math.min(parts.rate, 50 * lowest, MOST)
  if parts.arrivals > 0 then rate = math.min(rate, parts.arrivals * least(keys.ratios)) end
  return math.floor(rate + 0.5)
end

local function combined_load(keys, parts, combine)
  if combine == 'sum' and parts.capacity > 0 then return parts.load / parts.capacity end
  local first = redis.call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or 0
end

-- The last consumer left, as in a restart: until then it counts as if it could take what it could.
local function grace_end(s) return s.parts.live == 0 and s.last_end == 'left' and s.left + s.grace or 0 end

-- rate, level, load (thousandths of a percent), reason
local function decide(keys, s, now)
  local parts = s.parts
  local load = parts.live > 0 and math.floor(combined_load(keys, parts, s.combine) + 0.5) or 0
  parts.load_level = level_at(load / 1000, parts.load_level)
  if s.paused_until > now then return 0, 3, load, 'paused' end
  if parts.live > 0 then
    if s.combine == 'min' and silent_consumers(keys, parts) > 0 then return s.min_rate, 3, load, 'no_consumers' end
    local rate = combined_rate(keys, parts, s.combine)
    if s.rate and rate >= s.rate then return s.rate, parts.load_level, load, 'rate' end
    if rate == 0 then return 0, 3, load, 'paused' end
    return (s.min_rate > rate and s.min_rate or rate), parts.load_level, load, 'load'
  end
  if s.last_end == 'silent' then return s.min_rate, 3, 0, 'no_consumers' end
  if s.lossless == 1 then return 0, 3, 0, 'window' end      -- nobody says what can be held
  if s.rate and s.left_rate < s.rate and now < grace_end(s) then return (s.min_rate > s.left_rate and s.min_rate or s.left_rate), 0, 0, 'load' end
  if s.rate then return s.rate, 0, 0, 'rate' end
  return s.min_rate, 3, 0, s.last_end and 'no_consumers' or 'unset'
end

-- net only grows, so it starts again long before a double forgets single micro-tokens. Under `min` each consumer has an A.
local function rebase_window(w, keys, combine)
  if w.net < 4e15 then return end
  local base, edges = combine == 'min' and w.net or w.A, redis.call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
  for i = 1, 5 do base = (w.snaps[i] < base and w.snaps[i] or base) end
  for i = 1, #edges, 2 do base = math.min(base, tonumber(edges[i + 1]) - score(keys.frees, edges[i])) end
  w.net, w.A = w.net - base, (w.A - base > 0 and w.A - base or 0)
  for i = 1, 5 do w.snaps[i] = w.snaps[i] - base end
  for i = 1, #edges, 2 do redis.call('ZADD', keys.edges, whole(tonumber(edges[i + 1]) - base), edges[i]) end
end

-- What the consumers can still hold, as the claim needs it.
local function settle_window(keys, b, s)
  local w, parts = b[50], s.parts
  if not w then return end
  rebase_window(w, keys, s.combine)
  w.lossless = s.lossless
  local cold = redis.call('ZCOUNT', keys.capacities, 0, 0)
  w.active = (s.lossless == 1 or (cold > 0 and parts.bounded >= parts.live)) and 1 or 0
  if s.combine == 'min' then
    local known = redis.call('ZCARD', keys.edges) == redis.call('ZCARD', keys.consumers)
    w.edge = known and least(keys.edges) or (w.net < w.A and w.net or w.A)      -- one that has not said what it holds may be full
  elseif s.combine == 'spread' then w.edge = w.A + (least(keys.frees) or 0)
  else w.edge = w.A + parts.free end
end

-- `act`: who did it, what changed, and why. An empty text is left out.
local function note(keys, b, by, act)
  local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(b[22]), 'level', whole(b[25]),
                 'load_percent', plain(b[26]), 'reason', b[45], 'by', by}
  for _, field in ipairs({'who', 'what', 'why'}) do
    local told = act and act[field]
    if told and told ~= '' then
      entry[#entry + 1] = field
      entry[#entry + 1] = told
    end
  end
  redis.call(unpack(entry))
  read_rest(keys, b)
  if b[55] == 0 then redis.call('PEXPIRE', keys.history, 604800000) end
end

-- Whoever listens hears of a drop before its next claim tells it. Nobody has to, and nothing rests on it: a caller without
-- the right to publish has its answer all the same. The count of grants says which answers are older than this.
local function push(keys, b)
  redis.pcall('PUBLISH', keys.budget .. ':flow',
              string.format('%.0f %.0f %.0f %.0f %s', b[44], b[5], b[22], b[25], b[45]))
end

-- Evaluates the budget and says when that is due again. `by` (the cause) and `act` are for the history, which always has an
-- entry if `is_act`.
local function settle(keys, b, s, now, by, is_act, act)
  redis.call('HSET', keys.budget, 'schema', whole(3))     -- a server without memory refuses here, before any change
  mend(keys, s)
  local parts = s.parts
  if sweep_consumers(keys, parts, s.combine, now) > 0 and parts.live == 0 then
    s.last_end = 'silent'
    redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
  end
  local rate, level, load, reason = decide(keys, s, now)
  local turned = level ~= b[25] or reason ~= b[45]
  parts.told = (b[22] > parts.told and b[22] or parts.told)               -- many small steps are a drop as well
  local is_drop = rate < b[22] and 100 * rate <= (100 - 10) * parts.told
  local is_rise = b[22] == 0 and rate > 0 and not b[66]
  local is_told = is_drop or is_rise or (level == 3 and b[25] < 3)
  if turned or b[66] or rate ~= b[22] or s.burst ~= b[24] or load * 1000 ~= b[26] then
    set_rate(keys, b, rate, s.burst)
    b[25], b[26], b[45] = level, load * 1000, reason
  end
  if is_act or turned or math.abs(rate - parts.noted) > 0.1 * parts.noted then
    parts.noted = rate
    note(keys, b, by, act)
  end
  if is_told then
    push(keys, b)
    parts.told = rate
  end
  settle_window(keys, b, s)
  b[28], b[65] = least(keys.consumers) or 0, true
  b[37] = s.paused_until > now and s.paused_until or 0
  for _, at in ipairs({b[37], grace_end(s)}) do
    if at > now and (b[28] == 0 or at < b[28]) then b[28] = at end
  end
end

-- A clock that steps back would keep the dead alive: what lies in the future moves back with it.
local function rebase_clock(keys, b, s, now)
  local step = b[2] - now
  for _, id in ipairs(redis.call('ZRANGE', keys.consumers, 0, -1)) do
    redis.call('ZINCRBY', keys.consumers, whole(-step), id)
  end
  if s.paused_until > 0 and s.paused_until < 9e15 then
    s.paused_until = (s.paused_until - step > 0 and s.paused_until - step or 0)
    redis.call('HSET', keys.budget, 'paused_until_us', whole(s.paused_until), 'paused_until', pause_end(s.paused_until) or '')
    b[37] = s.paused_until
  end
  if s.left > 0 then
    s.left = (s.left - step > 0 and s.left - step or 0)
    redis.call('HSET', keys.budget, 'left_us', whole(s.left))
  end
  b[28] = (b[28] - step > 0 and b[28] - step or 0)
end

-- Every script's first steps: the bucket earns at the old rate, then what has become due is settled.
local function advance(keys, b, now)
  local is_back = b[2] - now >= 1000000
  if is_back or (b[28] > 0 and now >= b[28]) then b[71] = read_settings(keys, b) end
  if is_back then rebase_clock(keys, b, b[71], now) end
  -- From the end of a pause on the bucket earns again, however late the first call after it is.
  local resumed = b[37] > b[2] and now >= b[37]
  refill(b, resumed and b[37] or now)
  if b[28] > 0 and now >= b[28] then settle(keys, b, b[71], now, 'deadline') end
  if resumed then refill(b, now) end
end

-- The turns of the outage shares (share.lua), and the claims of those that come back after one.
-- SHARE_ENDS = 300000000    -- as SHARE_LASTS in ledger.py: nobody lives on a share for longer
-- DEEPEST = 2               -- seconds of the rate that may be owed: a fleet is not stopped for longer

-- What is left of a sum from which the shares were taken that it had, each as a float of four bytes.
local function beyond_rounding(b, sum) return sum > b[22] / 1e6 and sum or 0 end

-- Takes out the share of one that was taken for lost, or that was idle for long.
local function withdraw_old_share(keys, b, p)
  read_rest(keys, b)
  local share = math.abs(p[16])
  local is_old, part = p[4] < b[42], 1
  if is_old then part = 2 ^ -math.floor((b[42] - p[4]) / 30000000) end
  share, b[65] = math.min(math.floor(share * part), p[16] > 0 and b[43] or b[19]), true
  if p[16] > 0 then
    b[43] = beyond_rounding(b, b[43] - share)
    b[56] = math.min(b[43], is_old and (b[56] - share > 0 and b[56] - share or 0) or b[56])
  else
    b[19], b[20] = b[19] - share, (b[20] - part > 0 and b[20] - part or 0)
    b[57], b[58] = (b[57] - share > 0 and b[57] - share or 0), (b[58] - part > 0 and b[58] - part or 0)
  end
end

local function halve_old(b, now)
  b[42] = (now < b[42] and now or b[42])
  local halvings = math.floor((now - b[42]) / 30000000)
  if halvings < 1 then return end
  local part = 2 ^ (1 - halvings)
  b[43] = math.floor((b[43] - b[56] / 2) * part)
  b[19] = math.floor((b[19] - b[57] / 2) * part)
  b[20] = (b[20] - b[58] / 2) * part
  b[56], b[57], b[58] = b[43], b[19], b[20]
  b[42] = b[42] + halvings * 30000000
end

local function turn_shares(b, now)
  if now < b[40] then b[40], b[41] = now, (b[41] < now and b[41] or now) end     -- the clock went back
  b[19], b[20] = (b[19] > b[57] and b[19] or b[57]), (b[20] > b[58] and b[20] or b[58])
  halve_old(b, now)
  local turn = math.max(1000000, b[33], b[31])
  if now - b[40] < turn then return end
  local silence = now - b[40] - turn                -- nobody came meanwhile, so every share is as old as that
  if silence < 30000000 then
    b[43], b[18], b[17] = b[43] + beyond_rounding(b, b[18]), beyond_rounding(b, b[17]), 0
    b[41] = b[40]
  else
    if silence < 300000000 then b[43] = b[43] + math.floor((b[18] + b[17]) * 2 ^ -math.floor(silence / 30000000)) end
    b[18], b[17], b[41] = 0, 0, now
  end
  b[40], b[21] = now, b[21] / 2
end

-- What was admitted by a share was sent all the same, as if it had been granted. No more than the share can have given: for
-- one whose return was certain, until the bucket earned less for it. Tokens that nobody took meanwhile pay first.
local function pay_degraded(b, p, degraded, now)
  local alone = (now - p[4] > 0 and now - p[4] or 0)
  if p[16] > 0 then alone = math.min(alone, 2 * math.max(1000000, b[33], b[31])) end
  local owed = math.min(degraded, math.abs(p[16]) * alone / 1000000)
  local paid = (b[21] < owed and b[21] or owed)
  owed, b[21] = math.floor(owed - paid), b[21] - paid
  b[4], p[5] = ((b[4] - owed > -2 * b[22] and b[4] - owed or -2 * b[22]) < b[4] and (b[4] - owed > -2 * b[22] and b[4] - owed or -2 * b[22]) or b[4]), p[5] - owed
end

-- The end of an epoch of the fair share (fair.lua): whoever comes first after it finds each class' level, and the sums begin
-- again.
-- RESERVE = 0.05            -- what a lower class in demand keeps of the rate
-- LONGEST_REFRESH = 60000000    -- a lease and a wait end before KEEP_MEMBER_MS; from 600,000 producers on, more claims

-- The level, infinite where all fit; and the mark for the next epoch: the same, or where there is none, what it would be
-- if one more came who wants all that there is.
local function level_of(class)
  if class[8] <= 0 then return math.huge, class[3] end
  local share = class[3] / class[8] * 1000000
  if class[7] <= class[3] then return math.huge, math.max(share, (class[3] - class[5]) / (1000000 > class[6] and 1000000 or class[6]) * 1000000) end
  if class[6] > 1e-9 * class[8] and class[5] < class[3] then
    local level = math.max(share, (class[3] - class[5]) / class[6] * 1000000)
    return level, level
  end
  -- Those under the mark want more than there is, so it was too high: the level lies between what it is if all of them are
  -- alike and if a few want all of it.
  return share, math.sqrt(share * math.max(share, (class[3] < class[2] and class[3] or class[2]) * (class[3] / class[5])))
end

local function settle_trim(b, is_contended)
  local depth = usual_depth(b)
  b[36] = b[10] > depth / 4 and 1 or 0
  if is_contended and b[22] > 0 and b[36] == 0 then
    b[35] = math.min(1, math.max(-0.2, b[35] + 0.05 * (b[4] - 0.375 * depth) / (0.5 * depth)))
  else
    b[35] = 0
  end
  b[52] = is_contended and trim(b) or 0
end

-- `span` is the longest lease that may be out: when leases get shorter, the long ones live on until they end.
local function fit_refresh(b, crowd, now)
  if now >= b[34] then b[33], b[34] = b[32] * 5, 0 end
  local wanted = 0
  if not (b[50] and b[50].lossless == 1) then    -- what is lossless counts on what is on its way being young
    wanted = crowd / 10000 * 1000000
  end
  -- A fleet is never counted twice alike: a little less changes nothing.
  if wanted <= b[32] and wanted >= b[32] / 2 then return end
  local before = b[32]
  b[32] = math.ceil(((wanted > 100000 and wanted or 100000) < 60000000 and (wanted > 100000 and wanted or 100000) or 60000000))
  if b[32] < before then b[34] = now + b[33]
  elseif b[32] * 5 >= b[33] then b[33], b[34] = b[32] * 5, 0 end
end

local function roll_epoch(keys, b, now)
  redis.call('HLEN', keys.budget)                      -- of another type it raises here, before anything is written
  read_rest(keys, b)
  turn_shares(b, now)
  local R, crowd = b[49], b[14]
  b[68], b[69], b[70] = true, 0, b[11]
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    b[69] = b[69] + class[7]
  end
  local function empty()
    for _, name in ipairs(CLASSES) do
      local class = b[name]
      class[5], class[6], class[7], class[8] = 0, 0, 0, 0
    end
    b[10], b[11], b[14], b[29] = 0, 0, 0, b[29] + 1
  end
  local is_cut = b[30] - now > b[31]               -- the clock went back
  local is_silent = now - b[30] > b[31]
  if is_silent then                                    -- nobody came for a whole epoch: it says nothing about today
    crowd, b[69], b[70] = 0, 0, 0
    empty()
  end
  local left, kept, is_contended = R, 0, false
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    kept = kept + (0.05 * R < class[7] and 0.05 * R or class[7])
  end
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    kept = kept - (0.05 * R < class[7] and 0.05 * R or class[7])
    class[3] = math.floor((0.05 * R > left - kept and 0.05 * R or left - kept))
    class[1], class[2] = level_of(class)
    left = left - (class[3] < class[7] and class[3] or class[7])
    is_contended = is_contended or class[1] < math.huge
  end
  settle_trim(b, is_contended)
  -- The highest class that wants more gets what is to spare and gives what is missing: those below live on their part.
  b[46] = ''
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    class[4] = b[46] == '' and b[52] or 0
    if b[46] == '' and class[1] < math.huge then b[46] = name end
  end
  empty()
  local refresh_before = b[32]
  -- After an outage, or a step of the clock, all may be back in a moment.
  if not is_cut and not (is_silent and now - b[30] < 600000 * 1000) then fit_refresh(b, crowd, now) end
  b[31] = math.ceil(math.max(250000, 1.5 * (b[32] > refresh_before and b[32] or refresh_before), 1.1 * (b[51] > b[12] and b[51] or b[12])))
  b[30] = now + b[31]
  b[51], b[12] = b[12], 0
end

-- Those that left without a word go from the list; their hashes go by their TTL.
local function sweep_producers(keys, now)
  local gone = redis.call('ZRANGEBYSCORE', keys.producers, '-inf', whole(now - 600000 * 1000), 'LIMIT', 0, 8)
  if #gone > 0 then redis.call('ZREM', keys.producers, unpack(gone)) end
end
rarely_given = {advance = advance, fault_of_claim = fault_of_claim, fault_of_names = fault_of_names, first_budget = first_budget, is_owned = is_owned, is_renewal_due = is_renewal_due, make_good = make_good, named_keys = named_keys, new_producer = new_producer, note_gap = note_gap, pay_degraded = pay_degraded, pay_for_past = pay_for_past, read_rest = read_rest, remembered = remembered, roll_epoch = roll_epoch, steady = steady, successor = successor, sweep_producers = sweep_producers, withdraw_old_share = withdraw_old_share, write_whole = write_whole}
  return rarely_given
end

local is_read, ask = pcall(read_claim)
local few_keys_1
repeat
  if #KEYS ~= 5 then few_keys_1 = nil break end
  local budget, member = KEYS[1], KEYS[4]
  local prefix = budget .. ':producer'
  if KEYS[2] ~= budget .. ':state' or KEYS[3] ~= prefix .. 's' or KEYS[5] ~= member .. ':state'
    or string_sub(member, 1, #prefix + 1) ~= prefix .. ':' then few_keys_1 = nil break end
  few_keys_1 = {budget = budget, state = KEYS[2], producers = KEYS[3], member = member, memory = KEYS[5]}
  break
until true
local keys = few_keys_1
if not keys then keys = rarely().named_keys('producer') end
if not is_read or not ask then return {err = rarely().fault_of_claim()} end
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end
local clock_1
repeat
local at_us = ARGV[1]
  if at_us ~= '0' then
    local at = whole_number(at_us, 0, 9007199254740992)
    if not at or at > 0 then clock_1 = at break end
  end

  if not redis.REDIS_VERSION_NUM and redis.replicate_commands then redis.replicate_commands() end
  local time = redis_call('TIME')
  clock_1 = time[1] * 1000000 + time[2]
  break
until true
local now = clock_1
local read_producer_1
repeat
  local raw = redis_call('GET', keys.memory)
  if not raw then read_producer_1 = nil break end
  local p = {nil, nil, unpacked('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', raw)}
  p[1], p[15] = p[4] + p[7] * 32, p[15] * 4
  p[11] = p[11] == 'n' and 'normal' or p[11] == 'h' and 'high' or 'low'
  read_producer_1 = p
  break
until true
local p = read_producer_1
if not p or p[17] ~= ask[10] then
  local fault = rarely().fault_of_names(keys, ask)
  if fault then return {err = fault} end
end

local read_budget_1, read_budget_2
repeat
local class_name = ask[9]
  local raw = redis_call('GET', keys.state)
  if not raw then read_budget_1, read_budget_2 = nil break end
  local schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved,
    saved_until, fresh, late, idle, idlers, spilled = unpacked('>ddddddddddddddddddddd', raw)
  if schema > 3 and schema < 1000 and schema % 1 == 0 then read_budget_1, read_budget_2 = nil, true break end
  local R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes,
    behind, high, turned, turned_before, halved, lost, birth, reason, taker, next = unpacked('>dddddddddddddddddddddddss', raw, 1 + 67 * WIDE)

  local sum = at + rest + T + granted + granted_rest + top + top_before + half + needs + demanding + retry_max + queue + crowd
    + saved + saved_until + fresh + late + idle + idlers + spilled + R + B + burst_us + level + load + learns_until + due + number
    + ends + length + refresh + span + span_until + ui + is_scarce + resumes + behind + high + turned + turned_before + halved + lost + birth
  if schema ~= 3 or sum - sum ~= 0 then error('damaged') end
  local b = {schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved,
             saved_until, fresh, late, idle, idlers, spilled, R, B, burst_us, level, load, learns_until, due, number, ends,
             length, refresh, span, span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth,
             reason, taker, next, raw, R, next <= #raw and read_window(raw, next) or nil, [class_name] = read_class(raw, class_name)}
  read_budget_1, read_budget_2 = b
  break
until true
local b, newer = read_budget_1, read_budget_2
if not b and not newer then b, newer = rarely().first_budget(keys, now) end
if newer then return {err = 'NEXUS_SCHEMA'} end

-- 0. A retry gets the remembered answer, before anything else.
if p and p[17] == ask[10] and ask[10] ~= '' and ask[11] <= p[3] then
  if ask[11] == p[3] then return rarely().remembered(keys, b, p, ask[14]) end
  return {err = 'NEXUS_STALE'}
end
if now < b[2] or b[38] + b[39] > 0 then now = rarely().steady(b, now) end
if p and (p[18] ~= b[44] or p[17] ~= ask[10]) then
  if p[17] ~= ask[10] and rarely().is_owned(p, b, now) then return {err = 'NEXUS_ID_TAKEN'} end
  p = rarely().successor(p, b)
end

-- 1. Refill, and whatever has become due meanwhile: a silent consumer, the end of a pause.
if now - b[2] >= 500000 then rarely().note_gap(keys, b, now) end
if (b[28] > 0 and now >= b[28]) or b[2] - now >= 1000000 then
  if not keys.history then return {err = 'NEXUS_NEEDS_KEYS'} end
  rarely().advance(keys, b, now)
else
  repeat
    local dt = now - b[2]
  b[2] = now
  if dt < 0 then
    b[27], b[65] = (b[27] + dt > 0 and b[27] + dt or 0), true
  end
  local R, T, B = b[22], b[4], b[23]
  if b[43] > 0 then R = R - math_floor((R / 2 < b[43] and R / 2 or b[43])) end
  b[49] = R
  if dt > 0 and R > 0 then
    local room = B - T
    if room <= 0 or dt >= room / R * 1000000 + 1 then
      b[21] = b[21] + (R * dt / 1000000 - room > 0 and R * dt / 1000000 - room or 0)
      T, b[3] = B, 0
    else
      local part = R % 1000000 * dt + b[3]
      T, b[3] = T + math_floor(R / 1000000) * dt + math_floor(part / 1000000), part % 1000000
      if T >= B then T, b[3] = B, 0 end
    end
    b[4] = T
  end
  if now < b[9] then
    b[9] = now
  elseif now - b[9] > b[33] then
    b[8] = now - b[9] < 2 * b[33] and b[7] or 0
    b[7], b[9] = b[4], now
  end
  b[7] = (b[4] > b[7] and b[4] or b[7])
  until true
end
local learning, is_first = now < b[27], not p
p = p or rarely().new_producer(now)
if ask[13] > b[5] and tonumber(ask[12]) == b[44] then rarely().make_good(keys, b, p, ask[13], now) end
if now >= b[30] or b[30] - now > b[31] then
  rarely().roll_epoch(keys, b, now)
  if not keys.history and not b[66] and rarely().is_renewal_due(b, now) then return {err = 'NEXUS_NEEDS_KEYS'} end
  rarely().sweep_producers(keys, now)
end

-- 2. What comes back, and what will never be used.
local take_back_1, take_back_2, take_back_3
repeat
local held, unused, burned = ask[5], ask[6], ask[7]
  local owned = now <= p[1] and p[6] or 0
  local returned = (owned < unused and owned or unused)
  local lost = (p[6] - returned < burned and p[6] - returned or burned)
  local credited = 0
  if returned > 0 then 
  local hand_back_1
  repeat
  local tokens = returned
    local fits = math_max(0, math_min(tokens, b[23] - math_max(b[4], b[7], b[8])))
  b[4] = b[4] + fits
  b[7] = (b[4] > b[7] and b[4] or b[7])
  hand_back_1 = fits
  break
  until true
  credited = hand_back_1
  end
  p[6] = (p[6] - returned < held and p[6] - returned or held)
  take_back_1, take_back_2, take_back_3 = returned, lost, credited
  break
until true
local returned, burned, credited = take_back_1, take_back_2, take_back_3
if is_first and (learning or (ask[12] ~= '' and tonumber(ask[12]) ~= b[44])) then rarely().pay_for_past(b, p, ask) end

-- 3. Its place in the fair share.
if ask[10] ~= '' and (is_first or p[4] < b[30] - b[31] or p[4] > now) then b[14] = b[14] + 1 end
p[2] = p[8] == b[29]                         -- in this epoch's sums already
if p[2] and not b[p[11]] then rarely().read_rest(keys, b) end
repeat
local degraded = ask[16]
  repeat
    if p[8] ~= b[29] then break end
  local class = b[p[11]]
  class[7], class[8] = class[7] - p[9], class[8] - p[12]
  b[10], b[11] = b[10] - p[10], b[11] - 1
  if p[14] == 1 then class[5] = class[5] - p[9] else class[6] = class[6] - p[12] end
  until true
  if degraded > 0 then rarely().pay_degraded(b, p, degraded, now) end
  local withdraw_share_1
  repeat
    local share, is_old = p[16], false
  if share > 0 then
    if p[4] >= b[40] then b[17] = b[17] - share
    elseif p[4] >= b[41] then b[18] = b[18] - share
    else is_old = true end
  elseif share < 0 then
    is_old = p[4] < b[42]
    if not is_old then b[19], b[20] = b[19] + share, b[20] - 1 end
  end
  withdraw_share_1 = is_old
  break
  until true
  local is_old = withdraw_share_1
  if is_old then rarely().withdraw_old_share(keys, b, p) end
until true
local is_same = p[17] == ask[10] and p[18] == b[44] and p[11] == ask[9] and p[12] == ask[8]
p[12], p[11] = ask[8], ask[9]
local need = ask[2] > 0 and ask[1] == 0 and (1000000 < ask[2] and 1000000 or ask[2]) or ask[1]
local d = ask[2] > 0 and (need / b[31] * 1000000 > ask[3] and need / b[31] * 1000000 or ask[3]) or ask[3]  -- who comes seldom counts for what it takes then
repeat
local d = math_floor((d < b[22] and d or b[22]))
  local class = b[p[11]]
  local under = d <= class[2] * p[12] / 1000000
  p[9], p[10], p[14], p[8] = d, 0, under and 1 or 0, 0
  if d <= 0 then break end
  p[8], b[11] = b[29], b[11] + 1
  class[7], class[8] = class[7] + d, class[8] + p[12]
  if under then
    class[5] = class[5] + d
  else
    class[6] = class[6] + p[12]
    p[10] = (b[23] < need and b[23] or need)
    b[10] = b[10] + p[10]
  end
until true

-- 4. The rate at which its credit grows.
local class, refresh = b[p[11]], 100000
local contended = class[1] < math_huge
local share_of_1
repeat
  if class[1] < math_huge then share_of_1 = (class[1] * p[12] / 1000000 < b[22] and class[1] * p[12] / 1000000 or b[22]) break end
  local weight = (class[8] > p[12] and class[8] or p[12])
  local rest = class[3] - class[7]
  share_of_1 = math_min(b[22], rest >= 0 and p[9] + rest * p[12] / weight or class[3] * p[12] / weight)
  break
until true
local told = share_of_1
local faster = class[4]
if b[32] > 100000 and b[46] == ask[9] then 
local trim_1
repeat
  if b[22] <= 0 then trim_1 = 0 break end
  local depth = usual_depth(b)
  if b[36] == 1 then

    trim_1 = math_min(1.25, math_max(0, b[4] - (1000000 > 0.8 * depth and 1000000 or 0.8 * depth)) / (0.2 * depth)) - 0.05 * math_max(0, 1 - b[4] / (0.375 * depth))
    break
  end
  trim_1 = math_min(1.25, math_max(-0.2, b[35] + 0.25 * (b[4] - 0.375 * depth) / (0.5 * depth)))
  break
until true
faster = trim_1
end
local share = math_max(contended and told * (1 + faster) or told, 1e-6)

if credited > 0 and contended then 
repeat
  local most = ((PAYS_MOST * share < 2 * credited and PAYS_MOST * share or 2 * credited) > PAYS_LEAST * share and (PAYS_MOST * share < 2 * credited and PAYS_MOST * share or 2 * credited) or PAYS_LEAST * share)
  p[5] = (p[5] - 4 * credited > (-most < p[5] and -most or p[5]) and p[5] - 4 * credited or (-most < p[5] and -most or p[5]))
until true
end

-- 5. to 7. Tokens, or its own slot to come back.
if b[32] > 100000 then 
local refresh_of_1
repeat
local rate = (told < d and told or d)
  if rate <= 0 then refresh_of_1 = b[32] break end
  refresh_of_1 = math_ceil(((b[22] / rate / 10000 * 1000000 < b[32] and b[22] / rate / 10000 * 1000000 or b[32]) > 100000 and (b[22] / rate / 10000 * 1000000 < b[32] and b[22] / rate / 10000 * 1000000 or b[32]) or 100000))
  break
until true
refresh = refresh_of_1
end
local is_short, cut = contended and (refresh == 100000 or faster < 0.3), false
local spend_1, spend_2, spend_3
repeat
local contended = is_short
  local cap = math_min(math_max(math_max(600000, 1.25 * refresh, b[24]) / 1000000 * share, (b[23] < need and b[23] or need)), 9e15)
  p[5] = math_min(cap, p[5] + share * (now - p[4] > 0 and now - p[4] or 0) / 1000000)
  local room = p[5] + cap * 1.02
  local depth = usual_depth(b)
  local spare = (room < b[4] - 0.5 * depth and room or b[4] - 0.5 * depth)
  if ask[4] then spare = (room < b[4] and room or b[4])
  elseif contended then spare = ((room < b[4] - depth and room or b[4] - depth) > (need < spare and need or spare) and (room < b[4] - depth and room or b[4] - depth) or (need < spare and need or spare))
  elseif b[24] > 250000 then spare = (room < b[4] and room or b[4])
  elseif b[4] >= need then spare = math_max(spare, math_min(need, b[23], room)) end
  local piece = need
  if need > 0.25 * depth and not ask[4] and not (b[50] and b[50].lossless == 1) then
    piece = math_min(need, ((0.1 * share < 0.25 * depth and 0.1 * share or 0.25 * depth) > 1000000 and (0.1 * share < 0.25 * depth and 0.1 * share or 0.25 * depth) or 1000000))
  end

  local granted = 0
  local T = b[4]
  if need < b[15] and now < b[16] then T = T - b[15] end


  local has_time = p[15] > 0 and now >= p[4] + p[15] - 0.005 * 1000000
  if refresh == 100000 and b[13] > now and not has_time and not (ask[4] and p[5] >= need) then T = T - need end
  p[15] = 0
  local credit = math_max(p[5] + 0.005 * share, math_min(piece, p[5] + (1 - 0.9) * piece))
  local available = ((spare > credit and spare or credit) < T and (spare > credit and spare or credit) or T)
  if b[22] > 0 and ask[2] > 0 then
    local first = (ask[2] < need and ask[2] or need)
    if available >= first then
      local unit = (first < 1000000 and first or 1000000)
      granted = math_min(ask[2], first + unit * math_floor((available - first) / unit))
    elseif piece < need and available >= piece then
      granted = math_floor(available / 1000000) * 1000000
    end
  end
  if ask[2] <= 0 then spend_1, spend_2, spend_3 = granted, 0, 0 break end
  local longest = (refresh > 1000000 and refresh or 1000000)
  if b[22] <= 0 then
    if b[37] <= now or b[37] >= 9e15 then spend_1, spend_2, spend_3 = 0, longest, longest break end
    b[13] = (b[37] > b[13] and b[37] or b[13]) + 1000000 / 10000
    spend_1, spend_2, spend_3 = 0, math_ceil((b[13] - now < longest and b[13] - now or longest)), (b[37] - now < 86400000000 and b[37] - now or 86400000000)
    break
  end

  local enough = (contended and not ask[4] and p[5] or room) - granted
  local R = b[49]
  local retry, earned = math_max(0, (piece - enough) / share * 1000000), (piece - T + granted) / R * 1000000
  local is_queued = granted == 0 and earned > retry or granted > 0 and contended and b[36] == 1 and b[13] > now
  retry = (earned > retry and earned or retry)
  if is_queued and refresh == 100000 and not ask[4] then

    local slot = math_max(b[13] + piece / R * 1000000, now + (piece - b[4] + granted) / R * 1000000)
    if slot - now <= longest and (granted == 0 or slot - now > 0.7 * retry) then
      b[13] = slot
      retry = math_ceil((slot - now > retry and slot - now or retry))
      p[15] = (retry < longest and retry or longest)
    end
  end

  if granted > 0 and need >= b[15] then b[15] = 0
  elseif granted == 0 and piece > 0.25 * depth and p[5] >= piece then
    b[15], b[16] = piece, now + retry + 100000
  end
  local met = math_max(0, (need - enough) / share, (need - T + granted) / R) * 1000000
  spend_1, spend_2, spend_3 = granted, math_ceil((retry < longest and retry or longest)), math_ceil((met < 86400000000 and met or 86400000000))
  break
until true
local granted, retry, slot = spend_1, spend_2, spend_3
if refresh > 100000 and ask[2] > 0 then
  local space_out_1
  repeat
  local retry = (slot < retry and slot or retry)
    if b[22] <= 0 then space_out_1 = retry break end
  local class = b[p[11]]
  if not is_short and class[1] < math_huge then p[5] = (granted > p[5] and granted or p[5]) end
  local credit = p[5] - granted
  local unmet = (credit < ask[2] - granted and credit or ask[2] - granted)
  if is_short and granted > 0 and unmet < 1000000 then
    retry = math_max(retry, 0.85 * refresh - (credit > 0 and credit or 0) / share * 1000000)
  elseif unmet >= 1000000 or now - p[4] < refresh / 2 then
    b[13] = math_min((now > b[13] and now or b[13]) + (1 / 10000 > unmet / b[22] and 1 / 10000 or unmet / b[22]) * 1000000, now + refresh)
    retry = (b[13] - now > retry and b[13] - now or retry)
  end
  space_out_1 = math_ceil((retry < (refresh > 1000000 and refresh or 1000000) and retry or (refresh > 1000000 and refresh or 1000000)))
  break
  until true
  retry = space_out_1
end
if b[50] then
  local admit_1, admit_2, admit_3
  repeat
  local came_at, is_whole = p[4], ask[4]
    local w = b[50]
  repeat
    local slot = math_floor(now / w.slot_us)
  if slot < w.slot then w.slot = slot end
  w.born = (now < w.born and now or w.born)
  local turns = (5 < slot - w.slot and 5 or slot - w.slot)
  for _ = 1, turns do
    for i = 5, 2, -1 do w.snaps[i] = w.snaps[i - 1] end
    w.snaps[1] = w.net
  end
  w.slot = slot
  until true
  local lost = returned
  if now - came_at < 4 * w.slot_us - b[33] then lost = lost + burned end
  if lost > 0 then 
  repeat
  local tokens = lost
    w.net = w.net - tokens
  for i = 1, 5 do w.snaps[i] = (w.net < w.snaps[i] and w.net or w.snaps[i]) end
  if w.A > w.net then
    w.edge = w.edge - (w.A - w.net)
    w.A = w.net
  end
  until true
  end
  local admitted_1, admitted_2, admitted_3
  repeat
    if w.active == 0 or granted == 0 then admitted_1, admitted_2, admitted_3 = granted, retry, false break end
  local room = w.edge - w.net
  local quiet_us_1
  repeat
  quiet_us_1 = w.born + 4 * w.slot_us - 3 * 250000 - now
break
  until true
  local quiet = quiet_us_1
  if w.lossless == 1 and quiet > 0 then
    admitted_1, admitted_2, admitted_3 = 0, ((100000 > quiet and 100000 or quiet) < 1000000 and (100000 > quiet and 100000 or quiet) or 1000000), true
    break
  end

  if w.lossless == 0 and room > 0 and w.net <= w.A then room = (need > room and need or room) end
  if room >= granted then admitted_1, admitted_2, admitted_3 = granted, retry, false break end
  local unit = (need < 1000000 and need or 1000000)
  local fits = math_max(0, math_floor(room / unit) * unit)
  if is_whole and fits < need then fits = 0 end
  admitted_1, admitted_2, admitted_3 = fits, (100000 > retry and 100000 or retry), true
  break
  until true
  local fits, later, is_cut = admitted_1, admitted_2, admitted_3
  w.net = w.net + fits
  admit_1, admit_2, admit_3 = fits, later, is_cut
  break
  until true
  granted, retry, cut = admit_1, admit_2, admit_3
end
p[5], b[12] = p[5] - granted, (retry > b[12] and retry or b[12])
repeat
local tokens = granted
  b[4] = b[4] - tokens
  local total = b[6] + tokens
  b[5], b[6] = b[5] + math_floor(total / 1000000), total % 1000000
until true

local recommended = math_floor((told < ask[3] and told or ask[3]))
local lease_of_1
repeat
local trip = ask[14]
  local lease = refresh * 5
  if trip == 0 or b[50] and b[50].lossless == 1 then lease_of_1 = lease break end
  lease = lease + trip
  if lease > b[33] or b[34] > 0 and b[34] < now + lease then
    b[33], b[34], b[65] = (lease > b[33] and lease or b[33]), now + 2 * lease, true
  end
  lease_of_1 = lease
  break
until true
local lease = lease_of_1
p[6], p[1] = p[6] + granted, now + lease + retry
local outage_share_1
repeat
  local is_awaited = d > 0
  if ask[2] > 0 then is_awaited = p[6] > need or not ask[4] and (granted < need or recommended < ask[3]) end
  if ask[10] == '' or b[32] > 100000 then is_awaited = false end
  local all, wanted, idle, has, had = b[22] / 2, (told < d and told or d) / 2, b[19], ask[15], p[16]
  if had < 0 then had = -had end
  if has > had then has = had end
  local kept = b[43] + idle
  local share = all - b[17] - b[18] - kept
  if is_awaited then
    if kept > 0 and all > 0 then wanted = wanted * (1 - kept / all) end
  else
    if wanted <= 0 then wanted = has end
    share = math_min(share, all / 2 - idle, all / 2 / (b[20] + 1))
  end
  if wanted < share then share = wanted end
  share = share > 0 and math_floor(share) or 0
  had = share > has and share or has
  if is_awaited then b[17], p[16] = b[17] + had, had
  else
    if had > 0 then b[19], b[20] = idle + had, b[20] + 1 end
    p[16] = -had
  end
  outage_share_1 = share
  break
until true
local fallback = outage_share_1
local reason_of_1
repeat
local is_short = ask[2] > 0 and granted < need
  if b[22] <= 0 or b[45] == 'no_consumers' then reason_of_1 = b[45] break end
  if cut then reason_of_1 = 'window' break end
  if learning and ask[2] > 0 and b[4] < 1000000 then reason_of_1 = 'learning' break end
  if recommended >= ask[3] and not is_short then reason_of_1 = 'ok' break end
  if contended and recommended + 1 < b[22] then reason_of_1 = 'contended' break end
  reason_of_1 = b[45]
  break
until true
local reason = reason_of_1
local answer = pack('>i7I4I4i7i7c2I5', granted, retry, refresh, recommended, fallback, reason, slot)
local write_producer_1
repeat
  local is_known = p[2] and is_same
  local is_passing = ask[10] == ''
  local second = math_floor(now / 1000000)
  local is_old = not is_known and (is_passing or (second - p[13]) % 65536 >= 60000000 / 1000000)
  if is_passing then p[13] = long_ago(now) elseif is_old then p[13] = second % 65536 end

  local is_shown = not is_known and (b[32] <= 100000 or not is_same or is_old)
  if is_shown then 
  repeat
    redis_call('HSET', keys.member, 'demand_per_s', string_format('%.10g', ask[3] / 1000000),
             'share_per_s', string_format('%.10g', told / 1000000), 'held', string_format('%.10g', p[6] / 1000000))
  if is_same then break end
  if p[11] == 'normal' and p[12] == 1000000 then redis_call('HDEL', keys.member, 'priority', 'weight')
  else redis_call('HSET', keys.member, 'priority', p[11], 'weight', string_format('%.10g', p[12] / 1000000)) end
  until true
  end
  local raw = pack('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', ask[11], now, math_floor(p[5]), p[6], math_floor((p[1] - now) / 32), p[8], p[9], p[10], p[11],
                   p[12], p[13], p[14], math_floor(p[15] / 4), p[16], ask[10], b[44]) .. answer
  redis_call('SET', keys.memory, raw, 'KEEPTTL')
  if not is_shown then write_producer_1 = false break end
  local keep_ms = is_passing and math_max(5000, math_ceil(2 * b[31] / 1000)) or is_old and 600000
  if keep_ms then
    redis_call('PEXPIRE', keys.member, keep_ms)
    redis_call('PEXPIRE', keys.memory, keep_ms)
  end
  if is_passing then write_producer_1 = false break end
  write_producer_1 = redis_call('ZADD', keys.producers, string_format('%d', now), id_of(keys)) == 1
  break
until true
local is_new_id = write_producer_1
if is_new_id or b[64] or b[65] then
  rarely().write_whole(keys, b, now, is_new_id)
else
  repeat
  local class_name = p[11]
    local packed_class_1
    repeat
    local class = b[class_name]
    packed_class_1 = pack('>dddddddd', unpack(class, 1, 8))
break
    until true
    local class = packed_class_1
  if class_name == 'normal' then
    redis_call('SETRANGE', keys.state, 0, packed_bucket(b) .. class)
  else
    redis_call('SETRANGE', keys.state, 0, packed_bucket(b))
    redis_call('SETRANGE', keys.state, class_at(class_name), class)
  end
  if b[50] then redis_call('SETRANGE', keys.state, b[47] - 1, packed_window(b[50])) end
  until true
end
do
local wait, birth, granted_total = slot, b[44], b[5]
  return string_format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted, retry, lease, refresh, recommended,
    fallback, b[22], b[25], math_floor(b[26] / 1000), granted_total, birth, reason, b[50] and b[50].lossless or 0, b[23],
    wait > retry and string_format(' %d', wait) or '')
end
end)
if is_well then return reply end
local string_match = string.match
local string_gmatch = string.gmatch
local string_sub = string.sub
-- What lies in Redis and cannot be what a script wrote: a key of another type, a state that is too short, a number that is none, a
-- setting that no script would have taken. Looked for when a script has failed, and by repair.lua.
-- Numbers as text. Lua 5.1 knows doubles only, and its tostring() rounds at 14 digits: every number that is stored or
-- answered goes through string.format, in millionths (micro) or microseconds, and is exact to 2^53.
-- MICRO = 1000000
-- COUNT = 9007199254740992     -- 2^53: up to here a double holds every whole number

-- 0.29 -> 290000: to the nearest, since a double of 0.29 may lie just below it.
local function micro_of(x) return math.floor(x * 1000000 + 0.5) end

-- 2500500000 -> '2500.5': for people.
-- A plain decimal within [low, high] as a double, or nil: tonumber alone takes 'nan', 'inf', '0x10' and ' 5 '.
local function decimal(text, low, high)
  if #text > 40 or not string_match(text, '^%d+%.?%d*$') then return nil end
  local x = tonumber(text)
  if x >= low and x <= high then return x end
  return nil
end

-- Digits only, within [low, high], or nil.
local function whole_number(text, low, high)
  if #text > 17 or not string_match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end

-- What a script has written as a number.
-- Packed state: one text of whole numbers.
-- Durations that several scripts share, in microseconds.
-- SECOND = 1000000
-- LEASE = 500000            -- tokens handed out may be spent this long, counted from before the claim was sent
-- REFRESH = 100000          -- how often a busy producer claims; in a crowd both are longer (crowd.lua)
-- LONGEST_TRIP = 1000000     -- of a round trip to Redis, by which a lease is longer
-- REFRESHES = 5             -- in a lease: chances to be heard
-- EPOCH = 250000            -- shortest round of the fair share: everyone in demand comes once in it
-- LONGEST_SLOT = 86400000000    -- as far ahead as a producer is told its turn: a day
-- LONGEST_WAIT = 1000000    -- no producer is told to stay away longer, or it would miss a change of the rate
-- DEFAULT_BURST = 250000     -- of the rate, in a bucket whose budget names no burst
-- INTERVAL = 250000         -- a consumer that names no interval reports this often
-- SHORTEST_DEADLINE = 2000000   -- a consumer that skips a few reports (a pause of its runtime) is not dead
-- STILL = 5000000           -- so long a server's clock that went back stands still: longer than one swings that is steered
-- GRACE = 10000000          -- what the last consumer could take stays so long when it left: a process or a container restarts
-- FORGET_CONSUMER = 10000000    -- after its deadline: what was sent to it has failed by then
-- TRANSIT = 1000000         -- from a token spent to its work seen in Redis, unless the budget says otherwise
-- UNTIL_RESUMED = 9e15      -- the end of a pause without one
-- KEEP_BUDGET_MS = 604800000    -- sweeps only, decides nothing: a week, as long as an incident and a weekend
-- KEEP_MEMBER_MS = 600000       -- likewise, for what is known of one producer or consumer
-- KEEP_PASSING_MS = 5000     -- and of one that only asked once: longer than an epoch
-- RENEW = 60000000          -- how often a TTL is written again
-- Packs what only the arithmetic reads with `struct`, which every server has: big-endian, so that any language unpacks it. A
-- number read as text costs several times as much, and a claim has a hundred of them. fakeredis has no `struct`: there the same
-- parts are text, a number takes WIDE characters, and nothing else differs.
local pack, unpacked
local WIDE = struct and 8 or 25     -- of a double
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string_gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string_sub(words[i], 1, tonumber(size)) .. ' '
      elseif kind == 's' then words[i] = words[i] .. ' '
      else words[i] = string.format('%24.17g ', words[i]) end
    end
    return table.concat(words)
  end
  function unpacked(format, text, from)
    local values, at = {}, from or 1
    for kind in string_gmatch(format, '([dfIisc])%d*') do
      local is_text = kind == 's' or kind == 'c'
      local last = is_text and string.find(text, ' ', at, true) or at + WIDE - 1
      if not last or last > #text then error('too short') end
      local word = string_sub(text, at, last - 1)
      values[#values + 1] = is_text and word or tonumber(word) or error('not a number')
      at = last + 1
    end
    values[#values + 1] = at
    return unpack(values)
  end
end
-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.

-- {name}, or {name/key} of a key's budget: no name has the stroke, so no key is taken for a name.
-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
-- A claim may come with five of them: budget, state, producers, producer and the producer's state. Their names are looked at
-- where they are new.
-- The id of the producer that claims.
-- The budget's state: one string of packed parts, one after the other. A claim writes the first two and leaves the others.
--
--   bucket    what each claim changes; the schema comes first in every release
--   classes   normal, high, low: the fair share of each
--   epoch     what only the end of an epoch needs
--   sums      sums over the consumers
--   terms     what changes with the rate and the epoch; the last of them are texts, each with a zero at its end
--   window    what the consumers can still hold; only where there is one
-- SCHEMA = 3
-- BUCKET = '>ddddddddddddddddddddd'
-- CLASS = '>dddddddd'
-- EPOCHAL = '>dddddddddddd'
-- SUMS = '>dddddddddd'
-- TERMS = '>dddddddddddddddddddddddss'
-- WINDOW = '>ddddddddddddd'

-- Where they begin, in doubles from the first one.
-- NORMAL_AT = 21
-- HIGH_AT = 29
-- LOW_AT = 37
-- EPOCHAL_AT = 45
-- SUMS_AT = 57
-- TERMS_AT = 67

-- A producer's: what its next claim needs, who it is, and its last answer. There may be a million of these, so they are whole
-- numbers of as few bytes as each needs; a class is its first letter, a reason its first two.
-- ENTRY = '>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7'
-- ANSWER = '>i7I4I4i7i7c2I5'

--- @record b schema at rest T granted granted_rest top top_before half needs demanding retry_max queue crowd saved saved_until fresh late idle idlers spilled
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes behind high
---   turned turned_before halved lost birth reason taker
---   next raw earned window retry_before u first renewed kept lost_old idle_old idlers_old unheard unheard_until told_at told_granted
---   parts has_rest has_new_terms is_new is_revalued is_closed seen_demand seen_demanding settings
-- BUCKET_ENDS = 21
-- TERMS_BEGIN = 22
-- TERMS_END = 46
--- @record class level mark room trim under over demand weight

-- With one class of producers; `read_rest` reads the others. nil where there is none, and true where it is of a newer release.
-- What each claim changes. The normal class lies behind the bucket, so that most claims write one piece.
-- Settings as they stand: what an operator set wins over what code set, and taking it away brings the code's back.
-- Both are kept, one field each, so that HGETALL shows who wants what.
local SETTINGS = {'rate', 'min_rate', 'burst', 'law', 'combine', 'latency_target_ms', 'lossless', 'transit', 'grace'}

local function per_second(text)
  local x = decimal(text, 0, 1e9)
  if not x or (x > 0 and x < 1e-6) then return nil end
  return micro_of(x)
end
local function duration(text)
  local x = decimal(text, 0, 86400)
  return x and micro_of(x)
end
local function one_of(...)
  local words = {}
  for _, word in ipairs({...}) do words[word] = word end
  return function(text) return words[text] end
end

-- Each gives the value in the unit of the arithmetic, or nil when the text is not one.
local READ = {
  rate = per_second, min_rate = per_second, burst = duration, law = one_of('range', 'drain', 'aimd'),
  combine = one_of('sum', 'spread', 'min'), latency_target_ms = function(text) return decimal(text, 0, 86400000) end,
  lossless = function(text) return ({['0'] = 0, ['1'] = 1})[text] end, transit = duration,
  grace = duration,
}

-- fields: texts by name, 'rate_by_code' and so on.
-- What one source wants by itself.
-- The settings, and what a change of the rate needs beside them.
local NUMBERS = {'schema', 'paused_until_us', 'pause_of_operator_us', 'left_us'}

-- Where the value behind these parts begins; nil where they cannot be read. The level of a class is infinite where it is not
-- contended.
local function read_parts_of(text, from, formats)
  for _, format in ipairs(formats) do
    local is_long_enough, values = pcall(function() return {unpacked(format, text, from)} end)
    if not is_long_enough then return nil end
    from = table.remove(values)
    for _, value in ipairs(values) do
      if type(value) == 'number' and (value ~= value or format ~= '>dddddddd' and value - value ~= 0) then return nil end
    end
  end
  return from
end

local function is_state(text)
  local ends = read_parts_of(text, 1, {'>ddddddddddddddddddddd', '>dddddddd', '>dddddddd', '>dddddddd', '>dddddddddddd', '>dddddddddd', '>dddddddddddddddddddddddss'})
  if ends and ends <= #text then ends = read_parts_of(text, ends, {'>ddddddddddddd'}) end
  return ends == #text + 1 and unpacked('>ddddddddddddddddddddd', text) == 3
end

local function is_producer_state(text) return read_parts_of(text, 1, {'>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', '>i7I4I4i7i7c2I5'}) == #text + 1 end

local function is_consumer_state(text)
  local head, law = string_match(text, '^%S+( [^\n]*)\n%a+([^\n]*)$')
  local count = 0
  for word in string_gmatch((head or 'x') .. (law or ''), '%S+') do
    count = count + 1
    local x = tonumber(word)
    if word ~= '-' and (not x or x - x ~= 0) then return false end
  end
  return count >= 23
end

-- The names of those fields of the budget's hash that cannot be read.
local function damaged_fields(f)
  local bad = {}
  local function check(field, is_right)
    if f[field] and not is_right then bad[#bad + 1] = field end
  end
  for _, field in ipairs(NUMBERS) do check(field, whole_number(f[field] or '', 0, 9007199254740992)) end
  check('left_rate_per_s', f.left_rate_per_s and string_match(f.left_rate_per_s, '^%d+%.?%d*$'))
  for _, name in ipairs(SETTINGS) do
    for _, source in ipairs({'_by_code', '_by_operator'}) do check(name .. source, f[name .. source] and READ[name](f[name .. source])) end
  end
  table.sort(bad)
  return bad
end

-- What a key of a budget holds, by what stands behind the budget's name.
-- A list of {key, field}; the field is '' where the whole key is damaged.
local function damages()
  local found = {}
  for _, key in ipairs(KEYS) do
    local kind_of_1, kind_of_2
    repeat
    local rest = string_sub(key, #KEYS[1] + 1)
      if rest == '' then kind_of_1, kind_of_2 = 'hash', damaged_fields break end
  if rest == ':state' then kind_of_1, kind_of_2 = 'string', is_state break end
  if rest == ':history' then kind_of_1, kind_of_2 = 'stream' break end
  local member, tail = string_match(rest, '^:(%a+):[^:]+(.*)$')
  if not member then kind_of_1, kind_of_2 = 'zset' break end
  if tail == '' then kind_of_1, kind_of_2 = 'hash' break end
  kind_of_1, kind_of_2 = 'string', member == 'producer' and is_producer_state or is_consumer_state
  break
    until true
    local kind, look = kind_of_1, kind_of_2
    local is = redis.pcall('TYPE', key)
    is = is.ok or is
    if string.find(key, '[^%w._:{}/-]') or type(is) ~= 'string' then return {} end
    if is ~= 'none' and is ~= kind then found[#found + 1] = {key, ''}
    elseif is == 'string' then
      if not look(redis.call('GET', key)) then found[#found + 1] = {key, ''} end
    elseif is == 'hash' and look then
      local flat, f = redis.pcall('HGETALL', key), {}
      for i = 1, #flat, 2 do f[flat[i]] = flat[i + 1] end
      for _, field in ipairs(look(f)) do found[#found + 1] = {key, field} end
    end
  end
  return found
end

local found = damages()[1]
if not found then error(reply, 0) end
return {err = string.format('NEXUS_DAMAGED %s %s', found[1], found[2])}
