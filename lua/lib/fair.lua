-- Weighted max-min fair shares, in O(1) per claim. In an epoch, every producer in demand comes once and enters its demand.
-- The first producer after its end (epoch.lua) computes, class by class, the level at which sum(min(demand, level * weight))
-- equals the rate.
--
-- A class keeps four sums: the demand of producers under the level, the weight of those over it, the demand of all, and the
-- weight of all. Example: three producers share 120/s and want 1000, 50 and 10. 10 is under any level, 50 is too in the end,
-- and the level comes out as 60. The `mark` tells which producers are over and which are under. It is the level of the epoch
-- before, or, if all demands fitted then, what the level would have been had they not. A second claim in an epoch replaces
-- the first one's entry. A `leave` removes the entry.
local function withdraw_demand(b, p)
  if p.epoch ~= b.number then return end
  local class = b[p.class]
  class.demand, class.weight = class.demand - p.d, class.weight - p.weight
  b.needs, b.demanding = b.needs - p.n, b.demanding - 1
  if p.under == 1 then class.under = class.under - p.d else class.over = class.over - p.weight end
end

local function enter_demand(b, p, d, need)
  local class = b[p.class]
  local under = d <= class.mark * p.weight / MICRO
  p.d, p.n, p.under, p.epoch = d, 0, under and 1 or 0, 0
  if d <= 0 then return end
  p.epoch, b.demanding = b.number, b.demanding + 1
  class.demand, class.weight = class.demand + d, class.weight + p.weight
  if under then
    class.under = class.under + d
  else
    class.over = class.over + p.weight
    p.n = math.min(need, b.B)
    b.needs = b.needs + p.n
  end
end

-- The rate at which this producer may run, in micro-tokens a second: its level, or, if uncontended, its demand and its part
-- of the rest.
local function share_of(b, class, p)
  if class.level < math.huge then return math.min(b.R, class.level * p.weight / MICRO) end      -- a heavy producer's may be more
  local weight = math.max(p.weight, class.weight)
  local rest = class.room - class.demand
  return math.min(b.R, rest >= 0 and p.d + rest * p.weight / weight or class.room * p.weight / weight)
end
