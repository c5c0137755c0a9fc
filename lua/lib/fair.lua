-- At what rate a producer may run: its weighted max-min fair share of the budget's rate, in O(1) per claim. How many tokens a
-- claim gets at that rate is decided in grant.lua.
--
-- In an epoch, every producer in demand comes once and enters its demand. The first producer after the end of the epoch
-- (epoch.lua) computes, class by class, the level at which sum(min(demand, level * weight)) equals the rate.
--
-- A class keeps four sums: the demand of the producers under the mark, the weight of those over it, the demand of all, and
-- the weight of all. Example: three producers share 120/s and want 1000, 50 and 10. 10 is under any level, 50 is too in the
-- end, and the level comes out as 60. The `mark` says which producers are over and which are under. It is the level of the
-- epoch before. If all demands fitted then, it is what the level would have been if they had not. A second claim in an epoch
-- replaces the producer's entry, and a `leave` removes it.
local function withdraw_demand(budget, producer)
  if producer.epoch ~= budget.epoch then return end
  local class = budget[producer.class]
  class.demand, class.weight = class.demand - producer.demand, class.weight - producer.weight
  budget.needs, budget.producers_in_demand = budget.needs - producer.need, budget.producers_in_demand - 1
  if producer.is_under_mark == 1 then
    class.demand_under = class.demand_under - producer.demand
  else
    class.weight_over = class.weight_over - producer.weight
  end
end

-- Counts a producer once an epoch.
local function count_producer(budget, producer, is_first, now)
  if is_first or producer.claimed_at < budget.epoch_ends - budget.epoch_length or producer.claimed_at > now then
    budget.producers_seen = budget.producers_seen + 1
  end
end

local function enter_demand(budget, producer, demand, need)
  local class = budget[producer.class]
  local under = demand <= class.mark * producer.weight / MICRO
  producer.demand, producer.need, producer.is_under_mark, producer.epoch = demand, 0, under and 1 or 0, 0
  if demand <= 0 then return end
  producer.epoch, budget.producers_in_demand = budget.epoch, budget.producers_in_demand + 1
  class.demand, class.weight = class.demand + demand, class.weight + producer.weight
  if under then
    class.demand_under = class.demand_under + demand
  else
    class.weight_over = class.weight_over + producer.weight
    producer.need = math.min(need, budget.bucket_size)
    budget.needs = budget.needs + producer.need
  end
end

-- The rate at which this producer may run, in micro-tokens a second: its level, or, if uncontended, its demand and its part
-- of the rest.
local function fair_rate_of(budget, class, producer)
  -- The level of a heavy producer may be more than the whole rate.
  if class.level < math.huge then return math.min(budget.rate, class.level * producer.weight / MICRO) end
  local weight = math.max(producer.weight, class.weight)
  local rest = class.room - class.demand
  return math.min(budget.rate, rest >= 0 and producer.demand + rest * producer.weight / weight
                               or class.room * producer.weight / weight)
end
