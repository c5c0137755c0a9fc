-- Numbers as text. Lua 5.1 has only doubles, and its tostring() rounds to 14 digits. So every number that is stored or
-- answered goes through string.format, in millionths (micro) or microseconds, and is exact to 2^53.
local MICRO = 1000000
local COUNT = 9007199254740992     -- 2^53: up to here a double holds every whole number

local function whole(x) return string.format('%.0f', x) end

-- 0.29 -> 290000: rounds to the nearest, since a double of 0.29 may lie just below it.
local function micro_of(x) return math.floor(x * MICRO + 0.5) end

-- 2500500000 -> '2500.5': for people.
local function plain(micro)
  local text = string.format('%.0f.%06.0f', math.floor(micro / MICRO), micro % MICRO)
  return (string.gsub(string.gsub(text, '0+$', ''), '%.$', ''))
end
local function unplain(text)
  local integer, fraction = string.match(text, '^(%d+)%.?(%d*)$')
  return tonumber(integer) * MICRO + tonumber(string.sub(fraction .. '000000', 1, 6))
end

-- A plain decimal within [low, high] as a double, or nil. tonumber alone would accept 'nan', 'inf', '0x10' and ' 5 '.
local function decimal(text, low, high)
  if #text > 40 or not string.match(text, '^%d+%.?%d*$') then return nil end
  local x = tonumber(text)
  if x >= low and x <= high then return x end
  return nil
end

-- Digits only, within [low, high], or nil.
local function whole_number(text, low, high)
  if #text > 17 or not string.match(text, '^%d+$') then return nil end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
end

-- Reads a number that a script has written.
local function finite(text)
  local x = tonumber(text)
  if not x or x - x ~= 0 then error('damaged') end
  return x
end

-- Packed state: one text of whole numbers.
local function numbers(text)
  local list, n = {}, 0
  for word in string.gmatch(text, '%S+') do
    n = n + 1
    list[n] = tonumber(word)
  end
  return list
end
local function packed(list)
  return string.format(string.sub(string.rep(' %.0f', #list), 2), unpack(list))
end
