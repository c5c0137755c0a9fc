-- The budget's hash, for people. It is written when something changes and at the end of each epoch. It also holds the
-- settings.

-- 1800000000250000 -> '2027-01-15T08:00:00.250Z', which `date -d` reads. Days are counted from the first of March of the
-- year 0, so that a leap day is the last of its year.
local function date_of(us)
  local ms = math.floor(us / 1000)
  local seconds = math.floor(ms / 1000)
  local days = math.floor(seconds / 86400)
  local from_march = days + 719468
  local era = math.floor(from_march / 146097)
  local of_era = from_march - era * 146097
  local years = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * years + math.floor(years / 4) - math.floor(years / 100))
  local march = math.floor((5 * of_year + 2) / 153)
  local day, month = of_year - math.floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
  local year = era * 400 + years + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(seconds / 3600) % 24,
                       math.floor(seconds / 60) % 60, seconds % 60, ms % 1000)
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

local function write_summary(keys, budget, now)
  local list = {
    'HSET', keys.budget, 'schema', whole(SCHEMA), 'birth', whole(budget.birth), 'updated_at', date_of(now),
    'rate_per_s', plain(budget.rate), 'level', whole(budget.level), 'load_percent', plain(budget.load),
    'reason', budget.reason, 'tokens', string.format('%.6f', budget.tokens / MICRO), 'burst_s', plain(budget.burst_us),
    'granted_total', whole(budget.granted),
  }
  local function add(field, text)
    list[#list + 1] = field
    list[#list + 1] = text
  end
  for _, name in ipairs(CLASSES) do add('fair_level_' .. name .. '_per_s', fair_level(budget[name])) end
  -- If no epoch has been closed for long, nobody claims any more.
  if budget.is_new or budget.has_closed_epoch or now - budget.summary_at > 2 * budget.epoch_length then
    add('demand_per_s', plain(budget.has_closed_epoch and math.floor(budget.closed_demand) or 0))
    add('producers_in_demand', whole(budget.has_closed_epoch and budget.closed_in_demand or 0))
    local past = now - budget.summary_at
    add('granted_per_s',
        past > 0 and plain(math.floor((budget.granted - budget.summary_granted) * MICRO / past * MICRO)) or '0')
    budget.summary_at, budget.summary_granted = now, budget.granted
  end
  redis.call(unpack(list))
end
