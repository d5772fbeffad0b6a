-- What an agent says as it opens its session. ARGV: host_id, boot_id, self_fencing, watchdog (1 or 0).
-- What it takes back is taken back at once; what it gives counts from a heartbeat on, and its leader writes that down then.
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
if get(host, 'boot_id') ~= ARGV[2] then redis.call('HDEL', host, 'clock_suspect_s') end
redis.call('HSET', host, 'boot_id', ARGV[2])
for i, name in ipairs({'self_fencing', 'watchdog'}) do
  if ARGV[i + 2] ~= '1' then redis.call('HSET', host, name, '0') end
end
return {'OK', redis.call('HGETALL', host)}
