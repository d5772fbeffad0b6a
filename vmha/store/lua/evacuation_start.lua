-- uses: journal
-- ARGV: evacuation_id, host_id, fence_epoch, incarnation, leader term, the lease's proof in words or ''.
local host_id, fence_epoch, incarnation = ARGV[2], ARGV[3], ARGV[4]
if exists(HEAD) then
  local row = fields(HEAD)
  local same = row.host_id == host_id and num(row.fence_epoch) == num(fence_epoch) and num(row.incarnation) == num(incarnation)
  if row.kind == 'DRAIN' or not same then
    return {'REQUEST_ID_REUSED', 'evacuation_id', ID, 'host_id', row.host_id}
  end
  -- It comes once it holds, for an order that is known already; a word that was written stays (R16, R17).
  if ARGV[6] ~= '' and (row.lease_proof or '') == '' then redis.call('HSET', HEAD, 'lease_proof', ARGV[6]) end
  return {'OK', redis.call('HGETALL', HEAD)}
end
if get(K_cluster(), 'awaited') ~= '' then return {'SAFE_MODE', 'evacuation_id', ID} end
local host = fields(K_host(host_id))
if not host.config then return {'HOST_UNKNOWN', 'host_id', host_id} end
if num(host.fence_epoch) ~= num(fence_epoch) then
  return {'STALE_FENCE_EPOCH', 'host_id', host_id, 'fence_epoch', int(num(host.fence_epoch))}
end
if host.incarnation_revoked ~= '1' then return {'HOST_NOT_DOWN', 'host_id', host_id} end
if num(incarnation) > num(host.incarnation) then
  return {'STALE_INCARNATION', 'host_id', host_id, 'incarnation', int(num(host.incarnation))}
end
local other = redis.call('HGET', K_evacuating(), host_id)
if other and exists(K_evacuation(other)) then return {'HOST_BUSY', 'host_id', host_id, 'evacuation_id', other} end
redis.call('HSET', K_evacuating(), host_id, ID)
begin('host_id', host_id, 'fence_epoch', fence_epoch, 'incarnation', incarnation, 'leader_term', ARGV[5], 'state', 'VERIFYING',
  'lease_proof', ARGV[6])
return {'OK', redis.call('HGETALL', HEAD)}
