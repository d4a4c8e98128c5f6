-- Arguments: epoch and offset that the shard was fed up to, as read before ('' for none); then
-- what they are to be.
local before = redis.call('HMGET', FIGURES, 'fed_epoch', 'fed')

if (before[1] or '') == ARGV[1] and (before[2] or '') == ARGV[2] then
  redis.call('HSET', FIGURES, 'fed_epoch', ARGV[3], 'fed', ARGV[4])
end
