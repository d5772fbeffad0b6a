-- A new configuration of the safety protocol (R18). ARGV: the newest number that the caller knows, the least number of a new one,
-- the oldest number to keep, content, then the hosts to which it will be sent. What a number stands for never changes.
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
local known, content = num(ARGV[1]), ARGV[4]
local newest = num(get(K_cluster(), 'config_version'))
if newest ~= known then return {'CONFIG_CHANGED', 'config_version', int(newest)} end
local stored = redis.call('HGET', K_configs(), int(newest))
if stored ~= content then
  if stored then newest = newest + 1 end
  newest = math.max(newest, num(ARGV[2]))
  redis.call('HSET', K_configs(), int(newest), content)
  redis.call('HSET', K_cluster(), 'config_version', int(newest))
  for _, old in ipairs(redis.call('HKEYS', K_configs())) do
    if num(old) < num(ARGV[3]) then redis.call('HDEL', K_configs(), old) end
  end
  decided()
end
for i = 5, #ARGV do
  if exists(K_host(ARGV[i])) then redis.call('HSET', K_host(ARGV[i]), 'config_sent', int(newest)) end
end
return {'OK', redis.call('HGETALL', K_cluster())}
