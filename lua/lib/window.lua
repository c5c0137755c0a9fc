-- How much the consumers can still hold: a window in the sense of TCP, over a fleet. What a claim gets of it is decided in
-- admit.lua.
--
--   net      = granted - returned - burned
--   landed   tokens that are no longer on the way: a consumer has seen their work, or they are too old to arrive
--
-- At most net - landed is on the way. So if the last report named `free` room, grants may go on up to the edge
-- landed + free, however old that report is. Under `min` every item touches all consumers, so each has a `landed` and an
-- edge of its own.
--
-- The horizon is the time after which a token that was granted has arrived or never will. The window keeps the values of
-- `net` at the ends of its last five quarters.
local SNAPSHOTS = 5

-- A quarter of the horizon, where `lease` is the longest lease that may be valid.
local function quarter_length(lease, transit, interval)
  return math.ceil((lease + transit + 3 * math.max(interval, INTERVAL)) / 4)
end

local function new_window(now, quarter_us)
  return {active = 0, edge = 0, net = 0, landed = 0, quarter = math.floor(now / quarter_us), quarter_us = quarter_us,
          lossless = 0, began_at = now, snapshots = {0, 0, 0, 0, 0}}
end

-- With another horizon, the oldest snapshot of the old one is all that is known for the new one.
local function set_quarter_length(window, now, quarter_us)
  if quarter_us == window.quarter_us then return end
  window.quarter_us, window.quarter = quarter_us, math.floor(now / quarter_us)
  for i = 1, SNAPSHOTS - 1 do window.snapshots[i] = window.snapshots[SNAPSHOTS] end
end

-- How long nothing may be granted, since tokens from before this window began may still be on their way.
local function quiet_us(window, now) return window.began_at + 4 * window.quarter_us - 3 * INTERVAL - now end

-- Keeps five values of net, a quarter apart: the oldest is at least a horizon old.
local function turn_window(window, now)
  local quarter = math.floor(now / window.quarter_us)
  if quarter < window.quarter then window.quarter = quarter end  -- the clock went back: the snapshots only look younger
  window.began_at = math.min(window.began_at, now)
  local turns = math.min(quarter - window.quarter, SNAPSHOTS)
  for _ = 1, turns do
    for i = SNAPSHOTS, 2, -1 do window.snapshots[i] = window.snapshots[i - 1] end
    window.snapshots[1] = window.net
  end
  window.quarter = quarter
end

-- Takes out tokens that will never arrive anywhere.
local function withdraw_net(window, tokens)
  window.net = window.net - tokens
  for i = 1, SNAPSHOTS do window.snapshots[i] = math.min(window.snapshots[i], window.net) end
  if window.landed > window.net then
    window.edge = window.edge - (window.landed - window.net)
    window.landed = window.net
  end
end
