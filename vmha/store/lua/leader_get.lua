-- Who leads, and the newest term on record. With a term of its own it is refused like any decision of that term.
return {'OK', redis.call('GET', K_term()) or '0', redis.call('HGETALL', K_leader())}
