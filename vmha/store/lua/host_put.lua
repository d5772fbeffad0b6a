-- What the agent says of its host. ARGV: host_id, field, value, ...
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
for i = 2, #ARGV, 2 do redis.call('HSET', host, ARGV[i], ARGV[i + 1]) end
return {'OK', redis.call('HGETALL', host)}
