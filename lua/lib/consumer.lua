-- One consumer's part of a report: what it says, what it said before, where its work stands.
local SAID = {'uptime_ms', 'load', 'capacity', 'queue_depth', 'queue_limit', 'done', 'errors', 'in_flight', 'slots',
              'latency_ms', 'interval_ms', 'pause_ms'}
local SAID_MOST = {
  uptime_ms = 9e15, load = 100, capacity = 1e9, queue_depth = 9e15, queue_limit = 9e15, done = 9e15, errors = 9e15,
  in_flight = 9e15, slots = 9e15, latency_ms = 86400000, interval_ms = 86400000, pause_ms = 86400000,
}
local ARRIVALS_TIME = 1         -- seconds over which a consumer's part of the arrivals is averaged

-- The report's arguments by name (nil where nothing is said), or nil and a code that names the one at fault.
local function read_report()
  if #ARGV ~= 16 then return nil, 'NEXUS_INVALID_ARGUMENTS' end
  if not decimal(ARGV[1], 0, 9e15) then return nil, 'NEXUS_INVALID_AT_US' end
  local r = {incarnation = ARGV[2], labels = ARGV[16]}
  if r.incarnation ~= '' and not is_name(r.incarnation) then return nil, 'NEXUS_INVALID_INCARNATION' end
  r.seq = decimal(ARGV[3], 0, 9e15)
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
  r.interval = r.interval_ms and max(1000, r.interval_ms * 1000) or INTERVAL
  if not r.load and (r.limit and r.depth or r.slots and r.in_flight) then
    local queue = r.limit and r.depth and r.depth / r.limit or 0
    local work = r.slots and r.in_flight and r.in_flight / r.slots or 0
    r.load = min(100, 100 * max(queue, work))
  end
  return r
end

local function load_of(said) return said.load or 0 end

local function missing_for_lossless(said)
  for _, name in ipairs({'queue_limit', 'queue_depth', 'done', 'errors', 'in_flight'}) do
    if not said[name] then return 'NEXUS_INVALID_' .. string.upper(name) end
  end
  return nil
end

local function new_consumer()
  return {memory = {}, arrivals = 0, paused_until = 0, incarnation = ''}
end

local function read_consumer(keys)
  local f = redis.call('HMGET', keys.member, 'incarnation', 'seq', 'memory', 'said', 'rate_per_s', 'capacity_per_s',
                       'arrivals_micro', 'paused_until_us')
  if not f[2] then return nil end
  local law, memory = law_memory(f[3])
  local n, i, said = 0, 0, {}
  for word in string.gmatch(f[4], '%S+') do
    n = n + 1
    if n == 1 then said.at = tonumber(word)
    else
      i = i + 1
      if word ~= '-' then said[SAID[i]] = tonumber(word) end
    end
  end
  said.depth, said.limit = said.queue_depth, said.queue_limit
  return {incarnation = f[1], seq = tonumber(f[2]), law = law, memory = memory, said = said, rate = unplain(f[5]),
          capacity = unplain(f[6]), arrivals = tonumber(f[7]), paused_until = tonumber(f[8])}
end

local function check_reporter(keys, c, id, said, now)
  if c.incarnation == said.incarnation then
    if said.incarnation == '' then return nil end
    if said.seq == c.seq then return 'again' end
    return said.seq < c.seq and 'NEXUS_STALE' or nil
  end
  local deadline = score(keys.consumers, id)
  if c.incarnation ~= '' and deadline and deadline > now and score(keys.rates, id) then return 'NEXUS_ID_TAKEN' end
  return nil
end

-- Is this the base of a new incarnation (no differences), and else how long is it since the one before, in seconds.
local function since_last(c, said, now)
  if not c or c.incarnation ~= said.incarnation then return true end
  local was = c.said
  if (said.done or 0) < (was.done or 0) or (said.errors or 0) < (was.errors or 0) then return true end
  if said.uptime_ms and was.uptime_ms then
    if said.uptime_ms < was.uptime_ms then return true end
    return false, (said.uptime_ms - was.uptime_ms) / 1000
  end
  return false, max(0, now - was.at) / MICRO
end

local function law_setting(s, said)
  return {rate = s.rate and s.rate / MICRO, latency_target_ms = s.latency_target_ms, loop_delay = s.loop_delay,
          interval = said.interval / MICRO}
end

-- Everything that ever came to it and was seen there.
local function came(said) return (said.done or 0) + (said.errors or 0) + (said.in_flight or 0) + (said.queue_depth or 0) end

local function arrivals(c, was, said, dt)
  if not was then return 0 end
  local arrived = came(said) - came(was)
  if dt > 0 then
    local rate = max(0, arrived) / dt * MICRO
    c.arrivals = c.arrivals + min(1, dt / ARRIVALS_TIME) * (rate - c.arrivals)
  end
  return arrived
end

-- Its arrivals shorten what is on the way; its space is what it may still be sent.
local function place_in_window(keys, b, s, id, said, part, arrived, fraction, now)
  if not (said.limit and said.depth) then return end
  part.free = floor((fraction * said.limit - said.depth) * MICRO)
  local slot_us = ceil(horizon(s.transit, max(INTERVAL, said.interval)) / 4)
  if not b.window then b.window = new_window(now, slot_us) end
  local w = b.window
  if slot_us > w.slot_us then w.slot_us, w.slot = slot_us, floor(now / slot_us) end
  rebase_window(w, keys)
  turn_window(w, now)
  local whole_history = now - tonumber(b.birth) >= 4 * w.slot_us
  local healing = whole_history and silent_consumers(keys, s.parts) == 0
  local oldest, came_now = w.snaps[SNAPSHOTS], floor(arrived * MICRO)
  if s.combine == 'min' then
    local edge, free = score(keys.edges, id), score(keys.frees, id)
    local seen = edge and free and edge - free or oldest
    if healing then seen = max(seen, oldest) end
    part.edge = min(w.net, seen + came_now) + part.free
  else
    if healing then w.A = max(w.A, oldest) end
    w.A = min(w.net, w.A + came_now)
  end
end

local function write_consumer(keys, c, said, name, part, now)
  local words = {whole(now)}
  for i, field in ipairs(SAID) do words[i + 1] = said[field] and format('%.17g', said[field]) or '-' end
  local list = {'HSET', keys.member, 'incarnation', said.incarnation, 'seq', whole(said.seq), 'law', name,
    'rate_per_s', plain(part.rate), 'capacity_per_s', plain(part.capacity), 'load_percent', plain(part.load * 1000),
    'paused_until_us', whole(c.paused_until), 'arrivals_micro', whole(c.arrivals), 'memory', law_text(name, c.memory),
    'said', table.concat(words, ' '), 'labels', said.labels}
  for _, field in ipairs({'queue_depth', 'queue_limit', 'done', 'errors', 'in_flight', 'latency_ms'}) do
    if said[field] then
      list[#list + 1] = field
      list[#list + 1] = format('%.17g', said[field])
    end
  end
  redis.call(unpack(list))
  redis.call('PEXPIRE', keys.member, KEEP_MEMBER_MS)
  c.rate, c.capacity, c.law = part.rate, part.capacity, name
end

local function consumer_reply(b, c)
  return {whole(c.rate), whole(c.capacity), whole(b.R), whole(b.level), whole(floor(b.load / 1000)), b.birth, c.law, b.reason}
end
