-- The answer to a claim: its reason, its lease, and its text. The tokens in it are decided in grant.lua.

-- `is_unmet`: the producer got less than it needs. A denial always has a reason, so the answer is then never `ok`.
local function reason_of(budget, claim, recommended, learning, cut, contended, is_unmet)
  if budget.rate <= 0 or budget.reason == 'no_consumers' then return budget.reason end
  if cut then return 'window' end
  if learning and claim.want > 0 and budget.tokens < MICRO then return 'learning' end
  if recommended >= claim.demand and not is_unmet then return 'ok' end
  if contended and recommended + 1 < budget.rate then return 'contended' end
  return budget.reason
end

-- How long granted tokens may be spent, counted from before the claim was sent. The lease is longer by the round trip, which
-- passes on the way. A lossless budget gets no longer lease, since it needs all tokens on their way to be young. From now on
-- a lease that is longer than the others may be out. So what the bucket held is remembered as long.
local function lease_of(budget, refresh, trip, now)
  local lease = refresh * REFRESHES
  if trip == 0 or budget.window and budget.window.lossless == 1 then return lease end
  lease = lease + trip
  if lease > budget.longest_lease or budget.longest_lease_until > 0 and budget.longest_lease_until < now + lease then
    budget.longest_lease, budget.longest_lease_until = math.max(budget.longest_lease, lease), now + 2 * lease
    budget.has_new_terms = true
  end
  return lease
end

local function reply(budget, granted, retry, lease, refresh, recommended, fallback, reason, met_in, birth, granted_total)
  return string.format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted, retry, lease, refresh, recommended,
    fallback, budget.rate, budget.level, math.floor(budget.load / 1000), granted_total, birth, reason,
    budget.window and budget.window.lossless or 0, budget.bucket_size, met_in > retry and string.format(' %d', met_in) or '')
end
