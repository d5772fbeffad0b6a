-- What the operator sets, under the host's etag. ARGV: host_id, field, value, version or 0.
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
local old = get(host, ARGV[2])
if old == '' then old = '0' end
if old ~= ARGV[3] then
  if ARGV[4] ~= '0' and get(host, 'version') ~= ARGV[4] then return {'ETAG_MISMATCH', 'host_id', ARGV[1]} end
  redis.call('HSET', host, ARGV[2], ARGV[3], 'version', newer(get(host, 'version')))
  bump()
end
return {'OK', redis.call('HGETALL', host)}
