-- Sets how many connections of members a gateway holds in a channel.
-- KEYS: the channel's members; when its member was last seen.
-- ARGV: the gateway, or '' to only look whether graces are over; the grace in ms; how many ms after
--   now whoever leaves is taken to have left; for how many ms to keep when the member was last seen,
--   or 0; then field, connections and since of each member.
--   Without a gateway, since is when who has no record any more went, unless it is kept.
-- A member is '<since> <left> <gateway>=<connections> ...', with left 0 while a gateway holds it;
-- the field '#' is '<users> <connections>'.
-- Returns, of users, '+<field>' who joined, '-<left> <field>' who left, '~<field>' whose grace runs.
local node, grace = ARGV[1], tonumber(ARGV[2])
local later, keep = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counts = redis.call('HGET', KEYS[1], '#') or '0 0'
local users, connections = string.match(counts, '(%d+) (%d+)')
local told = {}
for at = 5, #ARGV, 3 do
  local field, count = ARGV[at], tonumber(ARGV[at + 1])
  local is_user = string.sub(field, 1, 1) == 'u'
  local record = redis.call('HGET', KEYS[1], field)
  if node == '' and not record then
    -- Removed before, by somebody who may not have got the answer: told once more. Who was taken
    -- back and left soon after went earlier than was listed.
    local went = keep > 0 and redis.call('GET', KEYS[2]) or ARGV[at + 2]
    table.insert(told, '-' .. went .. ' ' .. field)
  elseif record or count > 0 then
    local since, left, rest = string.match(record or ARGV[at + 2] .. ' 0', '^(%d+) (%d+)(.*)$')
    local places, before = '', 0
    for place, held in string.gmatch(rest, '(%S+)=(%d+)') do
      if place == node then
        before = held
      else
        places = places .. ' ' .. place .. '=' .. held
      end
    end
    if count > 0 then
      places = places .. ' ' .. node .. '=' .. count
    end
    connections = connections + count - before
    if is_user and not record then
      users = users + 1
      table.insert(told, '+' .. field)
    end
    left = tonumber(left)
    -- Only a gateway knows better than to expect somebody back who was taken to leave later.
    if places == '' and (left == 0 or node ~= '' and left > now + later) then
      left = now + later
    end
    if places ~= '' then
      redis.call('HSET', KEYS[1], field, since .. ' 0' .. places)
    elseif is_user and now - left < grace then
      redis.call('HSET', KEYS[1], field, since .. ' ' .. left)
      table.insert(told, '~' .. field)
    else
      redis.call('HDEL', KEYS[1], field)
      if is_user then
        users = users - 1
        table.insert(told, '-' .. left .. ' ' .. field)
      end
      if keep > 0 then
        redis.call('SET', KEYS[2], left, 'PX', keep)
      end
    end
  end
end
redis.call('HSET', KEYS[1], '#', users .. ' ' .. connections)
if redis.call('HLEN', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
return told
