-- KEYS: a session. ARGV: its record, and how long to keep it, in ms.
-- A session that was taken has left an empty record. Answers whether that is so.
if redis.call('GET', KEYS[1]) == '' then
  return 1
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
