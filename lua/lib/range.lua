-- The law of consumers that only report how full they are. Below EASY the rate is all of the capacity, at FULL it is 0, and
-- in between it is a straight line. Capacity 400 at load 95 gives 400 x (100 - 95)/20 = 100/s.
local EASY, FULL = 80, 100      -- percent of load

-- The fullest of its resources in percent, or nil.
local function fullest(report)
  if report.load then return report.load end
  local queue = report.depth and report.limit and report.limit > 0 and 100 * report.depth / report.limit
  local work = report.in_flight and report.slots and report.slots > 0 and 100 * report.in_flight / report.slots
  if queue and work then return math.max(queue, work) end
  return queue or work or nil
end

local function range(memory, report, setting)
  local capacity, load = report.capacity or setting.rate, fullest(report)
  if not capacity then return memory.rate, 0, 0, 1 end
  if not load then return memory.rate, 0, capacity, 1 end
  local rate = capacity * math.min(1, math.max(0, (FULL - load) / (FULL - EASY)))
  return rate, rate, capacity, 1
end
