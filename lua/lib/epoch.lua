-- What level the fair share has (fair.lua): the first producer that claims after the end of an epoch computes each class's
-- level, and the sums start again.
local RESERVE = 0.05            -- of the rate: what a lower class in demand keeps
local LONGEST_REFRESH = 60000000    -- so that a lease and a wait end before KEEP_MEMBER_MS; above 600,000 producers, more claims

-- Returns the level, which is infinite if all demands fit, and the mark for the next epoch. The mark is the level. If that is
-- infinite, the mark is the level with one more producer that wants everything.
local function level_of(class)
  if class.weight <= 0 then return math.huge, class.room end
  local share = class.room / class.weight * MICRO
  if class.demand <= class.room then
    return math.huge, math.max(share, (class.room - class.demand_under) / math.max(class.weight_over, MICRO) * MICRO)
  end
  if class.weight_over > 1e-9 * class.weight and class.demand_under < class.room then
    local level = math.max(share, (class.room - class.demand_under) / class.weight_over * MICRO)
    return level, level
  end
  -- The producers under the mark want more than there is, so the mark was too high. The level lies between two cases: all of
  -- them are alike, or a few of them want everything.
  return share, math.sqrt(share * math.max(share, math.min(class.mark, class.room) * (class.room / class.demand_under)))
end

local function settle_trim(budget, is_contended)
  local depth = usual_depth(budget)
  budget.is_scarce = budget.needs > depth / 4 and 1 or 0
  if is_contended and budget.rate > 0 and budget.is_scarce == 0 then
    budget.slow_trim = math.min(1, math.max(-0.2, budget.slow_trim + 0.05 * (budget.tokens - FULL * depth) / (0.5 * depth)))
  else
    budget.slow_trim = 0
  end
  budget.trim = is_contended and trim(budget) or 0
end

-- When leases get shorter, the longer ones stay valid until they end. So `longest_lease` gets shorter only then.
local function fit_refresh(budget, producers, now)
  if now >= budget.longest_lease_until then
    budget.longest_lease, budget.longest_lease_until = budget.refresh * REFRESHES, 0
  end
  local wanted = 0
  if not (budget.window and budget.window.lossless == 1) then  -- a lossless budget needs all tokens on their way to be young
    wanted = producers / CLAIMS_PER_S * SECOND
  end
  -- Two counts of a fleet are never the same, so a slightly smaller count changes nothing.
  if wanted <= budget.refresh and wanted >= budget.refresh / 2 then return end
  local before = budget.refresh
  budget.refresh = math.ceil(math.min(LONGEST_REFRESH, math.max(REFRESH, wanted)))
  if budget.refresh < before then
    budget.longest_lease_until = now + budget.longest_lease
  elseif budget.refresh * REFRESHES >= budget.longest_lease then
    budget.longest_lease, budget.longest_lease_until = budget.refresh * REFRESHES, 0
  end
end

local function roll_epoch(keys, budget, now)
  budget.has_lost_settings = are_settings_lost(keys)
  read_rest(keys, budget)
  turn_shares(budget, now)
  local rate, producers = budget.earning_rate, budget.producers_seen
  budget.has_closed_epoch, budget.closed_demand, budget.closed_in_demand = true, 0, budget.producers_in_demand
  for _, name in ipairs(CLASSES) do
    local class = budget[name]
    budget.closed_demand = budget.closed_demand + class.demand
  end
  local function empty()
    for _, name in ipairs(CLASSES) do
      local class = budget[name]
      class.demand_under, class.weight_over, class.demand, class.weight = 0, 0, 0, 0
    end
    budget.needs, budget.producers_in_demand, budget.producers_seen, budget.epoch = 0, 0, 0, budget.epoch + 1
  end
  local is_cut = budget.epoch_ends - now > budget.epoch_length  -- the clock went back
  local is_silent = now - budget.epoch_ends > budget.epoch_length
  if is_silent then                                    -- nobody came for a whole epoch, so its sums say nothing about today
    producers, budget.closed_demand, budget.closed_in_demand = 0, 0, 0
    empty()
  end
  local left, kept, is_contended = rate, 0, false
  for _, name in ipairs(CLASSES) do
    local class = budget[name]
    kept = kept + math.min(class.demand, RESERVE * rate)
  end
  for _, name in ipairs(CLASSES) do
    local class = budget[name]
    kept = kept - math.min(class.demand, RESERVE * rate)
    class.room = math.floor(math.max(left - kept, RESERVE * rate))
    class.level, class.mark = level_of(class)
    left = left - math.min(class.demand, class.room)
    is_contended = is_contended or class.level < math.huge
  end
  settle_trim(budget, is_contended)
  -- The highest class that wants more gets what is left over and bears what is missing. The classes below it keep their own
  -- part.
  budget.marginal_class = ''
  for _, name in ipairs(CLASSES) do
    local class = budget[name]
    class.trim = budget.marginal_class == '' and budget.trim or 0
    if budget.marginal_class == '' and class.level < math.huge then budget.marginal_class = name end
  end
  empty()
  local refresh_before = budget.refresh
  -- After an outage or a step of the clock, all producers may be back in a moment.
  if not is_cut and not (is_silent and now - budget.epoch_ends < KEEP_MEMBER_MS * 1000) then
    fit_refresh(budget, producers, now)
  end
  budget.epoch_length = math.ceil(math.max(EPOCH, 1.5 * math.max(refresh_before, budget.refresh),
                                           1.1 * math.max(budget.retry_max, budget.retry_max_before)))
  budget.epoch_ends = now + budget.epoch_length
  budget.retry_max_before, budget.retry_max = budget.retry_max, 0
end

-- Producers that left without a `leave` are taken from the list. Their hashes expire by their TTL.
local function sweep_producers(keys, now)
  local gone = redis.call('ZRANGEBYSCORE', keys.producers, '-inf', whole(now - KEEP_MEMBER_MS * 1000), 'LIMIT', 0, 8)
  if #gone > 0 then redis.call('ZREM', keys.producers, unpack(gone)) end
end
