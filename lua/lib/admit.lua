-- How much of a grant (grant.lua) the window lets through. What the window is, is in window.lua.
--
-- The consumers must be able to hold what is granted, and nothing is granted while tokens of a lost state may still be on
-- their way. `returned` is what the claim brought back, `burned` is what it reported as lost.
--- @include window

local function admitted(window, granted, retry, is_whole, need, now)
  if window.active == 0 or granted == 0 then return granted, retry, false end
  local room = window.edge - window.net
  local quiet = quiet_us(window, now)
  if window.lossless == 1 and quiet > 0 then
    return 0, math.min(LONGEST_WAIT, math.max(quiet, REFRESH)), true
  end
  -- While nothing is on its way, one need is admitted in any case. A window smaller than one need would otherwise never open.
  if window.lossless == 0 and room > 0 and window.net <= window.landed then room = math.max(room, need) end
  if room >= granted then return granted, retry, false end
  local unit = math.min(MICRO, need)
  local fits = math.max(0, math.floor(room / unit) * unit)
  if is_whole and fits < need then fits = 0 end
  return fits, math.max(retry, REFRESH), true
end

local function admit(budget, came_at, returned, burned, granted, retry, is_whole, need, now)
  local window = budget.window
  turn_window(window, now)
  local lost = returned
  -- The window has already written off older tokens.
  if now - came_at < 4 * window.quarter_us - budget.longest_lease then lost = lost + burned end
  if lost > 0 then withdraw_net(window, lost) end
  local fits, later, is_cut = admitted(window, granted, retry, is_whole, need, now)
  window.net = window.net + fits
  return fits, later, is_cut
end
