-- How slow a consumer is: times its usual latency.
--
-- Long requests beside short ones must not count, nor must a change in their mix. So the law looks at three low percentiles,
-- each with its own usual value, and takes the middle one of the three ratios. A queue delays all work, while a mix that
-- changes moves one percentile at a time.
--
-- The usual latency is that of a consumer that has little to do, so it follows quickly down and slowly up.
local USUAL_DOWN, USUAL_UP = 30, 600      -- seconds
local USUAL_MOST = 10           -- times the usual: one report counts for no more
local FIRST_WORK = 20           -- tokens done or failed before a latency means something, if no target is set
local BY_CHANCE = 0.2           -- of the way to a latency that only a few items had
local SHORTEST_MS = 0.001

local function latency_ratio(m, field, latency, found, dt)
  if not latency then return end
  local value = math.min(MOST_RATE, math.max(SHORTEST_MS, latency))
  local usual = m[field] > 0 and m[field] or value
  local moved = math.min(USUAL_MOST, math.max(1 / USUAL_MOST, value / usual))
  usual = usual * moved ^ (1 - math.exp(-dt / (value < usual and USUAL_DOWN or USUAL_UP)))
  m[field] = usual
  found[#found + 1] = {math.min(MOST_RATE, value / usual), value}
end

-- Returns the slowdown and the latency that shows it. A latency counts only if work left, since an idle consumer may repeat
-- an old latency forever.
local function slowdown(m, report, step, target)
  if not report.latency_ms or step.left == 0 then return nil end
  if not target and report.done + (report.errors or 0) < FIRST_WORK then return nil end
  local found = {}
  latency_ratio(m, 'usual', report.latency_ms, found, step.dt)
  latency_ratio(m, 'usual_p25', report.latency_p25_ms, found, step.dt)
  latency_ratio(m, 'usual_p10', report.latency_p10_ms, found, step.dt)
  table.sort(found, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  local middle = found[math.ceil(#found / 2)]
  return middle[1], middle[2]
end

-- Moves the usual latency `part` of the way to the latency that is seen, if that is longer. A part of 1 accepts the new
-- latency.
local function expect_latency(m, report, part)
  for field, latency in pairs({usual = report.latency_ms or 0, usual_p25 = report.latency_p25_ms or 0,
                               usual_p10 = report.latency_p10_ms or 0}) do
    if m[field] > 0 then m[field] = m[field] * math.min(MOST_RATE, math.max(1, latency / m[field])) ^ part end
  end
end
