-- The bucket holds what the rate has earned and nobody has taken: T tokens of at most B, all in millionths and exact.

-- A rate of R micro-tokens a second is floor(R/1e6) a microsecond and a remainder that is carried over. So a budget of 1/hour
-- loses nothing even if it is asked each millisecond.
local function refill(b, now)
  local dt = now - b.at
  b.at = now
  if dt < 0 then                                     -- the clock went back: learning is not prolonged
    b.learns_until, b.has_new_terms = math.max(0, b.learns_until + dt), true
  end
  local R, T, B = b.R, b.T, b.B
  if b.lost > 0 then R = R - math.floor(math.min(b.lost, R / 2)) end     -- share.lua
  b.earned = R
  if dt > 0 and R > 0 then
    local room = B - T
    if room <= 0 or dt >= room / R * MICRO + 1 then
      b.spilled = b.spilled + math.max(0, R * dt / MICRO - room)
      T, b.rest = B, 0
    else
      local part = R % MICRO * dt + b.rest
      T, b.rest = T + math.floor(R / MICRO) * dt + math.floor(part / MICRO), part % MICRO
      if T >= B then T, b.rest = B, 0 end
    end
    b.T = T
  end
  if now < b.half then
    b.half = now                                     -- the clock went back: what the bucket held is not forgotten sooner
  elseif now - b.half > b.span then
    b.top_before = now - b.half < 2 * b.span and b.top or 0
    b.top, b.half = b.T, now
  end
  b.top = math.max(b.top, b.T)
end

-- Grants and returned tokens change the bucket and the counter of the budget's life together.
local function grant(b, tokens)
  b.T = b.T - tokens
  local total = b.granted_rest + tokens
  b.granted, b.granted_rest = b.granted + math.floor(total / MICRO), total % MICRO
end

-- Returned tokens may be spent again only if the bucket had room for them the whole time. The most that the bucket held
-- within the longest lease is already promised for that time.
local function hand_back(b, tokens)
  local fits = math.max(0, math.min(tokens, b.B - math.max(b.T, b.top, b.top_before)))
  b.T = b.T + fits
  b.top = math.max(b.top, b.T)                            -- what this very call takes was in the bucket as well
  return fits
end

-- How deep the bucket is at the default burst. The fair shares control only this part of the bucket. A larger burst goes to
-- the first producer that asks.
local function usual_depth(b) return math.min(b.B, MICRO + b.R * DEFAULT_BURST / MICRO) end
