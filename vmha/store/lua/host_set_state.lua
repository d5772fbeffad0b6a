-- ARGV: host_id, state, reason, message, incident_id (optional).
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
if get(host, 'state') ~= ARGV[2] then redis.call('HSET', host, 'state_time_s', NOW) end
redis.call('HSET', host, 'state', ARGV[2], 'state_reason', ARGV[3], 'state_message', ARGV[4])
if ARGV[5] then redis.call('HSET', host, 'incident_id', ARGV[5]) end
return {'OK', redis.call('HGETALL', host)}
