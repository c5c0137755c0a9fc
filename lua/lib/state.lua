-- The budget's state: one string of packed parts, one after the other. A claim writes the first two and leaves the others.
--
--   bucket    what each claim changes; the schema comes first in every release
--   classes   normal, high, low: the fair share of each
--   epoch     what only the end of an epoch needs
--   sums      sums over the consumers
--   terms     what changes with the rate and the epoch; the last of them are texts, each with a zero byte at its end
--   window    what the consumers can still hold; only if there is a window
local SCHEMA = 3
local CLASSES = {'high', 'normal', 'low'}
local BUCKET = '>ddddddddddddddddddddd'
local CLASS = '>dddddddd'
local EPOCHAL = '>dddddddddddd'
local SUMS = '>dddddddddd'
local TERMS = '>dddddddddddddddddddddddss'
local WINDOW = '>ddddddddddddd'

-- Where the parts begin, in doubles from the first one.
local NORMAL_AT = 21
local HIGH_AT = 29
local LOW_AT = 37
local EPOCHAL_AT = 45
local SUMS_AT = 57
local TERMS_AT = 67

-- A producer's state: what its next claim needs, who it is, and its last answer. There may be a million of these, so its
-- numbers are whole and take as few bytes as each needs. A class is stored as its first letter, a reason as its first two.
local ENTRY = '>i7i7i7i7I3I4i7i7c1I4I2i1I3fsI7'
local ANSWER = '>i7I4I4i7i7c2I5'

--- @record b schema at rest T granted granted_rest top top_before half needs demanding retry_max queue crowd saved saved_until fresh late idle idlers spilled
---   R B burst_us level load learns_until due number ends length refresh span span_until ui is_scarce resumes behind high
---   turned turned_before halved lost birth reason taker
---   next raw earned window retry_before u first renewed kept lost_old idle_old idlers_old unheard unheard_until told_at told_granted
---   parts has_rest has_new_terms is_new is_revalued is_closed is_lost seen_demand seen_demanding settings
local BUCKET_ENDS = 21
local TERMS_BEGIN = 22
local TERMS_END = 46
--- @record class level mark room trim under over demand weight

local function class_at(name) return (name == 'normal' and NORMAL_AT or name == 'high' and HIGH_AT or LOW_AT) * WIDE end

local function read_class(raw, name) return {unpacked(CLASS, raw, 1 + class_at(name))} end
local function packed_class(class) return pack(CLASS, unpack(class, 1, 8)) end

local function read_window(raw, from)
  local active, edge, net, A, slot, slot_us, lossless, born, s1, s2, s3, s4, s5 = unpacked(WINDOW, raw, from)
  return {active = active, edge = edge, net = net, A = A, slot = slot, slot_us = slot_us, lossless = lossless, born = born,
          snaps = {s1, s2, s3, s4, s5}}
end

-- Reads the state with one class of producers; `read_rest` reads the others. Returns nil if there is no state, and nil and
-- true if it is of a newer release.
local function read_budget(keys, class_name)
  local raw = redis.call('GET', keys.state)
  if not raw then return nil end
  local schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved,
    saved_until, fresh, late, idle, idlers, spilled = unpacked(BUCKET, raw)
  if schema > SCHEMA and schema < 1000 and schema % 1 == 0 then return nil, true end
  local R, B, burst_us, level, load, learns_until, due, number, ends, length, refresh, span, span_until, ui, is_scarce, resumes,
    behind, high, turned, turned_before, halved, lost, birth, reason, taker, next = unpacked(TERMS, raw, 1 + TERMS_AT * WIDE)
  -- If one number is NaN or infinite, so is the sum.
  local sum = at + rest + T + granted + granted_rest + top + top_before + half + needs + demanding + retry_max + queue + crowd
    + saved + saved_until + fresh + late + idle + idlers + spilled + R + B + burst_us + level + load + learns_until + due + number
    + ends + length + refresh + span + span_until + ui + is_scarce + resumes + behind + high + turned + turned_before + halved + lost + birth
  if schema ~= SCHEMA or sum - sum ~= 0 then error('damaged') end
  local b = {schema, at, rest, T, granted, granted_rest, top, top_before, half, needs, demanding, retry_max, queue, crowd, saved,
             saved_until, fresh, late, idle, idlers, spilled, R, B, burst_us, level, load, learns_until, due, number, ends,
             length, refresh, span, span_until, ui, is_scarce, resumes, behind, high, turned, turned_before, halved, lost, birth,
             reason, taker, next, raw, R, next <= #raw and read_window(raw, next) or nil, [class_name] = read_class(raw, class_name)}
  return b
end

local function packed_bucket(b) return pack(BUCKET, unpack(b, 1, BUCKET_ENDS)) end

local function packed_window(w)
  local s = w.snaps
  return pack(WINDOW, w.active, w.edge, w.net, w.A, w.slot, w.slot_us, w.lossless, w.born, s[1], s[2], s[3], s[4], s[5])
end

-- Writes what each claim changes. The normal class comes directly after the bucket, so that most claims write one piece.
local function write_budget(keys, b, class_name)
  local class = packed_class(b[class_name])
  if class_name == 'normal' then
    redis.call('SETRANGE', keys.state, 0, packed_bucket(b) .. class)
  else
    redis.call('SETRANGE', keys.state, 0, packed_bucket(b))
    redis.call('SETRANGE', keys.state, class_at(class_name), class)
  end
  if b.window then redis.call('SETRANGE', keys.state, b.next - 1, packed_window(b.window)) end
end
