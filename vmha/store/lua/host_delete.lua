-- ARGV: host_id, version or 0.
local id = ARGV[1]
local host = K_host(id)
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', id} end
if ARGV[2] ~= '0' and get(host, 'version') ~= ARGV[2] then return {'ETAG_MISMATCH', 'host_id', id} end
local owned = redis.call('SCARD', K_host_vms(id)) + redis.call('SCARD', K_host_seen(id))
if owned > 0 then return {'HOST_OWNS_VMS', 'host_id', id, 'vm_count', int(owned)} end
for _, busy in ipairs({K_incidents(), K_evacuating(), K_draining()}) do
  if redis.call('HEXISTS', busy, id) == 1 then return {'HOST_BUSY', 'host_id', id} end
end
redis.call('DEL', host, K_suspect(id))
redis.call('SREM', K_hosts(), id)
bump()
return {'OK'}
