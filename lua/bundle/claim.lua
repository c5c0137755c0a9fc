-- Made of lua/claim.lua by `make bundle` (SHA-256 2a53c533471ddf85); `nexus-redis scripts claim` shows the source.
local is_well, reply = pcall(function()
local string_sub = string.sub
local string_format = string.format
local math_min = math.min
local math_max = math.max
local redis_call = redis.call
local math_floor = math.floor
local math_huge = math.huge
local math_ceil = math.ceil
local rarely, rarely_given
local function whole_number(text, low, high)
 if #text > 17 or not string.match(text, '^%d+$') then
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
local function id_of(keys)
 return string_sub(keys.member, #keys.budget + #':producer:' + 1)
end
local function class_at(name)
 return (name == 'normal' and 21 or name == 'high' and 29 or 37) * WIDE
end
local function read_class(raw, name)
 return {unpacked('>dddddddd', raw, 1 + class_at(name))}
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
local function usual_depth(budget)
 return 1000000 + budget[22] * 250000 / 1000000 < budget[23] and 1000000 + budget[22] * 250000 / 1000000 or budget[23]
end
local function read_claim()
 local claim = cjson.decode(ARGV[2])
 local need, want, demand, is_whole, held, unused, burned, weight, priority, incarnation, seq, birth, granted_total, trip, fallback_rate, degraded = unpack(claim)
 fallback_rate, degraded = fallback_rate or 0, degraded or 0
 if need >= 0 and need <= 1000000000000000.0 and want >= 0 and want <= 1e+16 and demand >= 0 and demand <= 1e+16 and (is_whole == 0 or is_whole == 1) and held >= 0 and held <= 1e+16 and unused >= 0 and unused <= 1e+16 and burned >= 0 and burned <= 1e+16 and weight >= 10000 and weight <= 1000000000.0 and seq >= 0 and seq <= 9007199254740992 and granted_total >= 0 and granted_total <= 9007199254740992 and trip >= 0 and trip <= 1000000 and fallback_rate >= 0 and fallback_rate <= 1e+16 and degraded >= 0 and degraded <= 1e+16 and need % 1 + want % 1 + demand % 1 + held % 1 + unused % 1 + burned % 1 + weight % 1 + seq % 1 + granted_total % 1 + trip % 1 + fallback_rate % 1 + degraded % 1 == 0 and (priority == 'normal' or priority == 'high' or priority == 'low') and type(birth) == 'string' and #birth <= 20 and incarnation and #ARGV == 2 and #ARGV[2] <= 340 and (#claim == 14 or #claim == 16) and (ARGV[1] == '0' or whole_number(ARGV[1], 0, 9007199254740992)) then
  claim[2], claim[4] = is_whole == 1 and (need > want and need or want) or want, is_whole == 1
  claim[15], claim[16] = fallback_rate, degraded
  return claim
 end
end
local function show_producer(keys, producer, is_same, claim, fair_rate)
 local added = redis_call('HSET', keys.member, 'demand_per_s', string_format('%.10g', claim[3] / 1000000), 'share_per_s', string_format('%.10g', fair_rate / 1000000), 'held', string_format('%.10g', producer[6] / 1000000))
 if is_same then
  return added > 0
 end
 if producer[11] == 'normal' and producer[12] == 1000000 then
  redis_call('HDEL', keys.member, 'priority', 'weight')
 else
  redis_call('HSET', keys.member, 'priority', producer[11], 'weight', string_format('%.10g', producer[12] / 1000000))
 end
 return added > 0
end
local PAYS_LEAST, PAYS_MOST = 0.25, 2
function rarely()
 if rarely_given then
  return rarely_given
 end
 local function whole(x)
  return string.format('%.0f', x)
 end
 local function micro_of(x)
  return math.floor(x * 1000000 + 0.5)
 end
 local function plain(micro)
  local text = string.format('%.0f.%06.0f', math.floor(micro / 1000000), micro % 1000000)
  return (string.gsub(string.gsub(text, '0+$', ''), '%.$', ''))
 end
 local function unplain(text)
  local integer, fraction = string.match(text, '^(%d+)%.?(%d*)$')
  return tonumber(integer) * 1000000 + tonumber(string.sub(fraction .. '000000', 1, 6))
 end
 local function decimal(text, low, high)
  if #text > 40 or not string.match(text, '^%d+%.?%d*$') then
   return nil
  end
  local x = tonumber(text)
  if x >= low and x <= high then
   return x
  end
  return nil
 end
 local function whole_number_2(text, low, high)
  if #text > 17 or not string.match(text, '^%d+$') then
   return nil
  end
  local x = tonumber(text)
  return x >= low and x <= high and x or nil
 end
 local PLACES = {'state', 'consumers', 'rates', 'loads', 'capacities', 'frees', 'edges', 'ratios', 'producers', 'history'}
 local function is_name(text)
  return #text <= 64 and string.find(text, '^[A-Za-z0-9][A-Za-z0-9._-]*$') ~= nil
 end
 local function is_budget(key)
  local namespace, name = string.match(key, '^(.*):{(.*)}$')
  if not namespace or #name > 64 then
   return false
  end
  local parent = string.match(name, '^(.*)/[A-Za-z0-9._-]+$')
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
  local id = string.sub(keys.member, #prefix + 1)
  if keys.member ~= prefix .. id or not is_name(id) or keys.memory ~= keys.member .. ':state' then
   return nil
  end
  return keys, id
 end
 local function id_of_2(keys)
  return string.sub(keys.member, #keys.budget + #':producer:' + 1)
 end
 local CLASSES = {'high', 'normal', 'low'}
 local function class_at_2(name)
  return (name == 'normal' and 21 or name == 'high' and 29 or 37) * WIDE
 end
 local function read_class_2(raw, name)
  return {unpacked('>dddddddd', raw, 1 + class_at_2(name))}
 end
 local function packed_class(class)
  return pack('>dddddddd', unpack(class, 1, 8))
 end
 local function packed_bucket_2(budget)
  return pack('>ddddddddddddddddddddd', unpack(budget, 1, 21))
 end
 local function packed_window_2(window)
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
   rate = rate - math.floor(rate / 2 < budget[43] and rate / 2 or budget[43])
  end
  budget[49] = rate
  if dt > 0 and rate > 0 then
   local room = bucket_size - tokens
   if room <= 0 or dt >= room / rate * 1000000 + 1 then
    budget[21] = budget[21] + (rate * dt / 1000000 - room > 0 and rate * dt / 1000000 - room or 0)
    tokens, budget[3] = bucket_size, 0
   else
    local part = rate % 1000000 * dt + budget[3]
    tokens, budget[3] = tokens + math.floor(rate / 1000000) * dt + math.floor(part / 1000000), part % 1000000
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
 local function usual_depth_2(budget)
  return 1000000 + budget[22] * 250000 / 1000000 < budget[23] and 1000000 + budget[22] * 250000 / 1000000 or budget[23]
 end
 local function trim(budget)
  if budget[22] <= 0 then
   return 0
  end
  local depth = usual_depth_2(budget)
  if budget[36] == 1 then
   return math.min(1.25, math.max(0, budget[4] - (1000000 > 0.8 * depth and 1000000 or 0.8 * depth)) / (0.2 * depth)) - 0.05 * (1 - budget[4] / (0.375 * depth) > 0 and 1 - budget[4] / (0.375 * depth) or 0)
  end
  return math.min(1.25, math.max(-0.2, budget[35] + 0.25 * (budget[4] - 0.375 * depth) / (0.5 * depth)))
 end
 local function long_ago(now)
  return math.floor((now - 60000000) / 1000000) % 65536
 end
 local function quarter_length(lease, transit, interval)
  return math.ceil((lease + transit + 3 * (250000 > interval and 250000 or interval)) / 4)
 end
 local function quiet_us(window, now)
  return window.began_at + 4 * window.quarter_us - 3 * 250000 - now
 end
 local function fault_of_claim()
  local asked = {'need', 'tokens', 'requested_rate', 'whole', 'held', 'unused', 'burned', 'weight', 'priority', 'incarnation', 'seq', 'birth', 'granted_total', 'trip', 'fallback_rate', 'degraded'}
  local most = {need = 1000000000000000.0, whole = 1, weight = 1000000000.0, seq = 9007199254740992, granted_total = 9007199254740992, trip = 1000000}
  if #ARGV ~= 2 then
   return 'NEXUS_INVALID_ARGUMENTS'
  end
  if not whole_number_2(ARGV[1], 0, 9007199254740992) then
   return 'NEXUS_INVALID_AT_US'
  end
  local i = 0
  for word in string.gmatch(string.sub(ARGV[2], 2, -2) .. ',', '([^,]*),') do
   i = i + 1
   local name, text, is_right = asked[i], string.match(word, '^"(.*)"$'), nil
   if name == 'priority' then
    is_right = text == 'high' or text == 'normal' or text == 'low'
   elseif name == 'incarnation' then
    is_right = text and (text == '' or is_name(text))
   elseif name == 'birth' then
    is_right = text and #text <= 20 and string.find(text, '^[%w._-]*$')
   elseif name then
    is_right = whole_number_2(word, name == 'weight' and 10000 or 0, most[name] or 1e+16)
   end
   if name and not is_right then
    return 'NEXUS_INVALID_' .. string.upper(name)
   end
  end
  return 'NEXUS_INVALID_ARGUMENTS'
 end
 local function fault_of_names(keys, claim)
  if not is_budget(keys.budget) or not is_name(id_of_2(keys)) then
   return 'NEXUS_INVALID_KEYS'
  end
  if type(claim[10]) ~= 'string' or claim[10] ~= '' and not is_name(claim[10]) then
   return 'NEXUS_INVALID_INCARNATION'
  end
  return not string.find(claim[12], '^[%w._-]*$') and 'NEXUS_INVALID_BIRTH'
 end
 local function date_of(us)
  local ms = math.floor(us / 1000)
  local seconds = math.floor(ms / 1000)
  local days = math.floor(seconds / 86400)
  local from_march = days + 719468
  local era = math.floor(from_march / 146097)
  local of_era = from_march - era * 146097
  local years = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * years + math.floor(years / 4) - math.floor(years / 100))
  local march = math.floor((5 * of_year + 2) / 153)
  local day, month = of_year - math.floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
  local year = era * 400 + years + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(seconds / 3600) % 24, math.floor(seconds / 60) % 60, seconds % 60, ms % 1000)
 end
 local function pause_end(until_us)
  if until_us <= 0 then
   return nil
  end
  return until_us >= 9000000000000000.0 and 'until it is resumed' or date_of(until_us)
 end
 local function fair_level(class)
  return class[1] < math.huge and plain(math.floor(class[1])) or 'uncontended'
 end
 local function write_summary(keys, budget, now)
  local list = {'HSET', keys.budget, 'schema', whole(3), 'birth', whole(budget[44]), 'updated_at', date_of(now), 'rate_per_s', plain(budget[22]), 'level', whole(budget[25]), 'load_percent', plain(budget[26]), 'reason', budget[45], 'tokens', string.format('%.6f', budget[4] / 1000000), 'burst_s', plain(budget[24]), 'granted_total', whole(budget[5])}
  local function add(field, text)
   list[#list + 1] = field
   list[#list + 1] = text
  end
  for _, name in ipairs(CLASSES) do
   add('fair_level_' .. name .. '_per_s', fair_level(budget[name]))
  end
  if budget[66] or budget[68] or now - budget[61] > 2 * budget[31] then
   add('demand_per_s', plain(budget[68] and math.floor(budget[70]) or 0))
   add('producers_in_demand', whole(budget[68] and budget[71] or 0))
   local past = now - budget[61]
   add('granted_per_s', past > 0 and plain(math.floor((budget[5] - budget[62]) * 1000000 / past * 1000000)) or '0')
   budget[61], budget[62] = now, budget[5]
  end
  redis.call(unpack(list))
 end
 local function first_budget(keys, now)
  local schema = redis.call('HGET', keys.budget, 'schema')
  if schema and not whole_number_2(schema, 0, 9007199254740992) then
   error('damaged')
  end
  if schema and tonumber(schema) > 3 then
   return nil, true
  end
  local budget
  do
   local budget_2 = {}
   budget_2[1] = 3
   budget_2[2], budget_2[3], budget_2[4] = now, 0, 0
   budget_2[5], budget_2[6] = 0, 0
   budget_2[7], budget_2[8], budget_2[9] = 0, 0, now
   budget_2[10], budget_2[11], budget_2[12] = 0, 0, 0
   budget_2[13], budget_2[14], budget_2[15], budget_2[16] = 0, 0, 0, 0
   budget_2[22], budget_2[23], budget_2[24], budget_2[25], budget_2[26] = 0, 0, 250000, 3, 0
   budget_2[27], budget_2[28] = now + 500000, schema and now or 0
   budget_2[29], budget_2[30], budget_2[31] = 1, now + 250000, 250000
   budget_2[32], budget_2[33], budget_2[34] = 100000, 500000, 0
   budget_2[17], budget_2[18], budget_2[19], budget_2[20] = 0, 0, 0, 0
   budget_2[40], budget_2[41], budget_2[42] = now, now, now
   budget_2[43], budget_2[56], budget_2[57], budget_2[58] = 0, 0, 0, 0
   budget_2[21], budget_2[59], budget_2[60] = 0, 0, 0
   budget_2[35], budget_2[36], budget_2[37], budget_2[38], budget_2[39] = 0, 0, 0, 0, 0
   budget_2[44], budget_2[45], budget_2[46] = now, 'unset', ''
   budget_2[51], budget_2[52], budget_2[53], budget_2[54] = 0, 0, 1020000, 0
   budget_2[55], budget_2[61], budget_2[62] = 0, now, 0
   budget_2[66], budget_2[64], budget_2[67] = true, true, true
   for _, name in ipairs(CLASSES) do
    budget_2[name] = {math.huge, math.huge, 0, 0, 0, 0, 0, 0}
   end
   budget = budget_2
  end
  for __2, field in ipairs(schema and redis.call('HKEYS', keys.budget) or {}) do
   if string.find(field, '_operator') then
    budget[55] = 1
   end
  end
  return budget
 end
 local function read_rest(keys, budget)
  if budget[64] then
   return
  end
  budget[64] = true
  budget[51], budget[52], budget[53], budget[54], budget[55], budget[56], budget[57], budget[58], budget[59], budget[60], budget[61], budget[62] = unpacked('>dddddddddddd', budget[48], 1 + 45 * WIDE)
  for _, name in ipairs(CLASSES) do
   budget[name] = budget[name] or read_class_2(budget[48], name)
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
   return string.sub(budget[48], 1 + 57 * WIDE, 67 * WIDE)
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
   budget[2] = math.max(budget[2], (budget[39] < now and budget[39] or now) - 5000000)
   if now >= budget[39] then
    budget[39], budget[65] = 0, true
   end
  end
  return now
 end
 local function are_settings_lost(keys)
  return redis.call('HLEN', keys.budget) == 0
 end
 local function pay_for_past(budget, producer, claim, learning)
  local is_of_past = claim[12] ~= '' and tonumber(claim[12]) ~= budget[44]
  if not learning and not is_of_past then
   return
  end
  local before = budget[4]
  budget[4] = math.min(budget[4], budget[4] - claim[5] > -budget[23] and budget[4] - claim[5] or -budget[23])
  producer[6] = before - budget[4]
 end
 local function is_renewal_due(budget, now)
  return now - budget[54] >= 60000000 or now < budget[54]
 end
 local function write_whole(keys, budget, now, may_be_new)
  if budget[69] then
   redis.call('DEL', keys.budget, keys.state)
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
  local state = {packed_bucket_2(budget), packed_class(budget['normal']), packed_class(budget['high']), packed_class(budget['low']), pack('>dddddddddddd', budget[51], budget[52], budget[53], budget[54], budget[55], budget[56], budget[57], budget[58], budget[59], budget[60], budget[61], budget[62]), packed_sums(budget), pack('>dddddddddddddddddddddddss', unpack(budget, 22, 46)), budget[50] and packed_window_2(budget[50]) or ''}
  redis.call('SET', keys.state, table.concat(state), 'KEEPTTL')
  if may_be_new then
   do
    for place, key in pairs(keys) do
     if place ~= 'member' and place ~= 'memory' then
      if budget[55] == 1 then
       redis.call('PERSIST', key)
      else
       redis.call('PEXPIRE', key, 604800000)
      end
     end
    end
   end
  end
 end
 local function new_producer(now)
  local producer = {}
  producer[3], producer[4], producer[5], producer[6] = 0, now, 0, 0
  producer[8], producer[9], producer[10], producer[12], producer[14] = 0, 0, 0, 0, 1
  producer[1], producer[13] = 0, long_ago(now)
  producer[15], producer[16] = 0, 0
  return producer
 end
 local function is_owned(producer, budget, incarnation, now)
  return producer[17] ~= incarnation and producer[17] ~= '' and now >= producer[4] and now < (producer[1] < producer[4] + budget[33] and producer[1] or producer[4] + budget[33])
 end
 local function successor(producer, budget)
  if producer[18] ~= budget[44] then
   return nil
  end
  producer[5], producer[6], producer[1] = 0 < producer[5] and 0 or producer[5], 0, 0
  return producer
 end
 local function note_gap(keys, budget, now)
  read_rest(keys, budget)
  budget[59] = math.floor((budget[4] > 0 and budget[4] or 0) + budget[22] / 1000000 * (now - budget[2]))
  budget[60] = now + 2000000
 end
 local function make_good(keys, budget, producer, claim, now)
  if tonumber(claim[12]) ~= budget[44] then
   return
  end
  read_rest(keys, budget)
  local window, before = budget[50], budget[5]
  do
   local seen = claim[13]
   local missing, lost = (seen - budget[5]) * 1000000, 0
   if now < budget[60] then
    lost = budget[59] < missing and budget[59] or missing
    budget[59] = budget[59] - lost
   end
   local own = math.min(missing - lost, math.max(0, producer[5] + budget[23] < budget[4] - lost and producer[5] + budget[23] or budget[4] - lost))
   producer[5] = producer[5] - own
   budget[4] = math.min(budget[4], budget[4] - lost - own > -budget[23] and budget[4] - lost - own or -budget[23])
   local total = budget[6] + lost + own
   if lost + own >= missing then
    budget[5], budget[6] = seen, 0
   else
    budget[5], budget[6] = budget[5] + math.floor(total / 1000000), total % 1000000
   end
  end
  if not window then
   return
  end
  local missing_2 = (budget[5] - before > 0 and budget[5] - before or 0) * 1000000
  do
   local quarter = math.floor(now / window.quarter_us)
   if quarter < window.quarter then
    window.quarter = quarter
   end
   window.began_at = now < window.began_at and now or window.began_at
   local turns = 5 < quarter - window.quarter and 5 or quarter - window.quarter
   for _ = 1, turns do
    for i = 5, 2, -1 do
     window.snapshots[i] = window.snapshots[i - 1]
    end
    window.snapshots[1] = window.net
   end
   window.quarter = quarter
  end
  window.net = window.net + missing_2
  if window.lossless == 1 and quiet_us(window, now) <= 0 then
   window.began_at = now
  end
 end
 local function remembered(keys, budget, producer, trip)
  local granted, retry, refresh, recommended, fallback, letters, wait = unpacked('>i7I4I4i7i7c2I5', redis.call('GET', keys.memory), producer[19])
  local reason
  for _, word in ipairs({'ok', 'rate', 'load', 'contended', 'learning', 'window', 'paused', 'no_consumers', 'unset'}) do
   if string.sub(word, 1, 2) == string.sub(letters, 1, 2) then
    reason = word
   end
  end
  local is_lossless = budget[50] and budget[50].lossless == 1
  do
   local lease, reason_2, birth, granted_total = refresh * 5 + (is_lossless and 0 or trip), reason or 'ok', producer[18], producer[18] == budget[44] and budget[5] or 0
   return string.format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted, retry, lease, refresh, recommended, fallback, budget[22], budget[25], math.floor(budget[26] / 1000), granted_total, birth, reason_2, budget[50] and budget[50].lossless or 0, budget[23], wait > retry and string.format(' %d', wait) or '')
  end
 end
 local function score(key, id)
  local text = redis.call('ZSCORE', key, id)
  return text and tonumber(text) or nil
 end
 local function can_be_sum(key, count, sum)
  if count == 0 then
   return sum == 0
  end
  local lowest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local highest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
  if not lowest then
   return false
  end
  lowest, highest = tonumber(lowest), tonumber(highest)
  local rounding = 1e-09 * count * math.max(math.abs(lowest), math.abs(highest))
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
  sums.arrivals = sums.arrivals - math.floor(rate / score(keys.ratios, id))
  for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do
   redis.call('ZREM', key, id)
  end
 end
 local function withdraw_space(keys, sums, id)
  local free = score(keys.frees, id)
  if not free then
   return
  end
  sums.bounded, sums.free = sums.bounded - 1, sums.free - free
  redis.call('ZREM', keys.frees, id)
  redis.call('ZREM', keys.edges, id)
 end
 local function least(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or nil
 end
 local function sweep_consumers(keys, sums, combine, now)
  local fell = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, 16)) do
   if score(keys.rates, id) then
    withdraw_rate(keys, sums, id)
    if combine == 'sum' then
     withdraw_space(keys, sums, id)
    end
    redis.call('ZADD', keys.consumers, whole(now + 10000000), id)
    fell = fell + 1
   else
    do
     withdraw_rate(keys, sums, id)
     withdraw_space(keys, sums, id)
     redis.call('ZREM', keys.consumers, id)
    end
   end
  end
  return fell
 end
 local function silent_consumers(keys, sums)
  return redis.call('ZCARD', keys.consumers) - sums.live
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
 local RISE = {70, 90, 100}
 local MOST = 1000000000.0 * 1000000
 local function burst_of(rate, burst_us)
  if rate <= 0 then
   return 0
  end
  return math.min(1000000 + math.floor(rate * burst_us / 1000000), 9000000000000000.0)
 end
 local function combined_load(keys, sums, combine)
  if combine == 'sum' and sums.capacity > 0 then
   return sums.load / sums.capacity
  end
  local first = redis.call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or 0
 end
 local function grace_end(settings)
  return settings.sums.live == 0 and settings.last_consumer_end == 'left' and settings.left_at + settings.grace or 0
 end
 local function advance(keys, budget, now)
  if not budget[66] and are_settings_lost(keys) then
   read_rest(keys, budget)
   budget[69] = true
   return refill(budget, now)
  end
  local is_back = budget[2] - now >= 1000000
  if is_back or budget[28] > 0 and now >= budget[28] then
   local read_settings_1
   do
    local names = {'last_consumer_end', 'paused_until_us', 'left_us', 'left_rate_per_s'}
    for _, name in ipairs(SETTINGS) do
     names[#names + 1] = name .. '_by_operator'
     names[#names + 1] = name .. '_by_code'
    end
    local found, fields = redis.call('HMGET', keys.budget, unpack(names)), {}
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
       redis.call('XLEN', key)
      elseif place == 'state' or place == 'memory' then
       redis.call('STRLEN', key)
      elseif place == 'member' then
       redis.call('HLEN', key)
      elseif place ~= 'budget' then
       size[place] = redis.call('ZCARD', key)
      end
     end
     are_whole_1 = size.rates == sums.live and size.capacities == sums.live and size.loads == sums.live and size.ratios == sums.live and size.frees == sums.bounded and size.consumers >= sums.live and can_be_sum(keys.rates, sums.live, sums.rate) and can_be_sum(keys.frees, sums.bounded, sums.free)
    end
    settings.do_sums_match = are_whole_1
    settings.paused_until = number_of(fields.paused_until_us)
    read_settings_1 = settings
   end
   budget[72] = read_settings_1
  end
  if is_back then
   do
    local settings_3 = budget[72]
    local step = budget[2] - now
    for __3, id in ipairs(redis.call('ZRANGE', keys.consumers, 0, -1)) do
     redis.call('ZINCRBY', keys.consumers, whole(-step), id)
    end
    if settings_3.paused_until > 0 and settings_3.paused_until < 9000000000000000.0 then
     settings_3.paused_until = settings_3.paused_until - step > 0 and settings_3.paused_until - step or 0
     redis.call('HSET', keys.budget, 'paused_until_us', whole(settings_3.paused_until), 'paused_until', pause_end(settings_3.paused_until) or '')
     budget[37] = settings_3.paused_until
    end
    if settings_3.left_at > 0 then
     settings_3.left_at = settings_3.left_at - step > 0 and settings_3.left_at - step or 0
     redis.call('HSET', keys.budget, 'left_us', whole(settings_3.left_at))
    end
    budget[28] = budget[28] - step > 0 and budget[28] - step or 0
   end
  end
  local resumed = budget[37] > budget[2] and now >= budget[37]
  refill(budget, resumed and budget[37] or now)
  if budget[28] > 0 and now >= budget[28] then
   do
    local settings_4, is_act, act = budget[72], nil, nil
    redis.call('HSET', keys.budget, 'schema', whole(3))
    repeat
     if settings_4.do_sums_match then
      break
     end
     settings_4.do_sums_match, settings_4.last_consumer_end = true, 'silent'
     for __4, name_4 in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do
      settings_4.sums[name_4] = 0
     end
     redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
     for __5, place_2 in ipairs({'consumers', 'rates', 'capacities', 'loads', 'ratios', 'frees', 'edges'}) do
      redis.call('DEL', keys[place_2])
     end
     break
    until true
    local sums_2 = settings_4.sums
    if sweep_consumers(keys, sums_2, settings_4.combine, now) > 0 and sums_2.live == 0 then
     settings_4.last_consumer_end = 'silent'
     redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
    end
    local rate, level, load, reason
    repeat
     local sums_3 = settings_4.sums
     local load_2 = sums_3.live > 0 and math.floor(combined_load(keys, sums_3, settings_4.combine) + 0.5) or 0
     local level_at_1
     do
      local load_percent, was = load_2 / 1000, sums_3.load_level
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
     sums_3.load_level = level_at_1
     if settings_4.paused_until > now then
      rate, level, load, reason = 0, 3, load_2, 'paused'
      break
     end
     if sums_3.live > 0 then
      if settings_4.combine == 'min' and silent_consumers(keys, sums_3) > 0 then
       rate, level, load, reason = settings_4.min_rate, 3, load_2, 'no_consumers'
       break
      end
      local rate_2
      repeat
       local combine = settings_4.combine
       if combine == 'sum' then
        rate_2 = MOST < sums_3.rate and MOST or sums_3.rate
        break
       end
       local lowest = least(keys.rates)
       if combine == 'min' then
        rate_2 = lowest
        break
       end
       local rate_3 = math.min(sums_3.rate, 50 * lowest, MOST)
       if sums_3.arrivals > 0 then
        rate_3 = math.min(rate_3, sums_3.arrivals * least(keys.ratios))
       end
       rate_2 = math.floor(rate_3 + 0.5)
       break
      until true
      if settings_4.rate and rate_2 >= settings_4.rate then
       rate, level, load, reason = settings_4.rate, sums_3.load_level, load_2, 'rate'
       break
      end
      if rate_2 == 0 then
       rate, level, load, reason = 0, 3, load_2, 'paused'
       break
      end
      rate, level, load, reason = settings_4.min_rate > rate_2 and settings_4.min_rate or rate_2, sums_3.load_level, load_2, 'load'
      break
     end
     if settings_4.last_consumer_end == 'silent' then
      rate, level, load, reason = settings_4.min_rate, 3, 0, 'no_consumers'
      break
     end
     if settings_4.lossless == 1 then
      rate, level, load, reason = 0, 3, 0, 'window'
      break
     end
     if settings_4.rate and settings_4.left_rate < settings_4.rate and now < grace_end(settings_4) then
      rate, level, load, reason = settings_4.min_rate > settings_4.left_rate and settings_4.min_rate or settings_4.left_rate, 0, 0, 'load'
      break
     end
     if settings_4.rate then
      rate, level, load, reason = settings_4.rate, 0, 0, 'rate'
      break
     end
     rate, level, load, reason = settings_4.min_rate, 3, 0, settings_4.last_consumer_end and 'no_consumers' or 'unset'
     break
    until true
    local turned = level ~= budget[25] or reason ~= budget[45]
    sums_2.published_rate = budget[22] > sums_2.published_rate and budget[22] or sums_2.published_rate
    local is_drop = rate < budget[22] and 100 * rate <= (100 - 10) * sums_2.published_rate
    local is_rise = budget[22] == 0 and rate > 0 and not budget[66]
    local is_published = is_drop or is_rise or level == 3 and budget[25] < 3
    if turned or budget[66] or rate ~= budget[22] or settings_4.burst ~= budget[24] or load * 1000 ~= budget[26] then
     do
      local burst_us = settings_4.burst
      local bucket_size = rate > 0 and burst_of(rate, burst_us) or budget[23]
      read_rest(keys, budget)
      if rate ~= budget[22] then
       for __6, name_5 in ipairs(CLASSES) do
        local class = budget[name_5]
        if budget[22] > 0 and rate > 0 then
         class[1] = class[1] * (rate / budget[22])
         class[2] = class[2] * (rate / budget[22])
         class[3] = math.floor(class[3] * (rate / budget[22]))
        else
         class[1], class[2], class[3] = math.huge, math.huge, rate
        end
       end
       budget[3] = 0
       budget[13] = 0
      end
      budget[22], budget[23], budget[24] = rate, bucket_size, burst_us
      budget[49] = rate - math.floor(rate / 2 < budget[43] and rate / 2 or budget[43])
      if rate > 0 and budget[53] > 0 then
       budget[4], budget[53] = budget[4] + budget[53], 0
      end
      budget[4] = bucket_size < budget[4] and bucket_size or budget[4]
      budget[67] = true
     end
     budget[25], budget[26], budget[45] = level, load * 1000, reason
    end
    if is_act or turned or math.abs(rate - sums_2.noted_rate) > 0.1 * sums_2.noted_rate then
     sums_2.noted_rate = rate
     if 'deadline' == 'report' and not turned then
      repeat
       local newest = redis.call('XREVRANGE', keys.history, '+', '-', 'COUNT', 2)
       if #newest < 2 then
        break
       end
       local last, before = newest[1][2], newest[2][2]
       local apart = tonumber(newest[1][1]:match('^%d+')) - tonumber(newest[2][1]:match('^%d+'))
       if last[10] == 'report' and last[4] == before[4] and last[8] == before[8] and apart < 10000 then
        redis.call('XDEL', keys.history, newest[1][1])
       end
       break
      until true
     end
     do
      local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(budget[22]), 'level', whole(budget[25]), 'load_percent', plain(budget[26]), 'reason', budget[45], 'by', 'deadline'}
      for __7, field in ipairs({'who', 'what', 'why'}) do
       local text_2 = act and act[field]
       if text_2 and text_2 ~= '' then
        entry[#entry + 1] = field
        entry[#entry + 1] = text_2
       end
      end
      redis.call(unpack(entry))
      read_rest(keys, budget)
      if budget[55] == 0 then
       redis.call('PEXPIRE', keys.history, 604800000)
      end
     end
    end
    if is_published then
     do
      redis.pcall('PUBLISH', keys.budget .. ':flow', string.format('%.0f %.0f %.0f %.0f %s', budget[44], budget[5], budget[22], budget[25], budget[45]))
     end
     sums_2.published_rate = rate
    end
    repeat
     if settings_4.lossless == 1 and not budget[50] then
      local new_window_1
      do
       local now_2, quarter_us = now, quarter_length(budget[33], settings_4.transit, 250000)
       new_window_1 = {active = 0, edge = 0, net = 0, landed = 0, quarter = math.floor(now_2 / quarter_us), quarter_us = quarter_us, lossless = 0, began_at = now_2, snapshots = {0, 0, 0, 0, 0}}
      end
      budget[50] = new_window_1
     end
     local window, sums_4 = budget[50], settings_4.sums
     if not window then
      break
     end
     repeat
      local combine_2 = settings_4.combine
      if window.net < 4000000000000000.0 then
       break
      end
      local base, edges = combine_2 == 'min' and window.net or window.landed, redis.call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
      for i_2 = 1, 5 do
       base = window.snapshots[i_2] < base and window.snapshots[i_2] or base
      end
      for i_3 = 1, #edges, 2 do
       base = math.min(base, tonumber(edges[i_3 + 1]) - score(keys.frees, edges[i_3]))
      end
      window.net, window.landed = window.net - base, window.landed - base > 0 and window.landed - base or 0
      for i_4 = 1, 5 do
       window.snapshots[i_4] = window.snapshots[i_4] - base
      end
      for i_5 = 1, #edges, 2 do
       redis.call('ZADD', keys.edges, whole(tonumber(edges[i_5 + 1]) - base), edges[i_5])
      end
      break
     until true
     window.lossless = settings_4.lossless
     local cold = redis.call('ZCOUNT', keys.capacities, 0, 0)
     window.active = (settings_4.lossless == 1 or cold > 0 and sums_4.bounded >= sums_4.live) and 1 or 0
     if settings_4.combine == 'min' then
      local known = redis.call('ZCARD', keys.edges) == redis.call('ZCARD', keys.consumers)
      window.edge = known and least(keys.edges) or (window.net < window.landed and window.net or window.landed)
     elseif settings_4.combine == 'spread' then
      window.edge = window.landed + (least(keys.frees) or 0)
     else
      window.edge = window.landed + sums_4.free
     end
     break
    until true
    budget[28], budget[65] = least(keys.consumers) or 0, true
    budget[37] = settings_4.paused_until > now and settings_4.paused_until or 0
    for __8, at in ipairs({budget[37], grace_end(settings_4)}) do
     if at > now and (budget[28] == 0 or at < budget[28]) then
      budget[28] = at
     end
    end
   end
  end
  if resumed then
   refill(budget, now)
  end
 end
 local function beyond_rounding(budget, sum)
  return sum > budget[22] / 1000000.0 and sum or 0
 end
 local function withdraw_old_share(keys, budget, producer)
  read_rest(keys, budget)
  local share = math.abs(producer[16])
  local is_old, part = producer[4] < budget[42], 1
  if is_old then
   part = 2 ^ (-math.floor((budget[42] - producer[4]) / 30000000))
  end
  share = math.min(math.floor(share * part), producer[16] > 0 and budget[43] or budget[19])
  budget[65] = true
  if producer[16] > 0 then
   budget[43] = beyond_rounding(budget, budget[43] - share)
   budget[56] = math.min(budget[43], is_old and (budget[56] - share > 0 and budget[56] - share or 0) or budget[56])
  else
   budget[19], budget[20] = budget[19] - share, budget[20] - part > 0 and budget[20] - part or 0
   budget[57] = budget[57] - share > 0 and budget[57] - share or 0
   budget[58] = budget[58] - part > 0 and budget[58] - part or 0
  end
 end
 local function pay_degraded(budget, producer, degraded, now)
  local alone = now - producer[4] > 0 and now - producer[4] or 0
  if producer[16] > 0 then
   alone = math.min(alone, 2 * math.max(1000000, budget[33], budget[31]))
  end
  local owed = math.min(degraded, math.abs(producer[16]) * alone / 1000000)
  local paid = budget[21] < owed and budget[21] or owed
  owed, budget[21] = math.floor(owed - paid), budget[21] - paid
  budget[4] = math.min(budget[4], budget[4] - owed > -2 * budget[22] and budget[4] - owed or -2 * budget[22])
  producer[5] = producer[5] - owed
 end
 local function roll_epoch(keys, budget, now)
  budget[69] = are_settings_lost(keys)
  read_rest(keys, budget)
  repeat
   if now < budget[40] then
    budget[40], budget[41] = now, budget[41] < now and budget[41] or now
   end
   budget[19] = budget[19] > budget[57] and budget[19] or budget[57]
   budget[20] = budget[20] > budget[58] and budget[20] or budget[58]
   repeat
    budget[42] = now < budget[42] and now or budget[42]
    local halvings = math.floor((now - budget[42]) / 30000000)
    if halvings < 1 then
     break
    end
    local part = 2 ^ (1 - halvings)
    budget[43] = math.floor((budget[43] - budget[56] / 2) * part)
    budget[19] = math.floor((budget[19] - budget[57] / 2) * part)
    budget[20] = (budget[20] - budget[58] / 2) * part
    budget[56], budget[57] = budget[43], budget[19]
    budget[58] = budget[20]
    budget[42] = budget[42] + halvings * 30000000
    break
   until true
   local turn = math.max(1000000, budget[33], budget[31])
   if now - budget[40] < turn then
    break
   end
   local silence = now - budget[40] - turn
   if silence < 30000000 then
    budget[43] = budget[43] + beyond_rounding(budget, budget[18])
    budget[18], budget[17] = beyond_rounding(budget, budget[17]), 0
    budget[41] = budget[40]
   else
    if silence < 300000000 then
     budget[43] = budget[43] + math.floor((budget[18] + budget[17]) * 2 ^ (-math.floor(silence / 30000000)))
    end
    budget[18], budget[17], budget[41] = 0, 0, now
   end
   budget[40], budget[21] = now, budget[21] / 2
   break
  until true
  local rate, producers = budget[49], budget[14]
  budget[68], budget[70], budget[71] = true, 0, budget[11]
  for _, name in ipairs(CLASSES) do
   local class = budget[name]
   budget[70] = budget[70] + class[7]
  end
  local function empty()
   for __2, name_2 in ipairs(CLASSES) do
    local class_2 = budget[name_2]
    class_2[5], class_2[6], class_2[7], class_2[8] = 0, 0, 0, 0
   end
   budget[10], budget[11], budget[14], budget[29] = 0, 0, 0, budget[29] + 1
  end
  local is_cut = budget[30] - now > budget[31]
  local is_silent = now - budget[30] > budget[31]
  if is_silent then
   producers, budget[70], budget[71] = 0, 0, 0
   empty()
  end
  local left, kept, is_contended = rate, 0, false
  for __2, name_2 in ipairs(CLASSES) do
   local class_2 = budget[name_2]
   kept = kept + (0.05 * rate < class_2[7] and 0.05 * rate or class_2[7])
  end
  for __3, name_3 in ipairs(CLASSES) do
   local class_3 = budget[name_3]
   kept = kept - (0.05 * rate < class_3[7] and 0.05 * rate or class_3[7])
   class_3[3] = math.floor(0.05 * rate > left - kept and 0.05 * rate or left - kept)
   local level_of_1, level_of_2
   repeat
    if class_3[8] <= 0 then
     level_of_1, level_of_2 = math.huge, class_3[3]
     break
    end
    local share = class_3[3] / class_3[8] * 1000000
    if class_3[7] <= class_3[3] then
     level_of_1, level_of_2 = math.huge, math.max(share, (class_3[3] - class_3[5]) / (1000000 > class_3[6] and 1000000 or class_3[6]) * 1000000)
     break
    end
    if class_3[6] > 1e-09 * class_3[8] and class_3[5] < class_3[3] then
     local level = math.max(share, (class_3[3] - class_3[5]) / class_3[6] * 1000000)
     level_of_1, level_of_2 = level, level
     break
    end
    level_of_1, level_of_2 = share, math.sqrt(share * math.max(share, (class_3[3] < class_3[2] and class_3[3] or class_3[2]) * (class_3[3] / class_3[5])))
    break
   until true
   class_3[1], class_3[2] = level_of_1, level_of_2
   left = left - (class_3[3] < class_3[7] and class_3[3] or class_3[7])
   is_contended = is_contended or class_3[1] < math.huge
  end
  do
   local depth = usual_depth_2(budget)
   budget[36] = budget[10] > depth / 4 and 1 or 0
   if is_contended and budget[22] > 0 and budget[36] == 0 then
    budget[35] = math.min(1, math.max(-0.2, budget[35] + 0.05 * (budget[4] - 0.375 * depth) / (0.5 * depth)))
   else
    budget[35] = 0
   end
   budget[52] = is_contended and trim(budget) or 0
  end
  budget[46] = ''
  for __4, name_4 in ipairs(CLASSES) do
   local class_4 = budget[name_4]
   class_4[4] = budget[46] == '' and budget[52] or 0
   if budget[46] == '' and class_4[1] < math.huge then
    budget[46] = name_4
   end
  end
  empty()
  local refresh_before = budget[32]
  if not is_cut and not (is_silent and now - budget[30] < 600000 * 1000) then
   repeat
    if now >= budget[34] then
     budget[33], budget[34] = budget[32] * 5, 0
    end
    local wanted = 0
    if not (budget[50] and budget[50].lossless == 1) then
     wanted = producers / 10000 * 1000000
    end
    if wanted <= budget[32] and wanted >= budget[32] / 2 then
     break
    end
    local before = budget[32]
    budget[32] = math.ceil((wanted > 100000 and wanted or 100000) < 60000000 and (wanted > 100000 and wanted or 100000) or 60000000)
    if budget[32] < before then
     budget[34] = now + budget[33]
    elseif budget[32] * 5 >= budget[33] then
     budget[33], budget[34] = budget[32] * 5, 0
    end
    break
   until true
  end
  budget[31] = math.ceil(math.max(250000, 1.5 * (budget[32] > refresh_before and budget[32] or refresh_before), 1.1 * (budget[51] > budget[12] and budget[51] or budget[12])))
  budget[30] = now + budget[31]
  budget[51], budget[12] = budget[12], 0
 end
 local function sweep_producers(keys, now)
  local gone = redis.call('ZRANGEBYSCORE', keys.producers, '-inf', whole(now - 600000 * 1000), 'LIMIT', 0, 8)
  if #gone > 0 then
   redis.call('ZREM', keys.producers, unpack(gone))
  end
 end
 rarely_given = {advance = advance, fault_of_claim = fault_of_claim, fault_of_names = fault_of_names, first_budget = first_budget, is_owned = is_owned, is_renewal_due = is_renewal_due, make_good = make_good, named_keys = named_keys, new_producer = new_producer, note_gap = note_gap, pay_degraded = pay_degraded, pay_for_past = pay_for_past, read_rest = read_rest, remembered = remembered, roll_epoch = roll_epoch, steady = steady, successor = successor, sweep_producers = sweep_producers, withdraw_old_share = withdraw_old_share, write_whole = write_whole}
 return rarely_given
end
local is_read, claim = pcall(read_claim)
local keys
repeat
 if #KEYS ~= 5 then
  keys = nil
  break
 end
 local budget, member = KEYS[1], KEYS[4]
 local prefix = budget .. ':producer'
 if KEYS[2] ~= budget .. ':state' or KEYS[3] ~= prefix .. 's' or KEYS[5] ~= member .. ':state' or string_sub(member, 1, #prefix + 1) ~= prefix .. ':' then
  keys = nil
  break
 end
 keys = {budget = budget, state = KEYS[2], producers = KEYS[3], member = member, memory = KEYS[5]}
 break
until true
if not keys then
 keys = rarely().named_keys('producer')
end
if not is_read or not claim then
 return {err = rarely().fault_of_claim()}
end
if not keys then
 return {err = 'NEXUS_INVALID_KEYS'}
end
local now
repeat
 local at_us = ARGV[1]
 if at_us ~= '0' then
  local at = whole_number(at_us, 0, 9007199254740992)
  if not at or at > 0 then
   now = at
   break
  end
 end
 if not redis.REDIS_VERSION_NUM and redis.replicate_commands then
  redis.replicate_commands()
 end
 local time = redis_call('TIME')
 now = time[1] * 1000000 + time[2]
 break
until true
local producer
repeat
 local raw = redis_call('GET', keys.memory)
 if not raw then
  producer = nil
  break
 end
 local producer_2 = {nil, nil, unpacked('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', raw)}
 producer_2[1], producer_2[15] = producer_2[4] + producer_2[7] * 32, producer_2[15] * 4
 producer_2[11] = producer_2[11] == 'n' and 'normal' or producer_2[11] == 'h' and 'high' or 'low'
 producer = producer_2
 break
until true
if not producer or producer[17] ~= claim[10] then
 local fault = rarely().fault_of_names(keys, claim)
 if fault then
  return {err = fault}
 end
end
local budget_2, newer
repeat
 local class_name = claim[9]
 local raw_2 = redis_call('GET', keys.state)
 if not raw_2 then
  budget_2, newer = nil
  break
 end
 local schema, called_at, tokens_remainder, tokens, granted, granted_remainder, peak, peak_before, peak_since, needs, producers_in_demand, retry_max, queue_end, producers_seen, saved, saved_until, fresh_shares, late_shares, idle_shares, idle_producers, spilled = unpacked('>ddddddddddddddddddddd', raw_2)
 if schema > 3 and schema < 1000 and schema % 1 == 0 then
  budget_2, newer = nil, true
  break
 end
 local rate, bucket_size, burst_us, level, load, learns_until, due_at, epoch, epoch_ends, epoch_length, refresh, longest_lease, longest_lease_until, slow_trim, is_scarce, resumes_at, clock_low, clock_high, shares_turned_at, shares_turned_before, shares_halved_at, lost_shares, birth, reason, marginal_class, window_at = unpacked('>dddddddddddddddddddddddss', raw_2, 1 + 67 * WIDE)
 local sum = called_at + tokens_remainder + tokens + granted + granted_remainder + peak + peak_before + peak_since + needs + producers_in_demand + retry_max + queue_end + producers_seen + saved + saved_until + fresh_shares + late_shares + idle_shares + idle_producers + spilled + rate + bucket_size + burst_us + level + load + learns_until + due_at + epoch + epoch_ends + epoch_length + refresh + longest_lease + longest_lease_until + slow_trim + is_scarce + resumes_at + clock_low + clock_high + shares_turned_at + shares_turned_before + shares_halved_at + lost_shares + birth
 if schema ~= 3 or sum - sum ~= 0 then
  error('damaged')
 end
 local budget_3 = {schema, called_at, tokens_remainder, tokens, granted, granted_remainder, peak, peak_before, peak_since, needs, producers_in_demand, retry_max, queue_end, producers_seen, saved, saved_until, fresh_shares, late_shares, idle_shares, idle_producers, spilled, rate, bucket_size, burst_us, level, load, learns_until, due_at, epoch, epoch_ends, epoch_length, refresh, longest_lease, longest_lease_until, slow_trim, is_scarce, resumes_at, clock_low, clock_high, shares_turned_at, shares_turned_before, shares_halved_at, lost_shares, birth, reason, marginal_class, window_at, raw_2, rate, window_at <= #raw_2 and read_window(raw_2, window_at) or nil, [class_name] = read_class(raw_2, class_name)}
 budget_2, newer = budget_3
 break
until true
if not budget_2 and not newer then
 budget_2, newer = rarely().first_budget(keys, now)
end
if newer then
 return {err = 'NEXUS_SCHEMA'}
end
if producer and producer[17] == claim[10] and claim[10] ~= '' and claim[11] <= producer[3] then
 if claim[11] == producer[3] then
  return rarely().remembered(keys, budget_2, producer, claim[14])
 end
 return {err = 'NEXUS_STALE'}
end
if now < budget_2[2] or budget_2[38] + budget_2[39] > 0 then
 now = rarely().steady(budget_2, now)
end
if producer and (producer[18] ~= budget_2[44] or producer[17] ~= claim[10]) then
 if rarely().is_owned(producer, budget_2, claim[10], now) then
  return {err = 'NEXUS_ID_TAKEN'}
 end
 producer = rarely().successor(producer, budget_2)
end
if now - budget_2[2] >= 500000 then
 rarely().note_gap(keys, budget_2, now)
end
if budget_2[28] > 0 and now >= budget_2[28] or budget_2[2] - now >= 1000000 then
 if not keys.history then
  return {err = 'NEXUS_NEEDS_KEYS'}
 end
 rarely().advance(keys, budget_2, now)
else
 do
  local dt = now - budget_2[2]
  budget_2[2] = now
  if dt < 0 then
   budget_2[27], budget_2[65] = budget_2[27] + dt > 0 and budget_2[27] + dt or 0, true
  end
  local rate_2, tokens_2, bucket_size_2 = budget_2[22], budget_2[4], budget_2[23]
  if budget_2[43] > 0 then
   rate_2 = rate_2 - math_floor(rate_2 / 2 < budget_2[43] and rate_2 / 2 or budget_2[43])
  end
  budget_2[49] = rate_2
  if dt > 0 and rate_2 > 0 then
   local room = bucket_size_2 - tokens_2
   if room <= 0 or dt >= room / rate_2 * 1000000 + 1 then
    budget_2[21] = budget_2[21] + (rate_2 * dt / 1000000 - room > 0 and rate_2 * dt / 1000000 - room or 0)
    tokens_2, budget_2[3] = bucket_size_2, 0
   else
    local part = rate_2 % 1000000 * dt + budget_2[3]
    tokens_2, budget_2[3] = tokens_2 + math_floor(rate_2 / 1000000) * dt + math_floor(part / 1000000), part % 1000000
    if tokens_2 >= bucket_size_2 then
     tokens_2, budget_2[3] = bucket_size_2, 0
    end
   end
   budget_2[4] = tokens_2
  end
  if now < budget_2[9] then
   budget_2[9] = now
  elseif now - budget_2[9] > budget_2[33] then
   budget_2[8] = now - budget_2[9] < 2 * budget_2[33] and budget_2[7] or 0
   budget_2[7], budget_2[9] = budget_2[4], now
  end
  budget_2[7] = budget_2[4] > budget_2[7] and budget_2[4] or budget_2[7]
 end
end
local learning, is_first = now < budget_2[27], not producer
producer = producer or rarely().new_producer(now)
if claim[13] > budget_2[5] then
 rarely().make_good(keys, budget_2, producer, claim, now)
end
if now >= budget_2[30] or budget_2[30] - now > budget_2[31] then
 rarely().roll_epoch(keys, budget_2, now)
 if not keys.history and not budget_2[66] and rarely().is_renewal_due(budget_2, now) then
  return {err = 'NEXUS_NEEDS_KEYS'}
 end
 rarely().sweep_producers(keys, now)
end
local returned, burned, credited
do
 local held, unused, burned_2 = claim[5], claim[6], claim[7]
 local owned = now <= producer[1] and producer[6] or 0
 local returned_2 = owned < unused and owned or unused
 local lost = producer[6] - returned_2 < burned_2 and producer[6] - returned_2 or burned_2
 local credited_2 = 0
 if returned_2 > 0 then
  local hand_back_1
  do
   local fits = math_max(0, math_min(returned_2, budget_2[23] - math_max(budget_2[4], budget_2[7], budget_2[8])))
   budget_2[4] = budget_2[4] + fits
   budget_2[7] = budget_2[4] > budget_2[7] and budget_2[4] or budget_2[7]
   hand_back_1 = fits
  end
  credited_2 = hand_back_1
 end
 producer[6] = producer[6] - returned_2 < held and producer[6] - returned_2 or held
 returned, burned, credited = returned_2, lost, credited_2
end
if is_first then
 rarely().pay_for_past(budget_2, producer, claim, learning)
end
if claim[10] ~= '' then
 do
  if is_first or producer[4] < budget_2[30] - budget_2[31] or producer[4] > now then
   budget_2[14] = budget_2[14] + 1
  end
 end
end
producer[2] = producer[8] == budget_2[29]
do
 local degraded = claim[16]
 if producer[2] and not budget_2[producer[11]] then
  rarely().read_rest(keys, budget_2)
 end
 repeat
  if producer[8] ~= budget_2[29] then
   break
  end
  local class = budget_2[producer[11]]
  class[7], class[8] = class[7] - producer[9], class[8] - producer[12]
  budget_2[10], budget_2[11] = budget_2[10] - producer[10], budget_2[11] - 1
  if producer[14] == 1 then
   class[5] = class[5] - producer[9]
  else
   class[6] = class[6] - producer[12]
  end
  break
 until true
 if degraded > 0 then
  rarely().pay_degraded(budget_2, producer, degraded, now)
 end
 local is_old
 do
  local share, is_old_2 = producer[16], false
  if share > 0 then
   if producer[4] >= budget_2[40] then
    budget_2[17] = budget_2[17] - share
   elseif producer[4] >= budget_2[41] then
    budget_2[18] = budget_2[18] - share
   else
    is_old_2 = true
   end
  elseif share < 0 then
   is_old_2 = producer[4] < budget_2[42]
   if not is_old_2 then
    budget_2[19], budget_2[20] = budget_2[19] + share, budget_2[20] - 1
   end
  end
  is_old = is_old_2
 end
 if is_old then
  rarely().withdraw_old_share(keys, budget_2, producer)
 end
end
local is_same
do
 is_same = producer[17] == claim[10] and producer[18] == budget_2[44] and producer[11] == claim[9] and producer[12] == claim[8]
end
producer[12], producer[11] = claim[8], claim[9]
local need = claim[2] > 0 and claim[1] == 0 and (1000000 < claim[2] and 1000000 or claim[2]) or claim[1]
local demand = claim[2] > 0 and (need / budget_2[31] * 1000000 > claim[3] and need / budget_2[31] * 1000000 or claim[3]) or claim[3]
repeat
 local budget_4, producer_3, demand_2, need_2 = budget_2, producer, math_floor(demand < budget_2[22] and demand or budget_2[22]), need
 local class_2 = budget_4[producer_3[11]]
 local under = demand_2 <= class_2[2] * producer_3[12] / 1000000
 producer_3[9], producer_3[10], producer_3[14], producer_3[8] = demand_2, 0, under and 1 or 0, 0
 if demand_2 <= 0 then
  break
 end
 producer_3[8], budget_4[11] = budget_4[29], budget_4[11] + 1
 class_2[7], class_2[8] = class_2[7] + demand_2, class_2[8] + producer_3[12]
 if under then
  class_2[5] = class_2[5] + demand_2
 else
  class_2[6] = class_2[6] + producer_3[12]
  producer_3[10] = budget_4[23] < need_2 and budget_4[23] or need_2
  budget_4[10] = budget_4[10] + producer_3[10]
 end
 break
until true
local class_3, refresh_2 = budget_2[producer[11]], 100000
local contended = class_3[1] < math_huge
local fair_rate
repeat
 if class_3[1] < math_huge then
  fair_rate = class_3[1] * producer[12] / 1000000 < budget_2[22] and class_3[1] * producer[12] / 1000000 or budget_2[22]
  break
 end
 local weight = class_3[8] > producer[12] and class_3[8] or producer[12]
 local rest = class_3[3] - class_3[7]
 fair_rate = math_min(budget_2[22], rest >= 0 and producer[9] + rest * producer[12] / weight or class_3[3] * producer[12] / weight)
 break
until true
local faster = class_3[4]
if budget_2[32] > 100000 and budget_2[46] == claim[9] then
 local trim_1
 repeat
  if budget_2[22] <= 0 then
   trim_1 = 0
   break
  end
  local depth = usual_depth(budget_2)
  if budget_2[36] == 1 then
   trim_1 = math_min(1.25, math_max(0, budget_2[4] - (1000000 > 0.8 * depth and 1000000 or 0.8 * depth)) / (0.2 * depth)) - 0.05 * (1 - budget_2[4] / (0.375 * depth) > 0 and 1 - budget_2[4] / (0.375 * depth) or 0)
   break
  end
  trim_1 = math_min(1.25, math_max(-0.2, budget_2[35] + 0.25 * (budget_2[4] - 0.375 * depth) / (0.5 * depth)))
  break
 until true
 faster = trim_1
end
local credit_rate = 1e-06 > (contended and fair_rate * (1 + faster) or fair_rate) and 1e-06 or (contended and fair_rate * (1 + faster) or fair_rate)
if credited > 0 and contended then
 do
  local most = math_max(PAYS_LEAST * credit_rate, PAYS_MOST * credit_rate < 2 * credited and PAYS_MOST * credit_rate or 2 * credited)
  producer[5] = math_max(-most < producer[5] and -most or producer[5], producer[5] - 4 * credited)
 end
end
if budget_2[32] > 100000 then
 local refresh_of_1
 repeat
  local budget_5, rate_3 = budget_2, fair_rate < demand and fair_rate or demand
  if rate_3 <= 0 then
   refresh_of_1 = budget_5[32]
   break
  end
  refresh_of_1 = math_ceil(math_max(100000, budget_5[22] / rate_3 / 10000 * 1000000 < budget_5[32] and budget_5[22] / rate_3 / 10000 * 1000000 or budget_5[32]))
  break
 until true
 refresh_2 = refresh_of_1
end
local is_rationed, cut = contended and (refresh_2 == 100000 or faster < 0.3), false
local granted_2, retry, met_in
repeat
 local cap = math_min(math_max(math_max(600000, 1.25 * refresh_2, budget_2[24]) / 1000000 * credit_rate, budget_2[23] < need and budget_2[23] or need), 9000000000000000.0)
 producer[5] = math_min(cap, producer[5] + credit_rate * (now - producer[4] > 0 and now - producer[4] or 0) / 1000000)
 local room_2 = producer[5] + cap * 1.02
 local depth_2 = usual_depth(budget_2)
 local spare = room_2 < budget_2[4] - 0.5 * depth_2 and room_2 or budget_2[4] - 0.5 * depth_2
 if claim[4] then
  spare = room_2 < budget_2[4] and room_2 or budget_2[4]
 elseif is_rationed then
  spare = math_max(need < spare and need or spare, room_2 < budget_2[4] - depth_2 and room_2 or budget_2[4] - depth_2)
 elseif budget_2[24] > 250000 then
  spare = room_2 < budget_2[4] and room_2 or budget_2[4]
 elseif budget_2[4] >= need then
  spare = math_max(spare, math_min(need, budget_2[23], room_2))
 end
 local piece = need
 if need > 0.25 * depth_2 and not claim[4] and not (budget_2[50] and budget_2[50].lossless == 1) then
  piece = math_min(need, math_max(1000000, 0.1 * credit_rate < 0.25 * depth_2 and 0.1 * credit_rate or 0.25 * depth_2))
 end
 local granted_3 = 0
 local tokens_3 = budget_2[4]
 if need < budget_2[15] and now < budget_2[16] then
  tokens_3 = tokens_3 - budget_2[15]
 end
 local has_time = producer[15] > 0 and now >= producer[4] + producer[15] - 0.005 * 1000000
 if refresh_2 == 100000 and budget_2[13] > now and not has_time and not (claim[4] and producer[5] >= need) then
  tokens_3 = tokens_3 - need
 end
 producer[15] = 0
 local credit = math_max(producer[5] + 0.005 * credit_rate, producer[5] + (1 - 0.9) * piece < piece and producer[5] + (1 - 0.9) * piece or piece)
 local available = (spare > credit and spare or credit) < tokens_3 and (spare > credit and spare or credit) or tokens_3
 if budget_2[22] > 0 and claim[2] > 0 then
  local first = claim[2] < need and claim[2] or need
  if available >= first then
   local unit = first < 1000000 and first or 1000000
   granted_3 = math_min(claim[2], first + unit * math_floor((available - first) / unit))
  elseif piece < need and available >= piece then
   granted_3 = math_floor(available / 1000000) * 1000000
  end
 end
 if claim[2] <= 0 then
  granted_2, retry, met_in = granted_3, 0, 0
  break
 end
 local longest = refresh_2 > 1000000 and refresh_2 or 1000000
 if budget_2[22] <= 0 then
  if budget_2[37] <= now or budget_2[37] >= 9000000000000000.0 then
   granted_2, retry, met_in = 0, longest, longest
   break
  end
  budget_2[13] = (budget_2[37] > budget_2[13] and budget_2[37] or budget_2[13]) + 1000000 / 10000
  granted_2, retry, met_in = 0, math_ceil(budget_2[13] - now < longest and budget_2[13] - now or longest), budget_2[37] - now < 86400000000 and budget_2[37] - now or 86400000000
  break
 end
 local enough = (is_rationed and not claim[4] and producer[5] or room_2) - granted_3
 local earning_rate = budget_2[49]
 local retry_2 = (piece - enough) / credit_rate * 1000000 > 0 and (piece - enough) / credit_rate * 1000000 or 0
 local until_earned = (piece - tokens_3 + granted_3) / earning_rate * 1000000
 local is_queued = granted_3 == 0 and until_earned > retry_2 or granted_3 > 0 and is_rationed and budget_2[36] == 1 and budget_2[13] > now
 retry_2 = until_earned > retry_2 and until_earned or retry_2
 if is_queued and refresh_2 == 100000 and not claim[4] then
  local slot = math_max(budget_2[13] + piece / earning_rate * 1000000, now + (piece - budget_2[4] + granted_3) / earning_rate * 1000000)
  if slot - now <= longest and (granted_3 == 0 or slot - now > 0.7 * retry_2) then
   budget_2[13] = slot
   retry_2 = math_ceil(slot - now > retry_2 and slot - now or retry_2)
   producer[15] = retry_2 < longest and retry_2 or longest
  end
 end
 if granted_3 > 0 and need >= budget_2[15] then
  budget_2[15] = 0
 elseif granted_3 == 0 and piece > 0.25 * depth_2 and producer[5] >= piece then
  budget_2[15], budget_2[16] = piece, now + retry_2 + 100000
 end
 local met_in_2 = math_max(0, (need - enough) / credit_rate, (need - tokens_3 + granted_3) / earning_rate) * 1000000
 granted_2, retry, met_in = granted_3, math_ceil(retry_2 < longest and retry_2 or longest), math_ceil(met_in_2 < 86400000000 and met_in_2 or 86400000000)
 break
until true
if refresh_2 > 100000 and claim[2] > 0 then
 local space_out_1
 repeat
  local budget_6, producer_4, claim_2, granted_4, retry_3, credit_rate_2, refresh_3, is_rationed_2, now_2 = budget_2, producer, claim, granted_2, met_in < retry and met_in or retry, credit_rate, refresh_2, is_rationed, now
  if budget_6[22] <= 0 then
   space_out_1 = retry_3
   break
  end
  local class_4 = budget_6[producer_4[11]]
  if not is_rationed_2 and class_4[1] < math_huge then
   producer_4[5] = granted_4 > producer_4[5] and granted_4 or producer_4[5]
  end
  local credit_2 = producer_4[5] - granted_4
  local unmet = credit_2 < claim_2[2] - granted_4 and credit_2 or claim_2[2] - granted_4
  if is_rationed_2 and granted_4 > 0 and unmet < 1000000 then
   retry_3 = math_max(retry_3, 0.85 * refresh_3 - (credit_2 > 0 and credit_2 or 0) / credit_rate_2 * 1000000)
  elseif unmet >= 1000000 or now_2 - producer_4[4] < refresh_3 / 2 then
   budget_6[13] = math_min((now_2 > budget_6[13] and now_2 or budget_6[13]) + (1 / 10000 > unmet / budget_6[22] and 1 / 10000 or unmet / budget_6[22]) * 1000000, now_2 + refresh_3)
   retry_3 = budget_6[13] - now_2 > retry_3 and budget_6[13] - now_2 or retry_3
  end
  space_out_1 = math_ceil(retry_3 < (refresh_3 > 1000000 and refresh_3 or 1000000) and retry_3 or (refresh_3 > 1000000 and refresh_3 or 1000000))
  break
 until true
 retry = space_out_1
end
if budget_2[50] then
 local admit_1, admit_2, admit_3
 do
  local came_at, is_whole = producer[4], claim[4]
  local window = budget_2[50]
  do
   local quarter = math_floor(now / window.quarter_us)
   if quarter < window.quarter then
    window.quarter = quarter
   end
   window.began_at = now < window.began_at and now or window.began_at
   local turns = 5 < quarter - window.quarter and 5 or quarter - window.quarter
   for _ = 1, turns do
    for i = 5, 2, -1 do
     window.snapshots[i] = window.snapshots[i - 1]
    end
    window.snapshots[1] = window.net
   end
   window.quarter = quarter
  end
  local lost_2 = returned
  if now - came_at < 4 * window.quarter_us - budget_2[33] then
   lost_2 = lost_2 + burned
  end
  if lost_2 > 0 then
   do
    window.net = window.net - lost_2
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
   if window.active == 0 or granted_2 == 0 then
    fits_2, later, is_cut = granted_2, retry, false
    break
   end
   local room_3 = window.edge - window.net
   local quiet
   do
    quiet = window.began_at + 4 * window.quarter_us - 3 * 250000 - now
   end
   if window.lossless == 1 and quiet > 0 then
    fits_2, later, is_cut = 0, (100000 > quiet and 100000 or quiet) < 1000000 and (100000 > quiet and 100000 or quiet) or 1000000, true
    break
   end
   if window.lossless == 0 and room_3 > 0 and window.net <= window.landed then
    room_3 = need > room_3 and need or room_3
   end
   if room_3 >= granted_2 then
    fits_2, later, is_cut = granted_2, retry, false
    break
   end
   local unit_2 = need < 1000000 and need or 1000000
   local fits_3 = math_max(0, math_floor(room_3 / unit_2) * unit_2)
   if is_whole and fits_3 < need then
    fits_3 = 0
   end
   fits_2, later, is_cut = fits_3, 100000 > retry and 100000 or retry, true
   break
  until true
  window.net = window.net + fits_2
  admit_1, admit_2, admit_3 = fits_2, later, is_cut
 end
 granted_2, retry, cut = admit_1, admit_2, admit_3
end
producer[5], budget_2[12] = producer[5] - granted_2, retry > budget_2[12] and retry or budget_2[12]
do
 budget_2[4] = budget_2[4] - granted_2
 local total = budget_2[6] + granted_2
 budget_2[5], budget_2[6] = budget_2[5] + math_floor(total / 1000000), total % 1000000
end
local recommended = math_floor(fair_rate < claim[3] and fair_rate or claim[3])
local lease
repeat
 local trip = claim[14]
 local lease_2 = refresh_2 * 5
 if trip == 0 or budget_2[50] and budget_2[50].lossless == 1 then
  lease = lease_2
  break
 end
 lease_2 = lease_2 + trip
 if lease_2 > budget_2[33] or budget_2[34] > 0 and budget_2[34] < now + lease_2 then
  budget_2[33], budget_2[34] = lease_2 > budget_2[33] and lease_2 or budget_2[33], now + 2 * lease_2
  budget_2[65] = true
 end
 lease = lease_2
 break
until true
producer[6], producer[1] = producer[6] + granted_2, now + lease + retry
local fallback
do
 local is_awaited = demand > 0
 if claim[2] > 0 then
  is_awaited = producer[6] > need or not claim[4] and (granted_2 < need or recommended < claim[3])
 end
 if claim[10] == '' or budget_2[32] > 100000 then
  is_awaited = false
 end
 local all, wanted, idle = budget_2[22] / 2, (fair_rate < demand and fair_rate or demand) / 2, budget_2[19]
 local has, had = claim[15], producer[16]
 if had < 0 then
  had = -had
 end
 if has > had then
  has = had
 end
 local kept = budget_2[43] + idle
 local share_2 = all - budget_2[17] - budget_2[18] - kept
 if is_awaited then
  if kept > 0 and all > 0 then
   wanted = wanted * (1 - kept / all)
  end
 else
  if wanted <= 0 then
   wanted = has
  end
  share_2 = math_min(share_2, all / 2 - idle, all / 2 / (budget_2[20] + 1))
 end
 if wanted < share_2 then
  share_2 = wanted
 end
 share_2 = share_2 > 0 and math_floor(share_2) or 0
 had = share_2 > has and share_2 or has
 if is_awaited then
  budget_2[17], producer[16] = budget_2[17] + had, had
 else
  if had > 0 then
   budget_2[19], budget_2[20] = idle + had, budget_2[20] + 1
  end
  producer[16] = -had
 end
 fallback = share_2
end
local reason_2
repeat
 local is_unmet = claim[2] > 0 and granted_2 < need
 if budget_2[22] <= 0 or budget_2[45] == 'no_consumers' then
  reason_2 = budget_2[45]
  break
 end
 if cut then
  reason_2 = 'window'
  break
 end
 if learning and claim[2] > 0 and budget_2[4] < 1000000 then
  reason_2 = 'learning'
  break
 end
 if recommended >= claim[3] and not is_unmet then
  reason_2 = 'ok'
  break
 end
 if contended and recommended + 1 < budget_2[22] then
  reason_2 = 'contended'
  break
 end
 reason_2 = budget_2[45]
 break
until true
local answer = pack('>i7I4I4i7i7c2I5', granted_2, retry, refresh_2, recommended, fallback, reason_2, met_in)
local is_new_id
repeat
 local is_known = producer[2] and is_same
 local is_passing = claim[10] == ''
 local second = math_floor(now / 1000000)
 local is_old_3 = not is_known and (is_passing or (second - producer[13]) % 65536 >= 60000000 / 1000000)
 if is_passing then
  local long_ago_1
  do
   long_ago_1 = math_floor((now - 60000000) / 1000000) % 65536
  end
  producer[13] = long_ago_1
 elseif is_old_3 then
  producer[13] = second % 65536
 end
 local is_shown = not is_known and (budget_2[32] <= 100000 or not is_same or is_old_3)
 local is_added = is_shown and show_producer(keys, producer, is_same, claim, fair_rate)
 local raw_3 = pack('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', claim[11], now, math_floor(producer[5]), producer[6], math_floor((producer[1] - now) / 32), producer[8], producer[9], producer[10], producer[11], producer[12], producer[13], producer[14], math_floor(producer[15] / 4), producer[16], claim[10], budget_2[44]) .. answer
 redis_call('SET', keys.memory, raw_3, 'KEEPTTL')
 if not is_shown then
  is_new_id = false
  break
 end
 local keep_ms = is_passing and math_max(5000, math_ceil(2 * budget_2[31] / 1000)) or (is_old_3 or is_added) and 600000
 if keep_ms then
  redis_call('PEXPIRE', keys.member, keep_ms)
  redis_call('PEXPIRE', keys.memory, keep_ms)
 end
 if is_passing then
  is_new_id = false
  break
 end
 is_new_id = redis_call('ZADD', keys.producers, string_format('%d', now), id_of(keys)) == 1
 break
until true
if is_new_id or budget_2[64] or budget_2[65] then
 rarely().write_whole(keys, budget_2, now, is_new_id)
else
 do
  local class_name_2 = producer[11]
  local class_5
  do
   local class_6 = budget_2[class_name_2]
   class_5 = pack('>dddddddd', unpack(class_6, 1, 8))
  end
  if class_name_2 == 'normal' then
   redis_call('SETRANGE', keys.state, 0, packed_bucket(budget_2) .. class_5)
  else
   redis_call('SETRANGE', keys.state, 0, packed_bucket(budget_2))
   redis_call('SETRANGE', keys.state, class_at(class_name_2), class_5)
  end
  if budget_2[50] then
   redis_call('SETRANGE', keys.state, budget_2[47] - 1, packed_window(budget_2[50]))
  end
 end
end
do
 local birth_2, granted_total = budget_2[44], budget_2[5]
 return string_format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted_2, retry, lease, refresh_2, recommended, fallback, budget_2[22], budget_2[25], math_floor(budget_2[26] / 1000), granted_total, birth_2, reason_2, budget_2[50] and budget_2[50].lossless or 0, budget_2[23], met_in > retry and string_format(' %d', met_in) or '')
end
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
