-- uses: seen
-- What hosts were not told to start when they registered. Answers how much of it still is, and the records of those that nobody else
-- can have any more, and that nobody is at: their owner has said that they do not execute there.
local left, free = 0, {}
for _, vm_id in ipairs(redis.call('SMEMBERS', K_withheld())) do
  local vm = K_vm(vm_id)
  local row = redis.call('HMGET', vm, 'owner', 'withheld', 'desired_state', 'state', 'departed', 'lock_id', 'lock_until_ms')
  local owner = row[1] or ''
  if row[2] ~= '1' or row[3] ~= 'RUNNING' then
    redis.call('SREM', K_withheld(), vm_id)
  else
    left = left + 1
    local executes = row[4] == 'RUNNING' or row[4] == 'PAUSED'
    local locked = (row[6] or '') ~= '' and num(row[7]) > NOW_MS
    local elsewhere = row[5] == '1' or seen_by(vm_id, owner) ~= '' or going_to(vm_id, owner) ~= ''
    if not executes and not locked and not elsewhere then free[#free + 1] = {vm_id, redis.call('HGETALL', vm)} end
  end
end
return {'OK', left, free}
