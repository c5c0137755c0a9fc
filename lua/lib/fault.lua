-- Finds what is wrong with a claim, for its refusal.

-- The first wrong field of a claim that cannot be read.
local function fault_of_claim()
  local asked = {'need', 'tokens', 'requested_rate', 'whole', 'held', 'unused', 'burned', 'weight', 'priority',
                 'incarnation', 'seq', 'birth', 'granted_total', 'trip', 'fallback_rate', 'degraded'}
  local most = {need = 1e15, whole = 1, weight = 1e9, seq = COUNT, granted_total = COUNT, trip = LONGEST_TRIP}
  if #ARGV ~= 2 then return 'NEXUS_INVALID_ARGUMENTS' end
  if not whole_number(ARGV[1], 0, COUNT) then return 'NEXUS_INVALID_AT_US' end
  local i = 0
  for word in string.gmatch(string.sub(ARGV[2], 2, -2) .. ',', '([^,]*),') do
    i = i + 1
    local name, text, is_right = asked[i], string.match(word, '^"(.*)"$'), nil
    if name == 'priority' then is_right = text == 'high' or text == 'normal' or text == 'low'
    elseif name == 'incarnation' then is_right = text and (text == '' or is_name(text))
    elseif name == 'birth' then is_right = text and #text <= 20 and string.find(text, '^[%w._-]*$')
    elseif name then is_right = whole_number(word, name == 'weight' and 10000 or 0, most[name] or 1e16) end
    if name and not is_right then return 'NEXUS_INVALID_' .. string.upper(name) end
  end
  return 'NEXUS_INVALID_ARGUMENTS'
end

-- Names are checked only if the producer is new or its owner has changed. Names that are already known were checked before.
local function fault_of_names(keys, claim)
  if not is_budget(keys.budget) or not is_name(id_of(keys)) then return 'NEXUS_INVALID_KEYS' end
  if type(claim.incarnation) ~= 'string' or claim.incarnation ~= '' and not is_name(claim.incarnation) then
    return 'NEXUS_INVALID_INCARNATION'
  end
  return not string.find(claim.birth, '^[%w._-]*$') and 'NEXUS_INVALID_BIRTH'
end
