"""How the Redis event log takes in and delivers, each script atomically.

`redis_streams` says which keys there are; `redis_upkeep_scripts` has what is
done with entries after that. Streams have one consumer group. A server without
memory refuses scripts that begin with `#!lua` as a whole; those that free
memory are allowed to run.

A record remembers how far its user was learned, and nothing of gaps: to learn
an entry before one that came earlier is to lose that one. So whoever is given
an entry must have all before it of the same user. That is so, whatever
crashes and whichever answer is lost, because

1. What is pending under a consumer's name, the consumer holds or is done
   with (learned, or left out): when the answer of a call that delivers is
   lost, it takes another name (`RedisEventLog`).
2. What is acknowledged is done with, and so is all before it: consumers learn
   a user's entries in their order, and acknowledge after that.
3. An entry is delivered with all before it, from the newest one down to one
   that is acknowledged (2), or pending under the same name: the consumer has
   it (1), and had all before that when it got it (3). `APPEND` claims only
   where that takes no other entry; `TAKE` takes the others along, from
   whoever has them.

Two may hold an entry then. The first to store the user's record has learned
it; the other one's attempt fails, and finds that it is done.
"""

# Scripts that use one of these begin with them.
FUNCTIONS = """
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function field(reply, name)
  for place = 1, #reply, 2 do
    if reply[place] == name then return reply[place + 1] end
  end
end

local function delivered_until(stream)
  return field(redis.call('XINFO', 'GROUPS', stream)[1], 'last-delivered-id')
end

-- A server that lost its data has the streams no more.
local function open(stream, group)
  if redis.call('EXISTS', stream) == 0 then
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  end
end

local function pending_of(stream, group, id)
  return redis.call('XPENDING', stream, group, id, id, 1)[1]
end
"""

# KEYS: stream. ARGV: group.
OPEN = """
local done = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if done.err and not string.find(done.err, 'BUSYGROUP') then return done end
"""

# KEYS: stream; then for each submission: seen ids, the user's entries,
# tombstone. ARGV: group, consumer or '', window of the ids (ms), most
# entries; then for each submission: digest of the user, head, number of
# events, and each event's hash and bytes.
# Returns 'full', or for each submission: {'deleted'}, {'known'}, or {id,
# whether it was claimed, places of the new events}.
APPEND = (
    "#!lua\n"
    + FUNCTIONS
    + """
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local now, window, most = now_ms(), tonumber(ARGV[3]), tonumber(ARGV[4])
local num_submissions = (#KEYS - 1) / 3

local function claim(id, entries, all_delivered)
  if consumer == '' or not all_delivered then return 0 end
  local earlier = redis.call('LINDEX', entries, -1)
  local found = earlier and pending_of(stream, group, earlier)
  if found and found[2] ~= consumer then return 0 end
  redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1,
             'STREAMS', stream, '>')
  return 1
end

local function append(number, start)
  local seen, entries = KEYS[3 * number - 1], KEYS[3 * number]
  local owner, head = ARGV[start], ARGV[start + 1]
  if redis.call('EXISTS', KEYS[3 * number + 1]) == 1 then
    return {'deleted'}
  end
  -- Before ids are remembered: a script that fails takes nothing back.
  local last = field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
  local all_delivered = delivered_until(stream) == last
  redis.call('ZREMRANGEBYSCORE', seen, '-inf', now - window)
  local fields, places = {'u', owner, 'h', head}, {}
  for place = 0, tonumber(ARGV[start + 2]) - 1 do
    local hash, event = ARGV[start + 3 + 2 * place], ARGV[start + 4 + 2 * place]
    if redis.call('ZADD', seen, 'NX', now, hash) == 1 then
      fields[#fields + 1] = 'e'
      fields[#fields + 1] = event
      places[#places + 1] = place
    end
  end
  if #places == 0 then return {'known'} end
  redis.call('PEXPIRE', seen, window)
  local id = redis.call('XADD', stream, '*', unpack(fields))
  local claimed = claim(id, entries, all_delivered)
  redis.call('RPUSH', entries, id)
  return {id, claimed, unpack(places)}
end

open(stream, group)
if redis.call('XLEN', stream) + num_submissions > most then return 'full' end
local results, start = {}, 5
for number = 1, num_submissions do
  results[number] = append(number, start)
  start = start + 3 + 2 * tonumber(ARGV[start + 2])
end
return results
"""
)

# Streams are leased: a user's stream has one reader at a time, so that the
# user's entries are learned in their order. Each reader has its share.
# KEYS: readers; then each stream and its lease. ARGV: group, reader, its name
# as a consumer, length of a lease (ms), most entries, stream to begin with,
# prefix of the users' entries.
# Returns for each entry: the number of its stream, and the entry; besides the
# most entries, those of the same users before them.
TAKE = (
    FUNCTIONS
    + """
local group, reader, consumer = ARGV[1], ARGV[2], ARGV[3]
local length, most, first = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local prefix = ARGV[7]
local now, num_streams = now_ms(), (#KEYS - 1) / 2
redis.call('ZADD', KEYS[1], now, reader)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - length)
redis.call('PEXPIRE', KEYS[1], length)
local share = math.ceil(num_streams / redis.call('ZCARD', KEYS[1]))

local mine, free = {}, {}
for turn = 0, num_streams - 1 do
  local number = (first + turn) % num_streams
  open(KEYS[2 * number + 2], group)
  local holder = redis.call('GET', KEYS[2 * number + 3])
  if holder == reader then
    mine[#mine + 1] = number
  elseif not holder then
    free[#free + 1] = number
  end
end

local kept, excess = {}, #mine - share
for _, number in ipairs(mine) do
  local stream, lease = KEYS[2 * number + 2], KEYS[2 * number + 3]
  if excess > 0 and #redis.call(
      'XPENDING', stream, group, '-', '+', 1, consumer) == 0 then
    redis.call('DEL', lease)
    excess = excess - 1
  else
    kept[#kept + 1] = number
  end
end
for _, number in ipairs(free) do
  if #kept < share then kept[#kept + 1] = number end
end

local taken = {}
local function take_earlier(number, stream, entry)
  local entries = prefix .. (field(entry[2], 'u') or '')
  local place = redis.call('LPOS', entries, entry[1], 'RANK', -1) or 0
  local ids = {}
  while place > 0 do
    place = place - 1
    local id = redis.call('LINDEX', entries, place)
    local found = pending_of(stream, group, id)
    if not found or found[2] == consumer then break end
    ids[#ids + 1] = id
  end
  for turn = #ids, 1, -1 do
    local earlier = redis.call(
      'XCLAIM', stream, group, consumer, 0, ids[turn])[1]
    if earlier then taken[#taken + 1] = {number, earlier} end
  end
end

local function take(number, stream, entries)
  for _, entry in ipairs(entries) do
    take_earlier(number, stream, entry)
    taken[#taken + 1] = {number, entry}
  end
end
for _, number in ipairs(kept) do
  local stream, lease = KEYS[2 * number + 2], KEYS[2 * number + 3]
  redis.call('SET', lease, reader, 'PX', length)
  if #taken < most then
    take(number, stream, redis.call(
      'XAUTOCLAIM', stream, group, consumer, length, '0-0',
      'COUNT', most - #taken)[2])
  end
  if #taken < most then
    local new = redis.call(
      'XREADGROUP', 'GROUP', group, consumer, 'COUNT', most - #taken,
      'STREAMS', stream, '>')
    if new then take(number, stream, new[1][2]) end
  end
end
return taken
"""
)

# KEYS: stream, then for each entry the user's entries. ARGV: group, whether
# to drop them, ids of the entries.
ACK = """
for place = 3, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[place])
  if ARGV[2] == '1' then
    redis.call('XDEL', KEYS[1], ARGV[place])
    redis.call('LREM', KEYS[place - 1], 1, ARGV[place])
  end
end
"""
