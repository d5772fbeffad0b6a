-- One cluster.
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
return {'OK', redis.call('HGETALL', K_cluster())}
