-- The laws compute, from the reports of one consumer, the rate that it can take. This file has what they share: a floor from
-- which a law finds its way back, ceilings, and a memory between two reports (`m` in the laws). The memory survives a new
-- incarnation of the same id.
--
-- Time is the consumer's own (dt, from its uptime). No host's clock is compared with another's. A step of the server's clock
-- changes only how long the best is remembered.
--- @include number
local MOST_RATE = 1e9           -- tokens per second: the protocol's range
local LONG = 86400              -- seconds: no clock of a law counts further
local SLOWEST = 0.2             -- one token per 5 s
local LEAST_OF_BEST = 0.01      -- the floor, as a part of the best seen
local BEST_FADES = 600          -- seconds
local UNSEEN, UNSEEN_FADES = 60, 30       -- seconds of work below half of the best; then the best fades in so many seconds
local SURGE, SURGE_ITEMS = 4, 20          -- times the known speed, plus so many items: more is not credible in one report
local QUIET = 5                 -- seconds: a consumer that does not report in_flight may finish the work of this time at once
local MISSED_REPORTS = 3        -- intervals: two reports may be lost before a difference says nothing
local SHORTEST_STEP = 0.125     -- seconds: half of the usual interval; in less time, a count of done says little
local SHORTEST_DELAY = 0.5      -- seconds: no fleet's loop is shorter than a lease
local LOOKING_ON = 2            -- seconds after which a consumer that has done nothing may be one that counts nothing
local FIRST_RATE = 10           -- tokens per second for a consumer of which nothing is known

-- The time from a change of the rate to its effect in a report.
local function loop_delay(setting) return math.max(SHORTEST_DELAY, setting.loop_delay or 0, setting.interval) end

-- One step of an exponential mean; the first value is taken as it is.
local function towards(old, new, dt, tau)
  if not old then return new end
  return old + (1 - math.exp(-dt / tau)) * (new - old)
end

--- @include range
--- @include drain
--- @include latency
--- @include aimd

-- law_memory and law_text keep this order; new numbers go to the end. A value that is absent is -1.
local MEMORY = {
  range = {'rate', 'best', 'best_at'},
  drain = {'rate', 'best', 'best_at', 'capacity', 'before', 'ok', 'probe', 'probe_age', 'still', 'usual_still', 'cold_for',
           'working_for', 'highest', 'unseen', 'surged', 'quiet'},
  aimd = {'rate', 'best', 'best_at', 'ok', 'known_good', 'since_cut', 'calm', 'right', 'wrong', 'own', 'did', 'lowest',
          'echo', 'echoing', 'came', 'left', 'usual', 'usual_p25', 'usual_p10', 'is_slow', 'slow_cuts', 'is_trial',
          'slow_at', 'was_slow', 'was_probe', 'before', 'asked', 'unseen', 'surged', 'quiet'},
}
local AT_FIRST = {probe = 0.05, since_cut = LONG}       -- all others 0, and no `ok`

local function start_memory(memory, name)
  for key in pairs(memory) do memory[key] = nil end
  memory.law = name
  for _, field in ipairs(MEMORY[name]) do
    if field ~= 'ok' then memory[field] = AT_FIRST[field] or 0 end
  end
end

local function law_memory(text)
  local memory = {}
  local name = string.match(text or '', '^%S+')
  if not name then return nil, memory end
  if not MEMORY[name] then error('damaged') end
  start_memory(memory, name)
  for i, number in ipairs(numbers(string.sub(text, #name + 1))) do
    local field = MEMORY[name][i]
    if number - number ~= 0 then error('damaged') end
    if field and number >= 0 then memory[field] = number / MICRO end
  end
  return name, memory
end

local function law_text(name, memory)
  local list = {}
  for i, field in ipairs(MEMORY[name]) do list[i] = memory[field] and memory[field] * MICRO or -1 end
  return name .. ' ' .. packed(list)
end

local function law_fits(name, report, setting)
  if name == 'drain' then return report.depth ~= nil and report.done ~= nil end
  if name == 'range' then return fullest(report) ~= nil and (report.capacity or setting.rate) ~= nil end
  return name == 'aimd' and report.done ~= nil and (report.errors or report.latency_ms) ~= nil
end

-- All that ever left, however it ended. An item that was cancelled had arrived as well.
local function left_of(report) return (report.done or 0) + (report.errors or 0) + (report.cancelled or 0) end

-- The consumer has been here for a while and has never begun or done anything. It may look at a queue that others empty, and
-- count nothing.
local function only_looks_on(memory, report, setting)
  local has_worked = memory.law == 'drain' and memory.capacity + memory.highest > 0
  return not has_worked and left_of(report) + (report.in_flight or 0) == 0
         and setting.here >= LOOKING_ON
end

-- Returns the law that is set, or else the first that fits. A chosen law is left only for one before it in the list. A report
-- that says too little for the chosen law keeps that law, since it is not a sample. Only load without any capacity is an error
-- at once, since no rate follows from it. This holds also for a consumer that was idle before and so got `aimd`. A consumer
-- that only looks on would stay in drain's cold start forever. So if a capacity is known, it uses `range` until it works.
local function choose_law(set, memory, report, setting)
  local chosen, knows = memory.law, false
  local looks_on = law_fits('range', report, setting) and only_looks_on(memory, report, setting)
  for _, name in ipairs(set and {set} or looks_on and {'range'} or {'drain', 'range', 'aimd'}) do
    if law_fits(name, report, setting) then return name end
    if name == chosen then
      knows = name == 'drain' or fullest(report) == nil
      break
    end
  end
  return knows and chosen or nil
end

-- What happened between two reports, or nil if they say nothing.
local function step_between(was, report, dt, setting)
  if not was or not dt or dt < math.min(setting.interval / 2, SHORTEST_STEP) or not was.done or not report.done then return nil end
  local done, errors = report.done - was.done, (report.errors or 0) - (was.errors or 0)
  local cancelled = (report.cancelled or 0) - (was.cancelled or 0)
  if done < 0 or errors < 0 or cancelled < 0 then return nil end
  local left = done + errors + cancelled
  local held = (report.in_flight or 0) + (report.depth or 0) - (was.in_flight or 0) - (was.depth or 0)
  return {
    part = 1, dt = math.min(dt, LONG), done = done, errors = errors, left = left, arrived = math.max(0, left + held),
    is_unbroken = dt <= MISSED_REPORTS * setting.interval,
  }
end

-- A counter may jump because it was corrected, or because another process behind the same proxy has answered. A count above
-- what the consumer held plus what its history makes credible is not a sample the first time. If it happens again, each report
-- counts for as much as is credible.
local function credible(m, was, report, step)
  if not step then
    m.surged, m.quiet = 0, 0
    return nil
  end
  local known = math.max(FIRST_RATE, m.rate, m.best, m.ok or 0, m.capacity or 0, m.known_good or 0, m.before or 0,
                         report.capacity or 0)
  local most = SURGE_ITEMS + (was.in_flight or 0) + (was.depth or 0) + known * (SURGE * step.dt + m.quiet)
  local is_quiet = step.left == 0 and not report.in_flight
  m.quiet = is_quiet and math.min(QUIET, m.quiet + step.dt) or 0
  step.arrived = math.min(step.arrived, most)
  if step.left <= most then
    if step.left > 0 then m.surged = 0 end
    return step
  end
  if m.surged == 0 then
    m.surged = 1
    return nil
  end
  step.part = most / step.left
  step.done, step.errors, step.left = step.done * step.part, step.errors * step.part, most
  return step
end

-- A best that was seen once and not again in a minute of work is soon forgotten.
local function remember_best(m, seen, step, at)
  local unseen = m.unseen or 0
  if seen >= m.best / 2 then unseen = 0
  elseif step and step.done > 0 then unseen = math.min(LONG, unseen + step.dt) end
  local fades = unseen > UNSEEN and UNSEEN_FADES or BEST_FADES
  m.unseen = unseen
  m.best = math.max(seen, m.best * math.exp(-math.max(0, at - m.best_at) / fades))
  m.best_at = at
end

-- Returns rate and capacity in tokens per second (capacity 0: not known yet), and the part of the queue that may be filled.
local function run_law(name, memory, was, report, dt, at, setting)
  if memory.law ~= name then start_memory(memory, name) end
  local step                                           -- `range` needs only one report
  if name ~= 'range' then step = credible(memory, was, report, step_between(was, report, dt, setting)) end
  local rate, seen, capacity, window
  if name == 'drain' then rate, seen, capacity, window = drain(memory, was, report, step, setting)
  elseif name == 'range' then rate, seen, capacity, window = range(memory, report, setting)
  else rate, seen, capacity, window = aimd(memory, was, report, step, setting) end

  remember_best(memory, seen, step, at)
  local ceiling = math.min(report.capacity or MOST_RATE, setting.rate or MOST_RATE, MOST_RATE)
  memory.rate = math.min(ceiling, math.max(rate, SLOWEST, LEAST_OF_BEST * math.min(memory.best, ceiling)))
  return memory.rate, capacity, window
end
