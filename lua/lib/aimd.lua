-- The law of those who show no queue, only errors or latency: TCP's. Climb while all is well, step down when it is not, at
-- most once per loop, because what comes meanwhile is still the echo of the old rate.
--
-- known_good is what it did when it was last too much, 0 before that ever happened. Below it the way up is quick and
-- levels off; beyond it slow, and faster the longer all stays calm, for the capacity may have grown.
local aimd
do
  local TOLERATED = 0.05        -- errors per success: some records fail for themselves
  local SLOW, SLOW_MS = 2, 10   -- times its usual latency, and more than this: overload where no target is set
  local MINUTE, MINUTES = 60, 10            -- its usual latency is the lowest minute of the last ten
  local CUT, CUT_MOST = 0.7, 0.5            -- of known_good, which is at least so much of the rate
  local USED = 0.5              -- of its rate arrived: else calm says nothing about the rate
  local NEAR = 0.94             -- of known_good: from here on, slowly
  local CREEP, CREEP_MOST = 0.01, 0.2       -- growth per second after CALM seconds, doubling each CALM_DOUBLES, and its end
  local CALM, CALM_DOUBLES, CALM_ENOUGH = 10, 5, 60

  -- Latency counts only with work that left: an idle consumer may repeat an old one for ever.
  local function is_slow(m, report, step, setting)
    if not report.latency_ms or step.done + step.errors == 0 then return false end
    local latency = math.min(MOST_RATE, report.latency_ms)
    m.minute_age = m.minute_age + step.dt
    if m.minute_age >= MINUTE and m.minute_reports > 0 then
      m[#m + 1] = m.minute_mean
      if #m > MINUTES - 1 then table.remove(m, 1) end
      m.minute_age, m.minute_mean, m.minute_reports = 0, 0, 0
    end
    m.minute_reports = m.minute_reports + 1
    m.minute_mean = m.minute_mean + (latency - m.minute_mean) / m.minute_reports
    if setting.latency_target_ms then return latency > setting.latency_target_ms end
    local usual = m.minute_mean
    for _, minute in ipairs(m) do usual = math.min(usual, minute) end
    return latency > math.max(SLOW_MS, SLOW * usual)
  end

  local function follow(m, rate, report, step, setting)
    local delay = loop_delay(setting)
    local hold = math.max(2, 2 * delay + 1)      -- seconds until a cut shows in the reports, and a little more
    m.ok = towards(m.ok, math.min(MOST_RATE, step.done / step.dt), step.dt, 1)
    local slow = is_slow(m, report, step, setting)
    if step.errors > TOLERATED * step.done or slow then
      if m.since_cut < hold then return rate end
      m.known_good = math.max(m.ok, CUT_MOST * rate)
      m.since_cut, m.calm = 0, 0
      return math.min(rate, CUT * m.known_good)
    end
    if step.arrived / step.dt < USED * rate or m.since_cut < delay then return rate end
    if m.known_good == 0 then return rate * 2 ^ (step.dt / delay) end
    if rate < NEAR * m.known_good then
      m.calm = 0
      return rate + (m.known_good - rate) * step.dt / hold
    end
    local growth = CREEP_MOST
    if m.calm <= CALM_ENOUGH then growth = math.min(CREEP_MOST, CREEP * 2 ^ ((m.calm - CALM) / CALM_DOUBLES)) end
    return rate * (1 + growth) ^ step.dt
  end

  function aimd(m, report, step, setting)
    local rate = m.rate > 0 and m.rate or report.capacity or FIRST_RATE
    local seen = 0
    if step then
      m.since_cut, m.calm = math.min(LONG, m.since_cut + step.dt), math.min(LONG, m.calm + step.dt)
      if step.is_unbroken then
        rate = follow(m, rate, report, step, setting)
        seen = m.ok
      end
    end
    return rate, seen, report.capacity or m.known_good, 1
  end
end
