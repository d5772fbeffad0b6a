-- The one way in which a VM changes hands; every caller has compared owner and epoch first.
local function hand_over(vm_id, from_id, to_id, to_incarnation, epoch, claim_id)
  local vm = K_vm(vm_id)
  decided()
  redis.call('HSET', vm, 'owner', to_id, 'owner_incarnation', to_incarnation, 'epoch', int(epoch), 'claim_id', claim_id,
    'claim_open', claim_id ~= '' and '1' or '0', 'handed_at', get(K_cluster(), 'store_generation'))
  local seen_on = get(vm, 'seen_on')
  local moving_to = get(vm, 'moving_to')
  if seen_on ~= '' then redis.call('SREM', K_host_seen(seen_on), vm_id) end
  if moving_to ~= '' then redis.call('SREM', K_host_seen(moving_to), vm_id) end
  redis.call('HDEL', vm, 'departed', 'seen_on', 'seen_incarnation', 'seen_state', 'unadmitted', 'withheld', 'ended_on', 'ended_epoch', 'moving_to', 'moving_incarnation', 'moving_by',
    'lock_id', 'lock_until_ms')
  redis.call('SREM', K_host_vms(from_id), vm_id)
  redis.call('SADD', K_host_vms(to_id), vm_id)
end

local function stale_vm(vm_id, row)
  return {'STALE_VM_EPOCH', 'vm_id', vm_id, 'owner_host_id', row.owner or '', 'epoch', row.epoch or '0'}
end
