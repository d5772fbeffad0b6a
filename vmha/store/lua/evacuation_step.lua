-- uses: journal
-- ARGV: evacuation_id, runner, vm_id, entry, reason of an alarm or ''.
local vm_id, vm_json, alarm = ARGV[3], ARGV[4], ARGV[5]
local refusal = refused(ARGV[2])
if refusal then return refusal end
local changed, settled = put_entry(vm_id, vm_json)
if settled then return settled end
if changed then
  record(vm_json)
  vm_event(vm_json)
  local entry = cjson.decode(vm_json)
  if alarm ~= '' then
    append_event('alarm', ID, 'evac', 'd', cjson.encode({reason = alarm, host_id = get(HEAD, 'host_id'), vm_id = vm_id,
      message = entry.message}))
  end
  -- Verified running by the target's libvirt; its agent may not have said so yet.
  local vm = K_vm(vm_id)
  if entry.outcome == 'MOVED' and get(vm, 'owner') == entry.target_host_id and num(get(vm, 'epoch')) == entry.epoch then
    if get(vm, 'state') == 'UNSPECIFIED' then redis.call('HSET', vm, 'state', 'RUNNING', 'state_reason', '') end
    redis.call('HSET', vm, 'claim_open', '0', 'reason', '')
  end
end
return {'OK', redis.call('HGETALL', HEAD)}
