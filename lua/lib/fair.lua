-- Weighted max-min fair shares, O(1) a claim. In an epoch every producer in demand comes once and enters its demand;
-- whoever comes first after its end (epoch.lua) finds the level at which sum(min(demand, level * weight)) is the rate, class by class.
--
-- A class keeps four sums: demand of those under the level, weight of those over it, demand of all, weight of all.
-- 120/s and three who want 1000, 50 and 10: 10 is under any level, 50 too at the end, the level comes out as 60. Who is
-- over and who under is told by the `mark`: the level of the epoch before, or what it would have been, had all not fit.
-- A second claim in an epoch replaces the first one's entry; leaving takes it out.
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

-- What this producer may run at, in micro-tokens a second: its level, or, uncontended, its demand and its part of the rest.
local function share_of(b, class, p)
  if class.level < math.huge then return math.min(b.R, class.level * p.weight / MICRO) end      -- a heavy one's may be more
  local weight = math.max(p.weight, class.weight)
  local rest = class.room - class.demand
  return math.min(b.R, rest >= 0 and p.d + rest * p.weight / weight or class.room * p.weight / weight)
end
