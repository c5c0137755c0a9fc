-- Made of lua/leave.lua by `make bundle` (SHA-256 a3b77c53855a6a0c); `nexus-redis scripts leave` shows the source.
local is_well, reply = pcall(function()
local string_format = string.format
local math_floor = math.floor
local string_match = string.match
local string_sub = string.sub
local string_find = string.find
local redis_call = redis.call
local math_max = math.max
local math_min = math.min
local math_huge = math.huge
local math_abs = math.abs
local function whole(x)
 return string_format('%.0f', x)
end
local function micro_of(x)
 return math_floor(x * 1000000 + 0.5)
end
local function plain(micro)
 local text = string_format('%.0f.%06.0f', math_floor(micro / 1000000), micro % 1000000)
 return (string.gsub(string.gsub(text, '0+$', ''), '%.$', ''))
end
local function unplain(text)
 local integer, fraction = string_match(text, '^(%d+)%.?(%d*)$')
 return tonumber(integer) * 1000000 + tonumber(string_sub(fraction .. '000000', 1, 6))
end
local function decimal(text, low, high)
 if #text > 40 or not string_match(text, '^%d+%.?%d*$') then
  return nil
 end
 local x = tonumber(text)
 if x >= low and x <= high then
  return x
 end
 return nil
end
local function whole_number(text, low, high)
 if #text > 17 or not string_match(text, '^%d+$') then
  return nil
 end
 local x = tonumber(text)
 return x >= low and x <= high and x or nil
end
local pack, unpacked
local WIDE = struct and 8 or 25
if struct then
 pack, unpacked = struct.pack, struct.unpack
else
 function pack(format, ...)
  local words, i = {...}, 0
  for kind, size in string.gmatch(format, '([dfIisc])(%d*)') do
   i = i + 1
   if kind == 'c' then
    words[i] = string_sub(words[i], 1, tonumber(size)) .. ' '
   elseif kind == 's' then
    words[i] = words[i] .. ' '
   else
    words[i] = string_format('%24.17g ', words[i])
   end
  end
  return table.concat(words)
 end
 function unpacked(format, text, from)
  local values, at = {}, from or 1
  for kind in string.gmatch(format, '([dfIisc])%d*') do
   local is_text = kind == 's' or kind == 'c'
   local last = is_text and string_find(text, ' ', at, true) or at + WIDE - 1
   if not last or last > #text then
    error('too short')
   end
   local word = string_sub(text, at, last - 1)
   values[#values + 1] = is_text and word or tonumber(word) or error('not a number')
   at = last + 1
  end
  values[#values + 1] = at
  return unpack(values)
 end
end
local function clock(at_us)
 if at_us ~= '0' then
  local at = whole_number(at_us, 0, 9007199254740992)
  if not at or at > 0 then
   return at
  end
 end
 if not redis.REDIS_VERSION_NUM and redis.replicate_commands then
  redis.replicate_commands()
 end
 local time = redis_call('TIME')
 return time[1] * 1000000 + time[2]
end
local PLACES = {'state', 'consumers', 'rates', 'loads', 'capacities', 'frees', 'edges', 'ratios', 'producers', 'history'}
local function is_name(text)
 return #text <= 64 and string_find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil
end
local function is_budget(key)
 local namespace, name = string_match(key, '^(.*):{(.*)}$')
 if not namespace or #name > 64 then
  return false
 end
 local parent = string_match(name, '^(.*)/[A-Za-z0-9._-]+$')
 return is_name(namespace) and is_name(parent or name)
end
local function named_keys(kind)
 if #KEYS ~= (kind and 13 or 11) or not is_budget(KEYS[1]) then
  return nil
 end
 local keys = {budget = KEYS[1], member = KEYS[12], memory = KEYS[13]}
 for i, place in ipairs(PLACES) do
  if KEYS[i + 1] ~= KEYS[1] .. ':' .. place then
   return nil
  end
  keys[place] = KEYS[i + 1]
 end
 if not kind then
  return keys, nil
 end
 local prefix = KEYS[1] .. ':' .. kind .. ':'
 local id = string_sub(keys.member, #prefix + 1)
 if keys.member ~= prefix .. id or not is_name(id) or keys.memory ~= keys.member .. ':state' then
  return nil
 end
 return keys, id
end
local CLASSES = {'high', 'normal', 'low'}
local function class_at(name)
 return (name == 'normal' and 21 or name == 'high' and 29 or 37) * WIDE
end
local function read_class(raw, name)
 return {unpacked('>dddddddd', raw, 1 + class_at(name))}
end
local function packed_class(class)
 return pack('>dddddddd', unpack(class, 1, 8))
end
local function read_window(raw, from)
 local active, edge, net, A, slot, slot_us, lossless, born, s1, s2, s3, s4, s5 = unpacked('>ddddddddddddd', raw, from)
 return {active = active, edge = edge, net = net, A = A, slot = slot, slot_us = slot_us, lossless = lossless, born = born, snaps = {s1, s2, s3, s4, s5}}
end
local function packed_bucket(b)
 return pack('>ddddddddddddddddddddd', unpack(b, 1, 21))
end
local function packed_window(w)
 local s = w.snaps
 return pack('>ddddddddddddd', w.active, w.edge, w.net, w.A, w.slot, w.slot_us, w.lossless, w.born, s[1], s[2], s[3], s[4], s[5])
end
local function refill(b, now)
 local dt = now - b[2]
 b[2] = now
 if dt < 0 then
  b[27], b[65] = b[27] + dt > 0 and b[27] + dt or 0, true
 end
 local R, T, B = b[22], b[4], b[23]
 if b[43] > 0 then
  R = R - math_floor(R / 2 < b[43] and R / 2 or b[43])
 end
 b[49] = R
 if dt > 0 and R > 0 then
  local room = B - T
  if room <= 0 or dt >= room / R * 1000000 + 1 then
   b[21] = b[21] + (R * dt / 1000000 - room > 0 and R * dt / 1000000 - room or 0)
   T, b[3] = B, 0
  else
   local part = R % 1000000 * dt + b[3]
   T, b[3] = T + math_floor(R / 1000000) * dt + math_floor(part / 1000000), part % 1000000
   if T >= B then
    T, b[3] = B, 0
   end
  end
  b[4] = T
 end
 if now < b[9] then
  b[9] = now
 elseif now - b[9] > b[33] then
  b[8] = now - b[9] < 2 * b[33] and b[7] or 0
  b[7], b[9] = b[4], now
 end
 b[7] = b[4] > b[7] and b[4] or b[7]
end
local function date_of(us)
 local ms = math_floor(us / 1000)
 local s = math_floor(ms / 1000)
 local days = math_floor(s / 86400)
 local from_march = days + 719468
 local era = math_floor(from_march / 146097)
 local of_era = from_march - era * 146097
 local years = math_floor((of_era - math_floor(of_era / 1460) + math_floor(of_era / 36524) - math_floor(of_era / 146096)) / 365)
 local of_year = of_era - (365 * years + math_floor(years / 4) - math_floor(years / 100))
 local march = math_floor((5 * of_year + 2) / 153)
 local day, month = of_year - math_floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
 local year = era * 400 + years + (month <= 2 and 1 or 0)
 return string_format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math_floor(s / 3600) % 24, math_floor(s / 60) % 60, s % 60, ms % 1000)
end
local function pause_end(until_us)
 if until_us <= 0 then
  return nil
 end
 return until_us >= 9000000000000000.0 and 'until it is resumed' or date_of(until_us)
end
local function fair_level(class)
 return class[1] < math_huge and plain(math_floor(class[1])) or 'uncontended'
end
local function write_summary(keys, b, now)
 local list = {'HSET', keys.budget, 'schema', whole(3), 'birth', whole(b[44]), 'updated_at', date_of(now), 'rate_per_s', plain(b[22]), 'level', whole(b[25]), 'load_percent', plain(b[26]), 'reason', b[45], 'tokens', string_format('%.6f', b[4] / 1000000), 'burst_s', plain(b[24]), 'granted_total', whole(b[5])}
 local function add(field, text)
  list[#list + 1] = field
  list[#list + 1] = text
 end
 for _, name in ipairs(CLASSES) do
  add('fair_level_' .. name .. '_per_s', fair_level(b[name]))
 end
 if b[66] or b[68] or now - b[61] > 2 * b[31] then
  add('demand_per_s', plain(b[68] and math_floor(b[70]) or 0))
  add('producers_in_demand', whole(b[68] and b[71] or 0))
  local past = now - b[61]
  add('granted_per_s', past > 0 and plain(math_floor((b[5] - b[62]) * 1000000 / past * 1000000)) or '0')
  b[61], b[62] = now, b[5]
 end
 redis_call(unpack(list))
end
local function read_rest(keys, b)
 if b[64] then
  return
 end
 b[64] = true
 b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59], b[60], b[61], b[62] = unpacked('>dddddddddddd', b[48], 1 + 45 * WIDE)
 for _, name in ipairs(CLASSES) do
  b[name] = b[name] or read_class(b[48], name)
 end
end
local PARTS = {'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free', 'load_level', 'noted', 'told'}
local function read_parts(b)
 if b[63] then
  return b[63]
 end
 local parts, list = {}, b[48] and {unpacked('>dddddddddd', b[48], 1 + 57 * WIDE)} or {}
 for i, name in ipairs(PARTS) do
  parts[name] = list[i] or 0
 end
 b[63] = parts
 return parts
end
local function packed_sums(b)
 if b[48] and not b[63] then
  return string_sub(b[48], 1 + 57 * WIDE, 67 * WIDE)
 end
 local parts, list = read_parts(b), {}
 for i, name in ipairs(PARTS) do
  list[i] = parts[name]
 end
 return pack('>dddddddddd', unpack(list))
end
local function steady(b, now)
 if now < b[2] then
  if b[38] == 0 or now < b[38] then
   b[38], b[65] = now, true
  end
  if now - b[38] < 5000000 then
   return b[2]
  end
  b[39], b[38], b[65] = b[2] > b[39] and b[2] or b[39], 0, true
  return now
 end
 if b[38] > 0 then
  b[38], b[65] = 0, true
 end
 if b[39] > 0 then
  b[2] = math_max(b[2], (b[39] < now and b[39] or now) - 5000000)
  if now >= b[39] then
   b[39], b[65] = 0, true
  end
 end
 return now
end
local function is_lost(keys)
 return redis_call('HLEN', keys.budget) == 0
end
local function is_renewal_due(b, now)
 return now - b[54] >= 60000000 or now < b[54]
end
local function write_whole(keys, b, now, may_be_new)
 if b[69] then
  redis_call('DEL', keys.budget, keys.state)
  return
 end
 read_rest(keys, b)
 may_be_new = may_be_new or is_renewal_due(b, now)
 if may_be_new and (keys.history or b[66]) then
  b[54] = now
 end
 if b[66] or b[67] or b[68] then
  write_summary(keys, b, now)
 end
 local state = {packed_bucket(b), packed_class(b['normal']), packed_class(b['high']), packed_class(b['low']), pack('>dddddddddddd', b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59], b[60], b[61], b[62]), packed_sums(b), pack('>dddddddddddddddddddddddss', unpack(b, 22, 46)), b[50] and packed_window(b[50]) or ''}
 redis_call('SET', keys.state, table.concat(state), 'KEEPTTL')
 if may_be_new then
  do
   for place, key in pairs(keys) do
    if place ~= 'member' and place ~= 'memory' then
     if b[55] == 1 then
      redis_call('PERSIST', key)
     else
      redis_call('PEXPIRE', key, 604800000)
     end
    end
   end
  end
 end
end
local function score(key, id)
 local text = redis_call('ZSCORE', key, id)
 return text and tonumber(text) or nil
end
local function can_be_sum(key, count, sum)
 if count == 0 then
  return sum == 0
 end
 local lowest = redis_call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
 local highest = redis_call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
 if not lowest then
  return false
 end
 lowest, highest = tonumber(lowest), tonumber(highest)
 local rounding = 1e-09 * count * math_max(math_abs(lowest), math_abs(highest))
 return sum >= highest + (count - 1) * lowest - rounding and sum <= lowest + (count - 1) * highest + rounding
end
local function withdraw_rate(keys, parts, id)
 local rate = score(keys.rates, id)
 if not rate then
  return
 end
 local weight
 do
  local capacity = score(keys.capacities, id)
  weight = math.ceil(capacity / 1000000)
 end
 parts.live = parts.live - 1
 parts.rate = parts.rate - rate
 parts.capacity = parts.capacity - weight
 parts.load = parts.load - weight * score(keys.loads, id)
 parts.arrivals = parts.arrivals - math_floor(rate / score(keys.ratios, id))
 for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do
  redis_call('ZREM', key, id)
 end
end
local function withdraw_space(keys, parts, id)
 local free = score(keys.frees, id)
 if not free then
  return
 end
 parts.bounded, parts.free = parts.bounded - 1, parts.free - free
 redis_call('ZREM', keys.frees, id)
 redis_call('ZREM', keys.edges, id)
end
local function withdraw_consumer(keys, parts, id)
 withdraw_rate(keys, parts, id)
 withdraw_space(keys, parts, id)
 redis_call('ZREM', keys.consumers, id)
end
local function mend(keys, s)
 if s.is_whole then
  return
 end
 s.is_whole, s.last_end = true, 'silent'
 for _, name in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do
  s.parts[name] = 0
 end
 redis_call('HSET', keys.budget, 'last_consumer_end', 'silent')
 for __2, place in ipairs({'consumers', 'rates', 'capacities', 'loads', 'ratios', 'frees', 'edges'}) do
  redis_call('DEL', keys[place])
 end
end
local function least(key)
 local first = redis_call('ZRANGE', key, 0, 0, 'WITHSCORES')
 return first[2] and tonumber(first[2]) or nil
end
local function sweep_consumers(keys, parts, combine, now)
 local fell = 0
 for _, id in ipairs(redis_call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, 16)) do
  if score(keys.rates, id) then
   withdraw_rate(keys, parts, id)
   if combine == 'sum' then
    withdraw_space(keys, parts, id)
   end
   redis_call('ZADD', keys.consumers, whole(now + 10000000), id)
   fell = fell + 1
  else
   withdraw_consumer(keys, parts, id)
  end
 end
 return fell
end
local function silent_consumers(keys, parts)
 return redis_call('ZCARD', keys.consumers) - parts.live
end
local function slot_length(lease, transit, interval)
 return math.ceil((lease + transit + 3 * (250000 > interval and 250000 or interval)) / 4)
end
local SETTINGS = {'rate', 'min_rate', 'burst', 'law', 'combine', 'latency_target_ms', 'lossless', 'transit', 'grace'}
local function per_second(text)
 local x = decimal(text, 0, 1000000000.0)
 if not x or x > 0 and x < 1e-06 then
  return nil
 end
 return micro_of(x)
end
local function duration(text)
 local x = decimal(text, 0, 86400)
 return x and micro_of(x)
end
local function one_of(...)
 local words = {}
 for _, word in ipairs({...}) do
  words[word] = word
 end
 return function(text)
  return words[text]
 end
end
local READ = {rate = per_second, min_rate = per_second, burst = duration, law = one_of('range', 'drain', 'aimd'), combine = one_of('sum', 'spread', 'min'), latency_target_ms = function(text)
 return decimal(text, 0, 86400000)
end, lossless = function(text)
 return ({['0'] = 0, ['1'] = 1})[text]
end, transit = duration, grace = duration}
local DEFAULT = {min_rate = 0, burst = 250000, combine = 'sum', lossless = 0, grace = 10000000}
local function number_of(text)
 return text and (tonumber(text) or error('damaged')) or 0
end
local function read_settings(keys, b)
 local names = {'last_consumer_end', 'paused_until_us', 'left_us', 'left_rate_per_s'}
 for _, name in ipairs(SETTINGS) do
  names[#names + 1] = name .. '_by_operator'
  names[#names + 1] = name .. '_by_code'
 end
 local found, fields = redis_call('HMGET', keys.budget, unpack(names)), {}
 for i, name_2 in ipairs(names) do
  fields[name_2] = found[i] or nil
 end
 local s
 do
  local s_2 = {}
  for __2, name_3 in ipairs(SETTINGS) do
   local text = fields[name_3 .. '_by_operator'] or fields[name_3 .. '_by_code']
   if text then
    s_2[name_3] = READ[name_3](text) or error('damaged')
   else
    s_2[name_3] = DEFAULT[name_3]
   end
  end
  s_2.floor = s_2.min_rate
  if s_2.rate then
   s_2.min_rate = s_2.rate < s_2.min_rate and s_2.rate or s_2.min_rate
  end
  s_2.loop_delay = (s_2.transit or 0) / 1000000 > 0.5 and (s_2.transit or 0) / 1000000 or 0.5
  s_2.transit = s_2.transit or 1000000
  s = s_2
 end
 s.fields, s.parts, s.last_end = fields, read_parts(b), fields.last_consumer_end
 s.left, s.left_rate = number_of(fields.left_us), unplain(fields.left_rate_per_s or '0')
 local are_whole_1
 do
  local parts = s.parts
  local size = {}
  for place, key in pairs(keys) do
   if place == 'history' then
    redis_call('XLEN', key)
   elseif place == 'state' or place == 'memory' then
    redis_call('STRLEN', key)
   elseif place == 'member' then
    redis_call('HLEN', key)
   elseif place ~= 'budget' then
    size[place] = redis_call('ZCARD', key)
   end
  end
  are_whole_1 = size.rates == parts.live and size.capacities == parts.live and size.loads == parts.live and size.ratios == parts.live and size.frees == parts.bounded and size.consumers >= parts.live and can_be_sum(keys.rates, parts.live, parts.rate) and can_be_sum(keys.frees, parts.bounded, parts.free)
 end
 s.is_whole = are_whole_1
 s.paused_until = number_of(fields.paused_until_us)
 return s
end
local RISE = {70, 90, 100}
local MOST = 1000000000.0 * 1000000
local function burst_of(R, burst_us)
 if R <= 0 then
  return 0
 end
 return math_min(1000000 + math_floor(R * burst_us / 1000000), 9000000000000000.0)
end
local function combined_load(keys, parts, combine)
 if combine == 'sum' and parts.capacity > 0 then
  return parts.load / parts.capacity
 end
 local first = redis_call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
 return first[2] and tonumber(first[2]) or 0
end
local function grace_end(s)
 return s.parts.live == 0 and s.last_end == 'left' and s.left + s.grace or 0
end
local function settle(keys, b, s, now, by, is_act, act)
 redis_call('HSET', keys.budget, 'schema', whole(3))
 mend(keys, s)
 local parts = s.parts
 if sweep_consumers(keys, parts, s.combine, now) > 0 and parts.live == 0 then
  s.last_end = 'silent'
  redis_call('HSET', keys.budget, 'last_consumer_end', 'silent')
 end
 local rate, level, load, reason
 repeat
  local parts_2 = s.parts
  local load_2 = parts_2.live > 0 and math_floor(combined_load(keys, parts_2, s.combine) + 0.5) or 0
  local level_at_1
  do
   local load_percent, was = load_2 / 1000, parts_2.load_level
   local up, down = 0, 0
   for level_2, from in ipairs(RISE) do
    if load_percent >= from then
     up = level_2
    end
    if load_percent >= from - 5 then
     down = level_2
    end
   end
   level_at_1 = (down < was and down or was) > up and (down < was and down or was) or up
  end
  parts_2.load_level = level_at_1
  if s.paused_until > now then
   rate, level, load, reason = 0, 3, load_2, 'paused'
   break
  end
  if parts_2.live > 0 then
   if s.combine == 'min' and silent_consumers(keys, parts_2) > 0 then
    rate, level, load, reason = s.min_rate, 3, load_2, 'no_consumers'
    break
   end
   local rate_2
   repeat
    local combine = s.combine
    if combine == 'sum' then
     rate_2 = MOST < parts_2.rate and MOST or parts_2.rate
     break
    end
    local lowest = least(keys.rates)
    if combine == 'min' then
     rate_2 = lowest
     break
    end
    local rate_3 = math_min(parts_2.rate, 50 * lowest, MOST)
    if parts_2.arrivals > 0 then
     rate_3 = math_min(rate_3, parts_2.arrivals * least(keys.ratios))
    end
    rate_2 = math_floor(rate_3 + 0.5)
    break
   until true
   if s.rate and rate_2 >= s.rate then
    rate, level, load, reason = s.rate, parts_2.load_level, load_2, 'rate'
    break
   end
   if rate_2 == 0 then
    rate, level, load, reason = 0, 3, load_2, 'paused'
    break
   end
   rate, level, load, reason = s.min_rate > rate_2 and s.min_rate or rate_2, parts_2.load_level, load_2, 'load'
   break
  end
  if s.last_end == 'silent' then
   rate, level, load, reason = s.min_rate, 3, 0, 'no_consumers'
   break
  end
  if s.lossless == 1 then
   rate, level, load, reason = 0, 3, 0, 'window'
   break
  end
  if s.rate and s.left_rate < s.rate and now < grace_end(s) then
   rate, level, load, reason = s.min_rate > s.left_rate and s.min_rate or s.left_rate, 0, 0, 'load'
   break
  end
  if s.rate then
   rate, level, load, reason = s.rate, 0, 0, 'rate'
   break
  end
  rate, level, load, reason = s.min_rate, 3, 0, s.last_end and 'no_consumers' or 'unset'
  break
 until true
 local turned = level ~= b[25] or reason ~= b[45]
 parts.told = b[22] > parts.told and b[22] or parts.told
 local is_drop = rate < b[22] and 100 * rate <= (100 - 10) * parts.told
 local is_rise = b[22] == 0 and rate > 0 and not b[66]
 local is_told = is_drop or is_rise or level == 3 and b[25] < 3
 if turned or b[66] or rate ~= b[22] or s.burst ~= b[24] or load * 1000 ~= b[26] then
  do
   local burst_us = s.burst
   local B = rate > 0 and burst_of(rate, burst_us) or b[23]
   read_rest(keys, b)
   if rate ~= b[22] then
    for _, name in ipairs(CLASSES) do
     local class = b[name]
     if b[22] > 0 and rate > 0 then
      class[1], class[2], class[3] = class[1] * (rate / b[22]), class[2] * (rate / b[22]), math_floor(class[3] * (rate / b[22]))
     else
      class[1], class[2], class[3] = math_huge, math_huge, rate
     end
    end
    b[3] = 0
    b[13] = 0
   end
   b[22], b[23], b[24], b[49] = rate, B, burst_us, rate - math_floor(rate / 2 < b[43] and rate / 2 or b[43])
   if rate > 0 and b[53] > 0 then
    b[4], b[53] = b[4] + b[53], 0
   end
   b[4] = B < b[4] and B or b[4]
   b[67] = true
  end
  b[25], b[26], b[45] = level, load * 1000, reason
 end
 if is_act or turned or math_abs(rate - parts.noted) > 0.1 * parts.noted then
  parts.noted = rate
  do
   local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(b[22]), 'level', whole(b[25]), 'load_percent', plain(b[26]), 'reason', b[45], 'by', by}
   for __2, field in ipairs({'who', 'what', 'why'}) do
    local told = act and act[field]
    if told and told ~= '' then
     entry[#entry + 1] = field
     entry[#entry + 1] = told
    end
   end
   redis_call(unpack(entry))
   read_rest(keys, b)
   if b[55] == 0 then
    redis_call('PEXPIRE', keys.history, 604800000)
   end
  end
 end
 if is_told then
  do
   redis.pcall('PUBLISH', keys.budget .. ':flow', string_format('%.0f %.0f %.0f %.0f %s', b[44], b[5], b[22], b[25], b[45]))
  end
  parts.told = rate
 end
 repeat
  if s.lossless == 1 and not b[50] then
   local new_window_1
   do
    local now_2, slot_us = now, slot_length(b[33], s.transit, 250000)
    new_window_1 = {active = 0, edge = 0, net = 0, A = 0, slot = math_floor(now_2 / slot_us), slot_us = slot_us, lossless = 0, born = now_2, snaps = {0, 0, 0, 0, 0}}
   end
   b[50] = new_window_1
  end
  local w, parts_3 = b[50], s.parts
  if not w then
   break
  end
  repeat
   local combine_2 = s.combine
   if w.net < 4000000000000000.0 then
    break
   end
   local base, edges = combine_2 == 'min' and w.net or w.A, redis_call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
   for i = 1, 5 do
    base = w.snaps[i] < base and w.snaps[i] or base
   end
   for i_2 = 1, #edges, 2 do
    base = math_min(base, tonumber(edges[i_2 + 1]) - score(keys.frees, edges[i_2]))
   end
   w.net, w.A = w.net - base, w.A - base > 0 and w.A - base or 0
   for i_3 = 1, 5 do
    w.snaps[i_3] = w.snaps[i_3] - base
   end
   for i_4 = 1, #edges, 2 do
    redis_call('ZADD', keys.edges, whole(tonumber(edges[i_4 + 1]) - base), edges[i_4])
   end
   break
  until true
  w.lossless = s.lossless
  local cold = redis_call('ZCOUNT', keys.capacities, 0, 0)
  w.active = (s.lossless == 1 or cold > 0 and parts_3.bounded >= parts_3.live) and 1 or 0
  if s.combine == 'min' then
   local known = redis_call('ZCARD', keys.edges) == redis_call('ZCARD', keys.consumers)
   w.edge = known and least(keys.edges) or (w.net < w.A and w.net or w.A)
  elseif s.combine == 'spread' then
   w.edge = w.A + (least(keys.frees) or 0)
  else
   w.edge = w.A + parts_3.free
  end
  break
 until true
 b[28], b[65] = least(keys.consumers) or 0, true
 b[37] = s.paused_until > now and s.paused_until or 0
 for __3, at in ipairs({b[37], grace_end(s)}) do
  if at > now and (b[28] == 0 or at < b[28]) then
   b[28] = at
  end
 end
end
local PAYS_LEAST, PAYS_MOST = 0.25, 2
local function read_producer(keys)
 local raw = redis_call('GET', keys.memory)
 if not raw then
  return nil
 end
 local p = {nil, nil, unpacked('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', raw)}
 p[1], p[15] = p[4] + p[7] * 32, p[15] * 4
 p[11] = p[11] == 'n' and 'normal' or p[11] == 'h' and 'high' or 'low'
 return p
end
local function payable(b, p, unused)
 local class = b[p[11]]
 if class[1] == math_huge then
  return unused
 end
 return math_min(unused, math_floor(((p[5] > 0 and p[5] or 0) + PAYS_LEAST * class[1] * p[12] / 1000000) / 4))
end
if #ARGV ~= 4 and #ARGV ~= 6 then
 return {err = 'NEXUS_INVALID_ARGUMENTS'}
end
if not whole_number(ARGV[1], 0, 9007199254740992) then
 return {err = 'NEXUS_INVALID_AT_US'}
end
local incarnation, unused, burned = ARGV[2], whole_number(ARGV[3], 0, 1e+16), whole_number(ARGV[4], 0, 1e+16)
if incarnation ~= '' and incarnation ~= '*' and not is_name(incarnation) then
 return {err = 'NEXUS_INVALID_INCARNATION'}
end
if not unused then
 return {err = 'NEXUS_INVALID_UNUSED'}
end
if not burned then
 return {err = 'NEXUS_INVALID_BURNED'}
end
local who, why = ARGV[5] or '', ARGV[6] or ''
if #who > 64 then
 return {err = 'NEXUS_INVALID_WHO'}
end
if #why > 200 then
 return {err = 'NEXUS_INVALID_NOTE'}
end
local keys, id = named_keys('producer')
local is_producer = keys ~= nil
if not keys then
 keys, id = named_keys('consumer')
end
if not keys then
 return {err = 'NEXUS_INVALID_KEYS'}
end
local function reporter(keys_2)
 local word = string_match(redis_call('GET', keys_2.memory) or '', '^%S+')
 return word == '-' and '' or word
end
local b, newer, now
repeat
 local keys_2, now_2 = keys, clock(ARGV[1])
 local b_2, newer_2
 repeat
  local raw = redis_call('GET', keys_2.state)
  if not raw then
   b_2, newer_2 = nil
   break
  end
  local schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved, saved_until, fresh, late, idle, idlers, spilled = unpacked('>ddddddddddddddddddddd', raw)
  if schema > 3 and schema < 1000 and schema % 1 == 0 then
   b_2, newer_2 = nil, true
   break
  end
  local R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth, reason, taker, next = unpacked('>dddddddddddddddddddddddss', raw, 1 + 67 * WIDE)
  local sum = at + rest + T + granted + granted_rest + top + top_before + half + needs + demanding + retry_max + queue + crowd + saved + saved_until + fresh + late + idle + idlers + spilled + R + B + burst_us + level + load + learns_until + due + number + ends + length + refresh + span + span_until + ui + is_scarce + resumes + behind + high + turned + turned_before + halved + lost + birth
  if schema ~= 3 or sum - sum ~= 0 then
   error('damaged')
  end
  local b_3 = {schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved, saved_until, fresh, late, idle, idlers, spilled, R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth, reason, taker, next, raw, R, next <= #raw and read_window(raw, next) or nil, ['normal'] = read_class(raw, 'normal')}
  b_2, newer_2 = b_3
  break
 until true
 if b_2 and not is_lost(keys_2) then
  b, newer, now = b_2, nil, steady(b_2, now_2)
  break
 end
 if not newer_2 then
  local first_budget_1, first_budget_2
  repeat
   local schema_2 = redis_call('HGET', keys_2.budget, 'schema')
   if schema_2 and not whole_number(schema_2, 0, 9007199254740992) then
    error('damaged')
   end
   if schema_2 and tonumber(schema_2) > 3 then
    first_budget_1, first_budget_2 = nil, true
    break
   end
   local b_4
   do
    local b_5 = {}
    b_5[1] = 3
    b_5[2], b_5[3], b_5[4], b_5[5], b_5[6], b_5[7], b_5[8], b_5[9] = now_2, 0, 0, 0, 0, 0, 0, now_2
    b_5[10], b_5[11], b_5[12], b_5[13], b_5[14], b_5[15], b_5[16] = 0, 0, 0, 0, 0, 0, 0
    b_5[22], b_5[23], b_5[24], b_5[25], b_5[26], b_5[27], b_5[28] = 0, 0, 250000, 3, 0, now_2 + 500000, schema_2 and now_2 or 0
    b_5[29], b_5[30], b_5[31], b_5[32], b_5[33], b_5[34] = 1, now_2 + 250000, 250000, 100000, 500000, 0
    b_5[17], b_5[18], b_5[19], b_5[20], b_5[40], b_5[41], b_5[42] = 0, 0, 0, 0, now_2, now_2, now_2
    b_5[43], b_5[56], b_5[57], b_5[58], b_5[21], b_5[59], b_5[60] = 0, 0, 0, 0, 0, 0, 0
    b_5[35], b_5[36], b_5[37], b_5[38], b_5[39], b_5[44], b_5[45], b_5[46] = 0, 0, 0, 0, 0, now_2, 'unset', ''
    b_5[51], b_5[52], b_5[53], b_5[54], b_5[55], b_5[61], b_5[62] = 0, 0, 1020000, 0, 0, now_2, 0
    b_5[66], b_5[64], b_5[67] = true, true, true
    for _, name in ipairs(CLASSES) do
     b_5[name] = {math_huge, math_huge, 0, 0, 0, 0, 0, 0}
    end
    b_4 = b_5
   end
   for __2, field in ipairs(schema_2 and redis_call('HKEYS', keys_2.budget) or {}) do
    if string_find(field, '_operator') then
     b_4[55] = 1
    end
   end
   first_budget_1, first_budget_2 = b_4
   break
  until true
  b_2, newer_2 = first_budget_1, first_budget_2
 end
 b, newer, now = b_2, newer_2 and 'NEXUS_SCHEMA', now_2
 break
until true
if newer then
 return {err = newer}
end
local p = is_producer and read_producer(keys)
local owner = p and p[17] or not is_producer and reporter(keys)
local is_known = score(is_producer and keys.producers or keys.consumers, id) or owner
if b[66] or not is_known or owner and incarnation ~= '*' and owner ~= incarnation then
 return {'0', '0', whole(b[22])}
end
repeat
 if not b[66] and is_lost(keys) then
  read_rest(keys, b)
  b[69] = true
  local __3 = refill(b, now)
  break
 end
 local is_back = b[2] - now >= 1000000
 if is_back or b[28] > 0 and now >= b[28] then
  b[72] = read_settings(keys, b)
 end
 if is_back then
  do
   local s = b[72]
   local step = b[2] - now
   for __4, id_2 in ipairs(redis_call('ZRANGE', keys.consumers, 0, -1)) do
    redis_call('ZINCRBY', keys.consumers, whole(-step), id_2)
   end
   if s.paused_until > 0 and s.paused_until < 9000000000000000.0 then
    s.paused_until = s.paused_until - step > 0 and s.paused_until - step or 0
    redis_call('HSET', keys.budget, 'paused_until_us', whole(s.paused_until), 'paused_until', pause_end(s.paused_until) or '')
    b[37] = s.paused_until
   end
   if s.left > 0 then
    s.left = s.left - step > 0 and s.left - step or 0
    redis_call('HSET', keys.budget, 'left_us', whole(s.left))
   end
   b[28] = b[28] - step > 0 and b[28] - step or 0
  end
 end
 local resumed = b[37] > b[2] and now >= b[37]
 refill(b, resumed and b[37] or now)
 if b[28] > 0 and now >= b[28] then
  settle(keys, b, b[72], now, 'deadline')
 end
 if resumed then
  refill(b, now)
 end
 break
until true
local credited = 0
if is_producer then
 if p and p[18] == b[44] then
  read_rest(keys, b)
  repeat
   if p[8] ~= b[29] then
    break
   end
   local class = b[p[11]]
   class[7], class[8] = class[7] - p[9], class[8] - p[12]
   b[10], b[11] = b[10] - p[10], b[11] - 1
   if p[14] == 1 then
    class[5] = class[5] - p[9]
   else
    class[6] = class[6] - p[12]
   end
   break
  until true
  local is_old
  do
   local share, is_old_2 = p[16], false
   if share > 0 then
    if p[4] >= b[40] then
     b[17] = b[17] - share
    elseif p[4] >= b[41] then
     b[18] = b[18] - share
    else
     is_old_2 = true
    end
   elseif share < 0 then
    is_old_2 = p[4] < b[42]
    if not is_old_2 then
     b[19], b[20] = b[19] + share, b[20] - 1
    end
   end
   is_old = is_old_2
  end
  if is_old then
   do
    read_rest(keys, b)
    local share_2 = math_abs(p[16])
    local is_old_3, part = p[4] < b[42], 1
    if is_old_3 then
     part = 2 ^ (-math_floor((b[42] - p[4]) / 30000000))
    end
    share_2, b[65] = math_min(math_floor(share_2 * part), p[16] > 0 and b[43] or b[19]), true
    if p[16] > 0 then
     local beyond_rounding_1
     do
      local sum_2 = b[43] - share_2
      beyond_rounding_1 = sum_2 > b[22] / 1000000.0 and sum_2 or 0
     end
     b[43] = beyond_rounding_1
     b[56] = math_min(b[43], is_old_3 and (b[56] - share_2 > 0 and b[56] - share_2 or 0) or b[56])
    else
     b[19], b[20] = b[19] - share_2, b[20] - part > 0 and b[20] - part or 0
     b[57], b[58] = b[57] - share_2 > 0 and b[57] - share_2 or 0, b[58] - part > 0 and b[58] - part or 0
    end
   end
  end
  local before, back = b[4], payable(b, p, unused)
  local returned, lost_2
  do
   local burned_2 = burned + unused - back
   local owned = now <= p[1] and p[6] or 0
   local returned_2 = owned < back and owned or back
   local lost_3 = p[6] - returned_2 < burned_2 and p[6] - returned_2 or burned_2
   local credited_2 = 0
   if returned_2 > 0 then
    local hand_back_1
    do
     local fits = math_max(0, math_min(returned_2, b[23] - math_max(b[4], b[7], b[8])))
     b[4] = b[4] + fits
     b[7] = b[4] > b[7] and b[4] or b[7]
     hand_back_1 = fits
    end
    credited_2 = hand_back_1
   end
   p[6] = p[6] - returned_2 < 0 and p[6] - returned_2 or 0
   returned, lost_2 = returned_2, lost_3, credited_2
  end
  if b[50] then
   do
    local came_at = p[4]
    local w = b[50]
    do
     local slot = math_floor(now / w.slot_us)
     if slot < w.slot then
      w.slot = slot
     end
     w.born = now < w.born and now or w.born
     local turns = 5 < slot - w.slot and 5 or slot - w.slot
     for __5 = 1, turns do
      for i = 5, 2, -1 do
       w.snaps[i] = w.snaps[i - 1]
      end
      w.snaps[1] = w.net
     end
     w.slot = slot
    end
    local lost_4 = returned
    if now - came_at < 4 * w.slot_us - b[33] then
     lost_4 = lost_4 + lost_2
    end
    if lost_4 > 0 then
     do
      w.net = w.net - lost_4
      for i_2 = 1, 5 do
       w.snaps[i_2] = w.net < w.snaps[i_2] and w.net or w.snaps[i_2]
      end
      if w.A > w.net then
       w.edge = w.edge - (w.A - w.net)
       w.A = w.net
      end
     end
    end
    local fits_2, later, is_cut
    repeat
     if w.active == 0 or 0 == 0 then
      fits_2, later, is_cut = 0, 0, false
      break
     end
     local room = w.edge - w.net
     local quiet
     do
      quiet = w.born + 4 * w.slot_us - 3 * 250000 - now
     end
     if w.lossless == 1 and quiet > 0 then
      fits_2, later, is_cut = 0, (100000 > quiet and 100000 or quiet) < 1000000 and (100000 > quiet and 100000 or quiet) or 1000000, true
      break
     end
     if w.lossless == 0 and room > 0 and w.net <= w.A then
      room = 0 > room and 0 or room
     end
     if room >= 0 then
      fits_2, later, is_cut = 0, 0, false
      break
     end
     local unit = 0 < 1000000 and 0 or 1000000
     local fits_3 = math_max(0, math_floor(room / unit) * unit)
     if false and fits_3 < 0 then
      fits_3 = 0
     end
     fits_2, later, is_cut = fits_3, 100000 > 0 and 100000 or 0, true
     break
    until true
    w.net = w.net + fits_2
   end
  end
  credited = b[4] - before
 end
 write_whole(keys, b, now)
 redis_call('ZREM', keys.producers, id)
else
 local s_2 = b[72] or read_settings(keys, b)
 redis_call('HSET', keys.budget, 'schema', whole(3))
 mend(keys, s_2)
 local rate = score(keys.rates, id)
 withdraw_consumer(keys, s_2.parts, id)
 if s_2.parts.live == 0 then
  s_2.last_end = incarnation == '*' and 'forgotten' or 'left'
  s_2.left, s_2.left_rate = rate and now or 0, rate or 0
  redis_call('HSET', keys.budget, 'last_consumer_end', s_2.last_end, 'left_us', whole(s_2.left), 'left_rate_per_s', plain(s_2.left_rate))
 end
 local act = incarnation == '*' and {who = who, what = table.concat({'forgot', id}, ' '), why = why} or {who = id}
 settle(keys, b, s_2, now, incarnation == '*' and 'operator' or 'leave', incarnation == '*', act)
 write_whole(keys, b, now)
end
redis_call('DEL', keys.member, keys.memory)
return {'1', whole(credited), whole(b[22])}
end)
if is_well then return reply end
local string_match = string.match
local string_sub = string.sub
local string_gmatch = string.gmatch
local function micro_of(x)
 return math.floor(x * 1000000 + 0.5)
end
local function decimal(text, low, high)
 if #text > 40 or not string_match(text, '^%d+%.?%d*$') then
  return nil
 end
 local x = tonumber(text)
 if x >= low and x <= high then
  return x
 end
 return nil
end
local function whole_number(text, low, high)
 if #text > 17 or not string_match(text, '^%d+$') then
  return nil
 end
 local x = tonumber(text)
 return x >= low and x <= high and x or nil
end
local pack, unpacked
local WIDE = struct and 8 or 25
if struct then
 pack, unpacked = struct.pack, struct.unpack
else
 function pack(format, ...)
  local words, i = {...}, 0
  for kind, size in string_gmatch(format, '([dfIisc])(%d*)') do
   i = i + 1
   if kind == 'c' then
    words[i] = string_sub(words[i], 1, tonumber(size)) .. ' '
   elseif kind == 's' then
    words[i] = words[i] .. ' '
   else
    words[i] = string.format('%24.17g ', words[i])
   end
  end
  return table.concat(words)
 end
 function unpacked(format, text, from)
  local values, at = {}, from or 1
  for kind in string_gmatch(format, '([dfIisc])%d*') do
   local is_text = kind == 's' or kind == 'c'
   local last = is_text and string.find(text, ' ', at, true) or at + WIDE - 1
   if not last or last > #text then
    error('too short')
   end
   local word = string_sub(text, at, last - 1)
   values[#values + 1] = is_text and word or tonumber(word) or error('not a number')
   at = last + 1
  end
  values[#values + 1] = at
  return unpack(values)
 end
end
local SETTINGS = {'rate', 'min_rate', 'burst', 'law', 'combine', 'latency_target_ms', 'lossless', 'transit', 'grace'}
local function per_second(text)
 local x = decimal(text, 0, 1000000000.0)
 if not x or x > 0 and x < 1e-06 then
  return nil
 end
 return micro_of(x)
end
local function duration(text)
 local x = decimal(text, 0, 86400)
 return x and micro_of(x)
end
local function one_of(...)
 local words = {}
 for _, word in ipairs({...}) do
  words[word] = word
 end
 return function(text)
  return words[text]
 end
end
local READ = {rate = per_second, min_rate = per_second, burst = duration, law = one_of('range', 'drain', 'aimd'), combine = one_of('sum', 'spread', 'min'), latency_target_ms = function(text)
 return decimal(text, 0, 86400000)
end, lossless = function(text)
 return ({['0'] = 0, ['1'] = 1})[text]
end, transit = duration, grace = duration}
local NUMBERS = {'schema', 'paused_until_us', 'pause_of_operator_us', 'left_us'}
local function read_parts_of(text, from, formats)
 for _, format in ipairs(formats) do
  local is_long_enough, values = pcall(function()
   return {unpacked(format, text, from)}
  end)
  if not is_long_enough then
   return nil
  end
  from = table.remove(values)
  for __2, value in ipairs(values) do
   if type(value) == 'number' and (value ~= value or format ~= '>dddddddd' and value - value ~= 0) then
    return nil
   end
  end
 end
 return from
end
local function is_state(text)
 local ends = read_parts_of(text, 1, {'>ddddddddddddddddddddd', '>dddddddd', '>dddddddd', '>dddddddd', '>dddddddddddd', '>dddddddddd', '>dddddddddddddddddddddddss'})
 if ends and ends <= #text then
  ends = read_parts_of(text, ends, {'>ddddddddddddd'})
 end
 return ends == #text + 1 and unpacked('>ddddddddddddddddddddd', text) == 3
end
local function is_producer_state(text)
 return read_parts_of(text, 1, {'>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', '>i7I4I4i7i7c2I5'}) == #text + 1
end
local LAWS = {range = true, drain = true, aimd = true}
local function is_consumer_state(text)
 local head, law, memory = string_match(text, '^%S+ ([^\n]*)\n(%a+)([^\n]*)$')
 if not head or not LAWS[law] then
  return false
 end
 local count = 0
 for word in string_gmatch(head, '%S+') do
  count = count + 1
  local x = tonumber(word)
  if not (x and x - x == 0) and not (word == '-' and count > 7) then
   return false
  end
 end
 for word_2 in string_gmatch(memory, '%S+') do
  local x_2 = tonumber(word_2)
  if not x_2 or x_2 - x_2 ~= 0 then
   return false
  end
 end
 return count == 23
end
local function damaged_fields(f)
 local bad = {}
 local function check(field, is_right)
  if f[field] and not is_right then
   bad[#bad + 1] = field
  end
 end
 for _, field in ipairs(NUMBERS) do
  check(field, whole_number(f[field] or '', 0, 9007199254740992))
 end
 check('left_rate_per_s', f.left_rate_per_s and string_match(f.left_rate_per_s, '^%d+%.?%d*$'))
 for __2, name in ipairs(SETTINGS) do
  for __3, source in ipairs({'_by_code', '_by_operator'}) do
   check(name .. source, f[name .. source] and READ[name](f[name .. source]))
  end
 end
 table.sort(bad)
 return bad
end
local function damages()
 local found = {}
 for _, key in ipairs(KEYS) do
  local kind, look
  repeat
   local rest = string_sub(key, #KEYS[1] + 1)
   if rest == '' then
    kind, look = 'hash', damaged_fields
    break
   end
   if rest == ':state' then
    kind, look = 'string', is_state
    break
   end
   if rest == ':history' then
    kind, look = 'stream'
    break
   end
   local member, tail = string_match(rest, '^:(%a+):[^:]+(.*)$')
   if not member then
    kind, look = 'zset'
    break
   end
   if tail == '' then
    kind, look = 'hash'
    break
   end
   kind, look = 'string', member == 'producer' and is_producer_state or is_consumer_state
   break
  until true
  local is = redis.pcall('TYPE', key)
  is = is.ok or is
  if string.find(key, '[^%w._:{}/-]') or type(is) ~= 'string' then
   return {}
  end
  if is ~= 'none' and is ~= kind then
   found[#found + 1] = {key, ''}
  elseif is == 'string' then
   if not look(redis.call('GET', key)) then
    found[#found + 1] = {key, ''}
   end
  elseif is == 'hash' and look then
   local flat, f = redis.pcall('HGETALL', key), {}
   for i = 1, #flat, 2 do
    f[flat[i]] = flat[i + 1]
   end
   for __2, field in ipairs(look(f)) do
    found[#found + 1] = {key, field}
   end
  end
 end
 return found
end
local found = damages()[1]
if not found then
 error(reply, 0)
end
return {err = string.format('NEXUS_DAMAGED %s %s', found[1], found[2])}
