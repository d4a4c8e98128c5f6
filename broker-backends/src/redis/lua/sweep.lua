-- Arguments: now, when to forget, most records to look at.
-- Returns how many messages expired, and how many records were looked at.
local now, forget_at = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, ARGV[3])

for _, user in ipairs(due) do
  local record = read(user)
  if record and #record[OFFSETS] > 0 then
    local expiries = record[EXPIRIES]
    for index = #expiries, 1, -1 do
      if expiries[index] <= now then
        take(record, index, 'expired')
        record[LOST_EXPIRED] = record[LOST_EXPIRED] + 1
      end
    end
    save(user, record, forget_at)
  else
    redis.call('HDEL', USERS, user)
    redis.call('ZREM', DUE, user)
  end
end
save_counts()
return { counts.expired, #due }
