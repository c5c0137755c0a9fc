-- What becomes of the tokens that a producer returns, and what the producer pays for that. How many of them fit into the
-- bucket is decided in bucket.lua (`hand_back`).
local PAYS = 4                  -- credit that a producer pays for each token that it returns, up to a debt of twice what it returns
local PAYS_LEAST, PAYS_MOST = 0.25, 2     -- seconds of its rate: the least and the most that this debt is limited to

-- How much of what the producer reports comes back to the bucket, and how much will never be used.
local function take_back(budget, producer, held, unused, burned, now)
  local owned = now <= producer.holds_until and producer.holds or 0
  local returned = math.min(unused, owned)
  local lost = math.min(burned, producer.holds - returned)
  local credited = 0
  if returned > 0 then credited = hand_back(budget, returned) end
  producer.holds = math.min(held, producer.holds - returned)
  return returned, lost, credited
end

-- A producer that returns tokens may have used them all the same, which nobody can see. So it pays with credit for what
-- others get of them. A producer that then rests, as an idle one does, has its credit again before it comes back. A producer
-- that goes on asking loses more than a false return could gain.
local function pay_for_returned(producer, credited, credit_rate)
  local most = math.max(PAYS_LEAST * credit_rate, math.min(2 * credited, PAYS_MOST * credit_rate))
  producer.credit = math.max(math.min(producer.credit, -most), producer.credit - PAYS * credited)
end

-- A producer that leaves cannot pay later, so only as much comes back as it can pay for.
local function payable(budget, producer, unused)
  local class = budget[producer.class]
  if class.level == math.huge then return unused end
  return math.min(unused, math.floor(
    (math.max(0, producer.credit) + PAYS_LEAST * class.level * producer.weight / MICRO) / PAYS))
end
