-- uses: journal
-- uses: draining
-- Takes a host out of service and writes the journal of its drain; evacuators find it by themselves. One moment for both: the wish
-- is the journal. ARGV: a new drain_id, host_id, stop VMs (1 or 0), version or 0.
local host_id, stop, version = ARGV[2], ARGV[3], ARGV[4]
local host = K_host(host_id)
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', host_id} end
local known = drain_of(host)
local head = K_evacuation(known)
local running = known ~= '' and exists(head) and get(head, 'ended') ~= '1'
if running and get(head, 'cancel_requested') == '1' then return {'HOST_BUSY', 'host_id', host_id, 'evacuation_id', known} end
if running and get(host, 'drain_stop') == stop then return {'OK', redis.call('HGETALL', host)} end
if version ~= '0' and get(host, 'version') ~= version then return {'ETAG_MISMATCH', 'host_id', host_id} end
redis.call('HSET', host, 'drain_stop', stop, 'version', newer(get(host, 'version')))
bump()
if running then return {'OK', redis.call('HGETALL', host)} end
redis.call('HSET', host, 'drain_id', ID, 'drain_before', get(host, 'in_maintenance') == '1' and '1' or '0', 'in_maintenance', '1')
redis.call('HSET', K_draining(), host_id, ID)
begin('host_id', host_id, 'fence_epoch', int(num(get(host, 'fence_epoch'))), 'incarnation', int(num(get(host, 'incarnation'))),
  'leader_term', '0', 'state', 'PLANNING', 'kind', 'DRAIN')
return {'OK', redis.call('HGETALL', host)}
