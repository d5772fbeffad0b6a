-- uses: seen
-- Puts the offer in force and re-claims what the host owns. ARGV: host_id, incarnation, boot_id.
-- `undelivered` outlives the manager: the host was not told yet to start what it owns.
-- One moment for both: before it an evacuator's claim wins and the VM is not the host's any more; after it the
-- claim finds a newer incarnation and a newer epoch, and fails.
local id, incarnation, boot_id = ARGV[1], ARGV[2], ARGV[3]
local host = K_host(id)
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', id} end
local row = fields(host)
local repeated = num(incarnation) > 0 and num(row.incarnation) == num(incarnation) and row.incarnation_revoked ~= '1'
if not repeated and (num(incarnation) <= 0 or num(row.offer_incarnation) ~= num(incarnation)) then
  return {'STALE_INCARNATION', 'host_id', id, 'incarnation', incarnation, 'offered', row.offer_incarnation or '0'}
end
if not repeated then
  redis.call('HSET', host, 'incarnation', incarnation, 'incarnation_revoked', '0', 'boot_id', boot_id,
    'undelivered', '1')
  redis.call('HDEL', host, 'confirmed_off_by', 'confirmed_off_epoch', 'confirmed_off_time_s', 'confirmed_off_awaited')
  redis.call('DEL', K_suspect(id))
  decided()
end
local owned = {}
for _, vm_id in ipairs(redis.call('SMEMBERS', K_host_vms(id))) do
  local vm = K_vm(vm_id)
  if not repeated then
    -- Off since its host was cut off while the store was lost: nobody starts it, and it says so until it runs.
    local row = redis.call('HMGET', vm, 'reason', 'desired_state', 'epoch', 'seen_on', 'moving_to', 'withheld')
    local waits = row[1] == 'SELF_FENCED' and row[2] == 'SHUTOFF'
    -- It is not told to start what another host may have (R22), until nobody else can have it.
    local withheld = ((row[4] or '') ~= '' and seen_by(vm_id, id) ~= '') or ((row[5] or '') ~= '' and going_to(vm_id, id) ~= '')
    if withheld or row[6] == '1' then redis.call(withheld and 'SADD' or 'SREM', K_withheld(), vm_id) end
    redis.call('HSET', vm, 'owner_incarnation', incarnation, 'claim_id', '', 'claim_open', '0', 'epoch', int(num(row[3]) + 1),
      'reason', waits and 'SELF_FENCED' or '', 'withheld', withheld and '1' or '0')
  end
  owned[#owned + 1] = {vm_id, redis.call('HGETALL', vm)}
end
return {'OK', owned}
