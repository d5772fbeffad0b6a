-- uses: draining
-- ARGV: host_id, version or 0. Without a drain nothing changes.
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
if drain_of(host) ~= '' then
  if ARGV[2] ~= '0' and get(host, 'version') ~= ARGV[2] then return {'ETAG_MISMATCH', 'host_id', ARGV[1]} end
  cancel_drain(ARGV[1], 'an operator ended the drain', true)
end
return {'OK', redis.call('HGETALL', host)}
