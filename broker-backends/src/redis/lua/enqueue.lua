-- Arguments: the queue's size, when to forget; then user, epoch, offset, expiry of each message.
local size, forget_at = tonumber(ARGV[1]), tonumber(ARGV[2])
local fed = redis.call('HMGET', FIGURES, 'fed_epoch', 'fed')
local records = {}

local function enqueue(record, offset, expires)
  local at = place(record[OFFSETS], offset)
  local settled = record[SETTLED]
  if offset <= record[FORGOTTEN] or record[OFFSETS][at] == offset
      or settled[place(settled, offset)] == offset then
    return
  end
  if offset <= record[ACKNOWLEDGED] then
    counts.delivered = counts.delivered + 1
    settle(record, offset)
  elseif offset <= record[EVICTED] then
    counts.evicted = counts.evicted + 1
    record[LOST_EVICTED] = record[LOST_EVICTED] + 1
    settle(record, offset)
  else
    counts.pending = counts.pending + 1
    table.insert(record[OFFSETS], at, offset)
    table.insert(record[EXPIRIES], at, expires)
  end
end

for i = 3, #ARGV, 4 do
  local user, epoch, offset = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  -- What the feeder is done with comes again after it was set back.
  if not (fed[1] == epoch and offset <= tonumber(fed[2])) then
    local record = records[user] or read(user) or new(epoch)
    if record[EPOCH] ~= epoch then
      record = begin(record, epoch)
    end
    enqueue(record, offset, tonumber(ARGV[i + 3]))
    while #record[OFFSETS] > size do
      evict_oldest(record)
    end
    records[user] = record
  end
end
for user, record in pairs(records) do
  local settled = record[SETTLED]
  while record[EPOCH] == fed[1] and settled[1] and settled[1] <= tonumber(fed[2]) do
    table.remove(settled, 1)
  end
  save(user, record, forget_at)
end
save_counts()
