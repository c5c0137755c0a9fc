-- Finds what no script can have written to Redis: a key of another type, a state that is too short, a number that is not
-- valid, or a setting that no script would have accepted. A script that has failed looks for this, and so does repair.lua.
--- @include number
--- @include times
--- @include packing
--- @include keys
--- @include state
--- @include settings

local NUMBERS = {'schema', 'paused_until_us', 'pause_of_operator_us', 'left_us'}

-- Returns where the value behind these parts begins, or nil if they cannot be read. The level of a class is infinite if the
-- class is not contended.
local function read_parts_of(text, from, formats)
  for _, format in ipairs(formats) do
    local is_long_enough, values = pcall(function() return {unpacked(format, text, from)} end)
    if not is_long_enough then return nil end
    from = table.remove(values)
    for _, value in ipairs(values) do
      if type(value) == 'number' and (value ~= value or format ~= CLASS and value - value ~= 0) then return nil end
    end
  end
  return from
end

local function is_state(text)
  local ends = read_parts_of(text, 1, {BUCKET, CLASS, CLASS, CLASS, EPOCHAL, SUMS, TERMS})
  if ends and ends <= #text then ends = read_parts_of(text, ends, {WINDOW}) end
  return ends == #text + 1 and unpacked(BUCKET, text) == SCHEMA
end

local function is_producer_state(text) return read_parts_of(text, 1, {ENTRY, ANSWER}) == #text + 1 end

local LAWS = {range = true, drain = true, aimd = true}
local function is_consumer_state(text)
  local head, law, memory = string.match(text, '^%S+ ([^\n]*)\n(%a+)([^\n]*)$')
  if not head or not LAWS[law] then return false end
  local count = 0
  for word in string.gmatch(head, '%S+') do
    count = count + 1
    local x = tonumber(word)
    if not (x and x - x == 0) and not (word == '-' and count > 7) then return false end
  end
  for word in string.gmatch(memory, '%S+') do
    local x = tonumber(word)
    if not x or x - x ~= 0 then return false end
  end
  return count == 23
end

-- The names of the fields of the budget's hash that cannot be read.
local function damaged_fields(fields)
  local bad = {}
  local function check(field, is_right)
    if fields[field] and not is_right then bad[#bad + 1] = field end
  end
  for _, field in ipairs(NUMBERS) do check(field, whole_number(fields[field] or '', 0, COUNT)) end
  check('left_rate_per_s', fields.left_rate_per_s and string.match(fields.left_rate_per_s, '^%d+%.?%d*$'))
  for _, name in ipairs(SETTINGS) do
    for _, source in ipairs({'_by_code', '_by_operator'}) do
      check(name .. source, fields[name .. source] and READ[name](fields[name .. source]))
    end
  end
  table.sort(bad)
  return bad
end

-- What a key of a budget must hold, by the part of its name after the budget's.
local function kind_of(rest)
  if rest == '' then return 'hash', damaged_fields end
  if rest == ':state' then return 'string', is_state end
  if rest == ':history' then return 'stream' end
  local member, tail = string.match(rest, '^:(%a+):[^:]+(.*)$')
  if not member then return 'zset' end
  if tail == '' then return 'hash' end
  return 'string', member == 'producer' and is_producer_state or is_consumer_state
end

-- A list of {key, field}; the field is '' if the whole key is damaged.
local function damages()
  local found = {}
  for _, key in ipairs(KEYS) do
    local kind, look = kind_of(string.sub(key, #KEYS[1] + 1))
    local is = redis.pcall('TYPE', key)
    is = is.ok or is
    if string.find(key, '[^%w._:{}/-]') or type(is) ~= 'string' then return {} end
    if is ~= 'none' and is ~= kind then found[#found + 1] = {key, ''}
    elseif is == 'string' then
      if not look(redis.call('GET', key)) then found[#found + 1] = {key, ''} end
    elseif is == 'hash' and look then
      local flat, fields = redis.pcall('HGETALL', key), {}
      for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
      for _, field in ipairs(look(fields)) do found[#found + 1] = {key, field} end
    end
  end
  return found
end
