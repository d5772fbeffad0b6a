"""What the evacuator adds to libvirt's own time: 1,000 VMs over libvirt's test driver, against a bare loop of the same calls.

    python -m bench.orchestration [--vms 1000] [--targets 4] [--runs 3]

Ours is all of it: proof, plan, and per VM claim, define, create paused, AdmitVm over gRPC, resume, verify, each step in the
journal of a real Redis. The bare loop defines, creates paused, resumes and asks for the state, on one thread, in this process.
Exit code 0: the aim (overhead below 5 ms a VM) holds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import statistics
import sys
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt
import structlog

from vmha.bulkhead import Bulkhead
from vmha.clock import SystemClock
from vmha.evac.admission import GrpcAdmission
from vmha.evac.app import Hypervisors, PlanLocks
from vmha.evac.fencing import FenceAgents
from vmha.evac.libvirt_hypervisor import LibvirtHypervisor
from vmha.evac.metrics import Metrics
from vmha.evac.operations import Edges
from vmha.evac.runner import RunnerSettings
from vmha.evac.supervisor import Supervisor
from vmha.facts import HostFacts, VmFacts
from vmha.model import FAST_TIMERS, ClusterConfig, HostConfig, HostState, Profile, ProofPolicy, VmOutcome, VmState
from vmha.rpc.server import Server
from vmha.store import Store, connect
from vmha.store.records import EvacuationRecord, VmObservation
from vmha.v1 import agent_service_pb2 as pb
from vmha.v1 import agent_service_pb2_grpc as pb_grpc
from vmha.v1 import vm_pb2

C = "bench"
URI = "test:///default"
AIM_MS = 5.0
CLOCK = SystemClock()


@dataclass(frozen=True)
class Measured:
    """One evacuation. `rss_mib`: VMs moved -> resident memory then."""

    seconds: float
    rss_mib: dict[int, float]


def domain_xml(vm_id: str) -> str:
    """A domain that the test driver takes."""
    return (
        f"<domain type='test'><name>vm-{vm_id}</name><uuid>{vm_id}</uuid><memory unit='MiB'>64</memory>"
        "<vcpu>1</vcpu><os><type>hvm</type></os></domain>"
    )


def bare_loop(connection: Any, vm_ids: list[str]) -> float:
    """The same libvirt calls and nothing else; seconds."""
    began = CLOCK.now()
    for vm_id in vm_ids:
        domain = connection.defineXML(domain_xml(vm_id))
        domain.create()
        domain.suspend()  # the test driver cannot create paused
        domain.resume()
        if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            raise RuntimeError(f"{vm_id} does not run")
    return CLOCK.now() - began


def clear(connection: Any) -> None:
    """No domains are left."""
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefine()


class Agent(pb_grpc.AgentServiceServicer):
    """Answers for all targets: resumes the domain, as an agent does after its checks."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._threads = Bulkhead("agent")

    async def AdmitVm(self, request: pb.AdmitVmRequest, context: Any) -> pb.AdmitVmResponse:  # noqa: N802
        await self._threads.run(lambda: self._connection.lookupByUUIDString(request.vm_id).resume(), 5.0)
        return pb.AdmitVmResponse(state=vm_pb2.VM_STATE_RUNNING)

    async def RelayHeartbeat(self, request: pb.RelayHeartbeatRequest, context: Any) -> pb.RelayHeartbeatResponse:  # noqa: N802
        return pb.RelayHeartbeatResponse()


async def prepare(store: Store, agent_port: int, targets: int, vm_ids: list[str]) -> EvacuationRecord:
    """A cluster whose host h0 owned the VMs and is confirmed down."""
    timers = replace(FAST_TIMERS, fence_confirm_s=0.05)
    config = ClusterConfig(profile=Profile.FAST, timers=timers, proof=ProofPolicy.NONE, parallel=16, parallel_per_target=4)
    await store.clusters.create(C, config)
    for number in range(targets + 1):
        host_id = f"h{number}"
        host = HostConfig(probe_target="127.0.0.1:1", agent_target=f"127.0.0.1:{agent_port}", libvirt_uri=URI)
        await store.hosts.create(C, host_id, host)
        await store.hosts.put_facts(C, host_id, HostFacts(vcpus=100_000, memory_mib=10_000_000))
        await store.hosts.hello(C, host_id, f"boot-{host_id}", True)
        incarnation = await store.hosts.offer(C, host_id, "token")
        await store.hosts.complete_registration(C, host_id, incarnation, f"boot-{host_id}")
        await store.hosts.set_state(C, host_id, HostState.HEALTHY, "STREAM_FRESH", "")
        if number == 0:
            seen = [observed(vm_id) for vm_id in vm_ids]
            for start in range(0, len(seen), 200):
                chunk = seen[start : start + 200]
                await store.vms.observe(C, host_id, incarnation, chunk, full=False, planned_shutdown=False)
    await store.clusters.set_ha(C, True, None)
    await store.incidents.suspect(C, "h0", "boot-h0", 0.0, 60.0, "SILENT", "")
    incident = await store.incidents.confirm(C, "h0", "boot-h0", "")
    assert incident is not None
    return await store.evacuations.start(C, incident.incident_id, "h0", incident.fence_epoch, incident.incarnation, 0)


def observed(vm_id: str) -> VmObservation:
    """What the dead host's agent had said."""
    facts = VmFacts(vcpus=1, memory_mib=64)
    return VmObservation(vm_id=vm_id, name=f"vm-{vm_id}", state=VmState.RUNNING, domain_xml=domain_xml(vm_id), facts=facts)


async def evacuate(redis_url: str, connection: Any, targets: int, vm_ids: list[str]) -> Measured:
    """Evacuates the VMs; the time is from the order to the end of the journal."""
    store = connect(redis_url)
    server = Server([(pb_grpc.add_AgentServiceServicer_to_server, Agent(connection), "vmha.v1.AgentService")], "127.0.0.1:0")
    record = await prepare(store, await server.start(), targets, vm_ids)
    admission, hypervisors = GrpcAdmission(), Hypervisors(LibvirtHypervisor)
    edges = Edges(store=store, hypervisor=hypervisors, admission=admission, device=FenceAgents(), plan_lock=PlanLocks())
    supervisor = Supervisor(edges, RunnerSettings(), CLOCK, Metrics())
    gc.collect()
    rss: dict[int, float] = {}
    began = CLOCK.now()
    supervisor.ensure(record)
    while not (head := await store.evacuations.get(C, record.evacuation_id)).state.is_terminal:
        moved = head.counts.get(VmOutcome.MOVED, 0)
        for mark in (100, 500):
            if moved >= mark and mark not in rss:
                rss[mark] = rss_mib()
        await asyncio.sleep(0.02)
    seconds = CLOCK.now() - began
    rss[len(vm_ids)] = rss_mib()
    if head.counts.get(VmOutcome.MOVED, 0) != len(vm_ids):
        raise RuntimeError(f"not all VMs were moved: {head.counts}")
    await supervisor.drain()
    await admission.close()
    hypervisors.close()
    await server.stop(0)
    await store.close()
    return Measured(seconds, rss)


def rss_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Redis:
    """A redis-server of this benchmark, on a unix socket."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="vmha-bench-")
        self.url = f"unix://{self._folder}/redis.sock"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Redis:
        program = shutil.which("redis-server")
        if program is None:
            sys.exit("redis-server is not installed (package redis-server)")
        options = ["--port", "0", "--unixsocket", self.url.removeprefix("unix://"), "--save", "", "--dir", self._folder]
        self._process = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
        async with asyncio.timeout(10):
            while not Path(self.url.removeprefix("unix://")).exists():
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


async def measure(vms: int, targets: int, runs: int) -> bool:
    """Runs both, prints the table; whether the aim holds."""
    bare, ours, overheads = [], [], []
    for _ in range(runs):
        connection = libvirt.open(URI)
        clear(connection)
        vm_ids = [str(uuid.uuid4()) for _ in range(vms)]
        bare.append(bare_loop(connection, vm_ids))
        clear(connection)
        async with Redis() as redis:
            ours.append(await evacuate(redis.url, connection, targets, vm_ids))
        clear(connection)
        overheads.append((ours[-1].seconds - bare[-1]) / vms * 1000)
    middle = statistics.median(overheads)
    print(f"{vms} VMs onto {targets} targets, parallel 16 / 4 per target, {runs} runs, libvirt {URI}")
    print(f"{'':>6}{'bare loop s':>14}{'ours s':>10}{'ours ms/VM':>12}{'overhead ms/VM':>16}   RSS MiB at VMs moved")
    for number, (floor, run, overhead) in enumerate(zip(bare, ours, overheads, strict=True), 1):
        marks = "  ".join(f"{mark}: {size:.1f}" for mark, size in sorted(run.rss_mib.items()))
        print(f"{number:>6}{floor:>14.3f}{run.seconds:>10.3f}{run.seconds / vms * 1000:>12.2f}{overhead:>16.2f}   {marks}")
    print(f"median overhead {middle:.2f} ms a VM; the aim is below {AIM_MS:g} ms: {'met' if middle < AIM_MS else 'MISSED'}")
    return middle < AIM_MS


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=1000)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    sys.exit(0 if asyncio.run(measure(chosen.vms, chosen.targets, chosen.runs)) else 1)


if __name__ == "__main__":
    main()
