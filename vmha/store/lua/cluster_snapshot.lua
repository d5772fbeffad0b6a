-- A cluster with its hosts, groups and numbered configurations, of one moment.
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
local hosts = {}
for _, id in ipairs(redis.call('SMEMBERS', K_hosts())) do
  hosts[#hosts + 1] = {id, redis.call('HGETALL', K_host(id))}
end
return {'OK', redis.call('HGETALL', K_cluster()), hosts, redis.call('HGETALL', K_groups()), redis.call('HGETALL', K_configs())}
