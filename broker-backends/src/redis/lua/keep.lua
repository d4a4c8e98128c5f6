-- KEYS: a session. ARGV: its record, and how long to keep it, in ms; the connection that has it, and
-- the version of the record.
-- A session that was taken has left an empty record, one that was passed on has another connection.
-- Answers whether that is so. A record of a later version stays.
local there = redis.call('GET', KEYS[1])
if there then
  if string.match(there, '"connection":"(%x+)"') ~= ARGV[3] then
    return 1
  end
  if tonumber(string.match(there, '"version":(%d+)') or 0) > tonumber(ARGV[4]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
