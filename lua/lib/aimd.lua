-- The law of a consumer that reports no queue, only its errors and its latency. The law probes for the limit and steps back
-- from it.
--
-- known_good is the last rate that was good; it is 0 before the first overload. The law rests just below known_good for two
-- loops. Then it adds an excess that grows by itself. The excess grows slowly at first, so that the law finds the limit with
-- few failures. Soon it doubles, since the capacity must have grown if no sign of overload appears. An overload ends the
-- probe.
--
-- Failures are the first sign of overload. A downstream that refuses work gets more than it can do, so the law sets the rate
-- back to what succeeded. If nothing succeeds, the failures tell nothing about a limit. The law then lets a few requests
-- continue. When these succeed, the rate doubles until it is back at what was good, each time only as far as the recent
-- successes allow. Failures at a rate that is known to be good belong to the work itself (`own`) and are no sign.
--
-- Latency is the second sign. Long requests beside short ones must not count, nor must a change in their mix. So the law
-- looks at three low percentiles and takes the middle one of their ratios to the usual values. A queue delays all work, while
-- long requests move one percentile at most. The law sets the rate so that the queued work is worked off. If nothing was
-- queued, and a lower rate does not lower the latency either, the law takes this latency as the new usual one. The cause is
-- then a deploy, another mix, or somebody else's load.
local aimd
do
  local LOOP, LOOP_ITEMS, LONGEST_LOOP = 0.75, 4, 10        -- seconds; outcomes that a loop waits for, and for how long at most
  local BOUND = 0.999           -- of the capacity: above this, the capacity limited the rate
  local USED, USED_ITEMS = 0.5, 2           -- of its rate, over the time of so many items: if less arrives, calm proves nothing
  local FADES = 0.5             -- seconds over which failures and successes are summed up
  local TOLERATED, TOLERATED_COLD, TOLERATED_MOST = 0.005, 0.05, 0.075    -- failures per outcome, without its own: warm, cold, most
  local OWN_TIMES = 1.5         -- own failures come by chance, so sometimes more often than usual
  local OWN_ITEMS, OWN_STEP = 100, 0.1      -- `own` is a mean over so many outcomes; one report counts for at most this
  local BALANCE, BALANCE_ITEMS, BALANCE_MOST = 2, 30, 30    -- seconds, items, most seconds: to compare arrivals with outcomes

  local REST, REST_LOOPS, BACK_IN = 0.995, 2, 0.5           -- of known_good; loops of rest; seconds for the way back to it
  local NEAR = 0.99             -- of known_good: close enough to rest
  local EXCESS, PACE = 0.01, 1.1            -- of known_good: where a probe starts, and its growth per loop
  local EASY, EASY_EXCESS = 1.2, 0.1        -- times the usual latency: below this, a probe starts with more
  local FARTHEST, COLD_FARTHEST = 2, 3      -- times the recent successes: the most beyond known_good, and on the way to it

  local BACK_LEAST, BACK_MOST, BACK_COLD = 0.005, 0.3, 0.3  -- of known_good: how far the law steps back for failures
  local SAME, SHARE = 0.1, 0.3  -- a limit that differs by less is the same one; it moves by this share of the difference
  local FAR = 0.05              -- of known_good: if the work done since the cut is less by more than this, the cut was too small
  local STALL = 0.5             -- of the rate: no cut assumes less, since a stall stops work only for a moment
  local ECHO_MOST, ECHO_GROWS = 3, 1.5      -- seconds; growth of the echo when a second cut was needed
  local ENOUGH = 20             -- outcomes, or failures, that are enough to tell a rate

  local SLOW, SLOW_MS = 3, 10   -- times the usual latency, and ms: more than both is overload where no target is set
  local NOTHING, FEW = 0.1, 4   -- of the failures, and successes since the last cut: fewer tell nothing about a limit
  local TRICKLE = 2             -- requests per loop that continue while nothing succeeds
  local RUN_LOOPS = 4           -- loops: cuts that are closer together belong to one overload

  local VAIN = 0.1              -- of what leaves: if less is done, callers give up before their work is done
  local DRAIN = 2               -- seconds in which the excess of latency is to be worked off
  local EASE_LEAST, EASE_MOST, EASE_TRIAL = 0.03, 0.5, 0.4  -- of what is done
  local KEEPS = 0.9             -- of known_good: what a cut for latency keeps while no queue grows
  local RELIEF, WAIT_MOST = 0.85, 30        -- of the slowdown: below this, a trial had an effect; most seconds that it waits

  local function items_time(m, items, shortest, longest)
    if m.left == 0 then return longest end
    return math.min(longest, math.max(shortest, items / m.left))
  end

  local function count(m, step)
    local tau = 1
    if m.ok and m.ok > 0 then tau = math.min(10, math.max(1, 10 / m.ok)) end
    m.ok = towards(m.ok, math.min(MOST_RATE, step.done / step.dt), step.dt, tau)
    local kept = math.exp(-step.dt / FADES)
    m.right = math.min(MOST_RATE, m.right * kept + step.done)
    m.wrong = math.min(MOST_RATE, m.wrong * kept + step.errors)
    m.did = math.min(MOST_RATE, m.did + step.done)
    local balance = items_time(m, BALANCE_ITEMS, BALANCE, BALANCE_MOST)
    m.came = towards(m.came, math.min(MOST_RATE, step.arrived / step.dt), step.dt, balance)
    m.left = towards(m.left, math.min(MOST_RATE, step.left / step.dt), step.dt, balance)
  end

  -- The time that failures continue after the cut that ended a probe tells how long the loop is. So no setting has to name
  -- it.
  local function hear(m, step, rate, loop, is_failing)
    local outcomes = step.done + step.errors
    if m.echoing > 0 then
      m.echoing = m.echoing + step.dt
      local is_ebbing = step.errors * (m.wrong + m.right) < m.wrong * outcomes / 2
      if is_ebbing or not is_failing then m.echo, m.echoing = math.min(ECHO_MOST, math.max(0, m.echoing - 0.25)), 0 end
    end
    if outcomes > 0 and rate <= m.known_good and m.since_cut >= (1 + m.was_probe) * loop then
      local tau = items_time(m, OWN_ITEMS, 2, OWN_ITEMS)
      m.own = towards(m.own, math.min(OWN_STEP, step.errors / outcomes), step.dt, tau)
    end
  end

  -- While work waits, the work done per second is all that is possible.
  local function good_rate(m, rate)
    local ok = m.ok
    if m.since_cut < 3 and m.did >= 10 then ok = m.did / m.since_cut end
    m.lowest = STALL * rate
    if m.known_good > 0 then m.lowest = math.min(m.known_good, m.lowest) end
    return math.max(ok, m.lowest)
  end

  local function is_same(m, rate, good) return m.known_good > 0 and rate > m.known_good and math.abs(good / m.known_good - 1) < SAME end

  local function cut(m, rate, good, back)
    if m.known_good == 0 then back = math.max(back, BACK_COLD)
    elseif is_same(m, rate, good) then good = m.known_good + SHARE * (good - m.known_good) end
    m.known_good = math.min(MOST_RATE, good)
    m.since_cut, m.right, m.wrong, m.did = 0, 0, 0, 0
    return math.min(rate, (1 - back) * m.known_good)
  end

  -- If nothing is done, it is an outage, which tells nothing about a limit. known_good stays, and a few requests find the end
  -- of the outage.
  local function try_on(m, rate, loop, delay)
    local trickle = TRICKLE / delay
    if m.since_cut < 2 * loop or rate <= trickle then return rate end
    m.known_good = math.max(m.known_good > 0 and m.known_good or rate, m.before)
    m.since_cut, m.right, m.wrong, m.did, m.echoing = 0, 0, 0, 0, 0
    m.was_slow, m.slow_cuts, m.is_trial, m.was_probe = 0, 0, 0, 0
    return math.max(trickle, (1 - BACK_MOST) * STALL * rate)
  end

  local function fall(m, rate, step, loop, delay)
    if m.right < NOTHING * m.wrong or m.did < FEW then return try_on(m, rate, loop, delay) end
    local outcomes = m.wrong + m.right
    if m.since_cut < 2 * loop then                -- the first failures tell little: correct the cut by what was done since
      local thought = m.known_good * m.since_cut
      if m.since_cut < 0.5 or math.abs(m.did - thought) <= 2 * math.sqrt(m.did) then return rate end
      m.known_good = math.max(m.lowest, m.did / m.since_cut)
      if m.did >= (1 - FAR) * thought then return rate end
      return math.min(rate, (1 - math.min(BACK_MOST, math.max(BACK_LEAST, m.wrong / outcomes))) * m.known_good)
    end
    m.was_probe = m.known_good > 0 and rate > m.known_good and 1 or 0
    if m.echoing > 0 then m.echo, m.echoing = math.min(ECHO_MOST, ECHO_GROWS * loop), 0
    elseif m.was_probe > 0 and outcomes >= ENOUGH then m.echoing = 1e-6 end
    if m.since_cut > RUN_LOOPS * loop then m.before = m.known_good end
    local good = good_rate(m, rate)
    if step.errors >= ENOUGH then good = math.max(m.lowest, math.min(good, step.done / step.dt)) end
    local back = math.min(BACK_MOST, math.max(BACK_LEAST, (m.wrong - math.sqrt(m.wrong)) / outcomes))
    if is_same(m, rate, good) then back = BACK_LEAST end
    m.was_slow, m.slow_cuts, m.is_trial = 0, 0, 0
    return cut(m, rate, good, back)
  end

  local function ease(m, rate, report, step, slow, excess, loop, target)
    local hold = 2 * loop + 1
    if m.since_cut < hold then return rate end
    local balance = items_time(m, BALANCE_ITEMS, BALANCE, BALANCE_MOST)
    local slack = 0.1 * m.left + math.sqrt(m.left / balance)
    local is_vain = step.left > step.done + step.errors and m.ok < VAIN * m.left      -- callers gave it all up
    local is_growing = is_vain or m.came > m.left + slack
    local is_first = m.slow_cuts == 0 or target
    if not is_first and m.left > m.came + slack then return rate end         -- the queue is being worked off
    local is_trial = not is_first and not is_growing
    if is_trial then
      local wait = hold + math.min(WAIT_MOST, report.latency_ms / 1000)
      if m.since_cut < wait then return rate end
      if m.is_trial > 0 and slow >= RELIEF * m.slow_at then
        expect_latency(m, report, 1)
        m.slow_cuts, m.is_trial, m.is_slow = 0, 0, 0
        return rate
      end
    end
    if not is_growing and not target and balance > BALANCE then expect_latency(m, report, BY_CHANCE) end
    local good = good_rate(m, rate)
    local back = math.min(EASE_MOST, math.max(is_trial and EASE_TRIAL or EASE_LEAST, excess / DRAIN))
    if m.known_good > 0 and not is_growing then   -- no more arrives than is done, so more may be possible
      good = math.max(m.ok, KEEPS * m.known_good)
      back = 1 - (1 - back) * math.min(1, m.ok / good)
    end
    m.slow_cuts, m.is_trial, m.slow_at, m.was_slow = 1, is_trial and 1 or 0, slow, 1
    return cut(m, rate, good, back)
  end

  local function climb(m, rate, dt, loop, delay, is_easy)
    if m.known_good == 0 then return math.max(rate, math.min(rate * 2 ^ (dt / delay), COLD_FARTHEST * m.ok)) end
    m.slow_cuts, m.is_trial = 0, 0
    local lately = m.right * (1 - math.exp(-dt / FADES)) / dt
    if rate < NEAR * m.known_good then
      m.calm = 0
      local back = math.min(REST * m.known_good, towards(rate, m.known_good, dt, BACK_IN))
      return math.max(rate, math.min(back, rate * 2 ^ (dt / delay), COLD_FARTHEST * lately))
    end
    m.calm = math.min(LONG, m.calm + dt)
    if m.calm < REST_LOOPS * loop and not is_easy then return rate end
    local excess = math.max(is_easy and EASY_EXCESS or EXCESS, rate / m.known_good - 1)
    local grown = rate + m.known_good * PACE * excess * dt / loop
    return math.max(rate, math.min(grown, rate * 2 ^ (dt / loop), FARTHEST * lately))
  end

  local function follow(m, rate, report, step, setting)
    count(m, step)
    m.asked = towards(m.asked, math.min(MOST_RATE, step.arrived / step.dt), step.dt, USED_ITEMS / rate)
    local tolerated = TOLERATED_COLD
    if m.known_good > 0 then tolerated = math.min(TOLERATED_MOST, TOLERATED + OWN_TIMES * m.own) end
    local is_failing = step.errors > 0 and m.wrong - math.sqrt(m.wrong) > tolerated * (m.wrong + m.right)
    local delay, few = loop_delay(setting), m.left > 0 and math.min(LONGEST_LOOP, LOOP_ITEMS / m.left) or 0
    local loop = math.max(LOOP, delay, m.echo, few)
    hear(m, step, rate, loop, is_failing)
    local target, is_slow, excess = setting.latency_target_ms, false, 0
    local slow, latency = slowdown(m, report, step, target)
    if slow then
      if target then
        is_slow, excess = report.latency_ms > target, (report.latency_ms - target) / 1000
      else
        is_slow, excess = slow > SLOW and latency > SLOW_MS, latency * (1 - 1 / slow) / 1000
      end
      m.is_slow = is_slow and 1 or 0
    end
    if is_failing or is_slow then
      m.calm = 0
      if is_failing then return fall(m, rate, step, loop, delay) end
      return ease(m, rate, report, step, slow, excess, loop, target)
    end
    -- More is done than the rate lets in, so waiting work is being worked off. That shows what is possible.
    if m.known_good > 0 and m.ok - math.sqrt(m.ok) > rate then m.known_good = math.max(m.known_good, m.ok) end
    if m.asked < USED * rate or m.since_cut < loop or m.is_slow > 0 or step.errors > tolerated * step.done then return rate end
    return climb(m, rate, step.dt, loop, delay, m.was_slow > 0 and slow and slow < EASY and not target)
  end

  -- The rate was as high as the capacity allowed, and the capacity has risen. So the rate rises with it, up to the first rate
  -- of an unknown consumer. If nothing came, the rate rises all the way, since waiting work may need more.
  local function unbound(m, rate, before, now, step)
    if not before or not now or rate < BOUND * before or step.errors + m.is_slow > 0 then return rate end
    return math.max(rate, step.arrived > 0 and math.min(now, FIRST_RATE) or now)
  end

  function aimd(m, was, report, step, setting)
    local rate = m.rate > 0 and m.rate or report.capacity or FIRST_RATE
    local seen = 0
    if step then
      rate = unbound(m, rate, was.capacity, report.capacity, step)
      m.since_cut = math.min(LONG, m.since_cut + step.dt)
      if step.is_unbroken then
        rate = follow(m, rate, report, step, setting)
        seen = m.ok
      end
    end
    return rate, seen, report.capacity or m.known_good, 1
  end
end
