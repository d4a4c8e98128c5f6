-- Arguments: the user, when to forget.
-- Returns how many messages were evicted.
local record = read(ARGV[1])
if not record then
  return 0
end
local count = purge(record)
save(ARGV[1], record, tonumber(ARGV[2]))
save_counts()
return count
