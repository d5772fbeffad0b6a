-- ARGV: host_id, boot token. A number that is neither on offer nor in force is never given twice.
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
local row = fields(host)
local offered = num(row.offer_incarnation)
local held = offered > num(row.incarnation) or (offered == num(row.incarnation) and row.incarnation_revoked ~= '1')
if row.offer_token == ARGV[2] and offered > 0 and held then return {'OK', int(offered)} end
local incarnation = newer(math.max(num(row.incarnation), offered, num(row.offer_last)))
redis.call('HSET', host, 'offer_token', ARGV[2], 'offer_incarnation', incarnation, 'offer_last', incarnation)
return {'OK', incarnation}
