-- Weighted max-min fair shares, O(1) a claim. In an epoch every producer in demand comes once and enters its demand;
-- whoever comes first after its end finds the level at which sum(min(demand, level * weight)) is the rate, class by class.
--
-- b.sums holds four numbers a class: demand of those under the level, weight of the others, demand of all, weight of all.
-- 120/s and three who want 1000, 50 and 10: 10 is under any level, 50 too at the end, the level comes out as 60.
local RESERVE = 0.05            -- what a lower class in demand keeps of the rate
local FULL = 0.375              -- how full the bucket should stand: room above for what is handed back, below for jitter

local SAVE = 0.05               -- few tokens, many waiters: so much slower do credits grow while the bucket is empty

local function level_of(room, under, weight_over, demand, weight)
  if demand <= room or weight <= 0 then return huge end
  local share = room / weight * MICRO
  if weight_over <= 1e-9 * weight then return share end
  return max(share, (room - under) / weight_over * MICRO)
end

-- One trim for all keeps the bucket from standing full, where rate is lost, and empty, where everyone waits.
local function trim(b)
  local contended = min(b.levels[HIGH], b.levels[NORMAL], b.levels[LOW]) < huge
  if not contended or b.B <= 0 then
    b.u, b.ui = 0, 0
  elseif b.needs <= b.B / 4 then
    local e = (b.T - FULL * b.B) / (0.5 * b.B)
    b.ui = min(1, max(-0.2, b.ui + 0.05 * e))
    b.u = min(1.25, max(-0.2, b.ui + 0.25 * e))
  else
    -- Few tokens, many waiters: credits must not grow faster than tokens, or waiters in step starve one another.
    b.ui = 0
    b.u = max(0, b.T - max(0.8 * b.B, MICRO)) / (0.2 * b.B) - SAVE * max(0, 1 - b.T / (FULL * b.B))
  end
end

local function roll_epoch(b, now)
  if now < b.ends and b.ends - now <= b.length then return end
  local R, s = b.R, b.sums
  if now - b.ends > b.length then                    -- nobody came for a whole epoch: it says nothing about today
    for i = 1, 12 do s[i] = 0 end
    b.needs, b.number = 0, b.number + 1
  end
  local kept, left = 0, R
  for class = NORMAL, LOW, 4 do kept = kept + min(s[class + 3], RESERVE * R) end
  for class = HIGH, LOW, 4 do
    local room = floor(max(left - kept, RESERVE * R))
    b.rooms[class] = room
    b.levels[class] = level_of(room, s[class + 1], s[class + 2], s[class + 3], s[class + 4])
    left = left - min(s[class + 3], room)
    if class < LOW then kept = kept - min(s[class + 7], RESERVE * R) end
  end
  trim(b)
  for i = 1, 12 do s[i] = 0 end
  b.needs, b.number = 0, b.number + 1
  b.length = ceil(max(EPOCH, 1.5 * REFRESH, 1.1 * max(b.retry_max, b.retry_before)))
  b.ends = now + b.length
  b.retry_before, b.retry_max = b.retry_max, 0
  b.rolled = true
end

-- A second claim in an epoch replaces the first one's entry; leaving takes it out.
local function withdraw_demand(b, p)
  if p.epoch ~= b.number then return end
  local s, class = b.sums, p.class
  s[class + 3], s[class + 4] = s[class + 3] - p.d, s[class + 4] - p.weight
  b.needs = b.needs - p.n
  if p.under == 1 then s[class + 1] = s[class + 1] - p.d else s[class + 2] = s[class + 2] - p.weight end
end

local function enter_demand(b, p, d, need)
  local s, class = b.sums, p.class
  local under = d <= b.levels[class] * p.weight / MICRO
  p.d, p.n, p.under, p.epoch = d, 0, under and 1 or 0, 0
  if d <= 0 then return end
  p.epoch = b.number
  s[class + 3], s[class + 4] = s[class + 3] + d, s[class + 4] + p.weight
  if under then
    s[class + 1] = s[class + 1] + d
  else
    s[class + 2] = s[class + 2] + p.weight
    p.n = min(need, b.B)
    b.needs = b.needs + p.n
  end
end

-- Of the trim: what is to spare goes to the highest class that wants more, as everything does.
local function trim_of(b, p)
  if b.u <= 0 then return b.u end
  for class = HIGH, p.class - 4, 4 do
    if b.levels[class] < huge then return 0 end
  end
  return b.u
end

-- What this producer may run at, in micro-tokens a second: its level, or, uncontended, its demand and its part of the rest.
local function share_of(b, p)
  local level, room = b.levels[p.class], b.rooms[p.class]
  if level < huge then return level * p.weight / MICRO end
  local demand, weight = b.sums[p.class + 3], max(p.weight, b.sums[p.class + 4])
  if demand <= room then return p.d + (room - demand) * p.weight / weight end
  return room * p.weight / weight
end
