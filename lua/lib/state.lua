-- The budget's hash. What people read is plain; what the arithmetic reads is packed, as doubles. What each call changes, what
-- changes with the rate or the epoch, and what only the end of an epoch needs lie apart, a value each, and so does each class
-- of producers: a claim reads and writes only what it needs. The last of the terms are texts, each with a zero at its end.
local SCHEMA = 2
local CLASSES = {'high', 'normal', 'low'}
local BUCKET = '>ddddddddddddddddddd'
local TERMS = '>ddddddddddddddddddddddsss'
local CLASS = '>dddddddd'
local WINDOW = '>ddddddddddddd'
local EPOCHAL = '>dddddddddd'

-- A producer's: its memory, and its last answer.
-- There may be a million of these, and no value is longer than 64 bytes, below which a server packs a hash: half the memory. So
-- they are whole numbers of as few bytes as each needs; a class is its first letter, a reason its first two.
local ENTRY = '>i7i7i7i7I3I4i7i7c1I4I2i1I3f'
local ANSWER = '>i7I4I4i7i7i7i1I3i7c2i1i7I5'

--- @record b at rest T granted granted_rest top top_before half needs retry_max queue crowd saved saved_until fresh late idle idlers spilled earned
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes behind high
---   turned turned_before halved lost birth reason taker
---   window retry_before u first renewed kept lost_old idle_old idlers_old unheard unheard_until has_rest has_new_terms is_new is_revalued settings
local BUCKET_ENDS = 19
local TERMS_BEGIN = 21
local TERMS_END = 45
--- @record class level mark room trim under over demand weight

local function read_class(bytes) return {unpacked(CLASS, bytes)} end
local function packed_class(class) return pack(CLASS, unpack(class, 1, 8)) end

local function read_window(bytes)
  local active, edge, net, A, slot, slot_us, lossless, born, s1, s2, s3, s4, s5 = unpacked(WINDOW, bytes)
  return {active = active, edge = edge, net = net, A = A, slot = slot, slot_us = slot_us, lossless = lossless, born = born,
          snaps = {s1, s2, s3, s4, s5}}
end

-- With one class of producers; `read_rest` reads the others. nil where there is none, and a code when the state is of a newer
-- release; the third is true where only settings are to be had of it (schema 1, which never was in a release).
local function read_budget(keys, class_name)
  local f = redis.call('HMGET', keys.budget, 'schema', 'bucket', 'terms', 'window', 'class_' .. class_name)
  if f[1] ~= '2' then
    local schema = f[1] and (string.match(f[1], '^%d+$') and tonumber(f[1]) or COUNT)
    return nil, schema and schema > SCHEMA and 'NEXUS_SCHEMA', redis.call('TYPE', keys.budget).ok ~= 'none'
  end
  if not (f[2] and f[3] and f[5]) then return nil, nil, true end
  local at, rest, T, granted, granted_rest, top, top_before, half, needs, retry_max, queue, crowd, saved, saved_until, fresh,
    late, idle, idlers, spilled = unpacked(BUCKET, f[2])
  local R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes,
    behind, high, turned, turned_before, halved, lost, birth, reason, taker = unpacked(TERMS, f[3])
  -- One number that is none, or infinite, makes the sum one.
  local sum = at + rest + T + granted + granted_rest + top + top_before + half + needs + retry_max + queue + crowd + saved
    + saved_until + fresh + late + idle + idlers + spilled + R + B + burst_us + level + load + learns_until + due + number + ends
    + length + refresh + span + span_until + ui + is_scarce + resumes + behind + high + turned + turned_before + halved + lost
  if sum - sum ~= 0 then error('damaged') end
  local b = {at, rest, T, granted, granted_rest, top, top_before, half, needs, retry_max, queue, crowd, saved, saved_until, fresh,
             late, idle, idlers, spilled, R, R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span,
             span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth, reason, taker}
  if f[4] then b.window = read_window(f[4]) end
  b[class_name] = read_class(f[5])
  return b
end

local function packed_bucket(b) return pack(BUCKET, unpack(b, 1, BUCKET_ENDS)) end

-- `tokens` and `granted_total` are for people: the bucket has them to the micro-token.
local function write_budget(keys, b, class_name)
  local bucket = packed_bucket(b)
  local class = packed_class(b[class_name])
  redis.call('HSET', keys.budget, 'tokens', string.format('%.6f', b.T / MICRO), 'granted_total',
             string.format('%d', b.granted), 'bucket', bucket, 'class_' .. class_name, class)
end

local function write_window(keys, w)
  local s = w.snaps
  redis.call('HSET', keys.budget, 'window', pack(WINDOW, w.active, w.edge, w.net, w.A, w.slot, w.slot_us, w.lossless, w.born,
                                                 s[1], s[2], s[3], s[4], s[5]))
end
