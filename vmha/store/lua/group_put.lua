-- ARGV: create, update or delete; group_id; the rule (JSON); etag or empty.
local act, id, rule, etag = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
local old = redis.call('HGET', K_groups(), id)
if act == 'create' then
  if old and old ~= rule then return {'GROUP_EXISTS', 'group_id', id} end
elseif not old then
  return {'GROUP_UNKNOWN', 'group_id', id}
end
if old == rule then return {'OK'} end
if etag ~= '' and redis.sha1hex(old) ~= etag then return {'ETAG_MISMATCH', 'group_id', id} end
if act == 'delete' then redis.call('HDEL', K_groups(), id) else redis.call('HSET', K_groups(), id, rule) end
bump()
return {'OK'}
