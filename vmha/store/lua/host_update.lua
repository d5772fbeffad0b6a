-- uses: draining
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
if ARGV[2] == 'in_maintenance' and get(host, 'drain_id') ~= '' then
  -- Whoever asks for maintenance has it whatever becomes of the drain; its end ends the drain.
  if ARGV[3] == '1' then redis.call('HSET', host, 'drain_before', '1') else cancel_drain(ARGV[1], 'its maintenance was ended', false) end
end
return {'OK', redis.call('HGETALL', host)}
