-- ARGV: settings.
if exists(K_cluster()) then
  if get(K_cluster(), 'config') ~= ARGV[1] then return {'CLUSTER_EXISTS'} end
  return {'OK', redis.call('HGETALL', K_cluster())}
end
local version = newer(redis.call('GET', K_tombstone()))
redis.call('DEL', K_tombstone())
redis.call('HSET', K_cluster(), 'config', ARGV[1], 'ha_enabled', '0', 'version', version, 'config_version', 1, 'store_generation', 1)
return {'OK', redis.call('HGETALL', K_cluster())}
