-- Durations that several scripts share, in microseconds.
local SECOND = 1000000
local LEASE = 500000            -- tokens handed out may be spent this long, counted from before the claim was sent
local REFRESH = 100000          -- how often a busy producer claims; in a crowd both are longer (crowd.lua)
local REFRESHES = 5             -- in a lease: chances to be heard
local EPOCH = 250000            -- shortest round of the fair share: everyone in demand comes once in it
local LONGEST_SLOT = 86400000000    -- as far ahead as a producer is told its turn: a day
local LONGEST_WAIT = 1000000    -- no producer is told to stay away longer, or it would miss a change of the rate
local DEFAULT_BURST = 250000     -- of the rate, in a bucket whose budget names no burst
local INTERVAL = 250000         -- a consumer that names no interval reports this often
local SHORTEST_DEADLINE = 2000000   -- a consumer that skips a few reports (a pause of its runtime) is not dead
local FORGET_CONSUMER = 10000000    -- after its deadline: what was sent to it has failed by then
local TRANSIT = 1000000         -- from a token spent to its work seen in Redis, unless the budget says otherwise
local UNTIL_RESUMED = 9e15      -- the end of a pause without one
local KEEP_BUDGET_MS = 604800000    -- sweeps only, decides nothing: a week, as long as an incident and a weekend
local KEEP_MEMBER_MS = 600000       -- likewise, for what is known of one producer or consumer
local KEEP_PASSING_MS = 5000     -- and of one that only asked once: longer than an epoch
local RENEW = 60000000          -- how often a TTL is written again
