-- At what rate a producer may go on while Redis is away: its outage share. Its fair share while Redis answers is decided in
-- fair.lua.
--
-- The sum of all shares that may be in use is never more than half of the rate. The rate that silent producers may be using
-- is missing in the bucket of the others.
--
-- A producer runs on the share that its last answer named, which halves every HALVING. The budget keeps the sum of all
-- shares, in parts by what is known of their producers:
--
--   fresh_shares, late_shares   of producers whose return is certain, since they hold tokens or wait for some: answered since
--                               the last turn, and in the turn before
--   lost_shares                 the same, but not heard of for a whole turn: dead or cut off. The bucket no longer earns
--                               these shares
--   idle_shares                 of producers that need nothing and may be silent for long: at most half of all shares, split
--                               evenly among `idle_producers`
--
-- `lost_shares_old` and `idle_shares_old` are the parts that were answered before the last halving. Each share in them is
-- halved as often as its producer has halved it, or once less. So one addition moves all late shares, and no producer has a
-- timer. An answer may be lost, so a producer's part is the larger of the share that it reports and the share that this
-- answer gives it.
local HALVING = 30000000        -- as HALVED_EACH in ledger.py
local TURN = 1000000            -- longer than a claim and its answer take on the slowest way that is served

-- Takes out the share that this producer's last answer named. Returns true if the share is in one of the parts that few
-- claims need.
local function withdraw_share(budget, producer)
  local share, is_old = producer.outage_share, false
  if share > 0 then
    if producer.claimed_at >= budget.shares_turned_at then budget.fresh_shares = budget.fresh_shares - share
    elseif producer.claimed_at >= budget.shares_turned_before then budget.late_shares = budget.late_shares - share
    else is_old = true end
  elseif share < 0 then
    is_old = producer.claimed_at < budget.shares_halved_at
    if not is_old then budget.idle_shares, budget.idle_producers = budget.idle_shares + share, budget.idle_producers - 1 end
  end
  return is_old
end

-- A claim takes what the producer entered with its last claim out of all sums. The producer pays for what it admitted without
-- Redis.
local function take_out_of_sums(keys, budget, producer, degraded, now)
  if producer.is_counted and not budget[producer.class] then rarely().read_rest(keys, budget) end    -- it was in another class
  withdraw_demand(budget, producer)
  if degraded > 0 then rarely().pay_degraded(budget, producer, degraded, now) end
  local is_old = withdraw_share(budget, producer)
  if is_old then rarely().withdraw_old_share(keys, budget, producer) end
end

-- The share that a producer is told is half of what it may run at, as far as the others leave room. A producer is awaited if
-- it is certain to come again, since it holds tokens, waits for some, or only asks. A caller that tries does not wait. In a
-- crowd no producer is awaited, since leases are longer than an outage and many producers live for a moment.
local function outage_share(budget, producer, claim, demand, fair_rate, need, granted, recommended)
  local is_awaited = demand > 0
  if claim.want > 0 then
    is_awaited = producer.holds > need or not claim.whole and (granted < need or recommended < claim.demand)
  end
  if claim.incarnation == '' or budget.refresh > REFRESH then is_awaited = false end
  local all, wanted, idle = budget.rate / 2, math.min(demand, fair_rate) / 2, budget.idle_shares
  local has, had = claim.fallback_rate, producer.outage_share
  if had < 0 then had = -had end
  if has > had then has = had end
  local kept = budget.lost_shares + idle
  local share = all - budget.fresh_shares - budget.late_shares - kept
  if is_awaited then
    if kept > 0 and all > 0 then wanted = wanted * (1 - kept / all) end
  else
    if wanted <= 0 then wanted = has end
    share = math.min(share, all / 2 - idle, all / 2 / (budget.idle_producers + 1))
  end
  if wanted < share then share = wanted end
  share = share > 0 and math.floor(share) or 0
  had = share > has and share or has
  if is_awaited then budget.fresh_shares, producer.outage_share = budget.fresh_shares + had, had
  else
    if had > 0 then budget.idle_shares, budget.idle_producers = idle + had, budget.idle_producers + 1 end
    producer.outage_share = -had
  end
  return share
end
