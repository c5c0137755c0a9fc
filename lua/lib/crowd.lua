-- A large fleet comes less often, so that Redis stays under one core whatever its size: CLAIMS_PER_S of them, at 25 to 45
-- us each. 100 producers and 1,000 refresh each 0.1 s; 10,000 each 1 s, 100,000 each 10 s. Leases are as much longer.
--
-- The crowd's refresh is found at the end of each epoch (epoch.lua) from those who came in it. Who takes a large part of
-- the budget is spared: however many others there are, those who use 1/k of it are at most k.
local CLAIMS_PER_S = 10000
local MOST_OF = 0.85                -- as a client's own gap between two claims
local LONGEST_REFRESH = 60000000    -- a lease and a wait end before KEEP_MEMBER_MS; from 600,000 producers on, more claims

-- For one who is going to use `rate` of the budget's R.
local function refresh_of(b, rate)
  if rate <= 0 then return b.refresh end
  return math.ceil(math.max(REFRESH, math.min(b.refresh, b.R / rate / CLAIMS_PER_S * SECOND)))
end

-- `span` is the longest lease that may be out: when leases get shorter, the long ones live on until they end.
-- Who comes back when. One who got all that was due to it is not back before most of a refresh has passed. One who found
-- the bucket empty, as most do in a fleet that started in one moment, has a place in a queue that moves at the budget's
-- rate; from then on, each comes at a time of its own.
local function space_out(b, ask, credit, granted, retry, share, refresh, now)
  if b.R <= 0 then return retry end
  local unmet = math.min(ask.want - granted, credit)
  if unmet >= MICRO then
    b.queue = math.min(math.max(b.queue, now) + math.max(unmet / b.R, 1 / CLAIMS_PER_S) * SECOND, now + refresh)
    retry = math.max(retry, b.queue - now)
  elseif granted > 0 then
    retry = math.max(retry, MOST_OF * refresh - math.max(0, credit) / share * MICRO)
  end
  return math.ceil(math.min(math.max(LONGEST_WAIT, refresh), retry))
end

local function fit_refresh(keys, b, now)
  if now >= b.span_until then b.span, b.span_until = b.refresh * REFRESHES, 0 end
  local wanted = 0
  if not (b.window and b.window.active == 1) then      -- what a window counts as on its way is no older than a short lease
    wanted = redis.call('ZCOUNT', keys.producers, whole(b.ends - b.length), '+inf') / CLAIMS_PER_S * SECOND
  end
  -- A fleet is never counted twice alike: a little less changes nothing.
  if wanted <= b.refresh and wanted >= b.refresh / 2 then return end
  local before = b.refresh
  b.refresh = math.ceil(math.min(LONGEST_REFRESH, math.max(REFRESH, wanted)))
  if b.refresh < before then b.span_until = now + b.span
  elseif b.refresh * REFRESHES >= b.span then b.span, b.span_until = b.refresh * REFRESHES, 0 end
end
