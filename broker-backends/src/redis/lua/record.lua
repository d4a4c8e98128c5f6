-- What the scripts share; each is sent behind this. The laws are those of memory/queue.rs.
--
-- Keys, all of one shard: users (hash: a user's record), due (sorted set: when a record is to be
-- looked at), figures (hash).
local USERS, DUE, FIGURES = KEYS[1], KEYS[2], KEYS[3]

-- A record is an array; lists are in the order of the offsets.
local EPOCH = 1 -- in hex: too large for Lua's numbers
local ACKNOWLEDGED, EVICTED, FORGOTTEN = 2, 3, 4 -- floors; 0 where there is none
local LOST_EVICTED, LOST_EXPIRED = 5, 6 -- since the last acknowledgement
local OFFSETS, EXPIRIES, SETTLED = 7, 8, 9
local MOST_SETTLED = 256

local counts = { pending = 0, delivered = 0, evicted = 0, expired = 0 }

local function new(epoch)
  return { epoch, 0, 0, 0, 0, 0, {}, {}, {} }
end

local function read(user)
  local packed = redis.call('HGET', USERS, user)
  return packed and cmsgpack.unpack(packed)
end

-- Where the offset is, or belongs, in a list.
local function place(list, offset)
  local at = #list + 1
  while at > 1 and list[at - 1] >= offset do
    at = at - 1
  end
  return at
end

local function settle(record, offset)
  local settled = record[SETTLED]
  table.insert(settled, place(settled, offset), offset)
  if #settled > MOST_SETTLED then
    record[FORGOTTEN] = math.max(record[FORGOTTEN], table.remove(settled, 1))
  end
end

-- Takes the pending message at an index of the list, as one of `counts`.
local function take(record, index, outcome)
  local offset = table.remove(record[OFFSETS], index)
  table.remove(record[EXPIRIES], index)
  counts.pending = counts.pending - 1
  counts[outcome] = counts[outcome] + 1
  settle(record, offset)
  return offset
end

local function evict_oldest(record)
  record[EVICTED] = take(record, 1, 'evicted')
  record[LOST_EVICTED] = record[LOST_EVICTED] + 1
end

-- Evicts all; says how many that were.
local function purge(record)
  local count = #record[OFFSETS]
  for _ = 1, count do
    evict_oldest(record)
  end
  return count
end

-- Another log has begun: what was pending in the one before is lost.
local function begin(record, epoch)
  purge(record)
  local fresh = new(epoch)
  fresh[LOST_EVICTED], fresh[LOST_EXPIRED] = record[LOST_EVICTED], record[LOST_EXPIRED]
  return fresh
end

-- Nobody needs a record with nothing pending from `forget_at` on.
local function save(user, record, forget_at)
  local due
  for _, expires in ipairs(record[EXPIRIES]) do
    due = math.min(due or expires, expires)
  end
  redis.call('HSET', USERS, user, cmsgpack.pack(record))
  redis.call('ZADD', DUE, due or forget_at, user)
end

local function save_counts()
  for name, count in pairs(counts) do
    if count ~= 0 then
      redis.call('HINCRBY', FIGURES, name, count)
    end
  end
end
