-- The law of consumers that report their queue: it learns how fast the queue is emptied, and keeps it short.
--
-- The work done per second equals the capacity only if there was always work to do, which is rarely so. A law that took
-- throughput for capacity would take an idle consumer for a slow one, and would make it slow. So the law needs *proof*: more
-- was queued and at work before than has left and is at work now, so some of it never left the queue. Without proof the
-- capacity only grows. It grows when more is done than seemed possible. It also grows in a *probe*, when producers use all
-- they may, the queue is short, and nobody knows how much more the consumer could do.
--
-- A consumer that measures how long its workers were busy (`busy_ms`) needs no proof. Work done per busy second is what the
-- workers can do, whatever the queue holds. This speed may be a lower bound (in a bulk call, or if the workers were never all
-- needed), so it lowers the capacity only while items wait. A short queue has no room for a rate that is a little too high.
-- So the shorter the queue, the more of the capacity stays unused.
--
-- If the counter stands still while there is work, the report is not a sample, since work may come in batches. `usual_still`
-- is how long the counter usually stands still; much longer is a stall. The law keeps the capacity through a stall, since
-- seconds of stall would otherwise cost a minute of climbing. Meanwhile the rate only fills the rest of the queue.
local drain
do
  local SETTLE = 5              -- seconds in which the rate brings the queue to its aim; 3 loops if these are longer
  local AIM, AIM_OF_LIMIT = 0.2, 0.4        -- of a second's work, of the queue's limit: enough to prove that there is work
  local AIM_MEASURED = 0.2      -- of the limit, where no proof is needed
  local LEARN, LEARN_ITEMS = 1, 10          -- the mean of the proven rate: over 1 s, or 10 items where those take longer
  local DOWN = 0.5              -- of that time when it falls: too high a rate fills queues, too low a rate only wastes capacity
  local PROBE, PROBE_MOST, PROBE_BACK = 0.05, 0.2, 0.5      -- growth per loop: first, at most, on the way back to its best
  local FAR_BELOW = 0.9         -- of the best seen: below, on the way back
  local FARTHEST, FARTHEST_BACK = 1.6, 2    -- times the work that was seen: a probe goes no further
  local USED = 0.65             -- of its rate: if at least this part arrives, its producers want more
  local OVERFLOWING = 0.5       -- of the limit, mean of two reports: errors may be work that found the queue full
  local CROWDED = 0.5           -- of the limit: above it in both reports, the queue was hardly empty in between; in one, it is filling
  local UNUSED, UNUSED_ITEMS, UNUSED_MOST = 0.002, 0.15, 0.035      -- seconds of work and items, over the queue's limit; of the capacity
  local STALL, STALL_TIMES = 0.5, 2         -- seconds, and times `usual_still`: standing still for longer than both is a stall
  local STILLS = 4              -- `usual_still` is the mean of about so many standstills
  local OPENING, OPENING_GROWTH = 0.1, 4    -- of the limit, growth per loop: the window of a consumer not yet known
  local SHORT_QUEUE = 0.1       -- of the limit: the window opens no further while more than this waits
  local FILLING = 4             -- times a second that its producers may fill that window
  local LOOKING = 4             -- loops that a cold consumer must work before its best counts as its capacity
  local MOST_LOOPS = 10         -- loops of growth at once, after a batch; FARTHEST ends it long before

  local function aim(m, report)
    local wanted = AIM * m.capacity
    if report.limit and report.limit > 0 then wanted = math.min(wanted, (report.busy_ms and AIM_MEASURED or AIM_OF_LIMIT) * report.limit) end
    return math.max(1, wanted)
  end

  local function is_stalled(m) return m.still > math.max(STALL, STALL_TIMES * m.usual_still) end

  local function stop_probing(m) m.probe, m.probe_age = PROBE, 0 end

  local function warm_up(m, speed, never_empty, step, report, delay)
    m.highest = math.max(m.highest, speed)
    if never_empty and speed > 0 then
      m.capacity = speed
    elseif m.highest > 0 and report.limit then
      m.working_for = m.working_for + step.dt
      if m.working_for > LOOKING * delay then m.capacity = m.highest end
    end
  end

  local function reach(m, span, delay)
    local most, farthest = PROBE_MOST, FARTHEST
    if m.capacity < FAR_BELOW * m.best then most, farthest = PROBE_BACK, FARTHEST_BACK end
    if m.probe_age >= delay then m.probe, m.probe_age = math.min(most, 2 * m.probe), 0 end
    if most == PROBE_BACK then m.probe = math.max(m.probe, PROBE_MOST) end
    local top = math.max(m.capacity, farthest * (m.ok or 0))
    m.capacity = math.min(top, m.capacity * (1 + m.probe) ^ math.min(MOST_LOOPS, span / delay))
  end

  local function follow(m, speed, seconds, is_urgent)
    local tau = math.max(LEARN, LEARN_ITEMS / m.capacity) * (is_urgent and speed < m.capacity and DOWN or 1)
    m.capacity = towards(m.capacity, speed, seconds, tau)
  end

  -- Returns the work per second that the report shows, or 0 if the report is not a sample.
  local function learn(m, was, report, step, delay)
    m.probe_age = m.probe_age + step.dt
    local at_work, depth, depth_was = report.in_flight or 0, report.depth or 0, was.depth or 0
    local limit = report.limit or math.huge
    local has_come = step.arrived > 0 or m.cold_for > 0
    if m.capacity == 0 and has_come and depth <= SHORT_QUEUE * limit then
      m.cold_for = math.min(LONG, m.cold_for + step.dt)      -- arriving work is done at once, so more may come
    end
    if step.done == 0 and at_work + depth > 0 then
      m.still = math.min(LONG, m.still + step.dt)
      if is_stalled(m) then m.capacity = math.max(m.capacity, m.before) end      -- the stall cut the last sample short
      return 0
    end
    local is_whole, span = step.is_unbroken and not is_stalled(m), step.dt + m.still
    m.usual_still, m.still = m.usual_still + (m.still - m.usual_still) / STILLS, 0

    local speed = math.min(MOST_RATE, step.done / span)
    local busy = was.busy_ms and report.busy_ms and step.part * (report.busy_ms - was.busy_ms) / 1000 or 0
    if busy > 0 and step.done > 0 then
      m.ok = towards(m.ok, speed, step.dt, delay)
      local able = math.min(MOST_RATE, step.done / busy)
      local peak = math.max(depth_was, depth)
      if math.min(depth_was, depth) > CROWDED * limit then able = math.min(able, speed) end
      if m.capacity == 0 then
        m.capacity = math.max(able, m.rate)
      else
        m.before = m.capacity
        able = math.min(SURGE * m.capacity, math.max(m.capacity / SURGE, able))
        local is_urgent = peak > CROWDED * limit or depth > aim(m, report)
        follow(m, able, busy, is_urgent)
      end
      return m.ok
    end
    if not is_whole then                    -- the consumer can do at least this, perhaps far more
      m.highest = math.max(m.highest, speed)
      if m.capacity > 0 then m.capacity = math.max(m.capacity, speed) end
      return 0
    end
    m.ok = towards(m.ok, speed, step.dt, delay)
    local never_empty = depth_was > 0 and depth_was + (was.in_flight or 0) > step.left + at_work
    if m.capacity == 0 then
      warm_up(m, speed, never_empty, step, report, delay)
      return m.ok
    end

    m.before = m.capacity
    local overflowed = step.errors > 0 and depth_was + depth > OVERFLOWING * limit
    local crowded = math.min(depth_was, depth) > CROWDED * limit
    if never_empty or overflowed or crowded then
      follow(m, speed, step.dt, true)
      stop_probing(m)
    elseif speed > m.capacity then
      m.capacity = speed
    elseif step.arrived / step.dt >= USED * m.rate and depth <= aim(m, report) then
      reach(m, span, delay)
    else
      stop_probing(m)
    end
    return m.ok
  end

  function drain(m, was, report, step, setting)
    local delay = loop_delay(setting)
    if m.capacity == 0 and report.capacity then m.capacity = report.capacity end
    local seen = 0
    if step then
      seen = learn(m, was, report, step, delay)
    else
      m.still = 0
      stop_probing(m)
    end
    m.capacity = math.min(m.capacity, report.capacity or MOST_RATE)

    local limit, depth = report.limit and report.limit > 0 and report.limit, report.depth or 0
    if m.capacity > 0 then
      local unused = 0
      if report.busy_ms and limit then
        unused = math.min(UNUSED_MOST, (UNUSED * m.capacity + UNUSED_ITEMS) / limit)
      end
      local rate = m.capacity * (1 - unused) - (depth - aim(m, report)) / math.max(SETTLE, 3 * delay)
      if limit and is_stalled(m) then rate = math.min(rate, math.max(0, limit - depth) / delay) end
      return rate, seen, m.capacity, 1
    end
    if limit then
      local window = math.min(1, OPENING * OPENING_GROWTH ^ math.min(MOST_LOOPS, m.cold_for / delay))
      return math.max(FIRST_RATE, FILLING * window * limit), seen, 0, window
    end
    local rate = m.rate > 0 and m.rate or FIRST_RATE
    if step and step.is_unbroken and step.arrived / step.dt >= USED * rate then rate = rate * 2 ^ (step.dt / delay) end
    return rate, seen, 0, 1
  end
end
