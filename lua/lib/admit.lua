-- The window limits a claim. The consumers must be able to hold what is granted, and nothing is granted while tokens of a
-- lost state may still be on their way. `returned` is what the claim brought back, `burned` is what it reported as lost.
--- @include window

local function admitted(w, granted, retry, is_whole, need, now)
  if w.active == 0 or granted == 0 then return granted, retry, false end
  local room = w.edge - w.net
  local quiet = quiet_us(w, now)
  if w.lossless == 1 and quiet > 0 then
    return 0, math.min(LONGEST_WAIT, math.max(quiet, REFRESH)), true
  end
  -- While nothing is on its way, one need is admitted in any case. A window smaller than one need would otherwise never open.
  if w.lossless == 0 and room > 0 and w.net <= w.A then room = math.max(room, need) end
  if room >= granted then return granted, retry, false end
  local unit = math.min(MICRO, need)
  local fits = math.max(0, math.floor(room / unit) * unit)
  if is_whole and fits < need then fits = 0 end
  return fits, math.max(retry, REFRESH), true
end

local function admit(b, came_at, returned, burned, granted, retry, is_whole, need, now)
  local w = b.window
  turn_window(w, now)
  local lost = returned
  if now - came_at < 4 * w.slot_us - b.span then lost = lost + burned end   -- the window has already written off older tokens
  if lost > 0 then withdraw_net(w, lost) end
  local fits, later, is_cut = admitted(w, granted, retry, is_whole, need, now)
  w.net = w.net + fits
  return fits, later, is_cut
end
