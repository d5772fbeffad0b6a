-- A host's drain as its record has it: `drain_id`; `drain_stop`, whether VMs that cannot migrate are shut down; `drain_before`,
-- whether the host was in maintenance before.
local function drain_of(host)
  local row = redis.call('HMGET', host, 'drain_id', 'drain_stop', 'drain_before')
  return row[1] or '', row[2] == '1', row[3] == '1'
end

-- Ask the drain of a host to end, wherever it runs; back in service unless it was not before. Once: what follows is not undone.
local function cancel_drain(host_id, message, back)
  local host = K_host(host_id)
  local id, _, before = drain_of(host)
  local head = K_evacuation(id)
  if id == '' or not exists(head) or get(head, 'ended') == '1' or get(head, 'cancel_requested') == '1' then return end
  redis.call('HSET', head, 'cancel_requested', '1', 'message', message)
  if back and not before then redis.call('HSET', host, 'in_maintenance', '0', 'version', newer(get(host, 'version'))) end
  bump()
end
