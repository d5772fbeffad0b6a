-- uses: awaited
-- ARGV: host_id, fence_epoch, operator.
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
local epoch = get(host, 'fence_epoch')
if num(epoch) ~= num(ARGV[2]) then return {'STALE_FENCE_EPOCH', 'host_id', ARGV[1], 'fence_epoch', int(num(epoch))} end
if get(host, 'confirmed_off_by') ~= ARGV[3] or num(get(host, 'confirmed_off_epoch')) ~= num(ARGV[2]) then
  redis.call('HSET', host, 'confirmed_off_by', ARGV[3], 'confirmed_off_epoch', ARGV[2], 'confirmed_off_time_s', NOW)
  decided()
end
-- Nobody waits any more for what only this host could tell.
if get(K_cluster(), 'awaited') ~= '' and await_no_more({ARGV[1]}) then
  redis.call('HSET', host, 'confirmed_off_awaited', '1')
end
return {'OK', redis.call('HGETALL', host)}
