-- KEYS: a session. ARGV: the connection that goes on with it, and how long to keep it, in ms.
-- Answers with its record as it was.
local there = redis.call('GET', KEYS[1])
if not there or there == '' then
  return false
end
local passed = string.gsub(there, '("connection":")%x+', '%1' .. ARGV[1], 1)
redis.call('SET', KEYS[1], passed, 'PX', ARGV[2])
return there
