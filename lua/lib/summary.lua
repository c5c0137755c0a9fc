-- The budget's hash, for people. It is written when something changes and at the end of each epoch. It also holds the
-- settings.

-- 1800000000250000 -> '2027-01-15T08:00:00.250Z', which `date -d` reads. Days are counted from the first of March of the year 0,
-- so that a leap day is the last of its year.
local function date_of(us)
  local ms = math.floor(us / 1000)
  local s = math.floor(ms / 1000)
  local days = math.floor(s / 86400)
  local from_march = days + 719468
  local era = math.floor(from_march / 146097)
  local of_era = from_march - era * 146097
  local years = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * years + math.floor(years / 4) - math.floor(years / 100))
  local march = math.floor((5 * of_year + 2) / 153)
  local day, month = of_year - math.floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
  local year = era * 400 + years + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(s / 3600) % 24, math.floor(s / 60) % 60,
                       s % 60, ms % 1000)
end

-- The end of a pause, or nil if there is none.
local function pause_end(until_us)
  if until_us <= 0 then return nil end
  return until_us >= UNTIL_RESUMED and 'until it is resumed' or date_of(until_us)
end

-- The rate that a producer of weight 1 gets if its class wants more than there is.
local function fair_level(class)
  return class.level < math.huge and plain(math.floor(class.level)) or 'uncontended'
end

local function write_summary(keys, b, now)
  local list = {'HSET', keys.budget, 'schema', whole(SCHEMA), 'birth', whole(b.birth), 'updated_at', date_of(now),
    'rate_per_s', plain(b.R), 'level', whole(b.level), 'load_percent', plain(b.load), 'reason', b.reason,
    'tokens', string.format('%.6f', b.T / MICRO), 'burst_s', plain(b.burst_us), 'granted_total', whole(b.granted)}
  local function add(field, text)
    list[#list + 1] = field
    list[#list + 1] = text
  end
  for _, name in ipairs(CLASSES) do add('fair_level_' .. name .. '_per_s', fair_level(b[name])) end
  -- If no epoch has been closed for long, nobody claims any more.
  if b.is_new or b.is_closed or now - b.told_at > 2 * b.length then
    add('demand_per_s', plain(b.is_closed and math.floor(b.seen_demand) or 0))
    add('producers_in_demand', whole(b.is_closed and b.seen_demanding or 0))
    local past = now - b.told_at
    add('granted_per_s', past > 0 and plain(math.floor((b.granted - b.told_granted) * MICRO / past * MICRO)) or '0')
    b.told_at, b.told_granted = now, b.granted
  end
  redis.call(unpack(list))
end
