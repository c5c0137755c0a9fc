--[[ configure: open a budget, change its settings, pause it, resume it.

KEYS   1 budget  2 state  3 consumers  4 rates  5 loads  6 capacities  7 frees  8 edges  9 ratios  10 producers  11 history
ARGV   1 at_us     int    0 = the server's clock; tests pin the instant
       2 source    code or operator: an operator's setting wins and is never replaced by code
       3 pause_ms  empty: no change; -1: until it is resumed; 0: resume; else this long
       4 note      why, for the history; at most 200 bytes
       5 who       who does it, for the history: a user at a host; at most 64 bytes
       then pairs  setting, value (empty takes this source's value away): rate, min_rate (tokens/s), burst, transit (s),
                   law, combine, latency_target_ms, lossless (0 or 1), all as plain decimals
Reply  1 budget_rate (micro-tokens/s)  2 backpressure_level  3 reason  4 birth  5 changed  6 overruled
       all as text; 5 and 6 are names with a space between: values that replaced another one of this source, and values of
       code that an operator's hides
Errors NEXUS_INVALID_<FIELD>  NEXUS_INVALID_KEYS  NEXUS_SCHEMA
Cost   O(1) ]]

--- @include times
--- @include number
--- @include packing
--- @include clock
--- @include keys
--- @include state
--- @include bucket
--- @include summary
--- @include rest
--- @include consumers
--- @include window
--- @include settings
--- @include act
--- @include history
--- @include rate

if #ARGV < 5 or #ARGV % 2 ~= 1 then return {err = 'NEXUS_INVALID_ARGUMENTS'} end
if not whole_number(ARGV[1], 0, COUNT) then return {err = 'NEXUS_INVALID_AT_US'} end
local source, pause, why, who = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if source ~= 'code' and source ~= 'operator' then return {err = 'NEXUS_INVALID_SOURCE'} end
local pause_ms = pause == '-1' and UNTIL_RESUMED or pause ~= '' and decimal(pause, 0, 86400000)
if pause ~= '' and not pause_ms then return {err = 'NEXUS_INVALID_PAUSE'} end
if #why > LONGEST_NOTE then return {err = 'NEXUS_INVALID_NOTE'} end
if #who > LONGEST_WHO then return {err = 'NEXUS_INVALID_WHO'} end
local wanted = {}
for i = 6, #ARGV, 2 do
  local name, text = ARGV[i], ARGV[i + 1]
  if not READ[name] then return {err = 'NEXUS_INVALID_SETTING'} end
  if #text > 40 or (text ~= '' and not READ[name](text)) then return {err = 'NEXUS_INVALID_' .. string.upper(name)} end
  wanted[name] = text
end
local keys = named_keys(nil)
if not keys then return {err = 'NEXUS_INVALID_KEYS'} end
local budget, newer, now = open_budget(keys, clock(ARGV[1]))
if newer then return {err = newer} end

-- The settings as they would be. If they are refused together, they change nothing.
local before = read_settings(keys, budget)
local fields = before.fields
local changed, overruled, what = take_over(fields, wanted, source)
local settings = effective(fields)
local own = wanted_by(source, fields)                -- a value that conflicts with the other source gives way to it
if source == 'operator' and wanted.min_rate then own.rate = own.rate or settings.rate end
if own.rate and own.floor > own.rate then return {err = 'NEXUS_INVALID_MIN_RATE'} end
if burst_of(own.rate or 0, own.burst) >= 9e15 then return {err = 'NEXUS_INVALID_BURST'} end
if settings.lossless == 1 and before.sums.bounded < before.sums.live then return {err = 'NEXUS_INVALID_LOSSLESS'} end

local set = {'HSET', keys.budget, 'schema', whole(SCHEMA)}
local unset = {'HDEL', keys.budget}
local function put(field, text)
  local into = text ~= '' and set or unset
  into[#into + 1] = field
  if text ~= '' then into[#into + 1] = text end
end
for name, text in pairs(wanted) do
  put(name .. '_by_' .. source, text)
  if source == 'operator' then put(name .. '_set_by', text ~= '' and whose(who, source, why, now) or '') end
end
-- Code can prolong a pause and never cuts one short. An operator's pause stays until an operator ends it, or it is over.
local until_us, owner = pause_ms and (pause_ms == 0 and 0 or math.min(now + pause_ms * 1000, UNTIL_RESUMED)), source
local pause_why, pause_who = why, who
if until_us and source == 'code' and before.paused_until > now then
  local kept = redis.call('HMGET', keys.budget, 'pause_of_operator_us', 'pause_of_operator_why', 'pause_of_operator_who')
  local his = math.min(before.paused_until, tonumber(kept[1] or 0))
  if until_us == 0 and his > now then
    overruled[#overruled + 1] = 'pause'
    until_us, owner, pause_why, pause_who = his, 'operator', kept[2] or '', kept[3] or ''
  end
  if until_us > 0 and until_us <= before.paused_until and owner == 'code' or until_us == before.paused_until then until_us = nil end
end
if until_us then
  what[#what + 1] = pause_text(pause_ms, owner ~= source)
  local change = {paused_until_us = whole(until_us), pause_reason = pause_why, pause_by = owner, pause_who = pause_who}
  if source == 'operator' then
    change.pause_of_operator_us, change.pause_of_operator_why, change.pause_of_operator_who = change.paused_until_us, why, who
  end
  for field, text in pairs(change) do
    set[#set + 1] = field
    set[#set + 1] = text
  end
  put('paused_until', pause_end(until_us) or '')
end
advance(keys, budget, now)
redis.call(unpack(set))
if #unset > 2 then redis.call(unpack(unset)) end
settings = read_settings(keys, budget)
if source == 'operator' then
  read_rest(keys, budget)
  budget.is_persistent = 1
  -- An operator's setting replaces the report that a silent consumer owes.
  if next(wanted) and settings.sums.live == 0 and settings.last_consumer_end == 'silent' then
    settings.last_consumer_end = 'overruled'
    redis.call('HSET', keys.budget, 'last_consumer_end', settings.last_consumer_end)
  end
end
if budget.window then
  set_quarter_length(budget.window, now, budget.window.quarter_us + math.ceil((settings.transit - before.transit) / 4))
elseif settings.lossless == 1 then
  budget.window = new_window(now, quarter_length(budget.longest_lease, settings.transit, INTERVAL))
end
local act = {who = who, what = table.concat(what, ', '), why = why}
settle(keys, budget, settings, now, source, source == 'operator' or #changed > 0 or until_us, act)
budget.has_new_rate = true                           -- writes the whole hash for people: `repair` relies on that
write_whole(keys, budget, now, true)
table.sort(changed)
table.sort(overruled)
return {whole(budget.rate), whole(budget.level), budget.reason, whole(budget.birth), table.concat(changed, ' '),
        table.concat(overruled, ' ')}
