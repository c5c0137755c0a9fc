-- Made of lua/claim.lua by `make bundle` (SHA-256 332b18a9d067db74); `nexus-redis scripts claim` shows the source.
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
local function usual_depth(b)
 return 1000000 + b[22] * 250000 / 1000000 < b[23] and 1000000 + b[22] * 250000 / 1000000 or b[23]
end
local PAYS_LEAST, PAYS_MOST = 0.25, 2
local function read_claim()
 local ask = cjson.decode(ARGV[2])
 local need, want, demand, is_whole, held, unused, burned, weight, priority, incarnation, seq, birth, granted_total, trip, share, degraded = unpack(ask)
 share, degraded = share or 0, degraded or 0
 if need >= 0 and need <= 1000000000000000.0 and want >= 0 and want <= 1e+16 and demand >= 0 and demand <= 1e+16 and (is_whole == 0 or is_whole == 1) and held >= 0 and held <= 1e+16 and unused >= 0 and unused <= 1e+16 and burned >= 0 and burned <= 1e+16 and weight >= 10000 and weight <= 1000000000.0 and seq >= 0 and seq <= 9007199254740992 and granted_total >= 0 and granted_total <= 9007199254740992 and trip >= 0 and trip <= 1000000 and share >= 0 and share <= 1e+16 and degraded >= 0 and degraded <= 1e+16 and need % 1 + want % 1 + demand % 1 + held % 1 + unused % 1 + burned % 1 + weight % 1 + seq % 1 + granted_total % 1 + trip % 1 + share % 1 + degraded % 1 == 0 and (priority == 'normal' or priority == 'high' or priority == 'low') and type(birth) == 'string' and #birth <= 20 and incarnation and #ARGV == 2 and #ARGV[2] <= 340 and (#ask == 14 or #ask == 16) and (ARGV[1] == '0' or whole_number(ARGV[1], 0, 9007199254740992)) then
  ask[2], ask[4] = is_whole == 1 and (need > want and need or want) or want, is_whole == 1
  ask[15], ask[16] = share, degraded
  return ask
 end
end
local function show_producer(keys, p, is_same, ask, told)
 local added = redis_call('HSET', keys.member, 'demand_per_s', string_format('%.10g', ask[3] / 1000000), 'share_per_s', string_format('%.10g', told / 1000000), 'held', string_format('%.10g', p[6] / 1000000))
 if is_same then
  return added > 0
 end
 if p[11] == 'normal' and p[12] == 1000000 then
  redis_call('HDEL', keys.member, 'priority', 'weight')
 else
  redis_call('HSET', keys.member, 'priority', p[11], 'weight', string_format('%.10g', p[12] / 1000000))
 end
 return added > 0
end
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
 local function packed_bucket_2(b)
  return pack('>ddddddddddddddddddddd', unpack(b, 1, 21))
 end
 local function packed_window_2(w)
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
   R = R - math.floor(R / 2 < b[43] and R / 2 or b[43])
  end
  b[49] = R
  if dt > 0 and R > 0 then
   local room = B - T
   if room <= 0 or dt >= room / R * 1000000 + 1 then
    b[21] = b[21] + (R * dt / 1000000 - room > 0 and R * dt / 1000000 - room or 0)
    T, b[3] = B, 0
   else
    local part = R % 1000000 * dt + b[3]
    T, b[3] = T + math.floor(R / 1000000) * dt + math.floor(part / 1000000), part % 1000000
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
 local function usual_depth_2(b)
  return 1000000 + b[22] * 250000 / 1000000 < b[23] and 1000000 + b[22] * 250000 / 1000000 or b[23]
 end
 local function trim(b)
  if b[22] <= 0 then
   return 0
  end
  local depth = usual_depth_2(b)
  if b[36] == 1 then
   return math.min(1.25, math.max(0, b[4] - (1000000 > 0.8 * depth and 1000000 or 0.8 * depth)) / (0.2 * depth)) - 0.05 * (1 - b[4] / (0.375 * depth) > 0 and 1 - b[4] / (0.375 * depth) or 0)
  end
  return math.min(1.25, math.max(-0.2, b[35] + 0.25 * (b[4] - 0.375 * depth) / (0.5 * depth)))
 end
 local function long_ago(now)
  return math.floor((now - 60000000) / 1000000) % 65536
 end
 local function slot_length(lease, transit, interval)
  return math.ceil((lease + transit + 3 * (250000 > interval and 250000 or interval)) / 4)
 end
 local function quiet_us(w, now)
  return w.born + 4 * w.slot_us - 3 * 250000 - now
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
 local function fault_of_names(keys, ask)
  if not is_budget(keys.budget) or not is_name(id_of_2(keys)) then
   return 'NEXUS_INVALID_KEYS'
  end
  if type(ask[10]) ~= 'string' or ask[10] ~= '' and not is_name(ask[10]) then
   return 'NEXUS_INVALID_INCARNATION'
  end
  return not string.find(ask[12], '^[%w._-]*$') and 'NEXUS_INVALID_BIRTH'
 end
 local function date_of(us)
  local ms = math.floor(us / 1000)
  local s = math.floor(ms / 1000)
  local days = math.floor(s / 86400)
  local from_march = days + 719468
  local era = math.floor(from_march / 146097)
  local of_era = from_march - era * 146097
  local years = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * years + math.floor(years / 4) - math.floor(years / 100))
  local march = math.floor((5 * of_year + 2) / 153)
  local day, month = of_year - math.floor((153 * march + 2) / 5) + 1, march < 10 and march + 3 or march - 9
  local year = era * 400 + years + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(s / 3600) % 24, math.floor(s / 60) % 60, s % 60, ms % 1000)
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
 local function write_summary(keys, b, now)
  local list = {'HSET', keys.budget, 'schema', whole(3), 'birth', whole(b[44]), 'updated_at', date_of(now), 'rate_per_s', plain(b[22]), 'level', whole(b[25]), 'load_percent', plain(b[26]), 'reason', b[45], 'tokens', string.format('%.6f', b[4] / 1000000), 'burst_s', plain(b[24]), 'granted_total', whole(b[5])}
  local function add(field, text)
   list[#list + 1] = field
   list[#list + 1] = text
  end
  for _, name in ipairs(CLASSES) do
   add('fair_level_' .. name .. '_per_s', fair_level(b[name]))
  end
  if b[66] or b[68] or now - b[61] > 2 * b[31] then
   add('demand_per_s', plain(b[68] and math.floor(b[70]) or 0))
   add('producers_in_demand', whole(b[68] and b[71] or 0))
   local past = now - b[61]
   add('granted_per_s', past > 0 and plain(math.floor((b[5] - b[62]) * 1000000 / past * 1000000)) or '0')
   b[61], b[62] = now, b[5]
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
  local b
  do
   local b_2 = {}
   b_2[1] = 3
   b_2[2], b_2[3], b_2[4], b_2[5], b_2[6], b_2[7], b_2[8], b_2[9] = now, 0, 0, 0, 0, 0, 0, now
   b_2[10], b_2[11], b_2[12], b_2[13], b_2[14], b_2[15], b_2[16] = 0, 0, 0, 0, 0, 0, 0
   b_2[22], b_2[23], b_2[24], b_2[25], b_2[26], b_2[27], b_2[28] = 0, 0, 250000, 3, 0, now + 500000, schema and now or 0
   b_2[29], b_2[30], b_2[31], b_2[32], b_2[33], b_2[34] = 1, now + 250000, 250000, 100000, 500000, 0
   b_2[17], b_2[18], b_2[19], b_2[20], b_2[40], b_2[41], b_2[42] = 0, 0, 0, 0, now, now, now
   b_2[43], b_2[56], b_2[57], b_2[58], b_2[21], b_2[59], b_2[60] = 0, 0, 0, 0, 0, 0, 0
   b_2[35], b_2[36], b_2[37], b_2[38], b_2[39], b_2[44], b_2[45], b_2[46] = 0, 0, 0, 0, 0, now, 'unset', ''
   b_2[51], b_2[52], b_2[53], b_2[54], b_2[55], b_2[61], b_2[62] = 0, 0, 1020000, 0, 0, now, 0
   b_2[66], b_2[64], b_2[67] = true, true, true
   for _, name in ipairs(CLASSES) do
    b_2[name] = {math.huge, math.huge, 0, 0, 0, 0, 0, 0}
   end
   b = b_2
  end
  for __2, field in ipairs(schema and redis.call('HKEYS', keys.budget) or {}) do
   if string.find(field, '_operator') then
    b[55] = 1
   end
  end
  return b
 end
 local function read_rest(keys, b)
  if b[64] then
   return
  end
  b[64] = true
  b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59], b[60], b[61], b[62] = unpacked('>dddddddddddd', b[48], 1 + 45 * WIDE)
  for _, name in ipairs(CLASSES) do
   b[name] = b[name] or read_class_2(b[48], name)
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
   return string.sub(b[48], 1 + 57 * WIDE, 67 * WIDE)
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
   b[2] = math.max(b[2], (b[39] < now and b[39] or now) - 5000000)
   if now >= b[39] then
    b[39], b[65] = 0, true
   end
  end
  return now
 end
 local function is_lost(keys)
  return redis.call('HLEN', keys.budget) == 0
 end
 local function pay_for_past(b, p, ask)
  local before = b[4]
  b[4] = math.min(b[4], b[4] - ask[5] > -b[23] and b[4] - ask[5] or -b[23])
  p[6] = before - b[4]
 end
 local function is_renewal_due(b, now)
  return now - b[54] >= 60000000 or now < b[54]
 end
 local function write_whole(keys, b, now, may_be_new)
  if b[69] then
   redis.call('DEL', keys.budget, keys.state)
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
  local state = {packed_bucket_2(b), packed_class(b['normal']), packed_class(b['high']), packed_class(b['low']), pack('>dddddddddddd', b[51], b[52], b[53], b[54], b[55], b[56], b[57], b[58], b[59], b[60], b[61], b[62]), packed_sums(b), pack('>dddddddddddddddddddddddss', unpack(b, 22, 46)), b[50] and packed_window_2(b[50]) or ''}
  redis.call('SET', keys.state, table.concat(state), 'KEEPTTL')
  if may_be_new then
   do
    for place, key in pairs(keys) do
     if place ~= 'member' and place ~= 'memory' then
      if b[55] == 1 then
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
  local p = {}
  p[3], p[4], p[5], p[6], p[8], p[9], p[10], p[12], p[14] = 0, now, 0, 0, 0, 0, 0, 0, 1
  p[1], p[13], p[15], p[16] = 0, long_ago(now), 0, 0
  return p
 end
 local function is_owned(p, b, now)
  return p[17] ~= '' and now >= p[4] and now < (p[1] < p[4] + b[33] and p[1] or p[4] + b[33])
 end
 local function successor(p, b)
  if p[18] ~= b[44] then
   return nil
  end
  p[5], p[6], p[1] = 0 < p[5] and 0 or p[5], 0, 0
  return p
 end
 local function note_gap(keys, b, now)
  read_rest(keys, b)
  b[59], b[60] = math.floor((b[4] > 0 and b[4] or 0) + b[22] / 1000000 * (now - b[2])), now + 2000000
 end
 local function make_good(keys, b, p, seen, now)
  read_rest(keys, b)
  local w, before = b[50], b[5]
  do
   local missing, lost = (seen - b[5]) * 1000000, 0
   if now < b[60] then
    lost = b[59] < missing and b[59] or missing
    b[59] = b[59] - lost
   end
   local own = math.min(missing - lost, math.max(0, p[5] + b[23] < b[4] - lost and p[5] + b[23] or b[4] - lost))
   p[5] = p[5] - own
   b[4] = math.min(b[4], b[4] - lost - own > -b[23] and b[4] - lost - own or -b[23])
   local total = b[6] + lost + own
   if lost + own >= missing then
    b[5], b[6] = seen, 0
   else
    b[5], b[6] = b[5] + math.floor(total / 1000000), total % 1000000
   end
  end
  if not w then
   return
  end
  local missing_2 = (b[5] - before > 0 and b[5] - before or 0) * 1000000
  do
   local slot = math.floor(now / w.slot_us)
   if slot < w.slot then
    w.slot = slot
   end
   w.born = now < w.born and now or w.born
   local turns = 5 < slot - w.slot and 5 or slot - w.slot
   for _ = 1, turns do
    for i = 5, 2, -1 do
     w.snaps[i] = w.snaps[i - 1]
    end
    w.snaps[1] = w.net
   end
   w.slot = slot
  end
  w.net = w.net + missing_2
  if w.lossless == 1 and quiet_us(w, now) <= 0 then
   w.born = now
  end
 end
 local function remembered(keys, b, p, trip)
  local granted, retry, refresh, recommended, fallback, letters, wait = unpacked('>i7I4I4i7i7c2I5', redis.call('GET', keys.memory), p[19])
  local reason
  for _, word in ipairs({'ok', 'rate', 'load', 'contended', 'learning', 'window', 'paused', 'no_consumers', 'unset'}) do
   if string.sub(word, 1, 2) == string.sub(letters, 1, 2) then
    reason = word
   end
  end
  local is_lossless = b[50] and b[50].lossless == 1
  do
   local lease, reason_2, birth, granted_total = refresh * 5 + (is_lossless and 0 or trip), reason or 'ok', p[18], p[18] == b[44] and b[5] or 0
   return string.format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted, retry, lease, refresh, recommended, fallback, b[22], b[25], math.floor(b[26] / 1000), granted_total, birth, reason_2, b[50] and b[50].lossless or 0, b[23], wait > retry and string.format(' %d', wait) or '')
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
  parts.arrivals = parts.arrivals - math.floor(rate / score(keys.ratios, id))
  for _, key in ipairs({keys.rates, keys.capacities, keys.loads, keys.ratios}) do
   redis.call('ZREM', key, id)
  end
 end
 local function withdraw_space(keys, parts, id)
  local free = score(keys.frees, id)
  if not free then
   return
  end
  parts.bounded, parts.free = parts.bounded - 1, parts.free - free
  redis.call('ZREM', keys.frees, id)
  redis.call('ZREM', keys.edges, id)
 end
 local function least(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or nil
 end
 local function sweep_consumers(keys, parts, combine, now)
  local fell = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.consumers, '-inf', whole(now), 'LIMIT', 0, 16)) do
   if score(keys.rates, id) then
    withdraw_rate(keys, parts, id)
    if combine == 'sum' then
     withdraw_space(keys, parts, id)
    end
    redis.call('ZADD', keys.consumers, whole(now + 10000000), id)
    fell = fell + 1
   else
    do
     withdraw_rate(keys, parts, id)
     withdraw_space(keys, parts, id)
     redis.call('ZREM', keys.consumers, id)
    end
   end
  end
  return fell
 end
 local function silent_consumers(keys, parts)
  return redis.call('ZCARD', keys.consumers) - parts.live
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
 local function burst_of(R, burst_us)
  if R <= 0 then
   return 0
  end
  return math.min(1000000 + math.floor(R * burst_us / 1000000), 9000000000000000.0)
 end
 local function combined_load(keys, parts, combine)
  if combine == 'sum' and parts.capacity > 0 then
   return parts.load / parts.capacity
  end
  local first = redis.call('ZREVRANGE', keys.loads, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or 0
 end
 local function grace_end(s)
  return s.parts.live == 0 and s.last_end == 'left' and s.left + s.grace or 0
 end
 local function advance(keys, b, now)
  if not b[66] and is_lost(keys) then
   read_rest(keys, b)
   b[69] = true
   return refill(b, now)
  end
  local is_back = b[2] - now >= 1000000
  if is_back or b[28] > 0 and now >= b[28] then
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
       redis.call('XLEN', key)
      elseif place == 'state' or place == 'memory' then
       redis.call('STRLEN', key)
      elseif place == 'member' then
       redis.call('HLEN', key)
      elseif place ~= 'budget' then
       size[place] = redis.call('ZCARD', key)
      end
     end
     are_whole_1 = size.rates == parts.live and size.capacities == parts.live and size.loads == parts.live and size.ratios == parts.live and size.frees == parts.bounded and size.consumers >= parts.live and can_be_sum(keys.rates, parts.live, parts.rate) and can_be_sum(keys.frees, parts.bounded, parts.free)
    end
    s.is_whole = are_whole_1
    s.paused_until = number_of(fields.paused_until_us)
    read_settings_1 = s
   end
   b[72] = read_settings_1
  end
  if is_back then
   do
    local s_3 = b[72]
    local step = b[2] - now
    for __3, id in ipairs(redis.call('ZRANGE', keys.consumers, 0, -1)) do
     redis.call('ZINCRBY', keys.consumers, whole(-step), id)
    end
    if s_3.paused_until > 0 and s_3.paused_until < 9000000000000000.0 then
     s_3.paused_until = s_3.paused_until - step > 0 and s_3.paused_until - step or 0
     redis.call('HSET', keys.budget, 'paused_until_us', whole(s_3.paused_until), 'paused_until', pause_end(s_3.paused_until) or '')
     b[37] = s_3.paused_until
    end
    if s_3.left > 0 then
     s_3.left = s_3.left - step > 0 and s_3.left - step or 0
     redis.call('HSET', keys.budget, 'left_us', whole(s_3.left))
    end
    b[28] = b[28] - step > 0 and b[28] - step or 0
   end
  end
  local resumed = b[37] > b[2] and now >= b[37]
  refill(b, resumed and b[37] or now)
  if b[28] > 0 and now >= b[28] then
   do
    local s_4, is_act, act = b[72], nil, nil
    redis.call('HSET', keys.budget, 'schema', whole(3))
    repeat
     if s_4.is_whole then
      break
     end
     s_4.is_whole, s_4.last_end = true, 'silent'
     for __4, name_4 in ipairs({'live', 'rate', 'capacity', 'load', 'arrivals', 'bounded', 'free'}) do
      s_4.parts[name_4] = 0
     end
     redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
     for __5, place_2 in ipairs({'consumers', 'rates', 'capacities', 'loads', 'ratios', 'frees', 'edges'}) do
      redis.call('DEL', keys[place_2])
     end
     break
    until true
    local parts_2 = s_4.parts
    if sweep_consumers(keys, parts_2, s_4.combine, now) > 0 and parts_2.live == 0 then
     s_4.last_end = 'silent'
     redis.call('HSET', keys.budget, 'last_consumer_end', 'silent')
    end
    local rate, level, load, reason
    repeat
     local parts_3 = s_4.parts
     local load_2 = parts_3.live > 0 and math.floor(combined_load(keys, parts_3, s_4.combine) + 0.5) or 0
     local level_at_1
     do
      local load_percent, was = load_2 / 1000, parts_3.load_level
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
     parts_3.load_level = level_at_1
     if s_4.paused_until > now then
      rate, level, load, reason = 0, 3, load_2, 'paused'
      break
     end
     if parts_3.live > 0 then
      if s_4.combine == 'min' and silent_consumers(keys, parts_3) > 0 then
       rate, level, load, reason = s_4.min_rate, 3, load_2, 'no_consumers'
       break
      end
      local rate_2
      repeat
       local combine = s_4.combine
       if combine == 'sum' then
        rate_2 = MOST < parts_3.rate and MOST or parts_3.rate
        break
       end
       local lowest = least(keys.rates)
       if combine == 'min' then
        rate_2 = lowest
        break
       end
       local rate_3 = math.min(parts_3.rate, 50 * lowest, MOST)
       if parts_3.arrivals > 0 then
        rate_3 = math.min(rate_3, parts_3.arrivals * least(keys.ratios))
       end
       rate_2 = math.floor(rate_3 + 0.5)
       break
      until true
      if s_4.rate and rate_2 >= s_4.rate then
       rate, level, load, reason = s_4.rate, parts_3.load_level, load_2, 'rate'
       break
      end
      if rate_2 == 0 then
       rate, level, load, reason = 0, 3, load_2, 'paused'
       break
      end
      rate, level, load, reason = s_4.min_rate > rate_2 and s_4.min_rate or rate_2, parts_3.load_level, load_2, 'load'
      break
     end
     if s_4.last_end == 'silent' then
      rate, level, load, reason = s_4.min_rate, 3, 0, 'no_consumers'
      break
     end
     if s_4.lossless == 1 then
      rate, level, load, reason = 0, 3, 0, 'window'
      break
     end
     if s_4.rate and s_4.left_rate < s_4.rate and now < grace_end(s_4) then
      rate, level, load, reason = s_4.min_rate > s_4.left_rate and s_4.min_rate or s_4.left_rate, 0, 0, 'load'
      break
     end
     if s_4.rate then
      rate, level, load, reason = s_4.rate, 0, 0, 'rate'
      break
     end
     rate, level, load, reason = s_4.min_rate, 3, 0, s_4.last_end and 'no_consumers' or 'unset'
     break
    until true
    local turned = level ~= b[25] or reason ~= b[45]
    parts_2.told = b[22] > parts_2.told and b[22] or parts_2.told
    local is_drop = rate < b[22] and 100 * rate <= (100 - 10) * parts_2.told
    local is_rise = b[22] == 0 and rate > 0 and not b[66]
    local is_told = is_drop or is_rise or level == 3 and b[25] < 3
    if turned or b[66] or rate ~= b[22] or s_4.burst ~= b[24] or load * 1000 ~= b[26] then
     do
      local burst_us = s_4.burst
      local B = rate > 0 and burst_of(rate, burst_us) or b[23]
      read_rest(keys, b)
      if rate ~= b[22] then
       for __6, name_5 in ipairs(CLASSES) do
        local class = b[name_5]
        if b[22] > 0 and rate > 0 then
         class[1], class[2], class[3] = class[1] * (rate / b[22]), class[2] * (rate / b[22]), math.floor(class[3] * (rate / b[22]))
        else
         class[1], class[2], class[3] = math.huge, math.huge, rate
        end
       end
       b[3] = 0
       b[13] = 0
      end
      b[22], b[23], b[24], b[49] = rate, B, burst_us, rate - math.floor(rate / 2 < b[43] and rate / 2 or b[43])
      if rate > 0 and b[53] > 0 then
       b[4], b[53] = b[4] + b[53], 0
      end
      b[4] = B < b[4] and B or b[4]
      b[67] = true
     end
     b[25], b[26], b[45] = level, load * 1000, reason
    end
    if is_act or turned or math.abs(rate - parts_2.noted) > 0.1 * parts_2.noted then
     parts_2.noted = rate
     do
      local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(b[22]), 'level', whole(b[25]), 'load_percent', plain(b[26]), 'reason', b[45], 'by', 'deadline'}
      for __7, field in ipairs({'who', 'what', 'why'}) do
       local told = act and act[field]
       if told and told ~= '' then
        entry[#entry + 1] = field
        entry[#entry + 1] = told
       end
      end
      redis.call(unpack(entry))
      read_rest(keys, b)
      if b[55] == 0 then
       redis.call('PEXPIRE', keys.history, 604800000)
      end
     end
    end
    if is_told then
     do
      redis.pcall('PUBLISH', keys.budget .. ':flow', string.format('%.0f %.0f %.0f %.0f %s', b[44], b[5], b[22], b[25], b[45]))
     end
     parts_2.told = rate
    end
    repeat
     if s_4.lossless == 1 and not b[50] then
      local new_window_1
      do
       local now_2, slot_us = now, slot_length(b[33], s_4.transit, 250000)
       new_window_1 = {active = 0, edge = 0, net = 0, A = 0, slot = math.floor(now_2 / slot_us), slot_us = slot_us, lossless = 0, born = now_2, snaps = {0, 0, 0, 0, 0}}
      end
      b[50] = new_window_1
     end
     local w, parts_4 = b[50], s_4.parts
     if not w then
      break
     end
     repeat
      local combine_2 = s_4.combine
      if w.net < 4000000000000000.0 then
       break
      end
      local base, edges = combine_2 == 'min' and w.net or w.A, redis.call('ZRANGE', keys.edges, 0, -1, 'WITHSCORES')
      for i_2 = 1, 5 do
       base = w.snaps[i_2] < base and w.snaps[i_2] or base
      end
      for i_3 = 1, #edges, 2 do
       base = math.min(base, tonumber(edges[i_3 + 1]) - score(keys.frees, edges[i_3]))
      end
      w.net, w.A = w.net - base, w.A - base > 0 and w.A - base or 0
      for i_4 = 1, 5 do
       w.snaps[i_4] = w.snaps[i_4] - base
      end
      for i_5 = 1, #edges, 2 do
       redis.call('ZADD', keys.edges, whole(tonumber(edges[i_5 + 1]) - base), edges[i_5])
      end
      break
     until true
     w.lossless = s_4.lossless
     local cold = redis.call('ZCOUNT', keys.capacities, 0, 0)
     w.active = (s_4.lossless == 1 or cold > 0 and parts_4.bounded >= parts_4.live) and 1 or 0
     if s_4.combine == 'min' then
      local known = redis.call('ZCARD', keys.edges) == redis.call('ZCARD', keys.consumers)
      w.edge = known and least(keys.edges) or (w.net < w.A and w.net or w.A)
     elseif s_4.combine == 'spread' then
      w.edge = w.A + (least(keys.frees) or 0)
     else
      w.edge = w.A + parts_4.free
     end
     break
    until true
    b[28], b[65] = least(keys.consumers) or 0, true
    b[37] = s_4.paused_until > now and s_4.paused_until or 0
    for __8, at in ipairs({b[37], grace_end(s_4)}) do
     if at > now and (b[28] == 0 or at < b[28]) then
      b[28] = at
     end
    end
   end
  end
  if resumed then
   refill(b, now)
  end
 end
 local function beyond_rounding(b, sum)
  return sum > b[22] / 1000000.0 and sum or 0
 end
 local function withdraw_old_share(keys, b, p)
  read_rest(keys, b)
  local share = math.abs(p[16])
  local is_old, part = p[4] < b[42], 1
  if is_old then
   part = 2 ^ (-math.floor((b[42] - p[4]) / 30000000))
  end
  share, b[65] = math.min(math.floor(share * part), p[16] > 0 and b[43] or b[19]), true
  if p[16] > 0 then
   b[43] = beyond_rounding(b, b[43] - share)
   b[56] = math.min(b[43], is_old and (b[56] - share > 0 and b[56] - share or 0) or b[56])
  else
   b[19], b[20] = b[19] - share, b[20] - part > 0 and b[20] - part or 0
   b[57], b[58] = b[57] - share > 0 and b[57] - share or 0, b[58] - part > 0 and b[58] - part or 0
  end
 end
 local function pay_degraded(b, p, degraded, now)
  local alone = now - p[4] > 0 and now - p[4] or 0
  if p[16] > 0 then
   alone = math.min(alone, 2 * math.max(1000000, b[33], b[31]))
  end
  local owed = math.min(degraded, math.abs(p[16]) * alone / 1000000)
  local paid = b[21] < owed and b[21] or owed
  owed, b[21] = math.floor(owed - paid), b[21] - paid
  b[4], p[5] = math.min(b[4], b[4] - owed > -2 * b[22] and b[4] - owed or -2 * b[22]), p[5] - owed
 end
 local function roll_epoch(keys, b, now)
  b[69] = is_lost(keys)
  read_rest(keys, b)
  repeat
   if now < b[40] then
    b[40], b[41] = now, b[41] < now and b[41] or now
   end
   b[19], b[20] = b[19] > b[57] and b[19] or b[57], b[20] > b[58] and b[20] or b[58]
   repeat
    b[42] = now < b[42] and now or b[42]
    local halvings = math.floor((now - b[42]) / 30000000)
    if halvings < 1 then
     break
    end
    local part = 2 ^ (1 - halvings)
    b[43] = math.floor((b[43] - b[56] / 2) * part)
    b[19] = math.floor((b[19] - b[57] / 2) * part)
    b[20] = (b[20] - b[58] / 2) * part
    b[56], b[57], b[58] = b[43], b[19], b[20]
    b[42] = b[42] + halvings * 30000000
    break
   until true
   local turn = math.max(1000000, b[33], b[31])
   if now - b[40] < turn then
    break
   end
   local silence = now - b[40] - turn
   if silence < 30000000 then
    b[43], b[18], b[17] = b[43] + beyond_rounding(b, b[18]), beyond_rounding(b, b[17]), 0
    b[41] = b[40]
   else
    if silence < 300000000 then
     b[43] = b[43] + math.floor((b[18] + b[17]) * 2 ^ (-math.floor(silence / 30000000)))
    end
    b[18], b[17], b[41] = 0, 0, now
   end
   b[40], b[21] = now, b[21] / 2
   break
  until true
  local R, crowd = b[49], b[14]
  b[68], b[70], b[71] = true, 0, b[11]
  for _, name in ipairs(CLASSES) do
   local class = b[name]
   b[70] = b[70] + class[7]
  end
  local function empty()
   for __2, name_2 in ipairs(CLASSES) do
    local class_2 = b[name_2]
    class_2[5], class_2[6], class_2[7], class_2[8] = 0, 0, 0, 0
   end
   b[10], b[11], b[14], b[29] = 0, 0, 0, b[29] + 1
  end
  local is_cut = b[30] - now > b[31]
  local is_silent = now - b[30] > b[31]
  if is_silent then
   crowd, b[70], b[71] = 0, 0, 0
   empty()
  end
  local left, kept, is_contended = R, 0, false
  for __2, name_2 in ipairs(CLASSES) do
   local class_2 = b[name_2]
   kept = kept + (0.05 * R < class_2[7] and 0.05 * R or class_2[7])
  end
  for __3, name_3 in ipairs(CLASSES) do
   local class_3 = b[name_3]
   kept = kept - (0.05 * R < class_3[7] and 0.05 * R or class_3[7])
   class_3[3] = math.floor(0.05 * R > left - kept and 0.05 * R or left - kept)
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
   local depth = usual_depth_2(b)
   b[36] = b[10] > depth / 4 and 1 or 0
   if is_contended and b[22] > 0 and b[36] == 0 then
    b[35] = math.min(1, math.max(-0.2, b[35] + 0.05 * (b[4] - 0.375 * depth) / (0.5 * depth)))
   else
    b[35] = 0
   end
   b[52] = is_contended and trim(b) or 0
  end
  b[46] = ''
  for __4, name_4 in ipairs(CLASSES) do
   local class_4 = b[name_4]
   class_4[4] = b[46] == '' and b[52] or 0
   if b[46] == '' and class_4[1] < math.huge then
    b[46] = name_4
   end
  end
  empty()
  local refresh_before = b[32]
  if not is_cut and not (is_silent and now - b[30] < 600000 * 1000) then
   repeat
    if now >= b[34] then
     b[33], b[34] = b[32] * 5, 0
    end
    local wanted = 0
    if not (b[50] and b[50].lossless == 1) then
     wanted = crowd / 10000 * 1000000
    end
    if wanted <= b[32] and wanted >= b[32] / 2 then
     break
    end
    local before = b[32]
    b[32] = math.ceil((wanted > 100000 and wanted or 100000) < 60000000 and (wanted > 100000 and wanted or 100000) or 60000000)
    if b[32] < before then
     b[34] = now + b[33]
    elseif b[32] * 5 >= b[33] then
     b[33], b[34] = b[32] * 5, 0
    end
    break
   until true
  end
  b[31] = math.ceil(math.max(250000, 1.5 * (b[32] > refresh_before and b[32] or refresh_before), 1.1 * (b[51] > b[12] and b[51] or b[12])))
  b[30] = now + b[31]
  b[51], b[12] = b[12], 0
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
local is_read, ask = pcall(read_claim)
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
if not is_read or not ask then
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
local p
repeat
 local raw = redis_call('GET', keys.memory)
 if not raw then
  p = nil
  break
 end
 local p_2 = {nil, nil, unpacked('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', raw)}
 p_2[1], p_2[15] = p_2[4] + p_2[7] * 32, p_2[15] * 4
 p_2[11] = p_2[11] == 'n' and 'normal' or p_2[11] == 'h' and 'high' or 'low'
 p = p_2
 break
until true
if not p or p[17] ~= ask[10] then
 local fault = rarely().fault_of_names(keys, ask)
 if fault then
  return {err = fault}
 end
end
local b, newer
repeat
 local class_name = ask[9]
 local raw_2 = redis_call('GET', keys.state)
 if not raw_2 then
  b, newer = nil
  break
 end
 local schema, at_2, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved, saved_until, fresh, late, idle, idlers, spilled = unpacked('>ddddddddddddddddddddd', raw_2)
 if schema > 3 and schema < 1000 and schema % 1 == 0 then
  b, newer = nil, true
  break
 end
 local R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth, reason, taker, next = unpacked('>dddddddddddddddddddddddss', raw_2, 1 + 67 * WIDE)
 local sum = at_2 + rest + T + granted + granted_rest + top + top_before + half + needs + demanding + retry_max + queue + crowd + saved + saved_until + fresh + late + idle + idlers + spilled + R + B + burst_us + level + load + learns_until + due + number + ends + length + refresh + span + span_until + ui + is_scarce + resumes + behind + high + turned + turned_before + halved + lost + birth
 if schema ~= 3 or sum - sum ~= 0 then
  error('damaged')
 end
 local b_2 = {schema, at_2, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved, saved_until, fresh, late, idle, idlers, spilled, R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth, reason, taker, next, raw_2, R, next <= #raw_2 and read_window(raw_2, next) or nil, [class_name] = read_class(raw_2, class_name)}
 b, newer = b_2
 break
until true
if not b and not newer then
 b, newer = rarely().first_budget(keys, now)
end
if newer then
 return {err = 'NEXUS_SCHEMA'}
end
if p and p[17] == ask[10] and ask[10] ~= '' and ask[11] <= p[3] then
 if ask[11] == p[3] then
  return rarely().remembered(keys, b, p, ask[14])
 end
 return {err = 'NEXUS_STALE'}
end
if now < b[2] or b[38] + b[39] > 0 then
 now = rarely().steady(b, now)
end
if p and (p[18] ~= b[44] or p[17] ~= ask[10]) then
 if p[17] ~= ask[10] and rarely().is_owned(p, b, now) then
  return {err = 'NEXUS_ID_TAKEN'}
 end
 p = rarely().successor(p, b)
end
if now - b[2] >= 500000 then
 rarely().note_gap(keys, b, now)
end
if b[28] > 0 and now >= b[28] or b[2] - now >= 1000000 then
 if not keys.history then
  return {err = 'NEXUS_NEEDS_KEYS'}
 end
 rarely().advance(keys, b, now)
else
 do
  local dt = now - b[2]
  b[2] = now
  if dt < 0 then
   b[27], b[65] = b[27] + dt > 0 and b[27] + dt or 0, true
  end
  local R_2, T_2, B_2 = b[22], b[4], b[23]
  if b[43] > 0 then
   R_2 = R_2 - math_floor(R_2 / 2 < b[43] and R_2 / 2 or b[43])
  end
  b[49] = R_2
  if dt > 0 and R_2 > 0 then
   local room = B_2 - T_2
   if room <= 0 or dt >= room / R_2 * 1000000 + 1 then
    b[21] = b[21] + (R_2 * dt / 1000000 - room > 0 and R_2 * dt / 1000000 - room or 0)
    T_2, b[3] = B_2, 0
   else
    local part = R_2 % 1000000 * dt + b[3]
    T_2, b[3] = T_2 + math_floor(R_2 / 1000000) * dt + math_floor(part / 1000000), part % 1000000
    if T_2 >= B_2 then
     T_2, b[3] = B_2, 0
    end
   end
   b[4] = T_2
  end
  if now < b[9] then
   b[9] = now
  elseif now - b[9] > b[33] then
   b[8] = now - b[9] < 2 * b[33] and b[7] or 0
   b[7], b[9] = b[4], now
  end
  b[7] = b[4] > b[7] and b[4] or b[7]
 end
end
local learning, is_first = now < b[27], not p
p = p or rarely().new_producer(now)
if ask[13] > b[5] and tonumber(ask[12]) == b[44] then
 rarely().make_good(keys, b, p, ask[13], now)
end
if now >= b[30] or b[30] - now > b[31] then
 rarely().roll_epoch(keys, b, now)
 if not keys.history and not b[66] and rarely().is_renewal_due(b, now) then
  return {err = 'NEXUS_NEEDS_KEYS'}
 end
 rarely().sweep_producers(keys, now)
end
local returned, burned, credited
do
 local held, unused, burned_2 = ask[5], ask[6], ask[7]
 local owned = now <= p[1] and p[6] or 0
 local returned_2 = owned < unused and owned or unused
 local lost_2 = p[6] - returned_2 < burned_2 and p[6] - returned_2 or burned_2
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
 p[6] = p[6] - returned_2 < held and p[6] - returned_2 or held
 returned, burned, credited = returned_2, lost_2, credited_2
end
if is_first and (learning or ask[12] ~= '' and tonumber(ask[12]) ~= b[44]) then
 rarely().pay_for_past(b, p, ask)
end
if ask[10] ~= '' and (is_first or p[4] < b[30] - b[31] or p[4] > now) then
 b[14] = b[14] + 1
end
p[2] = p[8] == b[29]
if p[2] and not b[p[11]] then
 rarely().read_rest(keys, b)
end
do
 local degraded = ask[16]
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
 if degraded > 0 then
  rarely().pay_degraded(b, p, degraded, now)
 end
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
  rarely().withdraw_old_share(keys, b, p)
 end
end
local is_same = p[17] == ask[10] and p[18] == b[44] and p[11] == ask[9] and p[12] == ask[8]
p[12], p[11] = ask[8], ask[9]
local need = ask[2] > 0 and ask[1] == 0 and (1000000 < ask[2] and 1000000 or ask[2]) or ask[1]
local d = ask[2] > 0 and (need / b[31] * 1000000 > ask[3] and need / b[31] * 1000000 or ask[3]) or ask[3]
repeat
 local b_3, p_3, d_2, need_2 = b, p, math_floor(d < b[22] and d or b[22]), need
 local class_2 = b_3[p_3[11]]
 local under = d_2 <= class_2[2] * p_3[12] / 1000000
 p_3[9], p_3[10], p_3[14], p_3[8] = d_2, 0, under and 1 or 0, 0
 if d_2 <= 0 then
  break
 end
 p_3[8], b_3[11] = b_3[29], b_3[11] + 1
 class_2[7], class_2[8] = class_2[7] + d_2, class_2[8] + p_3[12]
 if under then
  class_2[5] = class_2[5] + d_2
 else
  class_2[6] = class_2[6] + p_3[12]
  p_3[10] = b_3[23] < need_2 and b_3[23] or need_2
  b_3[10] = b_3[10] + p_3[10]
 end
 break
until true
local class_3, refresh_2 = b[p[11]], 100000
local contended = class_3[1] < math_huge
local told
repeat
 if class_3[1] < math_huge then
  told = class_3[1] * p[12] / 1000000 < b[22] and class_3[1] * p[12] / 1000000 or b[22]
  break
 end
 local weight = class_3[8] > p[12] and class_3[8] or p[12]
 local rest_2 = class_3[3] - class_3[7]
 told = math_min(b[22], rest_2 >= 0 and p[9] + rest_2 * p[12] / weight or class_3[3] * p[12] / weight)
 break
until true
local faster = class_3[4]
if b[32] > 100000 and b[46] == ask[9] then
 local trim_1
 repeat
  if b[22] <= 0 then
   trim_1 = 0
   break
  end
  local depth = usual_depth(b)
  if b[36] == 1 then
   trim_1 = math_min(1.25, math_max(0, b[4] - (1000000 > 0.8 * depth and 1000000 or 0.8 * depth)) / (0.2 * depth)) - 0.05 * (1 - b[4] / (0.375 * depth) > 0 and 1 - b[4] / (0.375 * depth) or 0)
   break
  end
  trim_1 = math_min(1.25, math_max(-0.2, b[35] + 0.25 * (b[4] - 0.375 * depth) / (0.5 * depth)))
  break
 until true
 faster = trim_1
end
local share_2 = 1e-06 > (contended and told * (1 + faster) or told) and 1e-06 or (contended and told * (1 + faster) or told)
if credited > 0 and contended then
 do
  local most = math_max(PAYS_LEAST * share_2, PAYS_MOST * share_2 < 2 * credited and PAYS_MOST * share_2 or 2 * credited)
  p[5] = math_max(-most < p[5] and -most or p[5], p[5] - 4 * credited)
 end
end
if b[32] > 100000 then
 local refresh_of_1
 repeat
  local b_4, rate = b, told < d and told or d
  if rate <= 0 then
   refresh_of_1 = b_4[32]
   break
  end
  refresh_of_1 = math_ceil(math_max(100000, b_4[22] / rate / 10000 * 1000000 < b_4[32] and b_4[22] / rate / 10000 * 1000000 or b_4[32]))
  break
 until true
 refresh_2 = refresh_of_1
end
local is_short, cut = contended and (refresh_2 == 100000 or faster < 0.3), false
local granted_2, retry, slot
repeat
 local cap = math_min(math_max(math_max(600000, 1.25 * refresh_2, b[24]) / 1000000 * share_2, b[23] < need and b[23] or need), 9000000000000000.0)
 p[5] = math_min(cap, p[5] + share_2 * (now - p[4] > 0 and now - p[4] or 0) / 1000000)
 local room_2 = p[5] + cap * 1.02
 local depth_2 = usual_depth(b)
 local spare = room_2 < b[4] - 0.5 * depth_2 and room_2 or b[4] - 0.5 * depth_2
 if ask[4] then
  spare = room_2 < b[4] and room_2 or b[4]
 elseif is_short then
  spare = math_max(need < spare and need or spare, room_2 < b[4] - depth_2 and room_2 or b[4] - depth_2)
 elseif b[24] > 250000 then
  spare = room_2 < b[4] and room_2 or b[4]
 elseif b[4] >= need then
  spare = math_max(spare, math_min(need, b[23], room_2))
 end
 local piece = need
 if need > 0.25 * depth_2 and not ask[4] and not (b[50] and b[50].lossless == 1) then
  piece = math_min(need, math_max(1000000, 0.1 * share_2 < 0.25 * depth_2 and 0.1 * share_2 or 0.25 * depth_2))
 end
 local granted_3 = 0
 local T_3 = b[4]
 if need < b[15] and now < b[16] then
  T_3 = T_3 - b[15]
 end
 local has_time = p[15] > 0 and now >= p[4] + p[15] - 0.005 * 1000000
 if refresh_2 == 100000 and b[13] > now and not has_time and not (ask[4] and p[5] >= need) then
  T_3 = T_3 - need
 end
 p[15] = 0
 local credit = math_max(p[5] + 0.005 * share_2, p[5] + (1 - 0.9) * piece < piece and p[5] + (1 - 0.9) * piece or piece)
 local available = (spare > credit and spare or credit) < T_3 and (spare > credit and spare or credit) or T_3
 if b[22] > 0 and ask[2] > 0 then
  local first = ask[2] < need and ask[2] or need
  if available >= first then
   local unit = first < 1000000 and first or 1000000
   granted_3 = math_min(ask[2], first + unit * math_floor((available - first) / unit))
  elseif piece < need and available >= piece then
   granted_3 = math_floor(available / 1000000) * 1000000
  end
 end
 if ask[2] <= 0 then
  granted_2, retry, slot = granted_3, 0, 0
  break
 end
 local longest = refresh_2 > 1000000 and refresh_2 or 1000000
 if b[22] <= 0 then
  if b[37] <= now or b[37] >= 9000000000000000.0 then
   granted_2, retry, slot = 0, longest, longest
   break
  end
  b[13] = (b[37] > b[13] and b[37] or b[13]) + 1000000 / 10000
  granted_2, retry, slot = 0, math_ceil(b[13] - now < longest and b[13] - now or longest), b[37] - now < 86400000000 and b[37] - now or 86400000000
  break
 end
 local enough = (is_short and not ask[4] and p[5] or room_2) - granted_3
 local R_3 = b[49]
 local retry_2, earned = (piece - enough) / share_2 * 1000000 > 0 and (piece - enough) / share_2 * 1000000 or 0, (piece - T_3 + granted_3) / R_3 * 1000000
 local is_queued = granted_3 == 0 and earned > retry_2 or granted_3 > 0 and is_short and b[36] == 1 and b[13] > now
 retry_2 = earned > retry_2 and earned or retry_2
 if is_queued and refresh_2 == 100000 and not ask[4] then
  local slot_2 = math_max(b[13] + piece / R_3 * 1000000, now + (piece - b[4] + granted_3) / R_3 * 1000000)
  if slot_2 - now <= longest and (granted_3 == 0 or slot_2 - now > 0.7 * retry_2) then
   b[13] = slot_2
   retry_2 = math_ceil(slot_2 - now > retry_2 and slot_2 - now or retry_2)
   p[15] = retry_2 < longest and retry_2 or longest
  end
 end
 if granted_3 > 0 and need >= b[15] then
  b[15] = 0
 elseif granted_3 == 0 and piece > 0.25 * depth_2 and p[5] >= piece then
  b[15], b[16] = piece, now + retry_2 + 100000
 end
 local met = math_max(0, (need - enough) / share_2, (need - T_3 + granted_3) / R_3) * 1000000
 granted_2, retry, slot = granted_3, math_ceil(retry_2 < longest and retry_2 or longest), math_ceil(met < 86400000000 and met or 86400000000)
 break
until true
if refresh_2 > 100000 and ask[2] > 0 then
 local space_out_1
 repeat
  local b_5, p_4, ask_2, granted_4, retry_3, share_3, refresh_3, is_short_2, now_2 = b, p, ask, granted_2, slot < retry and slot or retry, share_2, refresh_2, is_short, now
  if b_5[22] <= 0 then
   space_out_1 = retry_3
   break
  end
  local class_4 = b_5[p_4[11]]
  if not is_short_2 and class_4[1] < math_huge then
   p_4[5] = granted_4 > p_4[5] and granted_4 or p_4[5]
  end
  local credit_2 = p_4[5] - granted_4
  local unmet = credit_2 < ask_2[2] - granted_4 and credit_2 or ask_2[2] - granted_4
  if is_short_2 and granted_4 > 0 and unmet < 1000000 then
   retry_3 = math_max(retry_3, 0.85 * refresh_3 - (credit_2 > 0 and credit_2 or 0) / share_3 * 1000000)
  elseif unmet >= 1000000 or now_2 - p_4[4] < refresh_3 / 2 then
   b_5[13] = math_min((now_2 > b_5[13] and now_2 or b_5[13]) + (1 / 10000 > unmet / b_5[22] and 1 / 10000 or unmet / b_5[22]) * 1000000, now_2 + refresh_3)
   retry_3 = b_5[13] - now_2 > retry_3 and b_5[13] - now_2 or retry_3
  end
  space_out_1 = math_ceil(retry_3 < (refresh_3 > 1000000 and refresh_3 or 1000000) and retry_3 or (refresh_3 > 1000000 and refresh_3 or 1000000))
  break
 until true
 retry = space_out_1
end
if b[50] then
 local admit_1, admit_2, admit_3
 do
  local came_at, is_whole = p[4], ask[4]
  local w = b[50]
  do
   local slot_3 = math_floor(now / w.slot_us)
   if slot_3 < w.slot then
    w.slot = slot_3
   end
   w.born = now < w.born and now or w.born
   local turns = 5 < slot_3 - w.slot and 5 or slot_3 - w.slot
   for _ = 1, turns do
    for i = 5, 2, -1 do
     w.snaps[i] = w.snaps[i - 1]
    end
    w.snaps[1] = w.net
   end
   w.slot = slot_3
  end
  local lost_3 = returned
  if now - came_at < 4 * w.slot_us - b[33] then
   lost_3 = lost_3 + burned
  end
  if lost_3 > 0 then
   do
    w.net = w.net - lost_3
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
   if w.active == 0 or granted_2 == 0 then
    fits_2, later, is_cut = granted_2, retry, false
    break
   end
   local room_3 = w.edge - w.net
   local quiet
   do
    quiet = w.born + 4 * w.slot_us - 3 * 250000 - now
   end
   if w.lossless == 1 and quiet > 0 then
    fits_2, later, is_cut = 0, (100000 > quiet and 100000 or quiet) < 1000000 and (100000 > quiet and 100000 or quiet) or 1000000, true
    break
   end
   if w.lossless == 0 and room_3 > 0 and w.net <= w.A then
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
  w.net = w.net + fits_2
  admit_1, admit_2, admit_3 = fits_2, later, is_cut
 end
 granted_2, retry, cut = admit_1, admit_2, admit_3
end
p[5], b[12] = p[5] - granted_2, retry > b[12] and retry or b[12]
do
 b[4] = b[4] - granted_2
 local total = b[6] + granted_2
 b[5], b[6] = b[5] + math_floor(total / 1000000), total % 1000000
end
local recommended = math_floor(told < ask[3] and told or ask[3])
local lease
repeat
 local trip = ask[14]
 local lease_2 = refresh_2 * 5
 if trip == 0 or b[50] and b[50].lossless == 1 then
  lease = lease_2
  break
 end
 lease_2 = lease_2 + trip
 if lease_2 > b[33] or b[34] > 0 and b[34] < now + lease_2 then
  b[33], b[34], b[65] = lease_2 > b[33] and lease_2 or b[33], now + 2 * lease_2, true
 end
 lease = lease_2
 break
until true
p[6], p[1] = p[6] + granted_2, now + lease + retry
local fallback
do
 local is_awaited = d > 0
 if ask[2] > 0 then
  is_awaited = p[6] > need or not ask[4] and (granted_2 < need or recommended < ask[3])
 end
 if ask[10] == '' or b[32] > 100000 then
  is_awaited = false
 end
 local all, wanted, idle_2, has, had = b[22] / 2, (told < d and told or d) / 2, b[19], ask[15], p[16]
 if had < 0 then
  had = -had
 end
 if has > had then
  has = had
 end
 local kept = b[43] + idle_2
 local share_4 = all - b[17] - b[18] - kept
 if is_awaited then
  if kept > 0 and all > 0 then
   wanted = wanted * (1 - kept / all)
  end
 else
  if wanted <= 0 then
   wanted = has
  end
  share_4 = math_min(share_4, all / 2 - idle_2, all / 2 / (b[20] + 1))
 end
 if wanted < share_4 then
  share_4 = wanted
 end
 share_4 = share_4 > 0 and math_floor(share_4) or 0
 had = share_4 > has and share_4 or has
 if is_awaited then
  b[17], p[16] = b[17] + had, had
 else
  if had > 0 then
   b[19], b[20] = idle_2 + had, b[20] + 1
  end
  p[16] = -had
 end
 fallback = share_4
end
local reason_2
repeat
 local is_short_3 = ask[2] > 0 and granted_2 < need
 if b[22] <= 0 or b[45] == 'no_consumers' then
  reason_2 = b[45]
  break
 end
 if cut then
  reason_2 = 'window'
  break
 end
 if learning and ask[2] > 0 and b[4] < 1000000 then
  reason_2 = 'learning'
  break
 end
 if recommended >= ask[3] and not is_short_3 then
  reason_2 = 'ok'
  break
 end
 if contended and recommended + 1 < b[22] then
  reason_2 = 'contended'
  break
 end
 reason_2 = b[45]
 break
until true
local answer = pack('>i7I4I4i7i7c2I5', granted_2, retry, refresh_2, recommended, fallback, reason_2, slot)
local is_new_id
repeat
 local is_known = p[2] and is_same
 local is_passing = ask[10] == ''
 local second = math_floor(now / 1000000)
 local is_old_3 = not is_known and (is_passing or (second - p[13]) % 65536 >= 60000000 / 1000000)
 if is_passing then
  local long_ago_1
  do
   long_ago_1 = math_floor((now - 60000000) / 1000000) % 65536
  end
  p[13] = long_ago_1
 elseif is_old_3 then
  p[13] = second % 65536
 end
 local is_shown = not is_known and (b[32] <= 100000 or not is_same or is_old_3)
 local is_added = is_shown and show_producer(keys, p, is_same, ask, told)
 local raw_3 = pack('>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7', ask[11], now, math_floor(p[5]), p[6], math_floor((p[1] - now) / 32), p[8], p[9], p[10], p[11], p[12], p[13], p[14], math_floor(p[15] / 4), p[16], ask[10], b[44]) .. answer
 redis_call('SET', keys.memory, raw_3, 'KEEPTTL')
 if not is_shown then
  is_new_id = false
  break
 end
 local keep_ms = is_passing and math_max(5000, math_ceil(2 * b[31] / 1000)) or (is_old_3 or is_added) and 600000
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
if is_new_id or b[64] or b[65] then
 rarely().write_whole(keys, b, now, is_new_id)
else
 do
  local class_name_2 = p[11]
  local class_5
  do
   local class_6 = b[class_name_2]
   class_5 = pack('>dddddddd', unpack(class_6, 1, 8))
  end
  if class_name_2 == 'normal' then
   redis_call('SETRANGE', keys.state, 0, packed_bucket(b) .. class_5)
  else
   redis_call('SETRANGE', keys.state, 0, packed_bucket(b))
   redis_call('SETRANGE', keys.state, class_at(class_name_2), class_5)
  end
  if b[50] then
   redis_call('SETRANGE', keys.state, b[47] - 1, packed_window(b[50]))
  end
 end
end
do
 local birth_2, granted_total = b[44], b[5]
 return string_format('%d %d %d %d %d %d %d %d %d %d %d %s %d %d%s', granted_2, retry, lease, refresh_2, recommended, fallback, b[22], b[25], math_floor(b[26] / 1000), granted_total, birth_2, reason_2, b[50] and b[50].lossless or 0, b[23], slot > retry and string_format(' %d', slot) or '')
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
