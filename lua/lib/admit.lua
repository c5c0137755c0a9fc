-- The window's word on a claim: no more than the consumers can hold, and nothing while tokens of a lost state may still
-- travel. `returned` and `burned`: what the claim brought back, and what it said is lost.
--- @include window

local function admitted(w, granted, retry, is_whole, need, now)
  if w.active == 0 or granted == 0 then return granted, retry, false end
  local room = w.edge - w.net
  local quiet = quiet_us(w, now)
  if w.lossless == 1 and quiet > 0 then
    return 0, math.min(LONGEST_WAIT, math.max(quiet, REFRESH)), true
  end
  -- One need goes in any case while none is on the way: a window smaller than that would never open.
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
  if now - came_at < 4 * w.slot_us - b.span then lost = lost + burned end   -- older ones the window has written off by itself
  if lost > 0 then withdraw_net(w, lost) end
  local fits, later, is_cut = admitted(w, granted, retry, is_whole, need, now)
  w.net = w.net + fits
  return fits, later, is_cut
end
