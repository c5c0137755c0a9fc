-- What lies in Redis and cannot be what a script wrote: a key of another type, a packed value that is too short, a number that
-- is none, a setting that no script would have taken. Looked for when a script has failed, and by repair.lua.
--- @include number
--- @include times
--- @include packing
--- @include keys
--- @include state
--- @include settings

local PACKED = {bucket = BUCKET, terms = TERMS, class_high = CLASS, class_normal = CLASS, class_low = CLASS, window = WINDOW, epoch = EPOCHAL}
local NUMBERS = {'paused_until_us', 'pause_of_operator_us', 'left_us', 'seq', 'arrivals_micro', 'joined_us'}
local RATES = {'left_rate_per_s', 'rate_per_s', 'capacity_per_s'}

local function is_finite(x) return x ~= nil and x - x == 0 end

-- A class' level is infinite where it is not contended.
local function can_unpack(format, text, may_be_infinite)
  local is_long_enough, values = pcall(function() return {unpacked(format, text)} end)
  if not is_long_enough then return false end
  for _, value in ipairs(values) do
    if type(value) == 'number' and (value ~= value or not may_be_infinite and value - value ~= 0) then return false end
  end
  return #values > 1
end

local function are_numbers(text)
  for word in string.gmatch(text, '%S+') do
    if word ~= '-' and not is_finite(tonumber(word)) then return false end
  end
  return true
end

local function are_parts(text)
  local is_json, list = pcall(cjson.decode, text)
  if not is_json or type(list) ~= 'table' then return false end
  for _, number in ipairs(list) do
    if type(number) ~= 'number' or not is_finite(number) then return false end
  end
  return true
end

-- The names of those fields of the budget's hash that cannot be read.
local function damaged_fields(f)
  local bad = {}
  local function check(field, is_right)
    if f[field] and not is_right then bad[#bad + 1] = field end
  end
  check('schema', f.schema and string.match(f.schema, '^%d+$'))
  for field, format in pairs(PACKED) do
    local is_needed = f.bucket and f.schema == whole(SCHEMA) and field ~= 'window' and not f[field]
    if is_needed then bad[#bad + 1] = field end
    check(field, f.schema ~= whole(SCHEMA) or f[field] and can_unpack(format, f[field], format == CLASS))
  end
  check('parts', f.parts and are_parts(f.parts))
  for _, field in ipairs(NUMBERS) do check(field, f[field] and is_finite(tonumber(f[field]))) end
  for _, field in ipairs(RATES) do check(field, f[field] and string.match(f[field], '^%d+%.?%d*$')) end
  for _, name in ipairs(SETTINGS) do
    for _, source in ipairs({'_by_code', '_by_operator'}) do check(name .. source, f[name .. source] and READ[name](f[name .. source])) end
  end
  table.sort(bad)
  return bad
end

local function damaged_producer(f)
  if f.entry and not (can_unpack(ENTRY, f.entry) and f.incarnation and f.birth) then return {'entry'} end
  if f.entry and not (f.answer and can_unpack(ANSWER, f.answer)) then return {'answer'} end
  return {}
end

local function damaged_consumer(f)
  if not f.seq then return {} end
  for _, field in ipairs({'incarnation', 'said', 'memory', 'rate_per_s', 'capacity_per_s', 'arrivals_micro', 'paused_until_us', 'joined_us'}) do
    if not f[field] then return {field} end
  end
  if not are_numbers(f.said) then return {'said'} end
  if not are_numbers(string.gsub(f.memory, '^%S*', '')) then return {'memory'} end
  return damaged_fields({seq = f.seq, arrivals_micro = f.arrivals_micro, paused_until_us = f.paused_until_us,
                         joined_us = f.joined_us, rate_per_s = f.rate_per_s, capacity_per_s = f.capacity_per_s})
end

-- A list of {key, field}; the field is '' where the whole key is of another type.
local function damages()
  local found = {}
  for i, key in ipairs(KEYS) do
    local member = i > 1 and string.match(string.sub(key, #KEYS[1] + 1), '^:(%a+):')
    local kind = (i == 1 or member) and 'hash' or string.sub(key, -8) == ':history' and 'stream' or 'zset'
    local is = redis.pcall('TYPE', key)
    is = is.ok or is
    if string.find(key, '[^%w._:{}/-]') or type(is) ~= 'string' then return {} end
    if is ~= 'none' and is ~= kind then found[#found + 1] = {key, ''}
    elseif kind == 'hash' and is == 'hash' then
      local flat, f = redis.pcall('HGETALL', key), {}
      for j = 1, #flat, 2 do f[flat[j]] = flat[j + 1] end
      local bad = not member and damaged_fields(f) or member == 'producer' and damaged_producer(f) or damaged_consumer(f)
      for _, field in ipairs(bad) do found[#found + 1] = {key, field} end
    end
  end
  return found
end
