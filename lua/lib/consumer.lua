-- One consumer's part of a report: what it says, what it said before, where its work stands.
local SAID = {'uptime_ms', 'load', 'capacity', 'queue_depth', 'queue_limit', 'done', 'errors', 'in_flight', 'slots',
              'latency_ms', 'interval_ms', 'pause_ms', 'latency_p25_ms', 'latency_p10_ms', 'cancelled', 'busy_ms'}
local SHOWN = {'queue_depth', 'queue_limit', 'done', 'errors', 'cancelled', 'in_flight', 'latency_ms'}     -- in fields of their own
local SAID_MOST = {
  uptime_ms = COUNT, load = 100, capacity = 1e9, queue_depth = COUNT, queue_limit = COUNT, done = COUNT, errors = COUNT,
  in_flight = COUNT, slots = COUNT, latency_ms = 86400000, interval_ms = 86400000, pause_ms = 86400000,
  latency_p25_ms = 86400000, latency_p10_ms = 86400000, cancelled = COUNT, busy_ms = COUNT,
}
local LEAP = 5                  -- seconds that its clock may gain on the server's: reports are late by less
local ARRIVALS_TIME = 1         -- seconds over which a consumer's part of the arrivals is averaged

-- The report's arguments by name (nil if the consumer says nothing), or nil and a code that names the wrong argument.
local function read_report()
  if #ARGV ~= #SAID + 4 then return nil, 'NEXUS_INVALID_ARGUMENTS' end
  if not whole_number(ARGV[1], 0, COUNT) then return nil, 'NEXUS_INVALID_AT_US' end
  local r = {incarnation = ARGV[2], labels = ARGV[#ARGV]}
  if r.incarnation ~= '' and not is_name(r.incarnation) then return nil, 'NEXUS_INVALID_INCARNATION' end
  r.seq = whole_number(ARGV[3], 0, COUNT)
  if not r.seq then return nil, 'NEXUS_INVALID_SEQ' end
  for i, name in ipairs(SAID) do
    local text = ARGV[i + 3]
    if text ~= '' then
      r[name] = decimal(text, 0, SAID_MOST[name])
      if not r[name] then return nil, 'NEXUS_INVALID_' .. string.upper(name) end
    end
  end
  if #r.labels > 1024 then return nil, 'NEXUS_INVALID_LABELS' end
  if r.queue_limit == 0 then return nil, 'NEXUS_INVALID_QUEUE_LIMIT' end
  if r.slots == 0 then return nil, 'NEXUS_INVALID_SLOTS' end
  if r.capacity and r.capacity < 1e-6 then return nil, 'NEXUS_INVALID_CAPACITY' end
  r.depth, r.limit = r.queue_depth, r.queue_limit
  r.interval = r.interval_ms and math.max(1000, r.interval_ms * 1000) or INTERVAL
  if not r.load and (r.limit and r.depth or r.slots and r.in_flight) then
    local queue = r.limit and r.depth and r.depth / r.limit or 0
    local work = r.slots and r.in_flight and r.in_flight / r.slots or 0
    r.load = math.min(100, 100 * math.max(queue, work))
  end
  return r
end

local function load_of(said) return said.load or 0 end

local function missing_for_lossless(said)
  for _, name in ipairs({'queue_limit', 'queue_depth', 'done', 'errors', 'in_flight'}) do
    if not said[name] then return 'NEXUS_MISSING_' .. string.upper(name) end
  end
  return nil
end

local function new_consumer(now)
  return {memory = {}, arrivals = 0, paused_until = 0, incarnation = '', said = {at = now}, joined = now}
end

-- What the consumer's next report needs, as words. HEAD comes first, then the instant of the last report and what it said
-- (`-`: nothing). The law and its memory come last.
local HEAD = {'incarnation', 'seq', 'rate', 'capacity', 'arrivals', 'paused_until', 'joined'}

local function read_consumer(keys)
  local raw = redis.call('GET', keys.memory)
  if not raw then return nil end
  local head, tail = string.match(raw, '^([^\n]*)\n([^\n]*)$')
  local words = {}
  for word in string.gmatch(head, '%S+') do words[#words + 1] = word end
  if #words ~= #HEAD + 1 + #SAID then error('damaged') end
  local c, said = {}, {at = finite(words[#HEAD + 1])}
  for i, name in ipairs(HEAD) do c[name] = i == 1 and words[i] or finite(words[i]) end
  for i, name in ipairs(SAID) do
    local word = words[#HEAD + 1 + i]
    said[name] = word ~= '-' and finite(word) or nil
  end
  if c.incarnation == '-' then c.incarnation = '' end
  said.depth, said.limit = said.queue_depth, said.queue_limit
  c.said, c.law, c.memory = said, law_memory(tail)
  return c
end

-- An id belongs to the incarnation that reported last, as long as its last report is valid.
local function check_reporter(keys, c, id, said, now)
  c.deadline = score(keys.consumers, id)
  if c.incarnation == said.incarnation then
    if said.incarnation == '' then return nil end
    if said.seq == c.seq then return 'again' end
    return said.seq < c.seq and 'NEXUS_STALE' or nil
  end
  if c.incarnation ~= '' and c.deadline and c.deadline > now and score(keys.rates, id) then return 'NEXUS_ID_TAKEN' end
  return nil
end

-- Is this report a base (it has no differences to the one before)? If not, how many seconds ago was the one before? A
-- consumer that was forgotten starts again: what came to it meanwhile counts as already arrived.
local function since_last(c, said, now)
  if not c or c.incarnation ~= said.incarnation or not c.deadline then return true end
  local was = c.said
  for _, counter in ipairs({'done', 'errors', 'cancelled'}) do
    if (said[counter] or 0) < (was[counter] or 0) then return true end
  end
  if said.uptime_ms and was.uptime_ms then
    local dt, passed = (said.uptime_ms - was.uptime_ms) / 1000, (now - was.at) / MICRO
    if dt < 0 or dt > math.max(0, passed) + LEAP then return true end
    return false, dt
  end
  return false, math.max(0, now - was.at) / MICRO
end

local function law_setting(s, c, said, now)
  return {rate = s.rate and s.rate / MICRO, latency_target_ms = s.latency_target_ms, loop_delay = s.loop_delay,
          interval = said.interval / MICRO, here = (now - c.joined) / MICRO}
end

-- Everything that ever came to this consumer and was seen there.
local function came(said) return left_of(said) + (said.in_flight or 0) + (said.queue_depth or 0) end

-- If a counter jumps, the arrivals still count for at most a surge of what the budget gives.
local function arrivals(b, c, was, said, dt)
  if not was then return 0 end
  local arrived = came(said) - came(was)
  if dt > 0 then
    local most = math.min(MOST, SURGE * math.max(b.R, c.arrivals, FIRST_RATE * MICRO))
    local rate = math.min(most, math.max(0, arrived) / dt * MICRO)
    c.arrivals = c.arrivals + math.min(1, dt / ARRIVALS_TIME) * (rate - c.arrivals)
  end
  return arrived
end

-- Under `min`: how many tokens have arrived at this consumer or are too old to arrive.
local function seen_by(keys, id)
  local edge, free = score(keys.edges, id), score(keys.frees, id)
  return edge and free and edge - free
end

-- The consumer's arrivals reduce what is on the way. Its free space is what may still be sent to it. The caller has withdrawn
-- its entries in the sets.
local function place_in_window(keys, b, s, c, said, part, seen, arrived, fraction, now)
  if not (said.limit and said.depth) then return end
  part.free = math.max(-MOST, math.min(MOST, math.floor((fraction * said.limit - said.depth) * MICRO)))
  local slot_us = slot_length(b.span, s.transit, said.interval)
  if not b.window then b.window = new_window(now, slot_us) end
  local w = b.window
  if slot_us > w.slot_us then set_slot_length(w, now, slot_us) end
  turn_window(w, now)
  -- What was granted T_x ago has arrived or never will. This holds while all consumers report. At first the oldest snapshot
  -- is 0.
  local healing = are_all_heard(keys, s.parts, now)
  local oldest, came_now = w.snaps[SNAPSHOTS], math.floor(arrived * MICRO)
  if s.combine == 'min' then
    seen = math.min(w.net, (seen or oldest) + came_now)
    if healing then seen = math.max(seen, oldest) end
    part.edge = seen + part.free
  else
    w.A = math.min(w.net, w.A + came_now)
    if healing then w.A = math.max(w.A, oldest) end
    -- A new consumer may be a restart of another one, whose limit still counts. Its own limit counts after all the others
    -- have reported.
    local first = s.combine == 'sum' and s.lossless == 1 and least(keys.consumers)
    if first and first <= c.joined + SHORTEST_DEADLINE then part.free = -math.floor(said.depth * MICRO) end
  end
end

local function write_consumer(keys, c, said, name, part, now)
  c.incarnation, c.seq, c.rate, c.capacity, c.law = said.incarnation, said.seq, part.rate, part.capacity, name
  local words = {c.incarnation ~= '' and c.incarnation or '-'}
  for i = 2, #HEAD do words[i] = whole(c[HEAD[i]]) end
  words[#words + 1] = whole(now)
  for _, field in ipairs(SAID) do words[#words + 1] = said[field] and string.format('%.17g', said[field]) or '-' end
  local keep_ms = whole(math.max(KEEP_MEMBER_MS, 6 * said.interval / 1000))
  redis.call('SET', keys.memory, table.concat(words, ' ') .. '\n' .. law_text(name, c.memory), 'PX', keep_ms)
  local list = {'HSET', keys.member, 'law', name, 'rate_per_s', plain(part.rate), 'capacity_per_s', plain(part.capacity),
    'load_percent', plain(part.load * 1000), 'arrivals_per_s', plain(math.floor(c.arrivals)), 'joined_at', date_of(c.joined),
    'reported_at', date_of(now), 'labels', said.labels}
  local gone = {'HDEL', keys.member}
  local function show(field, text)
    if text then
      list[#list + 1] = field
      list[#list + 1] = text
    else gone[#gone + 1] = field end
  end
  show('paused_until', c.paused_until > now and date_of(c.paused_until))
  for _, field in ipairs(SHOWN) do show(field, said[field] and string.format('%.17g', said[field])) end
  redis.call(unpack(list))
  if #gone > 2 then redis.call(unpack(gone)) end
  redis.call('PEXPIRE', keys.member, keep_ms)
end

local function consumer_reply(b, c)
  return {whole(c.rate), whole(c.capacity), whole(b.R), whole(b.level), whole(math.floor(b.load / 1000)), whole(b.birth), c.law,
          b.reason}
end
