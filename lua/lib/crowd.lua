-- A large fleet comes less often, so that Redis stays below a core up to a million producers: CLAIMS_PER_S of them, at some 30
-- us each. 100 producers and 1,000 refresh each 0.1 s; 10,000 each 1 s, 100,000 each 10 s. Leases are as much longer.
--
-- The crowd's refresh is found at the end of each epoch (epoch.lua) from those who came in it. Who takes a large part of
-- the budget is spared: however many others there are, those who use 1/k of it are at most k.
local CLAIMS_PER_S = 10000
local MOST_OF = 0.85            -- as a client's own gap between two claims
local FULL = 0.375              -- how full the bucket should stand: room above for what is handed back, below for jitter
local PLENTY = 0.3              -- of the trim: the bucket is full, or not empty and was full for long
local SAVE = 0.05               -- few tokens, many waiters: so much slower do credits grow while the bucket is empty

-- For one who is going to use `rate` of the budget's R.
local function refresh_of(b, rate)
  if rate <= 0 then return b.refresh end
  return math.ceil(math.max(REFRESH, math.min(b.refresh, b.R / rate / CLAIMS_PER_S * SECOND)))
end

-- Who comes back when. One who got all that was due to it is not back before most of a refresh has passed, if others wait.
-- One who found the bucket empty, as most do in a fleet that started in one moment, has a place in a queue that moves at
-- the budget's rate; from then on, each comes at a time of its own.
--
-- Where nobody is short, all come as soon as in a small fleet: a newcomer cannot say yet what it will use, and who lives for
-- a second has no refresh to wait for. Those back soon stand in that queue too: they are no more than CLAIMS_PER_S.
-- So it is when the bucket is full whatever the level says, which counts those who lived for a second as those who live on:
-- what would have overflowed is no debt.
local function space_out(b, p, ask, granted, retry, share, refresh, is_short, now)
  if b.R <= 0 then return retry end
  local class = b[p.class]
  if not is_short and class.level < math.huge then p.credit = math.max(p.credit, granted) end
  local credit = p.credit - granted
  local unmet = math.min(ask.want - granted, credit)
  if is_short and granted > 0 and unmet < MICRO then
    retry = math.max(retry, MOST_OF * refresh - math.max(0, credit) / share * MICRO)
  elseif unmet >= MICRO or now - p.at < refresh / 2 then
    b.queue = math.min(math.max(b.queue, now) + math.max(unmet / b.R, 1 / CLAIMS_PER_S) * SECOND, now + refresh)
    retry = math.max(retry, b.queue - now)
  end
  return math.ceil(math.min(math.max(LONGEST_WAIT, refresh), retry))
end

-- In a crowd an epoch is longer than the bucket is deep, so this is asked at each claim; else at the end of an epoch.
-- One trim for all keeps the bucket from standing full, where rate is lost, and empty, where everyone waits.
local function trim(b)
  if b.R <= 0 then return 0 end
  local depth = usual_depth(b)
  if b.is_scarce == 1 then
    -- Few tokens, many waiters: credits must not grow faster than tokens, or waiters in step starve one another.
    return math.min(1.25, math.max(0, b.T - math.max(0.8 * depth, MICRO)) / (0.2 * depth)) - SAVE * math.max(0, 1 - b.T / (FULL * depth))
  end
  return math.min(1.25, math.max(-0.2, b.ui + 0.25 * (b.T - FULL * depth) / (0.5 * depth)))
end
