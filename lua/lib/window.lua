-- The window admits no more than the consumers can hold. It is a window in the sense of TCP, over a fleet.
--
-- net = granted - returned - burned. A = tokens that are no longer on the way: a consumer has seen their work, or they are
-- too old to arrive. At most net - A is on the way. So if the last report named `free` room, grants may go on up to the edge
-- A + free, however old that report is. Under `min` every item touches all consumers, so each has its own A and edge.
local SNAPSHOTS = 5

-- A quarter of T_x. A token that was granted longer than T_x ago has arrived or never will. `lease`: the longest that may be
-- out.
local function slot_length(lease, transit, interval) return math.ceil((lease + transit + 3 * math.max(interval, INTERVAL)) / 4) end

local function new_window(now, slot_us)
  return {active = 0, edge = 0, net = 0, A = 0, slot = math.floor(now / slot_us), slot_us = slot_us, lossless = 0, born = now,
          snaps = {0, 0, 0, 0, 0}}
end

-- With another T_x, the oldest snapshot of the old one is all that is known for the new one.
local function set_slot_length(w, now, slot_us)
  if slot_us == w.slot_us then return end
  w.slot_us, w.slot = slot_us, math.floor(now / slot_us)
  for i = 1, SNAPSHOTS - 1 do w.snaps[i] = w.snaps[SNAPSHOTS] end
end

-- How long nothing may be granted, since tokens from before this window began may still be on their way.
local function quiet_us(w, now) return w.born + 4 * w.slot_us - 3 * INTERVAL - now end

-- Keeps five values of net, a quarter of T_x apart: the oldest is at least T_x old.
local function turn_window(w, now)
  local slot = math.floor(now / w.slot_us)
  if slot < w.slot then w.slot = slot end            -- the clock went back: the snapshots only look younger
  w.born = math.min(w.born, now)
  local turns = math.min(slot - w.slot, SNAPSHOTS)
  for _ = 1, turns do
    for i = SNAPSHOTS, 2, -1 do w.snaps[i] = w.snaps[i - 1] end
    w.snaps[1] = w.net
  end
  w.slot = slot
end

-- Takes out tokens that will never arrive anywhere.
local function withdraw_net(w, tokens)
  w.net = w.net - tokens
  for i = 1, SNAPSHOTS do w.snaps[i] = math.min(w.snaps[i], w.net) end
  if w.A > w.net then
    w.edge = w.edge - (w.A - w.net)
    w.A = w.net
  end
end
