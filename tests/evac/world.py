"""A cluster in a real Redis whose first host fails, with hypervisors and agents to evacuate it to."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.evac.doubles import AgentDouble, FakeDevice, FakeHypervisor
from tests.support.failures import confirm_down, register
from vmha.clock import SystemClock
from vmha.evac.admission import GrpcAdmission
from vmha.evac.app import Hypervisors, PlanLocks
from vmha.evac.hypervisor import HypervisorFactory
from vmha.evac.metrics import Metrics
from vmha.evac.operations import Edges
from vmha.evac.runner import RunnerSettings
from vmha.evac.supervisor import Supervisor
from vmha.facts import HostFacts, VmFacts
from vmha.model import FAST_TIMERS, ClusterConfig, FenceConfig, HostConfig, HostState, Profile, VmOutcome, VmState
from vmha.store import Store
from vmha.store.records import EvacuationRecord, Incident, VmEntry, VmObservation

C = "c1"
TIMERS = replace(FAST_TIMERS, fence_confirm_s=0.01, fence_retry_s=0.1, start_timeout_s=2.0)
CONFIG = ClusterConfig(profile=Profile.FAST, timers=TIMERS, parallel=16, parallel_per_target=4)
FENCE = FenceConfig(agent="fence_dummy")


def vm_uuid(number: int) -> str:
    """The same UUID for the same number, in each run."""
    return str(uuid.UUID(int=number + 1))


def domain_xml(vm_id: str, name: str) -> str:
    """A domain that libvirt's test driver takes."""
    return (
        f"<domain type='test'><name>{name}</name><uuid>{vm_id}</uuid><memory unit='MiB'>64</memory>"
        "<vcpu>1</vcpu><os><type>hvm</type></os></domain>"
    )


def seen(number: int, *, state: VmState = VmState.RUNNING, reason: str = "", **facts: Any) -> VmObservation:
    """What the failing host's agent had said of a VM."""
    vm_id, name = vm_uuid(number), f"vm{number}"
    return VmObservation(
        vm_id=vm_id,
        name=name,
        state=state,
        state_reason=reason,
        domain_xml=domain_xml(vm_id, name),
        facts=VmFacts(**{"vcpus": 1, "memory_mib": 64, **facts}),
    )


@dataclass
class World:
    """Hosts h1 (fails), h2, h3, ... and everything around them."""

    store: Store
    agent: AgentDouble
    agent_port: int
    make: HypervisorFactory
    device: FakeDevice = field(default_factory=FakeDevice)
    settings: RunnerSettings = field(default_factory=lambda: RunnerSettings(runner_ttl_s=2.0, pending_retry_s=0.1))
    fakes: dict[str, FakeHypervisor] = field(default_factory=dict)
    hypervisors: Hypervisors | None = None
    supervisors: list[Supervisor] = field(default_factory=list)
    admissions: list[GrpcAdmission] = field(default_factory=list)

    async def cluster(self, hosts: int = 3, config: ClusterConfig = CONFIG, *, memory_mib: int = 65536) -> None:
        await self.store.clusters.create(C, config)
        for number in range(1, hosts + 1):
            await self.host(f"h{number}", memory_mib=memory_mib)
        await self.store.clusters.set_ha(C, True, None)

    async def host(self, host_id: str, *, memory_mib: int = 65536, fence: FenceConfig | None = FENCE) -> None:
        config = HostConfig(
            probe_target=f"{host_id}:9177",
            agent_target=f"127.0.0.1:{self.agent_port}",
            libvirt_uri=f"test:///{host_id}",
            fence=fence,
        )
        await self.store.hosts.create(C, host_id, config)
        await self.store.hosts.put_facts(C, host_id, HostFacts(vcpus=4096, memory_mib=memory_mib))
        self.agent.incarnations[host_id] = await register(self.store, C, host_id, f"boot-{host_id}-1")
        await self.store.hosts.set_state(C, host_id, HostState.HEALTHY, "STREAM_FRESH", "")

    async def vms(self, *observations: VmObservation, host_id: str = "h1") -> None:
        host = await self.store.hosts.get(C, host_id)
        await self.store.vms.observe(C, host_id, host.incarnation, observations, full=False, planned_shutdown=False)

    async def fail(self, host_id: str = "h1") -> Incident:
        return await confirm_down(self.store, C, host_id)

    async def order(self, incident: Incident) -> EvacuationRecord:
        return await self.store.evacuations.start(
            C, incident.incident_id, incident.host_id, incident.fence_epoch, incident.incarnation, 0
        )

    def supervisor(self, **edges: Any) -> Supervisor:
        """An evacuator: the next one stands for the process after a crash."""
        self.hypervisors = Hypervisors(self.make)
        self.admissions.append(GrpcAdmission())
        parts: dict[str, Any] = {
            "store": self.store,
            "hypervisor": self.hypervisors,
            "admission": self.admissions[-1],
            "device": self.device,
            "plan_lock": PlanLocks(),
            **edges,
        }
        supervisor = Supervisor(Edges(**parts), self.settings, SystemClock(), Metrics())
        self.supervisors.append(supervisor)
        return supervisor

    async def ended(self, evacuation_id: str, timeout_s: float = 20.0) -> EvacuationRecord:
        return await self.until(evacuation_id, lambda record: record.state.is_terminal, timeout_s)

    async def until(
        self, evacuation_id: str, fact: Callable[[EvacuationRecord], bool], timeout_s: float = 20.0
    ) -> EvacuationRecord:
        async with asyncio.timeout(timeout_s):
            while not fact(record := await self.store.evacuations.get(C, evacuation_id)):
                await asyncio.sleep(0.01)
            return record

    async def entries(self, evacuation_id: str) -> dict[str, VmEntry]:
        return {entry.vm_name: entry for entry in await self.store.evacuations.entries(C, evacuation_id)}

    async def outcomes(self, evacuation_id: str) -> dict[str, VmOutcome]:
        return {name: entry.outcome for name, entry in (await self.entries(evacuation_id)).items()}

    async def evacuate(self, host_id: str = "h1", **edges: Any) -> EvacuationRecord:
        """From failure to the end."""
        record = await self.order(await self.fail(host_id))
        self.supervisor(**edges).ensure(record)
        return await self.ended(record.evacuation_id)

    def running_on(self, number: int) -> list[str]:
        """Hosts on which the VM executes."""
        vm_id = vm_uuid(number)
        return [host_id for host_id, fake in self.fakes.items() if fake.domains.get(vm_id) is VmState.RUNNING]

    def fake(self, host_id: str) -> FakeHypervisor:
        return made(self.fakes, host_id)


def made(fakes: dict[str, FakeHypervisor], host_id: str) -> FakeHypervisor:
    """The hypervisor of a host; it finds the others by their URIs."""
    if host_id not in fakes:
        fakes[host_id] = FakeHypervisor(at=lambda uri: made(fakes, uri.removeprefix("test:///")))
    return fakes[host_id]


@asynccontextmanager
async def world_of_fakes(store: Store) -> AsyncIterator[World]:
    """Hypervisors in memory."""
    fakes: dict[str, FakeHypervisor] = {}
    agent = AgentDouble(lambda host_id, vm_id: fakes[host_id].resume(vm_id))
    world = World(
        store=store,
        agent=agent,
        agent_port=await agent.start(),
        make=lambda uri: made(fakes, uri.removeprefix("test:///")),
        fakes=fakes,
    )
    try:
        yield world
    finally:
        for supervisor in world.supervisors:
            await supervisor.drain()
        for admission in world.admissions:
            await admission.close()
        await agent.stop()
