-- The proof of a host's death is told once in an incident, by whoever comes first: its VMs may start before the manager, which may be
-- dead itself, has heard of the proof. What led up to it is not told after it.
local UP_TO_PROOF = {FENCING = true, FENCE_PENDING = true, FENCED = true}

local function tell_host_state(host_id, incident, actor, new_state, detail)
  local host = K_host(host_id)
  if not exists(host) or (incident ~= '' and UP_TO_PROOF[new_state] and get(host, 'fenced_told') == incident) then return '' end
  if new_state == 'FENCED' then redis.call('HSET', host, 'fenced_told', incident) end
  return append_event('host_state_change', incident, actor, 'd', detail)
end
