-- uses: journal
-- uses: seen
-- An evacuation has looked at the host to which a VM was being migrated when its own died: nothing of it is there, and what
-- would send it is proven dead (R22). ARGV: evacuation_id, runner, vm_id, that host.
local refusal = refused(ARGV[2])
if refusal then return refusal end
local vm, head = K_vm(ARGV[3]), fields(HEAD)
if head.proof == 'UNSPECIFIED' then return {'EVACUATION_UNPROVEN', 'evacuation_id', ID} end
local dead = get(vm, 'owner') == head.host_id and num(get(vm, 'owner_incarnation')) <= num(head.incarnation)
if dead and get(vm, 'moving_to') == ARGV[4] then goes_no_more(ARGV[3]) end
return {'OK'}
