r"""What happens on the server in one go: Lua scripts, and the keys that they use.

Who reads what, and what was published lately::

    PREFIX:readers:NAME                the services that read messages of this name: a set
    PREFIX:published:NAME\nID          there for a while, so that a second publication is recognised

Of each service, behind ``PREFIX:service:SERVICE:``::

    stream          its messages: a stream, with a group of the name of the service
    dead            its dead letters: a stream
    lane:LANE       the ids of the messages of one saga that were read, in order: a list
    ready           lanes that nobody holds, by when their first message is due: a sorted set
    failing         by lane how often handling its first message has failed, and since when: a hash
    sessions        the processes that take messages, by when their lease ends: a sorted set
    held:SESSION    the lanes whose first message a process handles: a set
    last            the id of the message that was read last

Whoever reads the stream puts each message at the end of its lane. A lane that is neither in `ready`
nor in a `held` set has no messages. All times are the server's, in milliseconds.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha1
from typing import Final

from attrs import field, frozen


@frozen(slots=False)
class Script:
    """A script in Lua."""

    text: str = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """By which the server knows the script once it has seen it."""
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()


SUBSCRIBE: Final = Script(
    r"""#!lua
-- ARGV: prefix, service, names ...
local stream = ARGV[1] .. ':service:' .. ARGV[2] .. ':stream'
local made = redis.pcall('XGROUP', 'CREATE', stream, ARGV[2], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
  return made
end
for at = 3, #ARGV do
  redis.call('SADD', ARGV[1] .. ':readers:' .. ARGV[at], ARGV[2])
end
return 1
"""
)

PUBLISH: Final = Script(
    r"""#!lua
-- ARGV: prefix, for how long the id is remembered, name, id, fields and their values ...
-- Returns how many services read messages of this name.
local services = redis.call('SMEMBERS', ARGV[1] .. ':readers:' .. ARGV[3])
local mark = ARGV[1] .. ':published:' .. ARGV[3] .. '\n' .. ARGV[4]
if #services == 0 or redis.call('EXISTS', mark) == 1 then
  return #services
end
for _, service in ipairs(services) do
  redis.call('XADD', ARGV[1] .. ':service:' .. service .. ':stream', '*', unpack(ARGV, 5))
end
-- Behind the messages: were one of them refused, the next try must not take it for published.
redis.call('SET', mark, '1', 'PX', ARGV[2])
return #services
"""
)

_SESSIONS: Final = r"""
local base = ARGV[1]
local sessions, ready = base .. 'sessions', base .. 'ready'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Ends a session; others may take what it has held.
local function finish(session)
  local held = base .. 'held:' .. session
  for _, lane in ipairs(redis.call('SMEMBERS', held)) do
    redis.call('ZADD', ready, now, lane)
  end
  redis.call('DEL', held)
  redis.call('ZREM', sessions, session)
end
"""

OPEN: Final = Script(
    r"""#!lua flags=allow-oom
-- ARGV: base, session, owner, lease
"""
    + _SESSIONS
    + r"""
-- What a process of the same name has left behind when it was killed; behind the name of its owner
-- a session has a slash and 32 hexadecimal digits.
for _, session in ipairs(redis.call('ZRANGE', sessions, 0, -1)) do
  if string.sub(session, 1, -34) == ARGV[3] then
    finish(session)
  end
end
redis.call('ZADD', sessions, now + ARGV[4], ARGV[2])
return 1
"""
)

# A server that has no memory left has to let go of what was handled.
TURN: Final = Script(
    r"""#!lua flags=allow-oom
-- ARGV: base, group, session, lease, room, whether the session ends, how many lanes it keeps (or -1
-- if it keeps all), these lanes ..., outcomes of seven words each ...: verdict, lane, id, and
--   accept: nothing more
--   retry: after, attempts, since
--   dead: reason, attempts, since, detail
-- Returns 'lost' alone if the session has ended, or 'ok', the id of the message that was read last,
-- after how many milliseconds something is due (or -1), whether more can be had at once, messages
-- {lane, id, fields, failures}, and the ids of those that are no longer in the stream.
"""
    + _SESSIONS
    + r"""
local group, session = ARGV[2], ARGV[3]
local room, keeps = tonumber(ARGV[5]), tonumber(ARGV[7])
local stream, dead, failing = base .. 'stream', base .. 'dead', base .. 'failing'
local held = base .. 'held:' .. session
local taken, gone = {}, {}

if not redis.call('ZSCORE', sessions, session) then
  return {'lost'}
end

local function lane_of(lane)
  return base .. 'lane:' .. lane
end

-- Takes the first message out of a lane.
local function remove(lane, id)
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  redis.call('LPOP', lane_of(lane))
  redis.call('HDEL', failing, lane)
end

-- Lets go of a lane, whose first message is then due at this time.
local function release(lane, due)
  redis.call('SREM', held, lane)
  if redis.call('EXISTS', lane_of(lane)) == 1 then
    redis.call('ZADD', ready, due, lane)
  end
end

local function put_aside(id, reason, attempts, since, detail)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if entry then
    -- Lua hands no more than some thousand words to a command; no message of ours has so many.
    local fields = {unpack(entry[2], 1, math.min(#entry[2], 2000))}
    for _, word in ipairs({
      'dead_reason', reason, 'dead_attempts', attempts, 'dead_since', since, 'dead_detail', detail
    }) do
      fields[#fields + 1] = word
    end
    redis.call('XADD', dead, '*', unpack(fields))
  end
end

for at = 8 + math.max(keeps, 0), #ARGV, 7 do
  local verdict, lane, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  -- Of an outcome that is told again, since the answer was lost, the first may have been written.
  local is_held = redis.call('SISMEMBER', held, lane) == 1
  if is_held and redis.call('LINDEX', lane_of(lane), 0) == id then
    if verdict == 'retry' then
      redis.call('HSET', failing, lane, ARGV[at + 4] .. ' ' .. ARGV[at + 5])
      release(lane, now + ARGV[at + 3])
    else
      if verdict == 'dead' then
        put_aside(id, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6])
      end
      remove(lane, id)
      release(lane, now)
    end
  end
end

if ARGV[6] == '1' then
  finish(session)
  return {'ok', '', -1, 0, taken, gone}
end

if keeps >= 0 then
  local kept = {}
  for at = 8, 7 + keeps do
    kept[ARGV[at]] = true
  end
  for _, lane in ipairs(redis.call('SMEMBERS', held)) do
    if not kept[lane] then
      release(lane, now)
    end
  end
end

redis.call('ZADD', sessions, now + ARGV[4], session)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', sessions, '-inf', now)) do
  finish(other)
end

local function take(lane, entry)
  redis.call('SADD', held, lane)
  local failures = redis.call('HGET', failing, lane) or ''
  taken[#taken + 1] = {lane, entry[1], entry[2], failures}
  room = room - 1
end

-- Takes the first message of a lane that is still in the stream.
local function take_first(lane)
  local id = redis.call('LINDEX', lane_of(lane), 0)
  while id do
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then
      return take(lane, entry)
    end
    gone[#gone + 1] = id
    remove(lane, id)
    id = redis.call('LINDEX', lane_of(lane), 0)
  end
end

while room > 0 do
  local due = redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, room)
  if #due == 0 then
    break
  end
  for _, lane in ipairs(due) do
    redis.call('ZREM', ready, lane)
    take_first(lane)
  end
end

-- A message without a key has no order to keep: its lane is its own.
local function lane_for(entry)
  local fields = entry[2]
  for at = 1, #fields, 2 do
    if fields[at] == 'partitionkey' then
      return 'key:' .. fields[at + 1]
    end
  end
  return 'id:' .. entry[1]
end

local last = redis.call('GET', base .. 'last') or '0-0'

local function read(entry)
  local lane = lane_for(entry)
  last = entry[1]
  if redis.call('RPUSH', lane_of(lane), last) == 1 then
    take(lane, entry)
  end
end

local budget, is_empty = 1000, false
while room > 0 and budget > 0 and not is_empty do
  local found = redis.pcall(
    'XREADGROUP', 'GROUP', group, 'sagaflow', 'COUNT', room, 'STREAMS', stream, '>')
  if not found then
    is_empty = true
  elseif found.err then
    if not string.find(found.err, 'NOGROUP', 1, true) then
      return found
    end
    -- Somebody has removed it, or the stream. All that is there is read again; what stands in its
    -- lane already does so twice then, and is gone when its second turn comes.
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  else
    for _, entry in ipairs(found[1][2]) do
      read(entry)
      budget = budget - 1
    end
  end
end
redis.call('SET', base .. 'last', last)

local due = -1
for _, times in ipairs({ready, sessions}) do
  local first = redis.call('ZRANGE', times, 0, 0, 'WITHSCORES')
  if first[2] then
    local after = math.max(first[2] - now, 0)
    due = due < 0 and after or math.min(due, after)
  end
end
local has_more = (room > 0 and not is_empty) and 1 or 0
return {'ok', last, due, has_more, taken, gone}
"""
)

READ_DEAD_LETTERS: Final = Script(
    r"""#!lua flags=no-writes,allow-oom
-- ARGV: base, first id, last id, how many at most
return redis.call('XRANGE', ARGV[1] .. 'dead', ARGV[2], ARGV[3], 'COUNT', ARGV[4])
"""
)

RETRY_DEAD_LETTER: Final = Script(
    r"""#!lua
-- ARGV: base, id. Returns how many there were.
local entry = redis.call('XRANGE', ARGV[1] .. 'dead', ARGV[2], ARGV[2])[1]
if not entry then
  return 0
end
local fields = {}
for at = 1, #entry[2], 2 do
  if string.sub(entry[2][at], 1, 5) ~= 'dead_' then
    fields[#fields + 1] = entry[2][at]
    fields[#fields + 1] = entry[2][at + 1]
  end
end
redis.call('XADD', ARGV[1] .. 'stream', '*', unpack(fields))
redis.call('XDEL', ARGV[1] .. 'dead', ARGV[2])
return 1
"""
)
