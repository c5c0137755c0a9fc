-- Made of lua/report.lua by `make bundle` (SHA-256 1195758722c859ae); `nexus-redis scripts report` shows the source.
local is_well, reply = pcall(function()
local string_format = string.format
local math_floor = math.floor
local string_match = string.match
local string_sub = string.sub
local string_gmatch = string.gmatch
local string_find = string.find
local redis_call = redis.call
local math_max = math.max
local math_min = math.min
local math_huge = math.huge
local math_abs = math.abs
local math_ceil = math.ceil
local math_exp = math.exp
local math_sqrt = math.sqrt
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
local function finite(text)
 local x = tonumber(text)
 if not x or x - x ~= 0 then
  error('damaged')
 end
 return x
end
local function numbers(text)
 local list, n = {}, 0
 for word in string_gmatch(text, '%S+') do
  n = n + 1
  list[n] = tonumber(word)
 end
 return list
end
local function packed(list)
 return string_format(string_sub(string.rep(' %.0f', #list), 2), unpack(list))
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
    words[i] = string_format('%24.17g ', words[i])
   end
  end
  return table.concat(words)
 end
 function unpacked(format, text, from)
  local values, at = {}, from or 1
  for kind in string_gmatch(format, '([dfIisc])%d*') do
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
 local active, edge, net, landed, quarter, quarter_us, lossless, began_at, net_1, net_2, net_3, net_4, net_5 = unpacked('>ddddddddddddd', raw, from)
 return {active = active, edge = edge, net = net, landed = landed, quarter = quarter, quarter_us = quarter_us, lossless = lossless, began_at = began_at, snapshots = {net_1, net_2, net_3, net_4, net_5}}
end
local function packed_bucket(budget)
 return pack('>ddddddddddddddddddddd', unpack(budget, 1, 21))
end
local function packed_window(window)
 local nets = window.snapshots
 return pack('>ddddddddddddd', window.active, window.edge, window.net, window.landed, window.quarter, window.quarter_us, window.lossless, window.began_at, nets[1], nets[2], nets[3], nets[4], nets[5])
end
local function refill(budget, now)
 local dt = now - budget[2]
 budget[2] = now
 if dt < 0 then
  budget[27], budget[65] = budget[27] + dt > 0 and budget[27] + dt or 0, true
 end
 local rate, tokens, bucket_size = budget[22], budget[4], budget[23]
 if budget[43] > 0 then
  rate = rate - math_floor(rate / 2 < budget[43] and rate / 2 or budget[43])
 end
 budget[49] = rate
 if dt > 0 and rate > 0 then
  local room = bucket_size - tokens
  if room <= 0 or dt >= room / rate * 1000000 + 1 then
   budget[21] = budget[21] + (rate * dt / 1000000 - room > 0 and rate * dt / 1000000 - room or 0)
   tokens, budget[3] = bucket_size, 0
  else
   local part = rate % 1000000 * dt + budget[3]
   tokens, budget[3] = tokens + math_floor(rate / 1000000) * dt + math_floor(part / 1000000), part % 1000000
   if tokens >= bucket_size then
    tokens, budget[3] = bucket_size, 0
   end
  end
  budget[4] = tokens
 end
 if now < budget[9] then
  budget[9] = now
 elseif now - budget[9] > budget[33] then
  budget[8] = now - budget[9] < 2 * budget[33] and budget[7] or 0
  budget[7], budget[9] = budget[4], now
 end
 budget[7] = budget[4] > budget[7] and budget[4] or budget[7]
end
local function date_of(us)
 local ms = math_floor(us / 1000)
 local seconds = math_floor(ms / 1000)
 local days = math_floor(seconds / 86400)
 local from_march = days + 719468
 local era = math_floor(from_march / 146097)
 local of_era = from_march - era * 146097
 local years = math_floor((of_era - math_floor(of_era / 1460) + math_floor(of_era / 36524) - math_floor(of_era / 146096)) / 365)
 local of_year = of_era - (365 * years + math_floor(years / 4) - math_floor(years / 100))
 local march = math_floor((5 * of_year + 2) / 153)
 local day, month = of_year - math_floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
 local year = era * 400 + years + (month <= 2 and 1 or 0)
 return string_format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math_floor(seconds / 3600) % 24, math_floor(seconds / 60) % 60, seconds % 60, ms % 1000)
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
local function write_summary(keys, budget, now)
 local list = {'HSET', keys.budget, 'schema', whole(3), 'birth', whole(budget[44]), 'updated_at', date_of(now), 'rate_per_s', plain(budget[22]), 'level', whole(budget[25]), 'load_percent', plain(budget[26]), 'reason', budget[45], 'tokens', string_format('%.6f', budget[4] / 1000000), 'burst_s', plain(budget[24]), 'granted_total', whole(budget[5])}
 local function add(field, text)
  list[#list + 1] = field
  list[#list + 1] = text
 end
 for _, name in ipairs(CLASSES) do
  add('fair_level_' .. name .. '_per_s', fair_level(budget[name]))
 end
 if budget[66] or budget[68] or now - budget[61] > 2 * budget[31] then
  add('demand_per_s', plain(budget[68] and math_floor(budget[70]) or 0))
  add('producers_in_demand', whole(budget[68] and budget[71] or 0))
  local past = now - budget[61]
  add('granted_per_s', past > 0 and plain(math_floor((budget[5] - budget[62]) * 1000000 / past * 1000000)) or '0')
  budget[61], budget[62] = now, budget[5]
 end
 redis_call(unpack(list))
end
local function read_rest(keys, budget)
 if budget[64] then
  return
 end
 budget[64] = true
 budget[51], budget[52], budget[53], budget[54], budget[55], budget[56], budget[57], budget[58], budget[59], budget[60], budget[61], budget[62] = unpacked('>dddddddddddd', budget[48], 1 + 45 * WIDE)
 for _, name in ipairs(CLASSES) do
  budget[name] = budget[name] or read_class(budget[48], name)
 end
end
local SUMMED = {'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free', 'load_level', 'noted_rate', 'published_rate'}
local function read_sums(budget)
 if budget[63] then
  return budget[63]
 end
 local sums, list = {}, budget[48] and {unpacked('>dddddddddd', budget[48], 1 + 57 * WIDE)} or {}
 for i, name in ipairs(SUMMED) do
  sums[name] = list[i] or 0
 end
 budget[63] = sums
 return sums
end
local function packed_sums(budget)
 if budget[48] and not budget[63] then
  return string_sub(budget[48], 1 + 57 * WIDE, 67 * WIDE)
 end
 local sums, list = read_sums(budget), {}
 for i, name in ipairs(SUMMED) do
  list[i] = sums[name]
 end
 return pack('>dddddddddd', unpack(list))
end
local function steady(budget, now)
 if now < budget[2] then
  if budget[38] == 0 or now < budget[38] then
   budget[38], budget[65] = now, true
  end
  if now - budget[38] < 5000000 then
   return budget[2]
  end
  budget[39], budget[38], budget[65] = budget[2] > budget[39] and budget[2] or budget[39], 0, true
  return now
 end
 if budget[38] > 0 then
  budget[38], budget[65] = 0, true
 end
 if budget[39] > 0 then
  budget[2] = math_max(budget[2], (budget[39] < now and budget[39] or now) - 5000000)
  if now >= budget[39] then
   budget[39], budget[65] = 0, true
  end
 end
 return now
end
local function are_settings_lost(keys)
 return redis_call('HLEN', keys.budget) == 0
end
local function is_renewal_due(budget, now)
 return now - budget[54] >= 60000000 or now < budget[54]
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
local function weight_of(capacity)
 return math_ceil(capacity / 1000000)
end
local function withdraw_rate(keys, sums, id)
 local rate = score(keys.rates, id)
 if not rate then
  return
 end
 local weight = weight_of(score(keys.capacities, id))
 sums.live = sums.live - 1
 sums.rate = sums.rate - rate
 sums.capacity = sums.capacity - weight
 sums.load = sums.load - weight * score(keys.loads, id)
 sums.arrivals = sums.arrivals - math_floor(rate / score(keys.ratios, id))
 for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do
  redis_call('ZREM', key, id)
 end
end
local function withdraw_space(keys, sums, id)
 local free = score(keys.frees, id)
 if not free then
  return
 end
 sums.bounded, sums.free = sums.bounded - 1, sums.free - free
 redis_call('ZREM', keys.frees, id)
 redis_call('ZREM', keys.edges, id)
end
local function withdraw_consumer(keys, sums, id)
 withdraw_rate(keys, sums, id)
 withdraw_space(keys, sums, id)
 redis_call('ZREM', keys.consumers, id)
end
local function mend(keys, settings)
 if settings.do_sums_match then
  return
 end
 settings.do_sums_match, settings.last_consumer_end = true, 'silent'
 for _, name in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do
  settings.sums[name] = 0
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
local function sweep_consumers(keys, sums, combine, now)
 local fell = 0
 for _, id in ipairs(redis_call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, 16)) do
  if score(keys.rates, id) then
   withdraw_rate(keys, sums, id)
   if combine == 'sum' then
    withdraw_space(keys, sums, id)
   end
   redis_call('ZADD', keys.consumers, whole(now + 10000000), id)
   fell = fell + 1
  else
   withdraw_consumer(keys, sums, id)
  end
 end
 return fell
end
local function silent_consumers(keys, sums)
 return redis_call('ZCARD', keys.consumers) - sums.live
end
local function quarter_length(lease, transit, interval)
 return math_ceil((lease + transit + 3 * (250000 > interval and 250000 or interval)) / 4)
end
local function new_window(now, quarter_us)
 return {active = 0, edge = 0, net = 0, landed = 0, quarter = math_floor(now / quarter_us), quarter_us = quarter_us, lossless = 0, began_at = now, snapshots = {0, 0, 0, 0, 0}}
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
local function read_settings(keys, budget)
 local names = {'last_consumer_end', 'paused_until_us', 'left_us', 'left_rate_per_s'}
 for _, name in ipairs(SETTINGS) do
  names[#names + 1] = name .. '_by_operator'
  names[#names + 1] = name .. '_by_code'
 end
 local found, fields = redis_call('HMGET', keys.budget, unpack(names)), {}
 for i, name_2 in ipairs(names) do
  fields[name_2] = found[i] or nil
 end
 local settings
 do
  local settings_2 = {}
  for __2, name_3 in ipairs(SETTINGS) do
   local text = fields[name_3 .. '_by_operator'] or fields[name_3 .. '_by_code']
   if text then
    settings_2[name_3] = READ[name_3](text) or error('damaged')
   else
    settings_2[name_3] = DEFAULT[name_3]
   end
  end
  settings_2.floor = settings_2.min_rate
  if settings_2.rate then
   settings_2.min_rate = settings_2.rate < settings_2.min_rate and settings_2.rate or settings_2.min_rate
  end
  settings_2.loop_delay = (settings_2.transit or 0) / 1000000 > 0.5 and (settings_2.transit or 0) / 1000000 or 0.5
  settings_2.transit = settings_2.transit or 1000000
  settings = settings_2
 end
 settings.fields, settings.sums, settings.last_consumer_end = fields, read_sums(budget), fields.last_consumer_end
 settings.left_at, settings.left_rate = number_of(fields.left_us), unplain(fields.left_rate_per_s or '0')
 local are_whole_1
 do
  local sums = settings.sums
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
  are_whole_1 = size.rates == sums.live and size.capacities == sums.live and size.loads == sums.live and size.ratios == sums.live and size.frees == sums.bounded and size.consumers >= sums.live and can_be_sum(keys.rates, sums.live, sums.rate) and can_be_sum(keys.frees, sums.bounded, sums.free)
 end
 settings.do_sums_match = are_whole_1
 settings.paused_until = number_of(fields.paused_until_us)
 return settings
end
local RISE = {70, 90, 100}
local MOST = 1000000000.0 * 1000000
local function burst_of(rate, burst_us)
 if rate <= 0 then
  return 0
 end
 return math_min(1000000 + math_floor(rate * burst_us / 1000000), 9000000000000000.0)
end
local function combined_load(keys, sums, combine)
 if combine == 'sum' and sums.capacity > 0 then
  return sums.load / sums.capacity
 end
 local first = redis_call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
 return first[2] and tonumber(first[2]) or 0
end
local function grace_end(settings)
 return settings.sums.live == 0 and settings.last_consumer_end == 'left' and settings.left_at + settings.grace or 0
end
local function settle(keys, budget, settings, now, by, is_act, act)
 redis_call('HSET', keys.budget, 'schema', whole(3))
 mend(keys, settings)
 local sums = settings.sums
 if sweep_consumers(keys, sums, settings.combine, now) > 0 and sums.live == 0 then
  settings.last_consumer_end = 'silent'
  redis_call('HSET', keys.budget, 'last_consumer_end', 'silent')
 end
 local rate, level, load, reason
 repeat
  local sums_2 = settings.sums
  local load_2 = sums_2.live > 0 and math_floor(combined_load(keys, sums_2, settings.combine) + 0.5) or 0
  local level_at_1
  do
   local load_percent, was = load_2 / 1000, sums_2.load_level
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
  sums_2.load_level = level_at_1
  if settings.paused_until > now then
   rate, level, load, reason = 0, 3, load_2, 'paused'
   break
  end
  if sums_2.live > 0 then
   if settings.combine == 'min' and silent_consumers(keys, sums_2) > 0 then
    rate, level, load, reason = settings.min_rate, 3, load_2, 'no_consumers'
    break
   end
   local rate_2
   repeat
    local combine = settings.combine
    if combine == 'sum' then
     rate_2 = MOST < sums_2.rate and MOST or sums_2.rate
     break
    end
    local lowest = least(keys.rates)
    if combine == 'min' then
     rate_2 = lowest
     break
    end
    local rate_3 = math_min(sums_2.rate, 50 * lowest, MOST)
    if sums_2.arrivals > 0 then
     rate_3 = math_min(rate_3, sums_2.arrivals * least(keys.ratios))
    end
    rate_2 = math_floor(rate_3 + 0.5)
    break
   until true
   if settings.rate and rate_2 >= settings.rate then
    rate, level, load, reason = settings.rate, sums_2.load_level, load_2, 'rate'
    break
   end
   if rate_2 == 0 then
    rate, level, load, reason = 0, 3, load_2, 'paused'
    break
   end
   rate, level, load, reason = settings.min_rate > rate_2 and settings.min_rate or rate_2, sums_2.load_level, load_2, 'load'
   break
  end
  if settings.last_consumer_end == 'silent' then
   rate, level, load, reason = settings.min_rate, 3, 0, 'no_consumers'
   break
  end
  if settings.lossless == 1 then
   rate, level, load, reason = 0, 3, 0, 'window'
   break
  end
  if settings.rate and settings.left_rate < settings.rate and now < grace_end(settings) then
   rate, level, load, reason = settings.min_rate > settings.left_rate and settings.min_rate or settings.left_rate, 0, 0, 'load'
   break
  end
  if settings.rate then
   rate, level, load, reason = settings.rate, 0, 0, 'rate'
   break
  end
  rate, level, load, reason = settings.min_rate, 3, 0, settings.last_consumer_end and 'no_consumers' or 'unset'
  break
 until true
 local turned = level ~= budget[25] or reason ~= budget[45]
 sums.published_rate = budget[22] > sums.published_rate and budget[22] or sums.published_rate
 local is_drop = rate < budget[22] and 100 * rate <= (100 - 10) * sums.published_rate
 local is_rise = budget[22] == 0 and rate > 0 and not budget[66]
 local is_published = is_drop or is_rise or level == 3 and budget[25] < 3
 if turned or budget[66] or rate ~= budget[22] or settings.burst ~= budget[24] or load * 1000 ~= budget[26] then
  do
   local burst_us = settings.burst
   local bucket_size = rate > 0 and burst_of(rate, burst_us) or budget[23]
   read_rest(keys, budget)
   if rate ~= budget[22] then
    for _, name in ipairs(CLASSES) do
     local class = budget[name]
     if budget[22] > 0 and rate > 0 then
      class[1] = class[1] * (rate / budget[22])
      class[2] = class[2] * (rate / budget[22])
      class[3] = math_floor(class[3] * (rate / budget[22]))
     else
      class[1], class[2], class[3] = math_huge, math_huge, rate
     end
    end
    budget[3] = 0
    budget[13] = 0
   end
   budget[22], budget[23], budget[24] = rate, bucket_size, burst_us
   budget[49] = rate - math_floor(rate / 2 < budget[43] and rate / 2 or budget[43])
   if rate > 0 and budget[53] > 0 then
    budget[4], budget[53] = budget[4] + budget[53], 0
   end
   budget[4] = bucket_size < budget[4] and bucket_size or budget[4]
   budget[67] = true
  end
  budget[25], budget[26], budget[45] = level, load * 1000, reason
 end
 if is_act or turned or math_abs(rate - sums.noted_rate) > 0.1 * sums.noted_rate then
  sums.noted_rate = rate
  if by == 'report' and not turned then
   repeat
    local newest = redis_call('XREVRANGE', keys.history, '+', '-', 'COUNT', 2)
    if #newest < 2 then
     break
    end
    local last, before = newest[1][2], newest[2][2]
    local apart = tonumber(newest[1][1]:match('^%d+')) - tonumber(newest[2][1]:match('^%d+'))
    if last[10] == 'report' and last[4] == before[4] and last[8] == before[8] and apart < 10000 then
     redis_call('XDEL', keys.history, newest[1][1])
    end
    break
   until true
  end
  do
   local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(budget[22]), 'level', whole(budget[25]), 'load_percent', plain(budget[26]), 'reason', budget[45], 'by', by}
   for __2, field in ipairs({'who', 'what', 'why'}) do
    local text = act and act[field]
    if text and text ~= '' then
     entry[#entry + 1] = field
     entry[#entry + 1] = text
    end
   end
   redis_call(unpack(entry))
   read_rest(keys, budget)
   if budget[55] == 0 then
    redis_call('PEXPIRE', keys.history, 604800000)
   end
  end
 end
 if is_published then
  do
   redis.pcall('PUBLISH', keys.budget .. ':flow', string_format('%.0f %.0f %.0f %.0f %s', budget[44], budget[5], budget[22], budget[25], budget[45]))
  end
  sums.published_rate = rate
 end
 repeat
  if settings.lossless == 1 and not budget[50] then
   budget[50] = new_window(now, quarter_length(budget[33], settings.transit, 250000))
  end
  local window, sums_3 = budget[50], settings.sums
  if not window then
   break
  end
  repeat
   local combine_2 = settings.combine
   if window.net < 4000000000000000.0 then
    break
   end
   local base, edges = combine_2 == 'min' and window.net or window.landed, redis_call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
   for i = 1, 5 do
    base = window.snapshots[i] < base and window.snapshots[i] or base
   end
   for i_2 = 1, #edges, 2 do
    base = math_min(base, tonumber(edges[i_2 + 1]) - score(keys.frees, edges[i_2]))
   end
   window.net, window.landed = window.net - base, window.landed - base > 0 and window.landed - base or 0
   for i_3 = 1, 5 do
    window.snapshots[i_3] = window.snapshots[i_3] - base
   end
   for i_4 = 1, #edges, 2 do
    redis_call('ZADD', keys.edges, whole(tonumber(edges[i_4 + 1]) - base), edges[i_4])
   end
   break
  until true
  window.lossless = settings.lossless
  local cold = redis_call('ZCOUNT', keys.capacities, 0, 0)
  window.active = (settings.lossless == 1 or cold > 0 and sums_3.bounded >= sums_3.live) and 1 or 0
  if settings.combine == 'min' then
   local known = redis_call('ZCARD', keys.edges) == redis_call('ZCARD', keys.consumers)
   window.edge = known and least(keys.edges) or (window.net < window.landed and window.net or window.landed)
  elseif settings.combine == 'spread' then
   window.edge = window.landed + (least(keys.frees) or 0)
  else
   window.edge = window.landed + sums_3.free
  end
  break
 until true
 budget[28], budget[65] = least(keys.consumers) or 0, true
 budget[37] = settings.paused_until > now and settings.paused_until or 0
 for __3, at in ipairs({budget[37], grace_end(settings)}) do
  if at > now and (budget[28] == 0 or at < budget[28]) then
   budget[28] = at
  end
 end
end
local UNSEEN, UNSEEN_FADES = 60, 30
local SURGE, SURGE_ITEMS = 4, 20
local function loop_delay(setting)
 return math_max(0.5, setting.loop_delay or 0, setting.interval)
end
local function towards(old, new, dt, tau)
 if not old then
  return new
 end
 return old + (1 - math_exp(-dt / tau)) * (new - old)
end
local EASY, FULL = 80, 100
local function fullest(report)
 if report.load then
  return report.load
 end
 local queue = report.depth and report.limit and report.limit > 0 and 100 * report.depth / report.limit
 local work = report.in_flight and report.slots and report.slots > 0 and 100 * report.in_flight / report.slots
 if queue and work then
  return work > queue and work or queue
 end
 return queue or work or nil
end
local drain
do
 local AIM, AIM_OF_LIMIT = 0.2, 0.4
 local LEARN, LEARN_ITEMS = 1, 10
 local PROBE, PROBE_MOST, PROBE_BACK = 0.05, 0.2, 0.5
 local FARTHEST, FARTHEST_BACK = 1.6, 2
 local UNUSED, UNUSED_ITEMS, UNUSED_MOST = 0.002, 0.15, 0.035
 local STALL, STALL_TIMES = 0.5, 2
 local OPENING, OPENING_GROWTH = 0.1, 4
 local function aim(m, report)
  local wanted = AIM * m.capacity
  if report.limit and report.limit > 0 then
   wanted = (report.busy_ms and 0.2 or AIM_OF_LIMIT) * report.limit < wanted and (report.busy_ms and 0.2 or AIM_OF_LIMIT) * report.limit or wanted
  end
  return wanted > 1 and wanted or 1
 end
 local function is_stalled(m)
  return m.still > (STALL_TIMES * m.usual_still > STALL and STALL_TIMES * m.usual_still or STALL)
 end
 local function stop_probing(m)
  m.probe, m.probe_age = PROBE, 0
 end
 local function follow(m, speed, seconds, is_urgent)
  local tau = (LEARN_ITEMS / m.capacity > LEARN and LEARN_ITEMS / m.capacity or LEARN) * (is_urgent and speed < m.capacity and 0.5 or 1)
  m.capacity = towards(m.capacity, speed, seconds, tau)
 end
 function drain(m, was, report, step, setting)
  local delay = loop_delay(setting)
  if m.capacity == 0 and report.capacity then
   m.capacity = report.capacity
  end
  local seen = 0
  if step then
   local learn_1
   repeat
    m.probe_age = m.probe_age + step.dt
    local at_work, depth, depth_was = report.in_flight or 0, report.depth or 0, was.depth or 0
    local limit = report.limit or math_huge
    local has_come = step.arrived > 0 or m.cold_for > 0
    if m.capacity == 0 and has_come and depth <= 0.1 * limit then
     m.cold_for = m.cold_for + step.dt < 86400 and m.cold_for + step.dt or 86400
    end
    if step.done == 0 and at_work + depth > 0 then
     m.still = m.still + step.dt < 86400 and m.still + step.dt or 86400
     if is_stalled(m) then
      m.capacity = m.before > m.capacity and m.before or m.capacity
     end
     learn_1 = 0
     break
    end
    local is_whole, span = step.is_unbroken and not is_stalled(m), step.dt + m.still
    m.usual_still, m.still = m.usual_still + (m.still - m.usual_still) / 4, 0
    local speed = step.done / span < 1000000000.0 and step.done / span or 1000000000.0
    local busy = was.busy_ms and report.busy_ms and step.part * (report.busy_ms - was.busy_ms) / 1000 or 0
    if busy > 0 and step.done > 0 then
     m.ok = towards(m.ok, speed, step.dt, delay)
     local able = step.done / busy < 1000000000.0 and step.done / busy or 1000000000.0
     local peak = depth > depth_was and depth or depth_was
     if (depth < depth_was and depth or depth_was) > 0.5 * limit then
      able = speed < able and speed or able
     end
     if m.capacity == 0 then
      m.capacity = m.rate > able and m.rate or able
     else
      m.before = m.capacity
      able = math_min(SURGE * m.capacity, able > m.capacity / SURGE and able or m.capacity / SURGE)
      local is_urgent = peak > 0.5 * limit or depth > aim(m, report)
      follow(m, able, busy, is_urgent)
     end
     learn_1 = m.ok
     break
    end
    if not is_whole then
     m.highest = speed > m.highest and speed or m.highest
     if m.capacity > 0 then
      m.capacity = speed > m.capacity and speed or m.capacity
     end
     learn_1 = 0
     break
    end
    m.ok = towards(m.ok, speed, step.dt, delay)
    local never_empty = depth_was > 0 and depth_was + (was.in_flight or 0) > step.left + at_work
    if m.capacity == 0 then
     do
      m.highest = speed > m.highest and speed or m.highest
      if never_empty and speed > 0 then
       m.capacity = speed
      elseif m.highest > 0 and report.limit then
       m.working_for = m.working_for + step.dt
       if m.working_for > 4 * delay then
        m.capacity = m.highest
       end
      end
     end
     learn_1 = m.ok
     break
    end
    m.before = m.capacity
    local overflowed = step.errors > 0 and depth_was + depth > 0.5 * limit
    local crowded = (depth < depth_was and depth or depth_was) > 0.5 * limit
    if never_empty or overflowed or crowded then
     follow(m, speed, step.dt, true)
     stop_probing(m)
    elseif speed > m.capacity then
     m.capacity = speed
    elseif step.arrived / step.dt >= 0.65 * m.rate and depth <= aim(m, report) then
     do
      local most, farthest = PROBE_MOST, FARTHEST
      if m.capacity < 0.9 * m.best then
       most, farthest = PROBE_BACK, FARTHEST_BACK
      end
      if m.probe_age >= delay then
       m.probe, m.probe_age = 2 * m.probe < most and 2 * m.probe or most, 0
      end
      if most == PROBE_BACK then
       m.probe = PROBE_MOST > m.probe and PROBE_MOST or m.probe
      end
      local top = farthest * (m.ok or 0) > m.capacity and farthest * (m.ok or 0) or m.capacity
      m.capacity = math_min(top, m.capacity * (1 + m.probe) ^ (span / delay < 10 and span / delay or 10))
     end
    else
     stop_probing(m)
    end
    learn_1 = m.ok
    break
   until true
   seen = learn_1
  else
   m.still = 0
   stop_probing(m)
  end
  m.capacity = (report.capacity or 1000000000.0) < m.capacity and (report.capacity or 1000000000.0) or m.capacity
  local limit_2, depth_2 = report.limit and report.limit > 0 and report.limit, report.depth or 0
  if m.capacity > 0 then
   local unused = 0
   if report.busy_ms and limit_2 then
    unused = (UNUSED * m.capacity + UNUSED_ITEMS) / limit_2 < UNUSED_MOST and (UNUSED * m.capacity + UNUSED_ITEMS) / limit_2 or UNUSED_MOST
   end
   local rate = m.capacity * (1 - unused) - (depth_2 - aim(m, report)) / (3 * delay > 5 and 3 * delay or 5)
   if limit_2 and is_stalled(m) then
    rate = math_min(rate, (limit_2 - depth_2 > 0 and limit_2 - depth_2 or 0) / delay)
   end
   return rate, seen, m.capacity, 1
  end
  if limit_2 then
   local window = math_min(1, OPENING * OPENING_GROWTH ^ (m.cold_for / delay < 10 and m.cold_for / delay or 10))
   return 4 * window * limit_2 > 10 and 4 * window * limit_2 or 10, seen, 0, window
  end
  local rate_2 = m.rate > 0 and m.rate or 10
  if step and step.is_unbroken and step.arrived / step.dt >= 0.65 * rate_2 then
   rate_2 = rate_2 * 2 ^ (step.dt / delay)
  end
  return rate_2, seen, 0, 1
 end
end
local USUAL_DOWN, USUAL_UP = 30, 600
local function latency_ratio(m, field, latency, found, dt)
 if not latency then
  return
 end
 local value = (latency > 0.001 and latency or 0.001) < 1000000000.0 and (latency > 0.001 and latency or 0.001) or 1000000000.0
 local usual = m[field] > 0 and m[field] or value
 local moved = math_min(10, value / usual > 1 / 10 and value / usual or 1 / 10)
 usual = usual * moved ^ (1 - math_exp(-dt / (value < usual and USUAL_DOWN or USUAL_UP)))
 m[field] = usual
 found[#found + 1] = {value / usual < 1000000000.0 and value / usual or 1000000000.0, value}
end
local function slowdown(m, report, step, target)
 if not report.latency_ms or step.left == 0 then
  return nil
 end
 if not target and report.done + (report.errors or 0) < 20 then
  return nil
 end
 local found = {}
 latency_ratio(m, 'usual', report.latency_ms, found, step.dt)
 latency_ratio(m, 'usual_p25', report.latency_p25_ms, found, step.dt)
 latency_ratio(m, 'usual_p10', report.latency_p10_ms, found, step.dt)
 table.sort(found, function(a, b)
  return a[1] < b[1] or a[1] == b[1] and a[2] < b[2]
 end)
 local middle = found[math_ceil(#found / 2)]
 return middle[1], middle[2]
end
local function expect_latency(m, report, part)
 for field, latency in pairs({usual = report.latency_ms or 0, usual_p25 = report.latency_p25_ms or 0, usual_p10 = report.latency_p10_ms or 0}) do
  if m[field] > 0 then
   m[field] = m[field] * math_min(1000000000.0, latency / m[field] > 1 and latency / m[field] or 1) ^ part
  end
 end
end
local aimd
do
 local LOOP, LOOP_ITEMS, LONGEST_LOOP = 0.75, 4, 10
 local USED, USED_ITEMS = 0.5, 2
 local TOLERATED, TOLERATED_COLD, TOLERATED_MOST = 0.005, 0.05, 0.075
 local OWN_ITEMS, OWN_STEP = 100, 0.1
 local BALANCE, BALANCE_ITEMS, BALANCE_MOST = 2, 30, 30
 local REST, REST_LOOPS, BACK_IN = 0.995, 2, 0.5
 local EXCESS, PACE = 0.01, 1.1
 local EASY_2, EASY_EXCESS = 1.2, 0.1
 local FARTHEST_2, COLD_FARTHEST = 2, 3
 local BACK_LEAST, BACK_MOST, BACK_COLD = 0.005, 0.3, 0.3
 local SAME, SHARE = 0.1, 0.3
 local ECHO_MOST, ECHO_GROWS = 3, 1.5
 local SLOW, SLOW_MS = 3, 10
 local NOTHING, FEW = 0.1, 4
 local EASE_LEAST, EASE_MOST, EASE_TRIAL = 0.03, 0.5, 0.4
 local RELIEF, WAIT_MOST = 0.85, 30
 local function items_time(m, items, shortest, longest)
  if m.left == 0 then
   return longest
  end
  return math_min(longest, items / m.left > shortest and items / m.left or shortest)
 end
 local function good_rate(m, rate)
  local ok = m.ok
  if m.since_cut < 3 and m.did >= 10 then
   ok = m.did / m.since_cut
  end
  m.lowest = 0.5 * rate
  if m.known_good > 0 then
   m.lowest = m.lowest < m.known_good and m.lowest or m.known_good
  end
  return m.lowest > ok and m.lowest or ok
 end
 local function is_same(m, rate, good)
  return m.known_good > 0 and rate > m.known_good and math_abs(good / m.known_good - 1) < SAME
 end
 local function cut(m, rate, good, back)
  if m.known_good == 0 then
   back = BACK_COLD > back and BACK_COLD or back
  elseif is_same(m, rate, good) then
   good = m.known_good + SHARE * (good - m.known_good)
  end
  m.known_good = good < 1000000000.0 and good or 1000000000.0
  m.since_cut, m.right, m.wrong, m.did = 0, 0, 0, 0
  return (1 - back) * m.known_good < rate and (1 - back) * m.known_good or rate
 end
 function aimd(m, was, report, step, setting)
  local rate = m.rate > 0 and m.rate or report.capacity or 10
  local seen = 0
  if step then
   local unbound_1
   repeat
    local before, now = was.capacity, report.capacity
    if not before or not now or rate < 0.999 * before or step.errors + m.is_slow > 0 then
     unbound_1 = rate
     break
    end
    unbound_1 = math_max(rate, step.arrived > 0 and (10 < now and 10 or now) or now)
    break
   until true
   rate = unbound_1
   m.since_cut = m.since_cut + step.dt < 86400 and m.since_cut + step.dt or 86400
   if step.is_unbroken then
    local follow_1
    repeat
     do
      local tau = 1
      if m.ok and m.ok > 0 then
       tau = math_min(10, 10 / m.ok > 1 and 10 / m.ok or 1)
      end
      m.ok = towards(m.ok, step.done / step.dt < 1000000000.0 and step.done / step.dt or 1000000000.0, step.dt, tau)
      local kept = math_exp(-step.dt / 0.5)
      m.right = m.right * kept + step.done < 1000000000.0 and m.right * kept + step.done or 1000000000.0
      m.wrong = m.wrong * kept + step.errors < 1000000000.0 and m.wrong * kept + step.errors or 1000000000.0
      m.did = m.did + step.done < 1000000000.0 and m.did + step.done or 1000000000.0
      local balance = items_time(m, BALANCE_ITEMS, BALANCE, BALANCE_MOST)
      m.came = towards(m.came, step.arrived / step.dt < 1000000000.0 and step.arrived / step.dt or 1000000000.0, step.dt, balance)
      m.left = towards(m.left, step.left / step.dt < 1000000000.0 and step.left / step.dt or 1000000000.0, step.dt, balance)
     end
     m.asked = towards(m.asked, step.arrived / step.dt < 1000000000.0 and step.arrived / step.dt or 1000000000.0, step.dt, USED_ITEMS / rate)
     local tolerated = TOLERATED_COLD
     if m.known_good > 0 then
      tolerated = TOLERATED + 1.5 * m.own < TOLERATED_MOST and TOLERATED + 1.5 * m.own or TOLERATED_MOST
     end
     local is_failing = step.errors > 0 and m.wrong - math_sqrt(m.wrong) > tolerated * (m.wrong + m.right)
     local delay, few = loop_delay(setting), m.left > 0 and (LOOP_ITEMS / m.left < LONGEST_LOOP and LOOP_ITEMS / m.left or LONGEST_LOOP) or 0
     local loop = math_max(LOOP, delay, m.echo, few)
     do
      local outcomes = step.done + step.errors
      if m.echoing > 0 then
       m.echoing = m.echoing + step.dt
       local is_ebbing = step.errors * (m.wrong + m.right) < m.wrong * outcomes / 2
       if is_ebbing or not is_failing then
        m.echo, m.echoing = math_min(ECHO_MOST, m.echoing - 0.25 > 0 and m.echoing - 0.25 or 0), 0
       end
      end
      if outcomes > 0 and rate <= m.known_good and m.since_cut >= (1 + m.was_probe) * loop then
       local tau_2 = items_time(m, OWN_ITEMS, 2, OWN_ITEMS)
       m.own = towards(m.own, step.errors / outcomes < OWN_STEP and step.errors / outcomes or OWN_STEP, step.dt, tau_2)
      end
     end
     local target, is_slow, excess = setting.latency_target_ms, false, 0
     local slow, latency = slowdown(m, report, step, target)
     if slow then
      if target then
       is_slow, excess = report.latency_ms > target, (report.latency_ms - target) / 1000
      else
       is_slow, excess = slow > SLOW and latency > SLOW_MS, latency * (1 - 1 / slow) / 1000
      end
      m.is_slow = is_slow and 1 or 0
     end
     if is_failing or is_slow then
      m.calm = 0
      if is_failing then
       do
        if m.right < NOTHING * m.wrong or m.did < FEW then
         do
          local trickle = 2 / delay
          if m.since_cut < 2 * loop or rate <= trickle then
           follow_1 = rate
           break
          end
          m.known_good = m.before > (m.known_good > 0 and m.known_good or rate) and m.before or (m.known_good > 0 and m.known_good or rate)
          m.since_cut, m.right, m.wrong, m.did, m.echoing = 0, 0, 0, 0, 0
          m.was_slow, m.slow_cuts, m.is_trial, m.was_probe = 0, 0, 0, 0
          follow_1 = (1 - BACK_MOST) * 0.5 * rate > trickle and (1 - BACK_MOST) * 0.5 * rate or trickle
          break
         end
        end
        local outcomes_2 = m.wrong + m.right
        if m.since_cut < 2 * loop then
         local thought = m.known_good * m.since_cut
         if m.since_cut < 0.5 or math_abs(m.did - thought) <= 2 * math_sqrt(m.did) then
          follow_1 = rate
          break
         end
         m.known_good = m.did / m.since_cut > m.lowest and m.did / m.since_cut or m.lowest
         if m.did >= (1 - 0.05) * thought then
          follow_1 = rate
          break
         end
         follow_1 = math_min(rate, (1 - math_min(BACK_MOST, m.wrong / outcomes_2 > BACK_LEAST and m.wrong / outcomes_2 or BACK_LEAST)) * m.known_good)
         break
        end
        m.was_probe = m.known_good > 0 and rate > m.known_good and 1 or 0
        if m.echoing > 0 then
         m.echo, m.echoing = ECHO_GROWS * loop < ECHO_MOST and ECHO_GROWS * loop or ECHO_MOST, 0
        elseif m.was_probe > 0 and outcomes_2 >= 20 then
         m.echoing = 1e-06
        end
        if m.since_cut > 4 * loop then
         m.before = m.known_good
        end
        local good = good_rate(m, rate)
        if step.errors >= 20 then
         good = math_max(m.lowest, step.done / step.dt < good and step.done / step.dt or good)
        end
        local back = math_min(BACK_MOST, math_max(BACK_LEAST, (m.wrong - math_sqrt(m.wrong)) / outcomes_2))
        if is_same(m, rate, good) then
         back = BACK_LEAST
        end
        m.was_slow, m.slow_cuts, m.is_trial = 0, 0, 0
        follow_1 = cut(m, rate, good, back)
        break
       end
      end
      do
       local hold = 2 * loop + 1
       if m.since_cut < hold then
        follow_1 = rate
        break
       end
       local balance_2 = items_time(m, BALANCE_ITEMS, BALANCE, BALANCE_MOST)
       local slack = 0.1 * m.left + math_sqrt(m.left / balance_2)
       local is_vain = step.left > step.done + step.errors and m.ok < 0.1 * m.left
       local is_growing = is_vain or m.came > m.left + slack
       local is_first = m.slow_cuts == 0 or target
       if not is_first and m.left > m.came + slack then
        follow_1 = rate
        break
       end
       local is_trial = not is_first and not is_growing
       if is_trial then
        local wait = hold + (report.latency_ms / 1000 < WAIT_MOST and report.latency_ms / 1000 or WAIT_MOST)
        if m.since_cut < wait then
         follow_1 = rate
         break
        end
        if m.is_trial > 0 and slow >= RELIEF * m.slow_at then
         expect_latency(m, report, 1)
         m.slow_cuts, m.is_trial, m.is_slow = 0, 0, 0
         follow_1 = rate
         break
        end
       end
       if not is_growing and not target and balance_2 > BALANCE then
        expect_latency(m, report, 0.2)
       end
       local good_2 = good_rate(m, rate)
       local back_2 = math_min(EASE_MOST, excess / 2 > (is_trial and EASE_TRIAL or EASE_LEAST) and excess / 2 or (is_trial and EASE_TRIAL or EASE_LEAST))
       if m.known_good > 0 and not is_growing then
        good_2 = 0.9 * m.known_good > m.ok and 0.9 * m.known_good or m.ok
        back_2 = 1 - (1 - back_2) * (m.ok / good_2 < 1 and m.ok / good_2 or 1)
       end
       m.slow_cuts, m.is_trial, m.slow_at, m.was_slow = 1, is_trial and 1 or 0, slow, 1
       follow_1 = cut(m, rate, good_2, back_2)
       break
      end
     end
     if m.known_good > 0 and m.ok - math_sqrt(m.ok) > rate then
      m.known_good = m.ok > m.known_good and m.ok or m.known_good
     end
     if m.asked < USED * rate or m.since_cut < loop or m.is_slow > 0 or step.errors > tolerated * step.done then
      follow_1 = rate
      break
     end
     do
      local dt, is_easy = step.dt, m.was_slow > 0 and slow and slow < EASY_2 and not target
      if m.known_good == 0 then
       follow_1 = math_max(rate, COLD_FARTHEST * m.ok < rate * 2 ^ (dt / delay) and COLD_FARTHEST * m.ok or rate * 2 ^ (dt / delay))
       break
      end
      m.slow_cuts, m.is_trial = 0, 0
      local lately = m.right * (1 - math_exp(-dt / 0.5)) / dt
      if rate < 0.99 * m.known_good then
       m.calm = 0
       local back_3 = math_min(REST * m.known_good, towards(rate, m.known_good, dt, BACK_IN))
       follow_1 = math_max(rate, math_min(back_3, rate * 2 ^ (dt / delay), COLD_FARTHEST * lately))
       break
      end
      m.calm = m.calm + dt < 86400 and m.calm + dt or 86400
      if m.calm < REST_LOOPS * loop and not is_easy then
       follow_1 = rate
       break
      end
      local excess_2 = rate / m.known_good - 1 > (is_easy and EASY_EXCESS or EXCESS) and rate / m.known_good - 1 or (is_easy and EASY_EXCESS or EXCESS)
      local grown = rate + m.known_good * PACE * excess_2 * dt / loop
      follow_1 = math_max(rate, math_min(grown, rate * 2 ^ (dt / loop), FARTHEST_2 * lately))
      break
     end
     break
    until true
    rate = follow_1
    seen = m.ok
   end
  end
  return rate, seen, report.capacity or m.known_good, 1
 end
end
local MEMORY = {range = {'rate', 'best', 'best_at'}, drain = {'rate', 'best', 'best_at', 'capacity', 'before', 'ok', 'probe', 'probe_age', 'still', 'usual_still', 'cold_for', 'working_for', 'highest', 'unseen', 'surged', 'quiet'}, aimd = {'rate', 'best', 'best_at', 'ok', 'known_good', 'since_cut', 'calm', 'right', 'wrong', 'own', 'did', 'lowest', 'echo', 'echoing', 'came', 'left', 'usual', 'usual_p25', 'usual_p10', 'is_slow', 'slow_cuts', 'is_trial', 'slow_at', 'was_slow', 'was_probe', 'before', 'asked', 'unseen', 'surged', 'quiet'}}
local AT_FIRST = {probe = 0.05, since_cut = 86400}
local function start_memory(memory, name)
 for key in pairs(memory) do
  memory[key] = nil
 end
 memory.law = name
 for _, field in ipairs(MEMORY[name]) do
  if field ~= 'ok' then
   memory[field] = AT_FIRST[field] or 0
  end
 end
end
local function law_memory(text)
 local memory = {}
 local name = string_match(text or '', '^%S+')
 if not name then
  return nil, memory
 end
 if not MEMORY[name] then
  error('damaged')
 end
 start_memory(memory, name)
 for i, number in ipairs(numbers(string_sub(text, #name + 1))) do
  local field = MEMORY[name][i]
  if number - number ~= 0 then
   error('damaged')
  end
  if field and number >= 0 then
   memory[field] = number / 1000000
  end
 end
 return name, memory
end
local function law_text(name, memory)
 local list = {}
 for i, field in ipairs(MEMORY[name]) do
  list[i] = memory[field] and memory[field] * 1000000 or -1
 end
 return name .. ' ' .. packed(list)
end
local function law_fits(name, report, setting)
 if name == 'drain' then
  return report.depth ~= nil and report.done ~= nil
 end
 if name == 'range' then
  return fullest(report) ~= nil and (report.capacity or setting.rate) ~= nil
 end
 return name == 'aimd' and report.done ~= nil and (report.errors or report.latency_ms) ~= nil
end
local function left_of(report)
 return (report.done or 0) + (report.errors or 0) + (report.cancelled or 0)
end
local function only_looks_on(memory, report, setting)
 local has_worked = memory.law == 'drain' and memory.capacity + memory.highest > 0
 return not has_worked and left_of(report) + (report.in_flight or 0) == 0 and setting.here >= 2
end
local function choose_law(set, memory, report, setting)
 local chosen, knows = memory.law, false
 local looks_on = law_fits('range', report, setting) and only_looks_on(memory, report, setting)
 for _, name in ipairs(set and {set} or looks_on and {'range'} or {'drain', 'range', 'aimd'}) do
  if law_fits(name, report, setting) then
   return name
  end
  if name == chosen then
   knows = name == 'drain' or fullest(report) == nil
   break
  end
 end
 return knows and chosen or nil
end
local function step_between(was, report, dt, setting)
 if not was or not dt or dt < (0.125 < setting.interval / 2 and 0.125 or setting.interval / 2) or not was.done or not report.done then
  return nil
 end
 local done, errors = report.done - was.done, (report.errors or 0) - (was.errors or 0)
 local cancelled = (report.cancelled or 0) - (was.cancelled or 0)
 if done < 0 or errors < 0 or cancelled < 0 then
  return nil
 end
 local left = done + errors + cancelled
 local held = (report.in_flight or 0) + (report.depth or 0) - (was.in_flight or 0) - (was.depth or 0)
 return {part = 1, dt = 86400 < dt and 86400 or dt, done = done, errors = errors, left = left, arrived = left + held > 0 and left + held or 0, is_unbroken = dt <= 3 * setting.interval}
end
local SAID = {'uptime_ms', 'load', 'capacity', 'queue_depth', 'queue_limit', 'done', 'errors', 'in_flight', 'slots', 'latency_ms', 'interval_ms', 'pause_ms', 'latency_p25_ms', 'latency_p10_ms', 'cancelled', 'busy_ms'}
local SHOWN = {'queue_depth', 'queue_limit', 'done', 'errors', 'cancelled', 'in_flight', 'latency_ms'}
local SAID_MOST = {uptime_ms = 9007199254740992, load = 100, capacity = 1000000000.0, queue_depth = 9007199254740992, queue_limit = 9007199254740992, done = 9007199254740992, errors = 9007199254740992, in_flight = 9007199254740992, slots = 9007199254740992, latency_ms = 86400000, interval_ms = 86400000, pause_ms = 86400000, latency_p25_ms = 86400000, latency_p10_ms = 86400000, cancelled = 9007199254740992, busy_ms = 9007199254740992}
local function read_report()
 if #ARGV ~= #SAID + 4 then
  return nil, 'NEXUS_INVALID_ARGUMENTS'
 end
 if not whole_number(ARGV[1], 0, 9007199254740992) then
  return nil, 'NEXUS_INVALID_AT_US'
 end
 local report = {incarnation = ARGV[2], labels = ARGV[#ARGV]}
 if report.incarnation ~= '' and not is_name(report.incarnation) then
  return nil, 'NEXUS_INVALID_INCARNATION'
 end
 report.seq = whole_number(ARGV[3], 0, 9007199254740992)
 if not report.seq then
  return nil, 'NEXUS_INVALID_SEQ'
 end
 for i, name in ipairs(SAID) do
  local text = ARGV[i + 3]
  if text ~= '' then
   report[name] = decimal(text, 0, SAID_MOST[name])
   if not report[name] then
    return nil, 'NEXUS_INVALID_' .. string.upper(name)
   end
  end
 end
 if #report.labels > 1024 then
  return nil, 'NEXUS_INVALID_LABELS'
 end
 if report.queue_limit == 0 then
  return nil, 'NEXUS_INVALID_QUEUE_LIMIT'
 end
 if report.slots == 0 then
  return nil, 'NEXUS_INVALID_SLOTS'
 end
 if report.capacity and report.capacity < 1e-06 then
  return nil, 'NEXUS_INVALID_CAPACITY'
 end
 report.depth, report.limit = report.queue_depth, report.queue_limit
 report.interval = report.interval_ms and (report.interval_ms * 1000 > 1000 and report.interval_ms * 1000 or 1000) or 250000
 if not report.load and (report.limit and report.depth or report.slots and report.in_flight) then
  local queue = report.limit and report.depth and report.depth / report.limit or 0
  local work = report.slots and report.in_flight and report.in_flight / report.slots or 0
  report.load = 100 * (work > queue and work or queue) < 100 and 100 * (work > queue and work or queue) or 100
 end
 return report
end
local function load_of(said)
 return said.load or 0
end
local function missing_for_lossless(said)
 for _, name in ipairs({'queue_limit', 'queue_depth', 'done', 'errors', 'in_flight'}) do
  if not said[name] then
   return 'NEXUS_MISSING_' .. string.upper(name)
  end
 end
 return nil
end
local function new_consumer(now)
 return {memory = {}, arrivals = 0, paused_until = 0, incarnation = '', said = {at = now}, joined = now}
end
local HEAD = {'incarnation', 'seq', 'rate', 'capacity', 'arrivals', 'paused_until', 'joined'}
local function check_reporter(keys, consumer, id, said, now)
 consumer.deadline = score(keys.consumers, id)
 if consumer.incarnation == said.incarnation then
  if said.incarnation == '' then
   return nil
  end
  if said.seq == consumer.seq then
   return 'again'
  end
  return said.seq < consumer.seq and 'NEXUS_STALE' or nil
 end
 if consumer.incarnation ~= '' and consumer.deadline and consumer.deadline > now and score(keys.rates, id) then
  return 'NEXUS_ID_TAKEN'
 end
 return nil
end
local function since_last(consumer, said, now)
 if not consumer or consumer.incarnation ~= said.incarnation or not consumer.deadline then
  return true
 end
 local was = consumer.said
 for _, counter in ipairs({'done', 'errors', 'cancelled'}) do
  if (said[counter] or 0) < (was[counter] or 0) then
   return true
  end
 end
 if said.uptime_ms and was.uptime_ms then
  local dt, passed = (said.uptime_ms - was.uptime_ms) / 1000, (now - was.at) / 1000000
  if dt < 0 or dt > (passed > 0 and passed or 0) + 5 then
   return true
  end
  return false, dt
 end
 return false, (now - was.at > 0 and now - was.at or 0) / 1000000
end
local function came(said)
 return left_of(said) + (said.in_flight or 0) + (said.queue_depth or 0)
end
local function arrivals(budget, consumer, was, said, dt)
 if not was then
  return 0
 end
 local arrived = came(said) - came(was)
 if dt > 0 then
  local most = math_min(MOST, SURGE * math_max(budget[22], consumer.arrivals, 10 * 1000000))
  local rate = math_min(most, (arrived > 0 and arrived or 0) / dt * 1000000)
  consumer.arrivals = consumer.arrivals + (dt / 1 < 1 and dt / 1 or 1) * (rate - consumer.arrivals)
 end
 return arrived
end
local function seen_by(keys, id)
 local edge, free = score(keys.edges, id), score(keys.frees, id)
 return edge and free and edge - free
end
local function write_consumer(keys, consumer, said, name, contribution, now)
 consumer.incarnation, consumer.seq = said.incarnation, said.seq
 consumer.rate, consumer.capacity, consumer.law = contribution.rate, contribution.capacity, name
 local words = {consumer.incarnation ~= '' and consumer.incarnation or '-'}
 for i = 2, #HEAD do
  words[i] = whole(consumer[HEAD[i]])
 end
 words[#words + 1] = whole(now)
 for _, field in ipairs(SAID) do
  words[#words + 1] = said[field] and string_format('%.17g', said[field]) or '-'
 end
 local keep_ms = whole(6 * said.interval / 1000 > 600000 and 6 * said.interval / 1000 or 600000)
 redis_call('SET', keys.memory, table.concat(words, ' ') .. '\n' .. law_text(name, consumer.memory), 'PX', keep_ms)
 local list = {'HSET', keys.member, 'law', name, 'rate_per_s', plain(contribution.rate), 'capacity_per_s', plain(contribution.capacity), 'load_percent', plain(contribution.load * 1000), 'arrivals_per_s', plain(math_floor(consumer.arrivals)), 'joined_at', date_of(consumer.joined), 'reported_at', date_of(now), 'labels', said.labels}
 local gone = {'HDEL', keys.member}
 local function show(field_2, text)
  if text then
   list[#list + 1] = field_2
   list[#list + 1] = text
  else
   gone[#gone + 1] = field_2
  end
 end
 show('paused_until', consumer.paused_until > now and date_of(consumer.paused_until))
 for __2, field_2 in ipairs(SHOWN) do
  show(field_2, said[field_2] and string_format('%.17g', said[field_2]))
 end
 redis_call(unpack(list))
 if #gone > 2 then
  redis_call(unpack(gone))
 end
 redis_call('PEXPIRE', keys.member, keep_ms)
end
local function consumer_reply(budget, consumer)
 return {whole(consumer.rate), whole(consumer.capacity), whole(budget[22]), whole(budget[25]), whole(math_floor(budget[26] / 1000)), whole(budget[44]), consumer.law, budget[45]}
end
local said, invalid = read_report()
if invalid then
 return {err = invalid}
end
local keys, id = named_keys('consumer')
if not keys then
 return {err = 'NEXUS_INVALID_KEYS'}
end
local budget, newer, now
repeat
 local keys_2, now_2 = keys, clock(ARGV[1])
 local budget_2, newer_2
 repeat
  local raw = redis_call('GET', keys_2.state)
  if not raw then
   budget_2, newer_2 = nil
   break
  end
  local schema, called_at, tokens_remainder, tokens, granted, granted_remainder, peak, peak_before, peak_since, needs, producers_in_demand, retry_max, queue_end, producers_seen, saved, saved_until, fresh_shares, late_shares, idle_shares, idle_producers, spilled = unpacked('>ddddddddddddddddddddd', raw)
  if schema > 3 and schema < 1000 and schema % 1 == 0 then
   budget_2, newer_2 = nil, true
   break
  end
  local rate, bucket_size, burst_us, level, load, learns_until, due_at, epoch, epoch_ends, epoch_length, refresh, longest_lease, longest_lease_until, slow_trim, is_scarce, resumes_at, clock_low, clock_high, shares_turned_at, shares_turned_before, shares_halved_at, lost_shares, birth, reason, marginal_class, window_at = unpacked('>dddddddddddddddddddddddss', raw, 1 + 67 * WIDE)
  local sum = called_at + tokens_remainder + tokens + granted + granted_remainder + peak + peak_before + peak_since + needs + producers_in_demand + retry_max + queue_end + producers_seen + saved + saved_until + fresh_shares + late_shares + idle_shares + idle_producers + spilled + rate + bucket_size + burst_us + level + load + learns_until + due_at + epoch + epoch_ends + epoch_length + refresh + longest_lease + longest_lease_until + slow_trim + is_scarce + resumes_at + clock_low + clock_high + shares_turned_at + shares_turned_before + shares_halved_at + lost_shares + birth
  if schema ~= 3 or sum - sum ~= 0 then
   error('damaged')
  end
  local budget_3 = {schema, called_at, tokens_remainder, tokens, granted, granted_remainder, peak, peak_before, peak_since, needs, producers_in_demand, retry_max, queue_end, producers_seen, saved, saved_until, fresh_shares, late_shares, idle_shares, idle_producers, spilled, rate, bucket_size, burst_us, level, load, learns_until, due_at, epoch, epoch_ends, epoch_length, refresh, longest_lease, longest_lease_until, slow_trim, is_scarce, resumes_at, clock_low, clock_high, shares_turned_at, shares_turned_before, shares_halved_at, lost_shares, birth, reason, marginal_class, window_at, raw, rate, window_at <= #raw and read_window(raw, window_at) or nil, ['normal'] = read_class(raw, 'normal')}
  budget_2, newer_2 = budget_3
  break
 until true
 if budget_2 and not are_settings_lost(keys_2) then
  budget, newer, now = budget_2, nil, steady(budget_2, now_2)
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
   local budget_4
   do
    local budget_5 = {}
    budget_5[1] = 3
    budget_5[2], budget_5[3], budget_5[4] = now_2, 0, 0
    budget_5[5], budget_5[6] = 0, 0
    budget_5[7], budget_5[8], budget_5[9] = 0, 0, now_2
    budget_5[10], budget_5[11], budget_5[12] = 0, 0, 0
    budget_5[13], budget_5[14], budget_5[15], budget_5[16] = 0, 0, 0, 0
    budget_5[22], budget_5[23], budget_5[24], budget_5[25], budget_5[26] = 0, 0, 250000, 3, 0
    budget_5[27], budget_5[28] = now_2 + 500000, schema_2 and now_2 or 0
    budget_5[29], budget_5[30], budget_5[31] = 1, now_2 + 250000, 250000
    budget_5[32], budget_5[33], budget_5[34] = 100000, 500000, 0
    budget_5[17], budget_5[18], budget_5[19], budget_5[20] = 0, 0, 0, 0
    budget_5[40], budget_5[41], budget_5[42] = now_2, now_2, now_2
    budget_5[43], budget_5[56], budget_5[57], budget_5[58] = 0, 0, 0, 0
    budget_5[21], budget_5[59], budget_5[60] = 0, 0, 0
    budget_5[35], budget_5[36], budget_5[37], budget_5[38], budget_5[39] = 0, 0, 0, 0, 0
    budget_5[44], budget_5[45], budget_5[46] = now_2, 'unset', ''
    budget_5[51], budget_5[52], budget_5[53], budget_5[54] = 0, 0, 1020000, 0
    budget_5[55], budget_5[61], budget_5[62] = 0, now_2, 0
    budget_5[66], budget_5[64], budget_5[67] = true, true, true
    for _, name in ipairs(CLASSES) do
     budget_5[name] = {math_huge, math_huge, 0, 0, 0, 0, 0, 0}
    end
    budget_4 = budget_5
   end
   for __2, field in ipairs(schema_2 and redis_call('HKEYS', keys_2.budget) or {}) do
    if string_find(field, '_operator') then
     budget_4[55] = 1
    end
   end
   first_budget_1, first_budget_2 = budget_4
   break
  until true
  budget_2, newer_2 = first_budget_1, first_budget_2
 end
 budget, newer, now = budget_2, newer_2 and 'NEXUS_SCHEMA', now_2
 break
until true
if newer then
 return {err = newer}
end
local consumer
repeat
 local raw_2 = redis_call('GET', keys.memory)
 if not raw_2 then
  consumer = nil
  break
 end
 local head, tail = string_match(raw_2, '^([^\n]*)\n([^\n]*)$')
 local words = {}
 for word in string_gmatch(head, '%S+') do
  words[#words + 1] = word
 end
 if #words ~= #HEAD + 1 + #SAID then
  error('damaged')
 end
 local consumer_2, said_2 = {}, {at = finite(words[#HEAD + 1])}
 for i, name_2 in ipairs(HEAD) do
  consumer_2[name_2] = i == 1 and words[i] or finite(words[i])
 end
 for i_2, name_3 in ipairs(SAID) do
  local word_2 = words[#HEAD + 1 + i_2]
  said_2[name_3] = word_2 ~= '-' and finite(word_2) or nil
 end
 if consumer_2.incarnation == '-' then
  consumer_2.incarnation = ''
 end
 said_2.depth, said_2.limit = said_2.queue_depth, said_2.queue_limit
 consumer_2.said, consumer_2.law, consumer_2.memory = said_2, law_memory(tail)
 consumer = consumer_2
 break
until true
local refused = consumer and check_reporter(keys, consumer, id, said, now)
if refused and refused ~= 'again' then
 return {err = refused}
end
if refused then
 return consumer_reply(budget, consumer)
end
local settings = read_settings(keys, budget)
local missing = settings.lossless == 1 and missing_for_lossless(said)
if missing then
 return {err = missing}
end
local is_base, dt = since_last(consumer, said, now)
consumer = consumer or new_consumer(now)
if is_base then
 consumer.joined = now
end
local too_soon = not is_base and dt < (250000 < said.interval and 250000 or said.interval) / 1000000 / 2
local setting
do
 setting = {rate = settings.rate and settings.rate / 1000000, latency_target_ms = settings.latency_target_ms, loop_delay = settings.loop_delay, interval = said.interval / 1000000, here = (now - consumer.joined) / 1000000}
end
local name_4 = choose_law(settings.law, consumer.memory, said, setting)
if not name_4 then
 return {err = 'NEXUS_NO_LAW'}
end
if too_soon and name_4 == consumer.memory.law and name_4 ~= 'range' and said.pause_ms == nil then
 return consumer_reply(budget, consumer)
end
repeat
 if not budget[66] and are_settings_lost(keys) then
  read_rest(keys, budget)
  budget[69] = true
  local __3 = refill(budget, now)
  break
 end
 local is_back = budget[2] - now >= 1000000
 if is_back or budget[28] > 0 and now >= budget[28] then
  budget[72] = read_settings(keys, budget)
 end
 if is_back then
  do
   local settings_2 = budget[72]
   local step = budget[2] - now
   for __4, id_2 in ipairs(redis_call('ZRANGE', keys.consumers, 0, -1)) do
    redis_call('ZINCRBY', keys.consumers, whole(-step), id_2)
   end
   if settings_2.paused_until > 0 and settings_2.paused_until < 9000000000000000.0 then
    settings_2.paused_until = settings_2.paused_until - step > 0 and settings_2.paused_until - step or 0
    redis_call('HSET', keys.budget, 'paused_until_us', whole(settings_2.paused_until), 'paused_until', pause_end(settings_2.paused_until) or '')
    budget[37] = settings_2.paused_until
   end
   if settings_2.left_at > 0 then
    settings_2.left_at = settings_2.left_at - step > 0 and settings_2.left_at - step or 0
    redis_call('HSET', keys.budget, 'left_us', whole(settings_2.left_at))
   end
   budget[28] = budget[28] - step > 0 and budget[28] - step or 0
  end
 end
 local resumed = budget[37] > budget[2] and now >= budget[37]
 refill(budget, resumed and budget[37] or now)
 if budget[28] > 0 and now >= budget[28] then
  settle(keys, budget, budget[72], now, 'deadline')
 end
 if resumed then
  refill(budget, now)
 end
 break
until true
if budget[72] then
 settings = budget[72]
end
local was = not is_base and consumer.said or nil
local rate_2, capacity, fraction
do
 local memory, at = consumer.memory, now / 1000000
 if memory.law ~= name_4 then
  start_memory(memory, name_4)
 end
 local step_2
 if name_4 ~= 'range' then
  local credible_1
  repeat
   local m, was_2, report, step_3 = memory, was, said, step_between(was, said, dt, setting)
   if not step_3 then
    m.surged, m.quiet = 0, 0
    credible_1 = nil
    break
   end
   local known = math_max(10, m.rate, m.best, m.ok or 0, m.capacity or 0, m.known_good or 0, m.before or 0, report.capacity or 0)
   local most = SURGE_ITEMS + (was_2.in_flight or 0) + (was_2.depth or 0) + known * (SURGE * step_3.dt + m.quiet)
   local is_quiet = step_3.left == 0 and not report.in_flight
   m.quiet = is_quiet and (m.quiet + step_3.dt < 5 and m.quiet + step_3.dt or 5) or 0
   step_3.arrived = most < step_3.arrived and most or step_3.arrived
   if step_3.left <= most then
    if step_3.left > 0 then
     m.surged = 0
    end
    credible_1 = step_3
    break
   end
   if m.surged == 0 then
    m.surged = 1
    credible_1 = nil
    break
   end
   step_3.part = most / step_3.left
   step_3.done, step_3.errors, step_3.left = step_3.done * step_3.part, step_3.errors * step_3.part, most
   credible_1 = step_3
   break
  until true
  step_2 = credible_1
 end
 local rate_3, seen, capacity_2, window
 if name_4 == 'drain' then
  rate_3, seen, capacity_2, window = drain(memory, was, said, step_2, setting)
 elseif name_4 == 'range' then
  local range_1, range_2, range_3, range_4
  repeat
   local capacity_3, load_2 = said.capacity or setting.rate, fullest(said)
   if not capacity_3 then
    range_1, range_2, range_3, range_4 = memory.rate, 0, 0, 1
    break
   end
   if not load_2 then
    range_1, range_2, range_3, range_4 = memory.rate, 0, capacity_3, 1
    break
   end
   local rate_4 = capacity_3 * math_min(1, (FULL - load_2) / (FULL - EASY) > 0 and (FULL - load_2) / (FULL - EASY) or 0)
   range_1, range_2, range_3, range_4 = rate_4, rate_4, capacity_3, 1
   break
  until true
  rate_3, seen, capacity_2, window = range_1, range_2, range_3, range_4
 else
  rate_3, seen, capacity_2, window = aimd(memory, was, said, step_2, setting)
 end
 do
  local unseen = memory.unseen or 0
  if seen >= memory.best / 2 then
   unseen = 0
  elseif step_2 and step_2.done > 0 then
   unseen = unseen + step_2.dt < 86400 and unseen + step_2.dt or 86400
  end
  local fades = unseen > UNSEEN and UNSEEN_FADES or 600
  memory.unseen = unseen
  memory.best = math_max(seen, memory.best * math_exp(-(at - memory.best_at > 0 and at - memory.best_at or 0) / fades))
  memory.best_at = at
 end
 local ceiling = math_min(said.capacity or 1000000000.0, setting.rate or 1000000000.0, 1000000000.0)
 memory.rate = math_min(ceiling, math_max(rate_3, 0.2, 0.01 * (ceiling < memory.best and ceiling or memory.best)))
 rate_2, capacity, fraction = memory.rate, capacity_2, window
end
consumer.paused_until = consumer.paused_until - (consumer.said.at - now > 0 and consumer.said.at - now or 0)
if said.pause_ms then
 consumer.paused_until = said.pause_ms > 0 and now + said.pause_ms * 1000 or 0
end
if consumer.paused_until > now then
 rate_2 = 0
end
redis_call('HSET', keys.budget, 'schema', whole(3))
mend(keys, settings)
local arrived, seen_2 = arrivals(budget, consumer, was, said, dt), seen_by(keys, id)
local contribution = {rate = micro_of(rate_2), capacity = micro_of(capacity), load = math_floor(load_of(said) * 1000 + 0.5), arrivals = consumer.arrivals}
withdraw_consumer(keys, settings.sums, id)
repeat
 local seen_3 = seen_2
 if not (said.limit and said.depth) then
  break
 end
 contribution.free = math_max(-MOST, math_min(MOST, math_floor((fraction * said.limit - said.depth) * 1000000)))
 local quarter_us = quarter_length(budget[33], settings.transit, said.interval)
 if not budget[50] then
  budget[50] = new_window(now, quarter_us)
 end
 local window_2 = budget[50]
 if quarter_us > window_2.quarter_us then
  repeat
   if quarter_us == window_2.quarter_us then
    break
   end
   window_2.quarter_us, window_2.quarter = quarter_us, math_floor(now / quarter_us)
   for i_3 = 1, 5 - 1 do
    window_2.snapshots[i_3] = window_2.snapshots[5]
   end
   break
  until true
 end
 do
  local quarter = math_floor(now / window_2.quarter_us)
  if quarter < window_2.quarter then
   window_2.quarter = quarter
  end
  window_2.began_at = now < window_2.began_at and now or window_2.began_at
  local turns = 5 < quarter - window_2.quarter and 5 or quarter - window_2.quarter
  for __5 = 1, turns do
   for i_4 = 5, 2, -1 do
    window_2.snapshots[i_4] = window_2.snapshots[i_4 - 1]
   end
   window_2.snapshots[1] = window_2.net
  end
  window_2.quarter = quarter
 end
 local healing
 do
  local sums = settings.sums
  local first = least(keys.consumers)
  healing = silent_consumers(keys, sums) == 0 and (not first or first >= now + 2000000 - 3 * 250000)
 end
 local oldest, came_now = window_2.snapshots[5], math_floor(arrived * 1000000)
 if settings.combine == 'min' then
  seen_3 = (seen_3 or oldest) + came_now < window_2.net and (seen_3 or oldest) + came_now or window_2.net
  if healing then
   seen_3 = oldest > seen_3 and oldest or seen_3
  end
  contribution.edge = seen_3 + contribution.free
 else
  window_2.landed = window_2.landed + came_now < window_2.net and window_2.landed + came_now or window_2.net
  if healing then
   window_2.landed = oldest > window_2.landed and oldest or window_2.landed
  end
  local first_2 = settings.combine == 'sum' and settings.lossless == 1 and least(keys.consumers)
  if first_2 and first_2 <= consumer.joined + 2000000 then
   contribution.free = -math_floor(said.depth * 1000000)
  end
 end
 break
until true
local deadline
do
 local interval = said.interval
 deadline = now + (2000000 > 3 * interval and 2000000 or 3 * interval)
end
do
 local sums_2 = settings.sums
 local weight = weight_of(contribution.capacity)
 local ratio = string_format('%.17g', contribution.rate > 0 and contribution.arrivals > 0 and contribution.rate / contribution.arrivals or 1e+300)
 sums_2.live = sums_2.live + 1
 sums_2.rate = sums_2.rate + contribution.rate
 sums_2.capacity = sums_2.capacity + weight
 sums_2.load = sums_2.load + weight * contribution.load
 sums_2.arrivals = sums_2.arrivals + math_floor(contribution.rate / tonumber(ratio))
 redis_call('ZADD', keys.consumers, whole(deadline), id)
 redis_call('ZADD', keys.rates, whole(contribution.rate), id)
 redis_call('ZADD', keys.capacities, whole(contribution.capacity), id)
 redis_call('ZADD', keys.loads, whole(contribution.load), id)
 redis_call('ZADD', keys.ratios, ratio, id)
 if contribution.free then
  sums_2.bounded, sums_2.free = sums_2.bounded + 1, sums_2.free + contribution.free
  redis_call('ZADD', keys.frees, whole(contribution.free), id)
 end
 if contribution.edge then
  redis_call('ZADD', keys.edges, whole(contribution.edge), id)
 end
end
settle(keys, budget, settings, now, 'report', false, {who = id})
write_consumer(keys, consumer, said, name_4, contribution, now)
repeat
 local may_be_new = true
 if budget[69] then
  redis_call('DEL', keys.budget, keys.state)
  break
 end
 read_rest(keys, budget)
 may_be_new = may_be_new or is_renewal_due(budget, now)
 if may_be_new and (keys.history or budget[66]) then
  budget[54] = now
 end
 if budget[66] or budget[67] or budget[68] then
  write_summary(keys, budget, now)
 end
 local state = {packed_bucket(budget), packed_class(budget['normal']), packed_class(budget['high']), packed_class(budget['low']), pack('>dddddddddddd', budget[51], budget[52], budget[53], budget[54], budget[55], budget[56], budget[57], budget[58], budget[59], budget[60], budget[61], budget[62]), packed_sums(budget), pack('>dddddddddddddddddddddddss', unpack(budget, 22, 46)), budget[50] and packed_window(budget[50]) or ''}
 redis_call('SET', keys.state, table.concat(state), 'KEEPTTL')
 if may_be_new then
  do
   for place, key in pairs(keys) do
    if place ~= 'member' and place ~= 'memory' then
     if budget[55] == 1 then
      redis_call('PERSIST', key)
     else
      redis_call('PEXPIRE', key, 604800000)
     end
    end
   end
  end
 end
 break
until true
return consumer_reply(budget, consumer)
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
local function damaged_fields(fields)
 local bad = {}
 local function check(field, is_right)
  if fields[field] and not is_right then
   bad[#bad + 1] = field
  end
 end
 for _, field in ipairs(NUMBERS) do
  check(field, whole_number(fields[field] or '', 0, 9007199254740992))
 end
 check('left_rate_per_s', fields.left_rate_per_s and string_match(fields.left_rate_per_s, '^%d+%.?%d*$'))
 for __2, name in ipairs(SETTINGS) do
  for __3, source in ipairs({'_by_code', '_by_operator'}) do
   check(name .. source, fields[name .. source] and READ[name](fields[name .. source]))
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
   local flat, fields = redis.pcall('HGETALL', key), {}
   for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
   end
   for __2, field in ipairs(look(fields)) do
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
