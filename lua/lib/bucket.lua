-- What the bucket holds: what the rate has earned and nobody has taken, in micro-tokens and exact. How much of it a claim
-- gets is decided in grant.lua.

-- A rate is floor(rate / 1e6) micro-tokens a microsecond and a remainder that is carried over. So a budget of 1/hour loses
-- nothing even if it is asked each millisecond.
local function refill(budget, now)
  local dt = now - budget.called_at
  budget.called_at = now
  if dt < 0 then                                     -- the clock went back: learning is not prolonged
    budget.learns_until, budget.has_new_terms = math.max(0, budget.learns_until + dt), true
  end
  local rate, tokens, bucket_size = budget.rate, budget.tokens, budget.bucket_size
  if budget.lost_shares > 0 then rate = rate - math.floor(math.min(budget.lost_shares, rate / 2)) end  -- outage_share.lua
  budget.earning_rate = rate
  if dt > 0 and rate > 0 then
    local room = bucket_size - tokens
    if room <= 0 or dt >= room / rate * MICRO + 1 then
      budget.spilled = budget.spilled + math.max(0, rate * dt / MICRO - room)
      tokens, budget.tokens_remainder = bucket_size, 0
    else
      local part = rate % MICRO * dt + budget.tokens_remainder
      tokens, budget.tokens_remainder = tokens + math.floor(rate / MICRO) * dt + math.floor(part / MICRO), part % MICRO
      if tokens >= bucket_size then tokens, budget.tokens_remainder = bucket_size, 0 end
    end
    budget.tokens = tokens
  end
  if now < budget.peak_since then
    budget.peak_since = now                          -- the clock went back: what the bucket held is not forgotten sooner
  elseif now - budget.peak_since > budget.longest_lease then
    budget.peak_before = now - budget.peak_since < 2 * budget.longest_lease and budget.peak or 0
    budget.peak, budget.peak_since = budget.tokens, now
  end
  budget.peak = math.max(budget.peak, budget.tokens)
end

-- Takes granted tokens out of the bucket, and counts them for the life of the budget.
local function take_out(budget, tokens)
  budget.tokens = budget.tokens - tokens
  local total = budget.granted_remainder + tokens
  budget.granted, budget.granted_remainder = budget.granted + math.floor(total / MICRO), total % MICRO
end

-- Returned tokens may be spent again only if the bucket had room for them the whole time. The most that the bucket held
-- within the longest lease is already promised for that time.
local function hand_back(budget, tokens)
  local fits = math.max(0, math.min(tokens, budget.bucket_size - math.max(budget.tokens, budget.peak, budget.peak_before)))
  budget.tokens = budget.tokens + fits
  budget.peak = math.max(budget.peak, budget.tokens)  -- what this very call takes was in the bucket as well
  return fits
end

-- How deep the bucket is at the default burst. The fair shares control only this part of the bucket. A larger burst goes to
-- the first producer that asks.
local function usual_depth(budget) return math.min(budget.bucket_size, MICRO + budget.rate * DEFAULT_BURST / MICRO) end
