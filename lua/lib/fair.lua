-- Weighted max-min fair shares, O(1) a claim. In an epoch every producer in demand comes once and enters its demand;
-- whoever comes first after its end (epoch.lua) finds the level at which sum(min(demand, level * weight)) is the rate, class by class.
--
-- A class keeps four sums: demand of those under the level, weight of those over it, demand of all, weight of all.
-- 120/s and three who want 1000, 50 and 10: 10 is under any level, 50 too at the end, the level comes out as 60. Who is
-- over and who under is told by the `mark`: the level of the epoch before, or what it would have been, had all not fit.
-- A second claim in an epoch replaces the first one's entry; leaving takes it out.
local function withdraw_demand(b, p)
  if p.epoch ~= b.number then return end
  local c = b[p.class]
  c.demand, c.weight = c.demand - p.d, c.weight - p.weight
  b.needs = b.needs - p.n
  if p.under == 1 then c.under = c.under - p.d else c.over = c.over - p.weight end
end

local function enter_demand(b, p, d, need)
  local c = b[p.class]
  local under = d <= c.mark * p.weight / MICRO
  p.d, p.n, p.under, p.epoch = d, 0, under and 1 or 0, 0
  if d <= 0 then return end
  p.epoch = b.number
  c.demand, c.weight = c.demand + d, c.weight + p.weight
  if under then
    c.under = c.under + d
  else
    c.over = c.over + p.weight
    p.n = math.min(need, b.B)
    b.needs = b.needs + p.n
  end
end

-- What this producer may run at, in micro-tokens a second: its level, or, uncontended, its demand and its part of the rest.
local function share_of(c, p)
  if c.level < math.huge then return c.level * p.weight / MICRO end
  local weight = math.max(p.weight, c.weight)
  if c.demand <= c.room then return p.d + (c.room - c.demand) * p.weight / weight end
  return c.room * p.weight / weight
end
