-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.
local PLACES = {'consumers', 'rates', 'loads', 'capacities', 'frees', 'edges', 'ratios', 'producers', 'history'}

local function is_name(text) return #text <= 64 and string.find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil end

-- {name}, or {name/key} of a key's budget: no name has the stroke, so no key is taken for a name.
local function is_budget(key)
  local namespace, name = string.match(key, '^(.*):{(.*)}$')
  if not namespace or #name > 64 then return false end
  local parent = string.match(name, '^(.*)/[A-Za-z0-9._-]+$')
  return is_name(namespace) and is_name(parent or name)
end

-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
local function named_keys(kind)
  if #KEYS ~= (kind and 11 or 10) or not is_budget(KEYS[1]) then return nil end
  local keys = {budget = KEYS[1], member = KEYS[11]}
  for i, place in ipairs(PLACES) do
    if KEYS[i + 1] ~= KEYS[1] .. ':' .. place then return nil end
    keys[place] = KEYS[i + 1]
  end
  if not kind then return keys, nil end
  local prefix = KEYS[1] .. ':' .. kind .. ':'
  local id = string.sub(KEYS[11], #prefix + 1)
  if string.sub(KEYS[11], 1, #prefix) ~= prefix or not is_name(id) then return nil end
  return keys, id
end

-- A claim may come with three of them: budget, producers, producer. Their names are looked at where they are new.
local function few_keys()
  if #KEYS ~= 3 then return nil end
  local prefix = KEYS[1] .. ':producer:'
  if KEYS[2] ~= KEYS[1] .. ':producers' or string.sub(KEYS[3], 1, #prefix) ~= prefix then return nil end
  return {budget = KEYS[1], producers = KEYS[2], member = KEYS[3]}
end

-- The id of the producer that claims.
local function id_of(keys) return string.sub(keys.member, #keys.budget + #':producer:' + 1) end
