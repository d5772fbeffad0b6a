-- ARGV: version or 0. The tombstone keeps a manager that still remembers the cluster from restoring it. It holds the last version, so
-- that a cluster of the same name that is created within the same millisecond has a newer one.
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
if ARGV[1] ~= '0' and get(K_cluster(), 'version') ~= ARGV[1] then return {'ETAG_MISMATCH'} end
if get(K_cluster(), 'ha_enabled') == '1' then return {'CLUSTER_ENABLED'} end
if redis.call('SCARD', K_hosts()) > 0 then return {'CLUSTER_NOT_EMPTY'} end
for _, id in ipairs(redis.call('ZRANGE', K_evacuations(), 0, -1)) do
  redis.call('DEL', K_evacuation(id), K_entries(id), K_history(id), K_runner(id))
end
for _, id in ipairs(redis.call('SMEMBERS', K_vms())) do redis.call('DEL', K_vm(id)) end
local version = get(K_cluster(), 'version')
redis.call('DEL', K_cluster(), K_leader(), K_term(), K_hosts(), K_groups(), K_incidents(), K_vms(), K_withheld(), K_evacuations(), K_evacuating(), K_draining(), K_events(), K_configs())
redis.call('SET', K_tombstone(), version, 'EX', TOMBSTONE_TTL_S)
return {'OK'}
