-- What becomes of the outage shares (outage_share.lua) as time passes, and what a producer pays that comes back after an
-- outage.
local SHARE_ENDS = 300000000    -- as SHARE_LASTS in ledger.py: no producer uses a share for longer
local DEEPEST = 2               -- seconds of the rate that may be owed: a fleet is not stopped for longer

-- What is left of a sum after all its shares were taken out. Each share is a four-byte float, so a small rest is only
-- rounding.
local function beyond_rounding(budget, sum) return sum > budget.rate / 1e6 and sum or 0 end

-- Takes out the share of a producer that was taken for lost or was idle for long.
local function withdraw_old_share(keys, budget, producer)
  read_rest(keys, budget)
  local share = math.abs(producer.outage_share)
  local is_old, part = producer.claimed_at < budget.shares_halved_at, 1
  if is_old then part = 2 ^ -math.floor((budget.shares_halved_at - producer.claimed_at) / HALVING) end
  share = math.min(math.floor(share * part), producer.outage_share > 0 and budget.lost_shares or budget.idle_shares)
  budget.has_new_terms = true
  if producer.outage_share > 0 then
    budget.lost_shares = beyond_rounding(budget, budget.lost_shares - share)
    budget.lost_shares_old = math.min(budget.lost_shares,
                                      is_old and math.max(0, budget.lost_shares_old - share) or budget.lost_shares_old)
  else
    budget.idle_shares, budget.idle_producers = budget.idle_shares - share, math.max(0, budget.idle_producers - part)
    budget.idle_shares_old = math.max(0, budget.idle_shares_old - share)
    budget.idle_producers_old = math.max(0, budget.idle_producers_old - part)
  end
end

local function halve_old(budget, now)
  budget.shares_halved_at = math.min(budget.shares_halved_at, now)
  local halvings = math.floor((now - budget.shares_halved_at) / HALVING)
  if halvings < 1 then return end
  local part = 2 ^ (1 - halvings)
  budget.lost_shares = math.floor((budget.lost_shares - budget.lost_shares_old / 2) * part)
  budget.idle_shares = math.floor((budget.idle_shares - budget.idle_shares_old / 2) * part)
  budget.idle_producers = (budget.idle_producers - budget.idle_producers_old / 2) * part
  budget.lost_shares_old, budget.idle_shares_old = budget.lost_shares, budget.idle_shares
  budget.idle_producers_old = budget.idle_producers
  budget.shares_halved_at = budget.shares_halved_at + halvings * HALVING
end

local function turn_shares(budget, now)
  if now < budget.shares_turned_at then              -- the clock went back
    budget.shares_turned_at, budget.shares_turned_before = now, math.min(now, budget.shares_turned_before)
  end
  budget.idle_shares = math.max(budget.idle_shares_old, budget.idle_shares)
  budget.idle_producers = math.max(budget.idle_producers_old, budget.idle_producers)
  halve_old(budget, now)
  local turn = math.max(TURN, budget.longest_lease, budget.epoch_length)
  if now - budget.shares_turned_at < turn then return end
  local silence = now - budget.shares_turned_at - turn  -- nobody came meanwhile, so every share is as old as that
  if silence < HALVING then
    budget.lost_shares = budget.lost_shares + beyond_rounding(budget, budget.late_shares)
    budget.late_shares, budget.fresh_shares = beyond_rounding(budget, budget.fresh_shares), 0
    budget.shares_turned_before = budget.shares_turned_at
  else
    if silence < SHARE_ENDS then
      budget.lost_shares = budget.lost_shares
        + math.floor((budget.late_shares + budget.fresh_shares) * 2 ^ -math.floor(silence / HALVING))
    end
    budget.late_shares, budget.fresh_shares, budget.shares_turned_before = 0, 0, now
  end
  budget.shares_turned_at, budget.spilled = now, budget.spilled / 2
end

-- The work that a producer admitted by its share was sent, as if tokens had been granted for it. The producer owes at most
-- what the share can have given. If its return was certain, only the time until the bucket earned less for the share counts.
-- Tokens that nobody took meanwhile pay first.
local function pay_degraded(budget, producer, degraded, now)
  local alone = math.max(0, now - producer.claimed_at)
  if producer.outage_share > 0 then
    alone = math.min(alone, 2 * math.max(TURN, budget.longest_lease, budget.epoch_length))
  end
  local owed = math.min(degraded, math.abs(producer.outage_share) * alone / MICRO)
  local paid = math.min(owed, budget.spilled)
  owed, budget.spilled = math.floor(owed - paid), budget.spilled - paid
  budget.tokens = math.min(budget.tokens, math.max(-DEEPEST * budget.rate, budget.tokens - owed))
  producer.credit = producer.credit - owed
end
