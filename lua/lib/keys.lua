-- The keys of one budget, in the order in which every script gets them. All share the hash tag {name}, so they live in
-- one slot; a key that is not what its place asks for is refused, so that a wrong call writes nothing anywhere.
local function is_name(text) return #text <= 64 and string.find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil end

-- kind: nil, 'consumer' or 'producer'. Gives the keys by name and the member's id, or nil.
local NAMED = '^([A-Za-z0-9][A-Za-z0-9._-]*:{[A-Za-z0-9][A-Za-z0-9._-]*}) %1:consumers %1:rates %1:loads %1:capacities '
  .. '%1:frees %1:edges %1:ratios %1:producers %1:history'
local function named_keys(kind)
  if #KEYS ~= (kind and 11 or 10) or #KEYS[1] > 131 then return nil end
  local b, id = string.match(table.concat(KEYS, ' '), kind and NAMED .. ' %1:' .. kind .. ':([A-Za-z0-9][A-Za-z0-9._-]*)$'
                                                      or NAMED .. '$')
  if not b or string.find(b, ':', 1, true) > 65 or #b - string.find(b, '{', 1, true) > 65 or #(id or '') > 64 then
    return nil
  end
  return {budget = b, consumers = KEYS[2], rates = KEYS[3], loads = KEYS[4], capacities = KEYS[5], frees = KEYS[6],
          edges = KEYS[7], ratios = KEYS[8], producers = KEYS[9], history = KEYS[10], member = KEYS[11]}, id
end

-- A claim may come with three of them: budget, producers, producer.
local FEW = '^([A-Za-z0-9][A-Za-z0-9._-]*:{[A-Za-z0-9][A-Za-z0-9._-]*}) %1:producers %1:producer:([A-Za-z0-9][A-Za-z0-9._-]*)$'
local function claim_keys()
  if #KEYS ~= 3 then return named_keys('producer') end
  if #KEYS[1] > 131 then return nil end
  local b, id = string.match(table.concat(KEYS, ' '), FEW)
  if not b or string.find(b, ':', 1, true) > 65 or #b - string.find(b, '{', 1, true) > 65 or #id > 64 then return nil end
  return {budget = b, producers = KEYS[2], member = KEYS[3]}, id
end
