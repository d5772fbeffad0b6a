-- The store came back empty: writes what the manager remembers, all of it or nothing.
-- ARGV: settings, protection, version, config_version, store_generation, hosts (JSON, all values text), groups (JSON),
-- numbered configurations (JSON), open incidents by host (JSON), hosts to wait for whatever their records say.
if exists(K_cluster()) then return {'OK', redis.call('HGETALL', K_cluster())} end
if exists(K_tombstone()) then return {'CLUSTER_UNKNOWN'} end
redis.call('HSET', K_cluster(), 'config', ARGV[1], 'ha_enabled', ARGV[2], 'version', newer(ARGV[3]),
  'config_version', ARGV[4], 'store_generation', int(num(ARGV[5]) + 1))
local incidents = cjson.decode(ARGV[9])
local PROVEN_DEAD, awaited = {FENCED = true, EVACUATING = true, EVACUATED = true}, {}
for id, row in pairs(cjson.decode(ARGV[6])) do
  redis.call('SADD', K_hosts(), id)
  for name, value in pairs(row) do redis.call('HSET', K_host(id), name, value) end
  local off = row.confirmed_off_by ~= '' and num(row.confirmed_off_epoch) == num(row.fence_epoch)
  local dead = off or (row.incarnation_revoked == '1' and PROVEN_DEAD[row.state])
  if num(row.incarnation) > 0 and not dead then awaited[#awaited + 1] = id end
  if row.drain_id ~= '' then
    -- Its journal went with the store; it begins anew.
    redis.call('HSET', K_draining(), id, row.drain_id)
    redis.call('ZADD', K_evacuations(), int(NOW_MS), row.drain_id)
    redis.call('HSET', K_evacuation(row.drain_id), 'kind', 'DRAIN', 'host_id', id, 'fence_epoch', row.fence_epoch, 'incarnation',
      row.incarnation, 'leader_term', '0', 'state', 'PLANNING', 'reason', '', 'message', '', 'proof', 'UNSPECIFIED', 'start_time_s', NOW,
      'sequence', '0')
  end
  if row.incident_id ~= '' and row.state ~= 'EVACUATED' then
    local known = incidents[id]
    if not known or cjson.decode(known)[1] ~= row.incident_id then
      known = cjson.encode({row.incident_id, id, row.boot_id, row.incarnation, row.fence_epoch, 'Restored after the store was lost.', '0'})
    end
    redis.call('HSET', K_incidents(), id, known)
  end
end
if #ARGV > 9 then awaited = {unpack(ARGV, 10)} end
-- Safe mode from the first moment on: only the hosts themselves know what they run (R20).
if #awaited > 0 then redis.call('HSET', K_cluster(), 'awaited', cjson.encode(awaited)) end
for id, rule in pairs(cjson.decode(ARGV[7])) do redis.call('HSET', K_groups(), id, rule) end
for number, content in pairs(cjson.decode(ARGV[8])) do redis.call('HSET', K_configs(), number, content) end
return {'OK', redis.call('HGETALL', K_cluster())}
