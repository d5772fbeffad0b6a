"""An evacuation over real libvirt (its test driver), real Redis and real gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tests.evac.doubles import AgentDouble
from tests.evac.test_hypervisor import node_uri
from tests.evac.world import C, World, domain_xml, seen, vm_uuid
from vmha.evac.libvirt_hypervisor import LibvirtHypervisor
from vmha.model import EvacuationState, VmOutcome, VmState
from vmha.store import Store


class LibvirtWorld(World):
    """Each host is a test driver of its own; its agent resumes over the same connection, for such a node is private to one."""

    @classmethod
    async def build(cls, store: Store, folder: Path) -> LibvirtWorld:
        hosts: dict[str, LibvirtHypervisor] = {}

        def make(uri: str) -> LibvirtHypervisor:
            host_id = uri.removeprefix("test:///")
            if host_id not in hosts:
                (folder / host_id).mkdir()
                hosts[host_id] = LibvirtHypervisor(node_uri(folder / host_id))
            return hosts[host_id]

        def resume(host_id: str, vm_id: str) -> VmState:
            cast("Any", make(f"test:///{host_id}"))._connection.lookupByUUIDString(vm_id).resume()
            return VmState.RUNNING

        agent = AgentDouble(resume)
        return cls(store=store, agent=agent, agent_port=await agent.start(), make=make)

    async def states(self, host_id: str) -> dict[str, VmState]:
        return dict(await self.make(f"test:///{host_id}").list(5.0))

    async def stop(self) -> None:
        for supervisor in self.supervisors:
            await supervisor.drain()
        for admission in self.admissions:
            await admission.close()
        await self.agent.stop()


async def test_vms_run_on_real_libvirt(store: Store, tmp_path: Path) -> None:
    """Twelve VMs: each is RUNNING in the libvirt of the host that owns it, and nowhere else."""
    world = await LibvirtWorld.build(store, tmp_path)
    await world.cluster()
    await world.vms(*(seen(n) for n in range(12)))

    record = await world.evacuate()

    assert record.state is EvacuationState.SUCCEEDED
    found = {host_id: await world.states(host_id) for host_id in ("h2", "h3")}
    for number in range(12):
        vm = await store.vms.get(C, vm_uuid(number))
        running = [host_id for host_id, states in found.items() if states.get(vm_uuid(number)) is VmState.RUNNING]
        assert running == [vm.owner_host_id]
    await world.stop()


async def test_a_name_that_is_taken_on_one_target_is_started_on_the_other(store: Store, tmp_path: Path) -> None:
    """libvirt refuses the definition on h2: nothing is left there, that domain is untouched, and the VM runs on h3."""
    world = await LibvirtWorld.build(store, tmp_path)
    await world.cluster()
    await world.vms(seen(0))
    other = vm_uuid(99)
    await world.make("test:///h2").start_paused(other, domain_xml(other, "vm0"), 5.0)

    record = await world.evacuate()

    assert record.state is EvacuationState.SUCCEEDED
    assert await world.states("h2") == {other: VmState.PAUSED}
    assert await world.states("h3") == {vm_uuid(0): VmState.RUNNING}
    await world.stop()


async def test_a_domain_found_half_made_is_finished(store: Store, tmp_path: Path) -> None:
    """The target already has the domain, paused, from an evacuator that died: it is admitted, not made again."""
    world = await LibvirtWorld.build(store, tmp_path)
    await world.cluster(2)
    await world.vms(seen(0))
    await world.make("test:///h2").start_paused(vm_uuid(0), domain_xml(vm_uuid(0), "vm0"), 5.0)

    record = await world.evacuate()

    assert await world.outcomes(record.evacuation_id) == {"vm0": VmOutcome.MOVED}
    assert await world.states("h2") == {vm_uuid(0): VmState.RUNNING}
    await world.stop()
