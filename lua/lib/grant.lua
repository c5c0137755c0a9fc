-- How many tokens a claim gets, and when its producer should come back for more.
--
-- The rate at which the producer's credit grows is its fair share (fair.lua). `grant` gives as much as its credit and the
-- bucket (bucket.lua) allow: all of the need or nothing, except that a large need comes in pieces. Two other files may change
-- the result. In a large fleet the producers come back later (crowd.lua). If the consumers cannot hold the tokens, the claim
-- gets fewer (admit.lua).
local CREDIT_TIME = 600000      -- credit grows for no longer than this, which covers a late refresh but not an absence
local LATE = 1.25               -- refreshes: likewise in a crowd, where a refresh is longer than CREDIT_TIME
local BORROW_ABOVE = 0.5        -- the bucket's upper half may be lent to producers without credit
local EARLY = 0.005             -- seconds: a producer that comes this much before its slot is served, not sent away
local NEARLY = 0.9              -- of a need: at the slot this much credit is enough, since the trim may have changed
local SOON = 0.7                -- of `retry`: before that, a producer that got tokens has too little credit to use a slot
local PUNCTUAL = 1.02           -- a caller on a timer, measured from its first call, is sometimes a little early
local LARGE = 0.25              -- of the bucket: a need above it is collected in pieces
local PIECE_TIME = 0.1          -- seconds of the producer's rate in a piece
local MOST_CREDIT = 9e15        -- as much as any bucket holds; seven bytes can hold this and as much debt

-- Returns the tokens granted, in how many microseconds to ask again, and in how many the whole need will be met.
--
--   cap     the most credit that the producer may have
--   room    how far the producer may go into debt
--   depth   what the bucket usually holds
--   spare   the tokens in the bucket that it may take without credit
--   piece   the part of the need that is granted at once
--   enough  what it could still take, after this grant, without waiting for credit
local function grant(budget, producer, claim, need, credit_rate, refresh, is_rationed, now)
  local cap = math.min(math.max(math.max(CREDIT_TIME, LATE * refresh, budget.burst_us) / MICRO * credit_rate,
                                math.min(need, budget.bucket_size)), MOST_CREDIT)
  producer.credit = math.min(cap, producer.credit + credit_rate * math.max(0, now - producer.claimed_at) / MICRO)
  local room = producer.credit + cap * PUNCTUAL
  local depth = usual_depth(budget)
  local spare = math.min(budget.tokens - BORROW_ABOVE * depth, room)
  if claim.whole then spare = math.min(budget.tokens, room)
  elseif is_rationed then spare = math.max(math.min(spare, need), math.min(budget.tokens - depth, room))
  elseif budget.burst_us > DEFAULT_BURST then spare = math.min(budget.tokens, room)
  elseif budget.tokens >= need then spare = math.max(spare, math.min(need, budget.bucket_size, room)) end
  local piece = need
  if need > LARGE * depth and not claim.whole and not (budget.window and budget.window.lossless == 1) then
    piece = math.min(need, math.max(MICRO, math.min(LARGE * depth, PIECE_TIME * credit_rate)))
  end

  local granted = 0
  local tokens = budget.tokens
  if need < budget.saved and now < budget.saved_until then tokens = tokens - budget.saved end
  -- The tokens in the bucket are promised to producers that were told a time. A producer without a time is served after them.
  -- A caller that tries and has not used up its fair part is an exception, since it does not wait for a time.
  local has_time = producer.slot > 0 and now >= producer.claimed_at + producer.slot - EARLY * SECOND
  if refresh == REFRESH and budget.queue_end > now and not has_time and not (claim.whole and producer.credit >= need) then
    tokens = tokens - need
  end
  producer.slot = 0
  local credit = math.max(producer.credit + EARLY * credit_rate, math.min(piece, producer.credit + (1 - NEARLY) * piece))
  local available = math.min(tokens, math.max(credit, spare))
  if budget.rate > 0 and claim.want > 0 then
    local first = math.min(need, claim.want)
    if available >= first then
      local unit = math.min(MICRO, first)
      granted = math.min(claim.want, first + unit * math.floor((available - first) / unit))
    elseif piece < need and available >= piece then
      granted = math.floor(available / MICRO) * MICRO
    end
  end
  if claim.want <= 0 then return granted, 0, 0 end
  local longest = math.max(LONGEST_WAIT, refresh)
  if budget.rate <= 0 then
    if budget.resumes_at <= now or budget.resumes_at >= UNTIL_RESUMED then return 0, longest, longest end
    -- The producers come one after the other, and not all in one moment.
    budget.queue_end = math.max(budget.queue_end, budget.resumes_at) + SECOND / CLAIMS_PER_S
    return 0, math.ceil(math.min(longest, budget.queue_end - now)), math.min(LONGEST_SLOT, budget.resumes_at - now)
  end
  -- The producer comes back when as much would be granted again if no other producer took any.
  local enough = (is_rationed and not claim.whole and producer.credit or room) - granted
  local earning_rate = budget.earning_rate
  local retry = math.max(0, (piece - enough) / credit_rate * MICRO)
  local until_earned = (piece - tokens + granted) / earning_rate * MICRO
  local is_queued = granted == 0 and until_earned > retry
    or granted > 0 and is_rationed and budget.is_scarce == 1 and budget.queue_end > now
  retry = math.max(retry, until_earned)
  if is_queued and refresh == REFRESH and not claim.whole then
    -- Each producer gets a time of its own; otherwise all of them would ask for every token.
    local slot = math.max(budget.queue_end + piece / earning_rate * MICRO,
                          now + (piece - budget.tokens + granted) / earning_rate * MICRO)
    if slot - now <= longest and (granted == 0 or slot - now > SOON * retry) then      -- no producer stays away for longer
      budget.queue_end = slot
      retry = math.ceil(math.max(retry, slot - now))
      producer.slot = math.min(longest, retry)
    end
  end
  -- A large cost that cannot come in pieces would never find enough, since all others take small amounts. So the bucket saves
  -- for it.
  if granted > 0 and need >= budget.saved then budget.saved = 0
  elseif granted == 0 and piece > LARGE * depth and producer.credit >= piece then
    budget.saved, budget.saved_until = piece, now + retry + REFRESH
  end
  local met_in = math.max(0, (need - enough) / credit_rate, (need - tokens + granted) / earning_rate) * MICRO
  return granted, math.ceil(math.min(longest, retry)), math.ceil(math.min(LONGEST_SLOT, met_in))
end
