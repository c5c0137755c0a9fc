--[[ repair: find what was damaged by hand, and take it away; what has a reason to stay stays: settings, pauses, history.

KEYS   1 budget  2 consumers  3 rates  4 loads  5 capacities  6 frees  7 edges  8 ratios  9 producers  10 history
       11 producer or consumer; may be left out
Reply  key and field in turn of all that was damaged; the field is empty where the whole key was of another type
Errors NEXUS_INVALID_KEYS
Cost   O(1) ]]

--- @include damage

if not is_budget(KEYS[1]) then return {err = 'NEXUS_INVALID_KEYS'} end
for i = 2, #KEYS do
  if string.sub(KEYS[i], 1, #KEYS[1] + 1) ~= KEYS[1] .. ':' then return {err = 'NEXUS_INVALID_KEYS'} end
end
local told = {}
for _, one in ipairs(damages()) do
  local key, field = one[1], one[2]
  if field == '' or key ~= KEYS[1] then redis.call('DEL', key)
  else
    redis.call('HDEL', key, field)
    -- What is packed belongs together. Without it the budget begins another life with its settings, and its consumers count as
    -- silent until they report.
    if PACKED[field] or field == 'parts' or field == 'schema' then
      redis.call('HDEL', key, 'bucket', 'terms', 'class_high', 'class_normal', 'class_low', 'window', 'epoch', 'parts')
    end
  end
  told[#told + 1] = key
  told[#told + 1] = field
end
return told
