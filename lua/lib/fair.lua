-- Weighted max-min fair shares, in O(1) per claim. In an epoch, every producer in demand comes once and enters its demand.
-- The first producer after its end (epoch.lua) computes, class by class, the level at which sum(min(demand, level * weight))
-- equals the rate.
--
-- A class keeps four sums: the demand of producers under the level, the weight of those over it, the demand of all, and the
-- weight of all. Example: three producers share 120/s and want 1000, 50 and 10. 10 is under any level, 50 is too in the end,
-- and the level comes out as 60. The `mark` tells which producers are over and which are under. It is the level of the epoch
-- before, or, if all demands fitted then, what the level would have been had they not. A second claim in an epoch replaces
-- the first one's entry. A `leave` removes the entry.
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
