-- The end of an epoch of the fair share (fair.lua). The first producer that claims after it computes each class's level, and
-- the sums start again.
local RESERVE = 0.05            -- of the rate: what a lower class in demand keeps
local LONGEST_REFRESH = 60000000    -- so that a lease and a wait end before KEEP_MEMBER_MS; above 600,000 producers, more claims

-- Returns the level, which is infinite if all demands fit, and the mark for the next epoch. The mark is the level. If that is
-- infinite, the mark is the level with one more producer that wants everything.
local function level_of(class)
  if class.weight <= 0 then return math.huge, class.room end
  local share = class.room / class.weight * MICRO
  if class.demand <= class.room then return math.huge, math.max(share, (class.room - class.under) / math.max(class.over, MICRO) * MICRO) end
  if class.over > 1e-9 * class.weight and class.under < class.room then
    local level = math.max(share, (class.room - class.under) / class.over * MICRO)
    return level, level
  end
  -- The producers under the mark want more than there is, so the mark was too high. The level lies between two cases: all of
  -- them are alike, or a few of them want everything.
  return share, math.sqrt(share * math.max(share, math.min(class.mark, class.room) * (class.room / class.under)))
end

local function settle_trim(b, is_contended)
  local depth = usual_depth(b)
  b.is_scarce = b.needs > depth / 4 and 1 or 0
  if is_contended and b.R > 0 and b.is_scarce == 0 then
    b.ui = math.min(1, math.max(-0.2, b.ui + 0.05 * (b.T - FULL * depth) / (0.5 * depth)))
  else
    b.ui = 0
  end
  b.u = is_contended and trim(b) or 0
end

-- `span` is the longest lease that may still be valid. When leases get shorter, the longer ones stay valid until they end.
local function fit_refresh(b, crowd, now)
  if now >= b.span_until then b.span, b.span_until = b.refresh * REFRESHES, 0 end
  local wanted = 0
  if not (b.window and b.window.lossless == 1) then    -- a lossless budget needs all tokens on their way to be young
    wanted = crowd / CLAIMS_PER_S * SECOND
  end
  -- Two counts of a fleet are never the same, so a slightly smaller count changes nothing.
  if wanted <= b.refresh and wanted >= b.refresh / 2 then return end
  local before = b.refresh
  b.refresh = math.ceil(math.min(LONGEST_REFRESH, math.max(REFRESH, wanted)))
  if b.refresh < before then b.span_until = now + b.span
  elseif b.refresh * REFRESHES >= b.span then b.span, b.span_until = b.refresh * REFRESHES, 0 end
end

local function roll_epoch(keys, b, now)
  b.is_lost = is_lost(keys)
  read_rest(keys, b)
  turn_shares(b, now)
  local R, crowd = b.earned, b.crowd
  b.is_closed, b.seen_demand, b.seen_demanding = true, 0, b.demanding
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    b.seen_demand = b.seen_demand + class.demand
  end
  local function empty()
    for _, name in ipairs(CLASSES) do
      local class = b[name]
      class.under, class.over, class.demand, class.weight = 0, 0, 0, 0
    end
    b.needs, b.demanding, b.crowd, b.number = 0, 0, 0, b.number + 1
  end
  local is_cut = b.ends - now > b.length               -- the clock went back
  local is_silent = now - b.ends > b.length
  if is_silent then                                    -- nobody came for a whole epoch, so its sums say nothing about today
    crowd, b.seen_demand, b.seen_demanding = 0, 0, 0
    empty()
  end
  local left, kept, is_contended = R, 0, false
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    kept = kept + math.min(class.demand, RESERVE * R)
  end
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    kept = kept - math.min(class.demand, RESERVE * R)
    class.room = math.floor(math.max(left - kept, RESERVE * R))
    class.level, class.mark = level_of(class)
    left = left - math.min(class.demand, class.room)
    is_contended = is_contended or class.level < math.huge
  end
  settle_trim(b, is_contended)
  -- The highest class that wants more gets what is left over and bears what is missing. The classes below it keep their own
  -- part.
  b.taker = ''
  for _, name in ipairs(CLASSES) do
    local class = b[name]
    class.trim = b.taker == '' and b.u or 0
    if b.taker == '' and class.level < math.huge then b.taker = name end
  end
  empty()
  local refresh_before = b.refresh
  -- After an outage or a step of the clock, all producers may be back in a moment.
  if not is_cut and not (is_silent and now - b.ends < KEEP_MEMBER_MS * 1000) then fit_refresh(b, crowd, now) end
  b.length = math.ceil(math.max(EPOCH, 1.5 * math.max(refresh_before, b.refresh), 1.1 * math.max(b.retry_max, b.retry_before)))
  b.ends = now + b.length
  b.retry_before, b.retry_max = b.retry_max, 0
end

-- Producers that left without a `leave` are taken from the list. Their hashes expire by their TTL.
local function sweep_producers(keys, now)
  local gone = redis.call('ZRANGEBYSCORE', keys.producers, '-inf', whole(now - KEEP_MEMBER_MS * 1000), 'LIMIT', 0, 8)
  if #gone > 0 then redis.call('ZREM', keys.producers, unpack(gone)) end
end
