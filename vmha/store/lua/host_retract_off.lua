-- uses: awaited
-- An operator's word that a host is off was taken back: it was heard while that was written down. ARGV: host_id, fence_epoch.
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
local row = fields(host)
if (row.confirmed_off_by or '') ~= '' and num(row.confirmed_off_epoch) == num(ARGV[2]) then
  redis.call('HDEL', host, 'confirmed_off_by', 'confirmed_off_epoch', 'confirmed_off_time_s', 'confirmed_off_awaited')
  decided()
  if row.confirmed_off_awaited == '1' then
    -- It is waited for again, also where it was the last one.
    local hosts = awaited()
    hosts[#hosts + 1] = ARGV[1]
    await(hosts)
  end
end
return {'OK', redis.call('HGETALL', host)}
