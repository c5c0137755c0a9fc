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

-- The budget, place by place. The bucket:
--
--   called_at             the instant of the last call, up to which the bucket has earned
--   tokens                micro-tokens in the bucket; tokens_remainder is what it earned in addition, in millionths of one
--   granted               whole tokens granted in this life; granted_remainder are the micro-tokens in addition
--   peak                  the most tokens in the bucket since peak_since; peak_before is the most in the span before that
--   needs                 sum of the needs of the producers above the level
--   producers_in_demand   how many have claimed in this epoch; producers_seen are all that have claimed in it
--   queue_end             the instant up to which the rate is promised to producers that wait
--   saved                 the tokens that the bucket saves for a large need, until saved_until
--   fresh_shares ...      the outage shares (outage_share.lua); spilled are the tokens for which the bucket had no room
--
-- The terms:
--
--   rate                  micro-tokens a second; earning_rate is the part of it that the bucket earns
--   bucket_size           the most tokens that the bucket holds; burst_us is the burst in microseconds of the rate
--   due_at                when the next deadline passes or a pause ends, so that `settle` must run; 0 if neither is ahead
--   longest_lease         the longest lease that may be valid; longest_lease_until, unless it is 0, is until when
--   trim                  how much faster contended credits grow (crowd.lua); slow_trim is the slow part of it
--   clock_low             the earliest time that the server's clock has shown since it went back; 0 if it is not behind
--   clock_high            the latest time that it showed before it was set back; 0 if it was not (rest.lua)
--   marginal_class        the class that gets what the others leave
--- @record budget schema called_at tokens_remainder tokens granted granted_remainder peak peak_before peak_since needs
---   producers_in_demand retry_max queue_end producers_seen saved saved_until fresh_shares late_shares idle_shares
---   idle_producers spilled
---   rate bucket_size burst_us level load learns_until due_at epoch epoch_ends epoch_length refresh longest_lease
---   longest_lease_until slow_trim is_scarce resumes_at clock_low clock_high shares_turned_at shares_turned_before
---   shares_halved_at lost_shares birth reason marginal_class
---   window_at raw earning_rate window retry_max_before trim first_tokens renewed_at is_persistent lost_shares_old
---   idle_shares_old idle_producers_old unheard_tokens unheard_until summary_at summary_granted
---   sums has_rest has_new_terms is_new has_new_rate has_closed_epoch has_lost_settings closed_demand closed_in_demand
---   settings
local BUCKET_ENDS = 21
local TERMS_BEGIN = 22
local TERMS_END = 46
--- @record class level mark room trim demand_under weight_over demand weight

local function class_at(name) return (name == 'normal' and NORMAL_AT or name == 'high' and HIGH_AT or LOW_AT) * WIDE end

local function read_class(raw, name) return {unpacked(CLASS, raw, 1 + class_at(name))} end
local function packed_class(class) return pack(CLASS, unpack(class, 1, 8)) end

local function read_window(raw, from)
  local active, edge, net, landed, quarter, quarter_us, lossless, began_at, net_1, net_2, net_3, net_4, net_5
    = unpacked(WINDOW, raw, from)
  return {active = active, edge = edge, net = net, landed = landed, quarter = quarter, quarter_us = quarter_us,
          lossless = lossless, began_at = began_at, snapshots = {net_1, net_2, net_3, net_4, net_5}}
end

-- Reads the state with one class of producers; `read_rest` reads the others. Returns nil if there is no state, and nil and
-- true if it is of a newer release.
local function read_budget(keys, class_name)
  local raw = redis.call('GET', keys.state)
  if not raw then return nil end
  local schema, called_at, tokens_remainder, tokens, granted, granted_remainder, peak, peak_before, peak_since, needs,
    producers_in_demand, retry_max, queue_end, producers_seen, saved, saved_until, fresh_shares, late_shares, idle_shares,
    idle_producers, spilled = unpacked(BUCKET, raw)
  if schema > SCHEMA and schema < 1000 and schema % 1 == 0 then return nil, true end
  local rate, bucket_size, burst_us, level, load, learns_until, due_at, epoch, epoch_ends, epoch_length, refresh,
    longest_lease, longest_lease_until, slow_trim, is_scarce, resumes_at, clock_low, clock_high, shares_turned_at,
    shares_turned_before, shares_halved_at, lost_shares, birth, reason, marginal_class, window_at
    = unpacked(TERMS, raw, 1 + TERMS_AT * WIDE)
  -- If one number is NaN or infinite, so is the sum.
  local sum = called_at + tokens_remainder + tokens + granted + granted_remainder + peak + peak_before + peak_since + needs
    + producers_in_demand + retry_max + queue_end + producers_seen + saved + saved_until + fresh_shares + late_shares
    + idle_shares + idle_producers + spilled + rate + bucket_size + burst_us + level + load + learns_until + due_at + epoch
    + epoch_ends + epoch_length + refresh + longest_lease + longest_lease_until + slow_trim + is_scarce + resumes_at + clock_low
    + clock_high + shares_turned_at + shares_turned_before + shares_halved_at + lost_shares + birth
  if schema ~= SCHEMA or sum - sum ~= 0 then error('damaged') end
  local budget = {
    schema, called_at, tokens_remainder, tokens, granted, granted_remainder, peak, peak_before, peak_since, needs,
    producers_in_demand, retry_max, queue_end, producers_seen, saved, saved_until, fresh_shares, late_shares, idle_shares,
    idle_producers, spilled,
    rate, bucket_size, burst_us, level, load, learns_until, due_at, epoch, epoch_ends, epoch_length, refresh, longest_lease,
    longest_lease_until, slow_trim, is_scarce, resumes_at, clock_low, clock_high, shares_turned_at, shares_turned_before,
    shares_halved_at, lost_shares, birth, reason, marginal_class,
    window_at, raw, rate, window_at <= #raw and read_window(raw, window_at) or nil,
    [class_name] = read_class(raw, class_name),
  }
  return budget
end

local function packed_bucket(budget) return pack(BUCKET, unpack(budget, 1, BUCKET_ENDS)) end

local function packed_window(window)
  local nets = window.snapshots
  return pack(WINDOW, window.active, window.edge, window.net, window.landed, window.quarter, window.quarter_us, window.lossless,
              window.began_at, nets[1], nets[2], nets[3], nets[4], nets[5])
end

-- Writes what each claim changes. The normal class comes directly after the bucket, so that most claims write one piece.
local function write_budget(keys, budget, class_name)
  local class = packed_class(budget[class_name])
  if class_name == 'normal' then
    redis.call('SETRANGE', keys.state, 0, packed_bucket(budget) .. class)
  else
    redis.call('SETRANGE', keys.state, 0, packed_bucket(budget))
    redis.call('SETRANGE', keys.state, class_at(class_name), class)
  end
  if budget.window then redis.call('SETRANGE', keys.state, budget.window_at - 1, packed_window(budget.window)) end
end
