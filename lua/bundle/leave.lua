-- Made of lua/leave.lua by `make bundle` (SHA-256 c24805f13110067f); `nexus-redis scripts leave` shows the source.
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
local function write_whole(keys, budget, now, may_be_new)
 if budget[69] then
  redis_call('DEL', keys.budget, keys.state)
  return
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
local function withdraw_rate(keys, sums, id)
 local rate = score(keys.rates, id)
 if not rate then
  return
 end
 local weight
 do
  local capacity = score(keys.capacities, id)
  weight = math.ceil(capacity / 1000000)
 end
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
   local new_window_1
   do
    local now_2, quarter_us = now, quarter_length(budget[33], settings.transit, 250000)
    new_window_1 = {active = 0, edge = 0, net = 0, landed = 0, quarter = math_floor(now_2 / quarter_us), quarter_us = quarter_us, lossless = 0, began_at = now_2, snapshots = {0, 0, 0, 0, 0}}
   end
   budget[50] = new_window_1
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
local function read_producer(keys)
 local raw = redis_call('GET', keys.memory)
 if not raw then
  return nil
 end
 local producer = {nil, nil, unpacked('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', raw)}
 producer[1], producer[15] = producer[4] + producer[7] * 32, producer[15] * 4
 producer[11] = producer[11] == 'n' and 'normal' or producer[11] == 'h' and 'high' or 'low'
 return producer
end
local PAYS_LEAST, PAYS_MOST = 0.25, 2
local function payable(budget, producer, unused)
 local class = budget[producer[11]]
 if class[1] == math_huge then
  return unused
 end
 return math_min(unused, math_floor(((producer[5] > 0 and producer[5] or 0) + PAYS_LEAST * class[1] * producer[12] / 1000000) / 4))
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
local producer = is_producer and read_producer(keys)
local owner = producer and producer[17] or not is_producer and reporter(keys)
local is_known = score(is_producer and keys.producers or keys.consumers, id) or owner
if budget[66] or not is_known or owner and incarnation ~= '*' and owner ~= incarnation then
 return {'0', '0', whole(budget[22])}
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
   local settings = budget[72]
   local step = budget[2] - now
   for __4, id_2 in ipairs(redis_call('ZRANGE', keys.consumers, 0, -1)) do
    redis_call('ZINCRBY', keys.consumers, whole(-step), id_2)
   end
   if settings.paused_until > 0 and settings.paused_until < 9000000000000000.0 then
    settings.paused_until = settings.paused_until - step > 0 and settings.paused_until - step or 0
    redis_call('HSET', keys.budget, 'paused_until_us', whole(settings.paused_until), 'paused_until', pause_end(settings.paused_until) or '')
    budget[37] = settings.paused_until
   end
   if settings.left_at > 0 then
    settings.left_at = settings.left_at - step > 0 and settings.left_at - step or 0
    redis_call('HSET', keys.budget, 'left_us', whole(settings.left_at))
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
local credited = 0
if is_producer then
 if producer and producer[18] == budget[44] then
  read_rest(keys, budget)
  repeat
   if producer[8] ~= budget[29] then
    break
   end
   local class = budget[producer[11]]
   class[7], class[8] = class[7] - producer[9], class[8] - producer[12]
   budget[10], budget[11] = budget[10] - producer[10], budget[11] - 1
   if producer[14] == 1 then
    class[5] = class[5] - producer[9]
   else
    class[6] = class[6] - producer[12]
   end
   break
  until true
  local is_old
  do
   local share, is_old_2 = producer[16], false
   if share > 0 then
    if producer[4] >= budget[40] then
     budget[17] = budget[17] - share
    elseif producer[4] >= budget[41] then
     budget[18] = budget[18] - share
    else
     is_old_2 = true
    end
   elseif share < 0 then
    is_old_2 = producer[4] < budget[42]
    if not is_old_2 then
     budget[19], budget[20] = budget[19] + share, budget[20] - 1
    end
   end
   is_old = is_old_2
  end
  if is_old then
   do
    read_rest(keys, budget)
    local share_2 = math_abs(producer[16])
    local is_old_3, part = producer[4] < budget[42], 1
    if is_old_3 then
     part = 2 ^ (-math_floor((budget[42] - producer[4]) / 30000000))
    end
    share_2 = math_min(math_floor(share_2 * part), producer[16] > 0 and budget[43] or budget[19])
    budget[65] = true
    if producer[16] > 0 then
     local beyond_rounding_1
     do
      local sum_2 = budget[43] - share_2
      beyond_rounding_1 = sum_2 > budget[22] / 1000000.0 and sum_2 or 0
     end
     budget[43] = beyond_rounding_1
     budget[56] = math_min(budget[43], is_old_3 and (budget[56] - share_2 > 0 and budget[56] - share_2 or 0) or budget[56])
    else
     budget[19], budget[20] = budget[19] - share_2, budget[20] - part > 0 and budget[20] - part or 0
     budget[57] = budget[57] - share_2 > 0 and budget[57] - share_2 or 0
     budget[58] = budget[58] - part > 0 and budget[58] - part or 0
    end
   end
  end
  local before, back = budget[4], payable(budget, producer, unused)
  local returned, lost
  do
   local burned_2 = burned + unused - back
   local owned = now <= producer[1] and producer[6] or 0
   local returned_2 = owned < back and owned or back
   local lost_2 = producer[6] - returned_2 < burned_2 and producer[6] - returned_2 or burned_2
   local credited_2 = 0
   if returned_2 > 0 then
    local hand_back_1
    do
     local fits = math_max(0, math_min(returned_2, budget[23] - math_max(budget[4], budget[7], budget[8])))
     budget[4] = budget[4] + fits
     budget[7] = budget[4] > budget[7] and budget[4] or budget[7]
     hand_back_1 = fits
    end
    credited_2 = hand_back_1
   end
   producer[6] = producer[6] - returned_2 < 0 and producer[6] - returned_2 or 0
   returned, lost = returned_2, lost_2, credited_2
  end
  if budget[50] then
   do
    local came_at = producer[4]
    local window = budget[50]
    do
     local quarter = math_floor(now / window.quarter_us)
     if quarter < window.quarter then
      window.quarter = quarter
     end
     window.began_at = now < window.began_at and now or window.began_at
     local turns = 5 < quarter - window.quarter and 5 or quarter - window.quarter
     for __5 = 1, turns do
      for i = 5, 2, -1 do
       window.snapshots[i] = window.snapshots[i - 1]
      end
      window.snapshots[1] = window.net
     end
     window.quarter = quarter
    end
    local lost_3 = returned
    if now - came_at < 4 * window.quarter_us - budget[33] then
     lost_3 = lost_3 + lost
    end
    if lost_3 > 0 then
     do
      window.net = window.net - lost_3
      for i_2 = 1, 5 do
       window.snapshots[i_2] = window.net < window.snapshots[i_2] and window.net or window.snapshots[i_2]
      end
      if window.landed > window.net then
       window.edge = window.edge - (window.landed - window.net)
       window.landed = window.net
      end
     end
    end
    local fits_2, later, is_cut
    repeat
     if window.active == 0 or 0 == 0 then
      fits_2, later, is_cut = 0, 0, false
      break
     end
     local room = window.edge - window.net
     local quiet
     do
      quiet = window.began_at + 4 * window.quarter_us - 3 * 250000 - now
     end
     if window.lossless == 1 and quiet > 0 then
      fits_2, later, is_cut = 0, (100000 > quiet and 100000 or quiet) < 1000000 and (100000 > quiet and 100000 or quiet) or 1000000, true
      break
     end
     if window.lossless == 0 and room > 0 and window.net <= window.landed then
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
    window.net = window.net + fits_2
   end
  end
  credited = budget[4] - before
 end
 write_whole(keys, budget, now)
 redis_call('ZREM', keys.producers, id)
else
 local settings_2 = budget[72] or read_settings(keys, budget)
 redis_call('HSET', keys.budget, 'schema', whole(3))
 mend(keys, settings_2)
 local rate_2 = score(keys.rates, id)
 withdraw_consumer(keys, settings_2.sums, id)
 if settings_2.sums.live == 0 then
  settings_2.last_consumer_end = incarnation == '*' and 'forgotten' or 'left'
  settings_2.left_at, settings_2.left_rate = rate_2 and now or 0, rate_2 or 0
  redis_call('HSET', keys.budget, 'last_consumer_end', settings_2.last_consumer_end, 'left_us', whole(settings_2.left_at), 'left_rate_per_s', plain(settings_2.left_rate))
 end
 local act = incarnation == '*' and {who = who, what = table.concat({'forgot', id}, ' '), why = why} or {who = id}
 settle(keys, budget, settings_2, now, incarnation == '*' and 'operator' or 'leave', incarnation == '*', act)
 write_whole(keys, budget, now)
end
redis_call('DEL', keys.member, keys.memory)
return {'1', whole(credited), whole(budget[22])}
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
