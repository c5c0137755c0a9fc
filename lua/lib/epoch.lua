-- The end of an epoch of the fair share (fair.lua): whoever comes first after it finds each class' level, and the sums begin
-- again.
local RESERVE = 0.05            -- what a lower class in demand keeps of the rate
local FULL = 0.375              -- how full the bucket should stand: room above for what is handed back, below for jitter

local SAVE = 0.05               -- few tokens, many waiters: so much slower do credits grow while the bucket is empty

local function level_of(room, under, weight_over, demand, weight)
  if demand <= room or weight <= 0 then return math.huge end
  local share = room / weight * MICRO
  if weight_over <= 1e-9 * weight then return share end
  return math.max(share, (room - under) / weight_over * MICRO)
end

-- One trim for all keeps the bucket from standing full, where rate is lost, and empty, where everyone waits.
local function trim(b, is_contended)
  if not is_contended or b.B <= 0 then
    b.u, b.ui = 0, 0
  elseif b.needs <= b.B / 4 then
    local e = (b.T - FULL * b.B) / (0.5 * b.B)
    b.ui = math.min(1, math.max(-0.2, b.ui + 0.05 * e))
    b.u = math.min(1.25, math.max(-0.2, b.ui + 0.25 * e))
  else
    -- Few tokens, many waiters: credits must not grow faster than tokens, or waiters in step starve one another.
    b.ui = 0
    b.u = math.max(0, b.T - math.max(0.8 * b.B, MICRO)) / (0.2 * b.B) - SAVE * math.max(0, 1 - b.T / (FULL * b.B))
  end
end

local function roll_epoch(keys, b, now)
  read_rest(keys, b)
  local R = b.R
  local function empty()
    for _, class in ipairs(CLASSES) do
      local c = b[class]
      c.under, c.over, c.demand, c.weight = 0, 0, 0, 0
    end
    b.needs, b.number = 0, b.number + 1
  end
  if now - b.ends > b.length then empty() end        -- nobody came for a whole epoch: it says nothing about today
  local left, kept, is_contended = R, 0, false
  for _, class in ipairs(CLASSES) do kept = kept + math.min(b[class].demand, RESERVE * R) end
  for _, class in ipairs(CLASSES) do
    local c = b[class]
    kept = kept - math.min(c.demand, RESERVE * R)
    c.room = math.floor(math.max(left - kept, RESERVE * R))
    c.level = level_of(c.room, c.under, c.over, c.demand, c.weight)
    left = left - math.min(c.demand, c.room)
    is_contended = is_contended or c.level < math.huge
  end
  trim(b, is_contended)
  -- The highest class that wants more gets what is to spare and gives what is missing: those below live on their part.
  local is_taken = false
  for _, class in ipairs(CLASSES) do
    local c = b[class]
    c.trim = is_taken and 0 or b.u
    is_taken = is_taken or c.level < math.huge
  end
  empty()
  b.length = math.ceil(math.max(EPOCH, 1.5 * REFRESH, 1.1 * math.max(b.retry_max, b.retry_before)))
  b.ends = now + b.length
  b.retry_before, b.retry_max = b.retry_max, 0
end

-- Those that left without a word go from the list; their hashes go by their TTL.
local function sweep_producers(keys, now)
  local gone = redis.call('ZRANGEBYSCORE', keys.producers, '-inf', whole(now - KEEP_MEMBER_MS * 1000), 'LIMIT', 0, 8)
  if #gone > 0 then redis.call('ZREM', keys.producers, unpack(gone)) end
end
