"""The runner end to end: real Redis, real gRPC to the agents, hypervisors in memory."""

from __future__ import annotations

import pytest

from tests.evac.world import C, World, seen, vm_uuid
from vmha.model import EvacuationState, ProofKind, VmOutcome, VmState


async def test_every_vm_of_a_dead_host_runs_elsewhere(world: World) -> None:
    """After a proof by the fence, each running VM is verified running on one other host, and owned by it."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(10)))

    record = await world.evacuate()

    assert record.state is EvacuationState.SUCCEEDED
    assert record.proof is ProofKind.FENCE
    assert world.device.orders == 1
    for number in range(10):
        vm = await world.store.vms.get(C, vm_uuid(number))
        assert world.running_on(number) == [vm.owner_host_id]
        assert vm.owner_host_id in {"h2", "h3"}
