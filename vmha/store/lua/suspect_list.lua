-- uses: suspect_spans
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', K_hosts())) do
  local row = suspect_row(K_suspect(id))
  if row then found[#found + 1] = {id, row} end
end
return {'OK', found}
