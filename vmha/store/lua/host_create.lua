-- ARGV: host_id, settings.
local host = K_host(ARGV[1])
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
if exists(host) then
  if get(host, 'config') ~= ARGV[2] then return {'HOST_EXISTS', 'host_id', ARGV[1]} end
else
  redis.call('HSET', host, 'config', ARGV[2], 'version', newer(0), 'state', 'UNKNOWN', 'state_time_s', NOW)
  redis.call('SADD', K_hosts(), ARGV[1])
  bump()
end
return {'OK', redis.call('HGETALL', host)}
