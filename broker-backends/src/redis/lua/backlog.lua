-- Argument: the user.
-- Returns the epoch, the floor, and how many messages were evicted and expired.
local record = read(ARGV[1])
if not record then
  return { '', 0, 0, 0 }
end
local floor = math.max(record[ACKNOWLEDGED], record[EVICTED])
return { record[EPOCH], floor, record[LOST_EVICTED], record[LOST_EXPIRED] }
