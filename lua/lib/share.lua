-- Producers run on these shares while Redis is away. The sum of all shares that may be in use is never more than half of the
-- rate. The rate that silent producers may be using is missing in the bucket of the others.
--
-- A producer runs on the share that its last answer named, which halves every HALVING. The budget keeps the sum of all
-- shares, in parts by what is known of their producers:
--
--   fresh, late    of producers whose return is certain, since they hold tokens or wait for some: told since the last turn,
--                  and in the turn before
--   lost           the same, but not heard of for a whole turn: dead or cut off. The bucket no longer earns these shares
--   idle           of producers that need nothing and may be silent for long: at most half of all shares, split evenly among
--                  `idlers`
--
-- `lost_old` and `idle_old` are the parts that were told before the last halving. Each share in them is halved as often as
-- its producer has halved it, or once less. So one addition moves all late shares, and no producer has a timer. An answer may
-- be lost, so a producer's part is the larger of the share that it reports and the share that it is told now.
local HALVING = 30000000        -- as HALVED_EACH in ledger.py
local TURN = 1000000            -- longer than a claim and its answer take on the slowest way that is served

-- Takes out the share that this producer's last answer named. Returns true if the share is in one of the parts that few
-- claims need.
local function withdraw_share(b, p)
  local share, is_old = p.share, false
  if share > 0 then
    if p.at >= b.turned then b.fresh = b.fresh - share
    elseif p.at >= b.turned_before then b.late = b.late - share
    else is_old = true end
  elseif share < 0 then
    is_old = p.at < b.halved
    if not is_old then b.idle, b.idlers = b.idle + share, b.idlers - 1 end
  end
  return is_old
end

-- A claim takes what the producer entered with its last claim out of all sums. The producer pays for what it admitted without
-- Redis.
local function withdraw(keys, b, p, degraded, now)
  withdraw_demand(b, p)
  if degraded > 0 then rarely().pay_degraded(b, p, degraded, now) end
  local is_old = withdraw_share(b, p)
  if is_old then rarely().withdraw_old_share(keys, b, p) end
end

-- The share that a producer is told is half of what it may run at, as far as the others leave room. A producer is awaited if
-- it is certain to come again, since it holds tokens, waits for some, or only asks. A caller that tries does not wait. In a
-- crowd no producer is awaited, since leases are longer than an outage and many producers live for a moment.
local function outage_share(b, p, ask, d, told, need, granted, recommended)
  local is_awaited = d > 0
  if ask.want > 0 then is_awaited = p.holds > need or not ask.whole and (granted < need or recommended < ask.demand) end
  if ask.incarnation == '' or b.refresh > REFRESH then is_awaited = false end
  local all, wanted, idle, has, had = b.R / 2, math.min(d, told) / 2, b.idle, ask.share, p.share
  if had < 0 then had = -had end
  if has > had then has = had end
  local kept = b.lost + idle
  local share = all - b.fresh - b.late - kept
  if is_awaited then
    if kept > 0 and all > 0 then wanted = wanted * (1 - kept / all) end
  else
    if wanted <= 0 then wanted = has end
    share = math.min(share, all / 2 - idle, all / 2 / (b.idlers + 1))
  end
  if wanted < share then share = wanted end
  share = share > 0 and math.floor(share) or 0
  had = share > has and share or has
  if is_awaited then b.fresh, p.share = b.fresh + had, had
  else
    if had > 0 then b.idle, b.idlers = idle + had, b.idlers + 1 end
    p.share = -had
  end
  return share
end
