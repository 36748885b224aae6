"""What the Redis event log does with entries that it keeps.

Each script runs atomically: they look at entries and count them, drop those
that are learned, and delete those of a user. `redis_streams` says which keys
there are.
"""

from serving.event_log.redis_scripts import FUNCTIONS

# KEYS: stream. ARGV: group, prefix of the users' entries, first id to look
# at, for how long (ms) entries are kept, 0 for not at all, how many to look at.
# Returns how many were dropped, and where to go on or ''.
TRIM = (
    FUNCTIONS
    + """
local stream, group = KEYS[1], ARGV[1]
local last, kept = delivered_until(stream), tonumber(ARGV[4])
-- By the clock that made the ids. There are none before the first.
local before = math.max(1, now_ms() - kept)
if kept > 0 and tonumber(string.match(last, '^%d+')) >= before then
  last = string.format('(%.0f-0', before)
end
local entries = redis.call(
  'XRANGE', stream, ARGV[3], last, 'COUNT', ARGV[5])
local dropped = 0
for _, entry in ipairs(entries) do
  if not pending_of(stream, group, entry[1]) then
    redis.call('XDEL', stream, entry[1])
    redis.call('LREM', ARGV[2] .. field(entry[2], 'u'), 1, entry[1])
    dropped = dropped + 1
  end
end
if #entries < tonumber(ARGV[5]) then return {dropped, ''} end
return {dropped, '(' .. entries[#entries][1]}
"""
)

# Processes that end, and calls that fail, leave the names of consumers behind.
# KEYS: stream. ARGV: group, for how long (ms) nothing was heard of consumers
# that are forgotten. Those with entries wait until others have taken them.
FORGET = (
    FUNCTIONS
    + """
local group = ARGV[1]
for _, known in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group)) do
  if field(known, 'pending') == 0
      and field(known, 'idle') > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, field(known, 'name'))
  end
end
"""
)

# KEYS: stream, seen ids, the user's entries, tombstone. ARGV: group,
# tombstone, when it expires (ms since 1970). Returns how many were dropped.
DELETE = """#!lua flags=allow-oom
local dropped = 0
for _, id in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
  redis.call('XACK', KEYS[1], ARGV[1], id)
  dropped = dropped + redis.call('XDEL', KEYS[1], id)
end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SET', KEYS[4], ARGV[2], 'PXAT', ARGV[3])
return dropped
"""

# KEYS: stream, the user's entries. Returns the entries.
EVENTS_OF = """
local found = {}
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then found[#found + 1] = entry end
end
return found
"""

# KEYS: stream. ARGV: first id, most entries. Returns the entries.
RANGE = """
return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
"""

# KEYS: stream. Returns how many entries it has, how many are delivered and
# not acknowledged, and how many are not delivered.
STATUS = (
    FUNCTIONS
    + """
local group = redis.call('XINFO', 'GROUPS', KEYS[1])[1]
local waiting = field(group, 'lag')
if not waiting then
  -- Entries were deleted among those that wait: count.
  local first = '(' .. field(group, 'last-delivered-id')
  waiting = #redis.call('XRANGE', KEYS[1], first, '+')
end
return {redis.call('XLEN', KEYS[1]), field(group, 'pending'), waiting}
"""
)
