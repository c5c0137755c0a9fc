-- What one consumer reports: what it says now, what it said before, where its work stands. The rate that it can take is
-- decided in law.lua, and when it counts as dead in consumers.lua.
local SAID = {'uptime_ms', 'load', 'capacity', 'queue_depth', 'queue_limit', 'done', 'errors', 'in_flight', 'slots',
              'latency_ms', 'interval_ms', 'pause_ms', 'latency_p25_ms', 'latency_p10_ms', 'cancelled', 'busy_ms'}
-- What people find in fields of the consumer's hash.
local SHOWN = {'queue_depth', 'queue_limit', 'done', 'errors', 'cancelled', 'in_flight', 'latency_ms'}
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
  local report = {incarnation = ARGV[2], labels = ARGV[#ARGV]}
  if report.incarnation ~= '' and not is_name(report.incarnation) then return nil, 'NEXUS_INVALID_INCARNATION' end
  report.seq = whole_number(ARGV[3], 0, COUNT)
  if not report.seq then return nil, 'NEXUS_INVALID_SEQ' end
  for i, name in ipairs(SAID) do
    local text = ARGV[i + 3]
    if text ~= '' then
      report[name] = decimal(text, 0, SAID_MOST[name])
      if not report[name] then return nil, 'NEXUS_INVALID_' .. string.upper(name) end
    end
  end
  if #report.labels > 1024 then return nil, 'NEXUS_INVALID_LABELS' end
  if report.queue_limit == 0 then return nil, 'NEXUS_INVALID_QUEUE_LIMIT' end
  if report.slots == 0 then return nil, 'NEXUS_INVALID_SLOTS' end
  if report.capacity and report.capacity < 1e-6 then return nil, 'NEXUS_INVALID_CAPACITY' end
  report.depth, report.limit = report.queue_depth, report.queue_limit
  report.interval = report.interval_ms and math.max(1000, report.interval_ms * 1000) or INTERVAL
  if not report.load and (report.limit and report.depth or report.slots and report.in_flight) then
    local queue = report.limit and report.depth and report.depth / report.limit or 0
    local work = report.slots and report.in_flight and report.in_flight / report.slots or 0
    report.load = math.min(100, 100 * math.max(queue, work))
  end
  return report
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
  local consumer, said = {}, {at = finite(words[#HEAD + 1])}
  for i, name in ipairs(HEAD) do consumer[name] = i == 1 and words[i] or finite(words[i]) end
  for i, name in ipairs(SAID) do
    local word = words[#HEAD + 1 + i]
    said[name] = word ~= '-' and finite(word) or nil
  end
  if consumer.incarnation == '-' then consumer.incarnation = '' end
  said.depth, said.limit = said.queue_depth, said.queue_limit
  consumer.said, consumer.law, consumer.memory = said, law_memory(tail)
  return consumer
end

-- An id belongs to the incarnation that reported last, as long as its last report is valid.
local function check_reporter(keys, consumer, id, said, now)
  consumer.deadline = score(keys.consumers, id)
  if consumer.incarnation == said.incarnation then
    if said.incarnation == '' then return nil end
    if said.seq == consumer.seq then return 'again' end
    return said.seq < consumer.seq and 'NEXUS_STALE' or nil
  end
  if consumer.incarnation ~= '' and consumer.deadline and consumer.deadline > now and score(keys.rates, id) then
    return 'NEXUS_ID_TAKEN'
  end
  return nil
end

-- Is this report a base (it has no differences to the one before)? If not, how many seconds ago was the one before? A
-- consumer that was forgotten starts again: what came to it meanwhile counts as already arrived.
local function since_last(consumer, said, now)
  if not consumer or consumer.incarnation ~= said.incarnation or not consumer.deadline then return true end
  local was = consumer.said
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

local function law_setting(settings, consumer, said, now)
  return {
    rate = settings.rate and settings.rate / MICRO, latency_target_ms = settings.latency_target_ms,
    loop_delay = settings.loop_delay, interval = said.interval / MICRO, here = (now - consumer.joined) / MICRO,
  }
end

-- Everything that ever came to this consumer and was seen there.
local function came(said) return left_of(said) + (said.in_flight or 0) + (said.queue_depth or 0) end

-- If a counter jumps, the arrivals still count for at most a surge of what the budget gives.
local function arrivals(budget, consumer, was, said, dt)
  if not was then return 0 end
  local arrived = came(said) - came(was)
  if dt > 0 then
    local most = math.min(MOST, SURGE * math.max(budget.rate, consumer.arrivals, FIRST_RATE * MICRO))
    local rate = math.min(most, math.max(0, arrived) / dt * MICRO)
    consumer.arrivals = consumer.arrivals + math.min(1, dt / ARRIVALS_TIME) * (rate - consumer.arrivals)
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
local function place_in_window(keys, budget, settings, consumer, said, contribution, seen, arrived, fraction, now)
  if not (said.limit and said.depth) then return end
  contribution.free = math.max(-MOST, math.min(MOST, math.floor((fraction * said.limit - said.depth) * MICRO)))
  local quarter_us = quarter_length(budget.longest_lease, settings.transit, said.interval)
  if not budget.window then budget.window = new_window(now, quarter_us) end
  local window = budget.window
  if quarter_us > window.quarter_us then set_quarter_length(window, now, quarter_us) end
  turn_window(window, now)
  -- What was granted a horizon ago (window.lua) has arrived or never will. This holds while all consumers report. At first
  -- the oldest snapshot is 0.
  local healing = are_all_heard(keys, settings.sums, now)
  local oldest, came_now = window.snapshots[SNAPSHOTS], math.floor(arrived * MICRO)
  if settings.combine == 'min' then
    seen = math.min(window.net, (seen or oldest) + came_now)
    if healing then seen = math.max(seen, oldest) end
    contribution.edge = seen + contribution.free
  else
    window.landed = math.min(window.net, window.landed + came_now)
    if healing then window.landed = math.max(window.landed, oldest) end
    -- A new consumer may be a restart of another one, whose limit still counts. Its own limit counts after all the others
    -- have reported.
    local first = settings.combine == 'sum' and settings.lossless == 1 and least(keys.consumers)
    if first and first <= consumer.joined + SHORTEST_DEADLINE then contribution.free = -math.floor(said.depth * MICRO) end
  end
end

local function write_consumer(keys, consumer, said, name, contribution, now)
  consumer.incarnation, consumer.seq = said.incarnation, said.seq
  consumer.rate, consumer.capacity, consumer.law = contribution.rate, contribution.capacity, name
  local words = {consumer.incarnation ~= '' and consumer.incarnation or '-'}
  for i = 2, #HEAD do words[i] = whole(consumer[HEAD[i]]) end
  words[#words + 1] = whole(now)
  for _, field in ipairs(SAID) do words[#words + 1] = said[field] and string.format('%.17g', said[field]) or '-' end
  local keep_ms = whole(math.max(KEEP_MEMBER_MS, 6 * said.interval / 1000))
  redis.call('SET', keys.memory, table.concat(words, ' ') .. '\n' .. law_text(name, consumer.memory), 'PX', keep_ms)
  local list = {
    'HSET', keys.member, 'law', name, 'rate_per_s', plain(contribution.rate),
    'capacity_per_s', plain(contribution.capacity), 'load_percent', plain(contribution.load * 1000),
    'arrivals_per_s', plain(math.floor(consumer.arrivals)), 'joined_at', date_of(consumer.joined),
    'reported_at', date_of(now), 'labels', said.labels,
  }
  local gone = {'HDEL', keys.member}
  local function show(field, text)
    if text then
      list[#list + 1] = field
      list[#list + 1] = text
    else gone[#gone + 1] = field end
  end
  show('paused_until', consumer.paused_until > now and date_of(consumer.paused_until))
  for _, field in ipairs(SHOWN) do show(field, said[field] and string.format('%.17g', said[field])) end
  redis.call(unpack(list))
  if #gone > 2 then redis.call(unpack(gone)) end
  redis.call('PEXPIRE', keys.member, keep_ms)
end

local function consumer_reply(budget, consumer)
  return {whole(consumer.rate), whole(consumer.capacity), whole(budget.rate), whole(budget.level),
          whole(math.floor(budget.load / 1000)), whole(budget.birth), consumer.law, budget.reason}
end
