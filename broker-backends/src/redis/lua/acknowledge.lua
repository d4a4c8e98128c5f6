-- Arguments: when to forget; then user, epoch, offset of each acknowledgement.
local forget_at = tonumber(ARGV[1])

for i = 2, #ARGV, 3 do
  local user, epoch, offset = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local record = read(user) or new(epoch)
  if record[EPOCH] ~= epoch and #record[OFFSETS] == 0 then
    record = begin(record, epoch)
  end
  -- Of another log, it says nothing about what is pending in this one.
  if record[EPOCH] == epoch and offset > record[ACKNOWLEDGED] then
    record[ACKNOWLEDGED] = offset
    record[LOST_EVICTED], record[LOST_EXPIRED] = 0, 0
    while record[OFFSETS][1] and record[OFFSETS][1] <= offset do
      take(record, 1, 'delivered')
    end
    save(user, record, forget_at)
  end
end
save_counts()
