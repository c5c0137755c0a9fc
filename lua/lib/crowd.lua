-- How often the producers of a large fleet claim: less often, so that Redis needs less than one core for up to a million of
-- them. What one claim gets is decided in grant.lua.
--
-- All producers together make CLAIMS_PER_S claims a second, at about 30 us each. With 100 or 1,000 producers, each refreshes
-- every 0.1 s; with 10,000 every 1 s, with 100,000 every 10 s. Leases get longer by the same factor.
--
-- The end of each epoch (epoch.lua) sets the crowd's refresh by the number of producers that came in it. A producer that
-- takes a large part of the budget keeps a short refresh. At most k producers can use 1/k of the budget each, however many
-- others there are.
local CLAIMS_PER_S = 10000
local MOST_OF = 0.85            -- the same as a client's own gap between two claims
local FULL = 0.375              -- how full the bucket should be: the room above is for returned tokens, the part below for jitter
local PLENTY = 0.3              -- trim above this: the bucket is full, or it was full for long and is not empty
local SAVE = 0.05               -- with few tokens and many waiters, credits grow this much slower while the bucket is empty

-- The refresh of a producer that will use `rate` of the budget's rate.
local function refresh_of(budget, rate)
  if rate <= 0 then return budget.refresh end
  return math.ceil(math.max(REFRESH, math.min(budget.refresh, budget.rate / rate / CLAIMS_PER_S * SECOND)))
end

-- Decides when a producer comes back. If others wait, a producer that got all that was due to it stays away for most of a
-- refresh. A producer that found the bucket empty gets a place in a queue, which moves at the budget's rate. Most producers
-- of a fleet that started in one moment find it empty. From then on, each comes at its own time.
--
-- If nobody is short, all come back as soon as in a small fleet. A new producer cannot yet say what it will use, and one that
-- lives for a second has no refresh to wait for. Producers that come back soon use the same queue, which limits them to
-- CLAIMS_PER_S. The same holds if the bucket is full, whatever the level says: the level counts producers that lived for a
-- second as if they lived on. Tokens that would have overflowed are no debt.
local function space_out(budget, producer, claim, granted, retry, credit_rate, refresh, is_rationed, now)
  if budget.rate <= 0 then return retry end
  local class = budget[producer.class]
  if not is_rationed and class.level < math.huge then producer.credit = math.max(producer.credit, granted) end
  local credit = producer.credit - granted
  local unmet = math.min(claim.want - granted, credit)
  if is_rationed and granted > 0 and unmet < MICRO then
    retry = math.max(retry, MOST_OF * refresh - math.max(0, credit) / credit_rate * MICRO)
  elseif unmet >= MICRO or now - producer.claimed_at < refresh / 2 then
    budget.queue_end = math.min(math.max(budget.queue_end, now) + math.max(unmet / budget.rate, 1 / CLAIMS_PER_S) * SECOND,
                                now + refresh)
    retry = math.max(retry, budget.queue_end - now)
  end
  return math.ceil(math.min(math.max(LONGEST_WAIT, refresh), retry))
end

-- In a crowd an epoch is longer than the bucket takes to fill, so each claim asks for the trim; otherwise the end of an epoch
-- does. One trim for all keeps the bucket from staying full, which loses rate, and from staying empty, which makes everyone
-- wait.
local function trim(budget)
  if budget.rate <= 0 then return 0 end
  local depth = usual_depth(budget)
  if budget.is_scarce == 1 then
    -- With few tokens and many waiters, credits must not grow faster than tokens. Otherwise waiters that claim in step starve
    -- one another.
    return math.min(1.25, math.max(0, budget.tokens - math.max(0.8 * depth, MICRO)) / (0.2 * depth))
      - SAVE * math.max(0, 1 - budget.tokens / (FULL * depth))
  end
  return math.min(1.25, math.max(-0.2, budget.slow_trim + 0.25 * (budget.tokens - FULL * depth) / (0.5 * depth)))
end
