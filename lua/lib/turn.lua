-- The turns of the outage shares (share.lua), and the claims of producers that come back after an outage.
local SHARE_ENDS = 300000000    -- as SHARE_LASTS in ledger.py: no producer uses a share for longer
local DEEPEST = 2               -- seconds of the rate that may be owed: a fleet is not stopped for longer

-- What is left of a sum after all its shares were taken out. Each share is a four-byte float, so a small rest is only
-- rounding.
local function beyond_rounding(b, sum) return sum > b.R / 1e6 and sum or 0 end

-- Takes out the share of a producer that was taken for lost or was idle for long.
local function withdraw_old_share(keys, b, p)
  read_rest(keys, b)
  local share = math.abs(p.share)
  local is_old, part = p.at < b.halved, 1
  if is_old then part = 2 ^ -math.floor((b.halved - p.at) / HALVING) end
  share, b.has_new_terms = math.min(math.floor(share * part), p.share > 0 and b.lost or b.idle), true
  if p.share > 0 then
    b.lost = beyond_rounding(b, b.lost - share)
    b.lost_old = math.min(b.lost, is_old and math.max(0, b.lost_old - share) or b.lost_old)
  else
    b.idle, b.idlers = b.idle - share, math.max(0, b.idlers - part)
    b.idle_old, b.idlers_old = math.max(0, b.idle_old - share), math.max(0, b.idlers_old - part)
  end
end

local function halve_old(b, now)
  b.halved = math.min(b.halved, now)
  local halvings = math.floor((now - b.halved) / HALVING)
  if halvings < 1 then return end
  local part = 2 ^ (1 - halvings)
  b.lost = math.floor((b.lost - b.lost_old / 2) * part)
  b.idle = math.floor((b.idle - b.idle_old / 2) * part)
  b.idlers = (b.idlers - b.idlers_old / 2) * part
  b.lost_old, b.idle_old, b.idlers_old = b.lost, b.idle, b.idlers
  b.halved = b.halved + halvings * HALVING
end

local function turn_shares(b, now)
  if now < b.turned then b.turned, b.turned_before = now, math.min(now, b.turned_before) end     -- the clock went back
  b.idle, b.idlers = math.max(b.idle_old, b.idle), math.max(b.idlers_old, b.idlers)
  halve_old(b, now)
  local turn = math.max(TURN, b.span, b.length)
  if now - b.turned < turn then return end
  local silence = now - b.turned - turn                -- nobody came meanwhile, so every share is as old as that
  if silence < HALVING then
    b.lost, b.late, b.fresh = b.lost + beyond_rounding(b, b.late), beyond_rounding(b, b.fresh), 0
    b.turned_before = b.turned
  else
    if silence < SHARE_ENDS then b.lost = b.lost + math.floor((b.late + b.fresh) * 2 ^ -math.floor(silence / HALVING)) end
    b.late, b.fresh, b.turned_before = 0, 0, now
  end
  b.turned, b.spilled = now, b.spilled / 2
end

-- The work that a producer admitted by its share was sent, as if tokens had been granted for it. The producer owes at most
-- what the share can have given. If its return was certain, only the time until the bucket earned less for the share counts.
-- Tokens that nobody took meanwhile pay first.
local function pay_degraded(b, p, degraded, now)
  local alone = math.max(0, now - p.at)
  if p.share > 0 then alone = math.min(alone, 2 * math.max(TURN, b.span, b.length)) end
  local owed = math.min(degraded, math.abs(p.share) * alone / MICRO)
  local paid = math.min(owed, b.spilled)
  owed, b.spilled = math.floor(owed - paid), b.spilled - paid
  b.T, p.credit = math.min(b.T, math.max(-DEEPEST * b.R, b.T - owed)), p.credit - owed
end
