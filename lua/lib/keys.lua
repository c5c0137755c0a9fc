-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.
local KEY = {budget = 1, consumers = 2, rates = 3, loads = 4, capacities = 5, frees = 6, edges = 7, ratios = 8,
             producers = 9, history = 10, member = 11}
local NAME = '[A-Za-z0-9][A-Za-z0-9._-]*'

local function is_name(text) return #text <= 64 and match(text, '^' .. NAME .. '$') ~= nil end

-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
local function named_keys(kind)
  local budget = KEYS[1]
  if #KEYS ~= (kind and 11 or 10) then return nil end
  local namespace, name = match(budget, '^(.-):{(.-)}$')
  if not namespace or not is_name(namespace) or not is_name(name) then return nil end
  local keys = {budget = budget}
  for place, position in pairs(KEY) do
    if position > 1 and position < 11 then
      if KEYS[position] ~= budget .. ':' .. place then return nil end
      keys[place] = KEYS[position]
    end
  end
  if not kind then return keys end
  local prefix = budget .. ':' .. kind .. ':'
  local id = string.sub(KEYS[11], #prefix + 1)
  if string.sub(KEYS[11], 1, #prefix) ~= prefix or not is_name(id) then return nil end
  keys.member = KEYS[11]
  return keys, id
end
