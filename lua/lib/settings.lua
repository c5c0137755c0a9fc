-- Which settings are in force. An operator's value wins over the code's value, and removing it brings the code's value back.
-- Both are kept, one field each, so that HGETALL shows who wants what.
local SETTINGS = {'rate', 'min_rate', 'burst', 'law', 'combine', 'latency_target_ms', 'lossless', 'transit', 'grace'}

local function per_second(text)
  local x = decimal(text, 0, 1e9)
  if not x or (x > 0 and x < 1e-6) then return nil end
  return micro_of(x)
end
local function duration(text)
  local x = decimal(text, 0, 86400)
  return x and micro_of(x)
end
local function one_of(...)
  local words = {}
  for _, word in ipairs({...}) do words[word] = word end
  return function(text) return words[text] end
end

-- Each returns the value in the unit of the arithmetic, or nil if the text is not valid.
local READ = {
  rate = per_second, min_rate = per_second, burst = duration, law = one_of('range', 'drain', 'aimd'),
  combine = one_of('sum', 'spread', 'min'), latency_target_ms = function(text) return decimal(text, 0, 86400000) end,
  lossless = function(text) return ({['0'] = 0, ['1'] = 1})[text] end, transit = duration,
  grace = duration,
}
local DEFAULT = {min_rate = 0, burst = DEFAULT_BURST, combine = 'sum', lossless = 0, grace = GRACE}

-- fields: texts by name, 'rate_by_code' and so on.
local function effective(fields)
  local settings = {}
  for _, name in ipairs(SETTINGS) do
    local text = fields[name .. '_by_operator'] or fields[name .. '_by_code']
    if text then settings[name] = READ[name](text) or error('damaged') else settings[name] = DEFAULT[name] end
  end
  settings.floor = settings.min_rate
  -- The floor of one source may be above the ceiling of the other.
  if settings.rate then settings.min_rate = math.min(settings.min_rate, settings.rate) end
  settings.loop_delay = math.max(0.5, (settings.transit or 0) / MICRO)
  settings.transit = settings.transit or TRANSIT
  return settings
end

-- What one source wants by itself.
local function wanted_by(source, fields)
  local own = {}
  for _, name in ipairs(SETTINGS) do own[name .. '_by_code'] = fields[name .. '_by_' .. source] end
  return effective(own)
end

local function number_of(text) return text and (tonumber(text) or error('damaged')) or 0 end

-- The settings, and what else a change of the rate needs.
local function read_settings(keys, budget)
  local names = {'last_consumer_end', 'paused_until_us', 'left_us', 'left_rate_per_s'}
  for _, name in ipairs(SETTINGS) do
    names[#names + 1] = name .. '_by_operator'
    names[#names + 1] = name .. '_by_code'
  end
  local found, fields = redis.call('HMGET', keys.budget, unpack(names)), {}
  for i, name in ipairs(names) do fields[name] = found[i] or nil end
  local settings = effective(fields)
  settings.fields, settings.sums, settings.last_consumer_end = fields, read_sums(budget), fields.last_consumer_end
  settings.left_at, settings.left_rate = number_of(fields.left_us), unplain(fields.left_rate_per_s or '0')
  settings.do_sums_match = are_whole(keys, settings.sums)
  settings.paused_until = number_of(fields.paused_until_us)
  return settings
end
