-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they are in one
-- slot. A script refuses a key that does not belong in its place, so that a wrong call writes nothing anywhere.
local PLACES = {'state', 'consumers', 'rates', 'loads', 'capacities', 'frees', 'edges', 'ratios', 'producers', 'history'}

local function is_name(text) return #text <= 64 and string.find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil end

-- {name}, or {name/key} for the budget of one key. No name contains a slash, so no key is mistaken for a name.
local function is_budget(key)
  local namespace, name = string.match(key, '^(.*):{(.*)}$')
  if not namespace or #name > 64 then return false end
  local parent = string.match(name, '^(.*)/[A-Za-z0-9._-]+$')
  return is_name(namespace) and is_name(parent or name)
end

-- `kind` is nil, 'consumer' or 'producer'. Returns the keys by name and the member's id, or nil.
local function named_keys(kind)
  if #KEYS ~= (kind and 13 or 11) or not is_budget(KEYS[1]) then return nil end
  local keys = {budget = KEYS[1], member = KEYS[12], memory = KEYS[13]}
  for i, place in ipairs(PLACES) do
    if KEYS[i + 1] ~= KEYS[1] .. ':' .. place then return nil end
    keys[place] = KEYS[i + 1]
  end
  if not kind then return keys, nil end
  local prefix = KEYS[1] .. ':' .. kind .. ':'
  local id = string.sub(keys.member, #prefix + 1)
  if keys.member ~= prefix .. id or not is_name(id) or keys.memory ~= keys.member .. ':state' then return nil end
  return keys, id
end

-- A claim may come with five keys: budget, state, producers, producer and the producer's state. Their names are checked only
-- if they are new.
local function few_keys()
  if #KEYS ~= 5 then return nil end
  local budget, member = KEYS[1], KEYS[4]
  local prefix = budget .. ':producer'
  if KEYS[2] ~= budget .. ':state' or KEYS[3] ~= prefix .. 's' or KEYS[5] ~= member .. ':state'
    or string.sub(member, 1, #prefix + 1) ~= prefix .. ':' then return nil end
  return {budget = budget, state = KEYS[2], producers = KEYS[3], member = member, memory = KEYS[5]}
end

-- The id of the producer that claims.
local function id_of(keys) return string.sub(keys.member, #keys.budget + #':producer:' + 1) end
