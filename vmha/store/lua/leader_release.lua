-- The holder of a term goes away in good order. ARGV: holder, term.
if get(K_leader(), 'holder') == ARGV[1] and num(get(K_leader(), 'term')) == num(ARGV[2]) then redis.call('DEL', K_leader()) end
return {'OK'}
