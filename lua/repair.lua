--[[ repair: find what was damaged by hand and delete it; intact settings, pauses and history stay.

KEYS   1 budget  2 state  3 consumers  4 rates  5 loads  6 capacities  7 frees  8 edges  9 ratios  10 producers  11 history
       12 producer or consumer  13 its state; both may be left out
Reply  key and field in turn of all that was damaged; the field is empty where the whole key was of another type
Errors NEXUS_INVALID_KEYS
Cost   O(1) ]]

--- @include damage

if not is_budget(KEYS[1]) then return {err = 'NEXUS_INVALID_KEYS'} end
for i = 2, #KEYS do
  if string.sub(KEYS[i], 1, #KEYS[1] + 1) ~= KEYS[1] .. ':' then return {err = 'NEXUS_INVALID_KEYS'} end
end
local damaged = {}
for _, one in ipairs(damages()) do
  local key, field = one[1], one[2]
  -- Without its state, the budget begins another life with its settings. Its consumers count as silent until they report.
  if field == '' then redis.call('DEL', key) else redis.call('HDEL', key, field) end
  damaged[#damaged + 1] = key
  damaged[#damaged + 1] = field
end
return damaged
