"""Ways through the store that several tests take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.support.failures import cluster_of, confirm_down, own, register
from vmha.model import EvacuationState, Group, GroupMode, GroupPolicy, ProofKind, VmOutcome, VmStep
from vmha.store import Store
from vmha.store.leaders import Candidate
from vmha.store.records import Incident, SafetyConfig, VmEntry

C = "c1"
RUNNER = "runner-1"


@dataclass(frozen=True, slots=True)
class Evacuation:
    """An evacuation of h1 that is proven and planned, with h2 as target of all VMs."""

    store: Store
    incident: Incident
    incarnations: dict[str, int]
    entries: list[VmEntry]

    @property
    def id(self) -> str:
        return self.incident.incident_id

    async def claim(self, entry: VmEntry, *, runner: str = RUNNER) -> VmEntry:
        return await self.store.evacuations.claim(C, self.id, runner, entry, "h1", self.incident.incarnation)


async def started(store: Store, vm_ids: list[str]) -> tuple[Incident, dict[str, int]]:
    """h1 owned the VMs and is down; its evacuation is VERIFYING, and held by RUNNER."""
    incarnations = await cluster_of(store, C, ["h1", "h2", "h3"])
    await own(store, C, "h1", vm_ids)
    incident = await confirm_down(store, C, "h1")
    await store.evacuations.start(C, incident.incident_id, "h1", incident.fence_epoch, incident.incarnation, 0)
    assert await store.evacuations.acquire(C, incident.incident_id, RUNNER, 30)
    return incident, incarnations


async def planned(store: Store, vm_ids: list[str]) -> Evacuation:
    """h1 is proven dead, and its VMs are to start on h2."""
    incident, incarnations = await started(store, vm_ids)
    await store.evacuations.advance(C, incident.incident_id, RUNNER, EvacuationState.PLANNING, proof=ProofKind.FENCE)
    entries = [
        VmEntry(
            vm_id=vm.vm_id,
            vm_name=vm.name,
            step=VmStep.PLANNED,
            target_host_id="h2",
            target_incarnation=incarnations["h2"],
            source_epoch=vm.epoch,
        )
        for vm in await store.vms.list(C, "h1")
    ]
    await store.evacuations.plan(C, incident.incident_id, RUNNER, entries)
    return Evacuation(store, incident, incarnations, entries)


async def whole_way(store: Store) -> set[str]:
    """Everything that leaves a key: evacuations, a drain, a plan, a migration whose source reboots, a suspicion, a group.

    Returns:
        The evacuation and the drain under way.
    """
    way = await planned(store, ["v1"])
    claimed = await way.claim(way.entries[0])
    settled = replace(claimed, step=VmStep.SETTLED, outcome=VmOutcome.MOVED)
    await store.evacuations.step(C, way.id, RUNNER, settled)
    await store.evacuations.advance(C, way.id, RUNNER, EvacuationState.SUCCEEDED)
    await own(store, C, "h3", ["v3"])
    await own(store, C, "h2", ["v3"])
    await register(store, C, "h3", "boot-h3-2")
    await store.evacuations.lock_plans(C, RUNNER, 60.0)
    host = await store.hosts.get(C, "h3")
    await store.incidents.suspect(C, "h3", host.boot_id, 60.0, 120.0, "SILENT", "")
    config = SafetyConfig(
        protected=True, self_fencing=True, voters=("h1",), certificate_quorum=1, evacuation_quorum=1, constants={}
    )
    await store.clusters.put_config(await store.clusters.get(C), config, at_least=0, keep_from=0, hosts=["h1"])
    rule = Group(group_id="g1", policy=GroupPolicy.AFFINITY, mode=GroupMode.SOFT, vm_ids=("v1", "v3"))
    await store.groups.create(C, rule)
    await store.leaders.claim(C, Candidate(holder="run-1", manager_id="m1", address="127.0.0.1:1"), 60.0)
    await store.events.append(C, "alarm", {"reason": "FLAPPING"})
    down = await confirm_down(store, C, "h2")
    await store.evacuations.start(C, down.incident_id, "h2", down.fence_epoch, down.incarnation, 0)
    drain = await store.hosts.drain(C, "h3", "11111111-1111-4111-8111-111111111111", False, None)
    return {down.incident_id, drain.drain_id}
