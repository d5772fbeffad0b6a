"""Whole agents over real gRPC, cut off from their manager: peers carry, peers attest, or its VMs stop (R1-R4, R7, R9, R23).

The constants are a third of the fast profile's, so that a lease's end can be waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.agent.conftest import VM1
from tests.support.agent_state import agent_config, open_state
from tests.support.hypervisor import MemoryHypervisor
from tests.support.manager_server import ScriptedManager, assignment
from tests.support.waiting import until
from vmha.agent.app import run
from vmha.agent.state import State
from vmha.clock import SystemClock
from vmha.config import AgentSettings
from vmha.model import PeerVerdict, VmState
from vmha.probe import ProbeResult
from vmha.v1 import heartbeat_pb2, vm_pb2
from vmha.v1 import manager_service_pb2 as ms

SCALE = 1 / 3
LEASE_S, CERTIFICATE_S, KILL_S = 7.6 * SCALE, 1.5 * SCALE, 4.0 * SCALE


class Fine:
    """Every exporter answers."""

    async def probe(self, target: str, timeout_s: float) -> ProbeResult:
        return ProbeResult(verdict=PeerVerdict.OK, round_trip_s=0.001)


class Host:
    """An agent process with a libvirt on which VM1 runs."""

    def __init__(self, folder: Path, host_id: str) -> None:
        self.folder, self.host_id = folder / host_id, host_id
        self.hypervisor = MemoryHypervisor()
        self.hypervisor.user_defines("one", VM1, running=True)
        self.port = 0
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, manager: str) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "boot_id").write_text("boot-1")
        settings = AgentSettings(
            host_id=self.host_id,
            managers=(manager,),
            listen=f"127.0.0.1:{self.port}",
            state_dir=self.folder,
            marker_dir=self.folder / "disk",
            boot_id_file=self.folder / "boot_id",
            drain_grace_s=0.05,
        )
        self._stop = asyncio.Event()
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(run(settings, hypervisor=self.hypervisor, probe=Fine(), stop=self._stop, ready=ready))
        self._task.add_done_callback(lambda task: ready.done() or ready.cancel())
        self.port = await ready

    async def stop(self) -> None:
        if self._task is not None:
            self._stop.set()
            await self._task
            self._task = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def state(self) -> State:
        """What is on file."""
        return open_state(self.folder, self.host_id)

    @property
    def runs(self) -> bool:
        return self.hypervisor.states() == {VM1: VmState.RUNNING}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends what a test started."""
    async with AsyncExitStack() as stack:
        yield stack


async def make_manager(stack: AsyncExitStack) -> ScriptedManager:
    manager = ScriptedManager()
    await manager.start()
    stack.push_async_callback(manager.stop)
    manager.assignment = assignment(heartbeat_s=0.5 * SCALE)
    return manager


def holds(host: Host, version: int) -> bool:
    """A lease, and this configuration."""
    kept = host.state.kept
    return kept.config is not None and kept.config.version == version and kept.lease_until > 0


async def two_hosts(stack: AsyncExitStack, folder: Path) -> tuple[Host, ScriptedManager, Host, ScriptedManager]:
    """h1 and h2 of a cluster of two, each with a manager of its own, so that one can be silenced for one of them."""
    found: list[tuple[Host, ScriptedManager]] = []
    for host_id in ("h1", "h2"):
        host, manager = Host(folder, host_id), await make_manager(stack)
        manager.config.CopyFrom(agent_config(version=1, scale=SCALE))
        await host.start(manager.target)
        stack.push_async_callback(host.stop)
        found.append((host, manager))
    config = agent_config(("h2", found[1][0].target), version=2, scale=SCALE)
    config.members[0].agent_target = found[0][0].target
    for host, manager in found:
        manager.config.CopyFrom(config)
        (await manager.session()).say(config=config)
        await until(partial(holds, host, 2))
    return (*found[0], *found[1])


async def test_a_host_that_is_cut_off_stops_its_vms_and_starts_anew(stack: AsyncExitStack, tmp_path: Path) -> None:
    """Nobody acks, nobody attests: stopped at the lease's end. In touch again it registers empty, and starts what it owns."""
    host, manager = Host(tmp_path, "h1"), await make_manager(stack)
    manager.config.CopyFrom(agent_config(("h2", "127.0.0.1:1"), ("h3", "127.0.0.1:1"), scale=SCALE))
    await host.start(manager.target)
    stack.push_async_callback(host.stop)
    session = await manager.session()
    await until(lambda: session.all("heartbeat") and session.all("heartbeat")[-1].own.self_fencing)
    manager.acks = manager.offers = False
    cut_at = SystemClock().now()
    await until(lambda: host.state.kept.vms_gone, LEASE_S + KILL_S)

    assert LEASE_S - 0.5 < SystemClock().now() - cut_at < LEASE_S + KILL_S
    assert host.hypervisor.states() == {VM1: VmState.SHUTOFF}
    newest = manager.sessions[-1]
    registration = await newest.heard("registration", len(newest.all("registration")) or 1)
    assert list(registration.vms) == []
    inventory = newest.all("inventory")[-1].vms[0]
    assert (inventory.state, inventory.state_reason) == (vm_pb2.VM_STATE_SHUTOFF, "self_fenced")

    manager.acks = manager.offers = True
    newest.say(offer=ms.RegistrationOffer(boot_token=registration.boot_token, incarnation=9))
    beat = await heard_of(manager, 9)
    owned = ms.OwnedVm(vm_id=VM1, epoch=3, desired_state=vm_pb2.VM_STATE_RUNNING)
    manager.sessions[-1].say(ownership=ms.OwnershipUpdate(incarnation=9, owned=[owned], start_owned=True))
    await until(lambda: host.runs)
    assert beat.incarnation == 9


async def heard_of(manager: ScriptedManager, incarnation: int) -> heartbeat_pb2.Heartbeat:
    def beats() -> list[heartbeat_pb2.Heartbeat]:
        return [b.own for s in manager.sessions for b in s.all("heartbeat") if b.own.incarnation == incarnation]

    await until(beats)
    return beats()[-1]


async def test_a_peer_carries_the_heartbeats_of_a_host_that_lost_its_manager(stack: AsyncExitStack, tmp_path: Path) -> None:
    """h1's manager is gone, h2's is not: forwarded with h2's own, the ack comes back, and h1's VMs outlive the lease."""
    h1, first, _, second = await two_hosts(stack, tmp_path)
    await first.stop()
    await asyncio.sleep(LEASE_S + 0.5)

    forwarded = [beat for session in second.sessions for bundle in session.all("heartbeat") for beat in bundle.forwarded]
    assert {beat.host_id for beat in forwarded} == {"h1"}
    assert any(beat.echoed_nonce.startswith("ack-h1-") for beat in forwarded)
    assert h1.runs
    assert h1.state.kept.lease_until > SystemClock().now()


async def test_without_a_manager_the_hosts_certify_it_to_each_other(stack: AsyncExitStack, tmp_path: Path) -> None:
    """Both managers are gone: each attests to the other, and no VM is stopped. One agent goes too: the other stops its VMs."""
    h1, first, h2, second = await two_hosts(stack, tmp_path)
    await asyncio.gather(first.stop(), second.stop())
    await asyncio.sleep(LEASE_S + 2 * CERTIFICATE_S)
    assert h1.runs
    assert h2.runs
    assert not h1.state.kept.latched
    assert h1.state.kept.lease_until < SystemClock().now() < h1.state.kept.cert_until

    await h2.stop()
    await until(lambda: not h1.runs, CERTIFICATE_S + KILL_S)


async def test_r9_agents_that_restart_during_an_outage_keep_their_guard(stack: AsyncExitStack, tmp_path: Path) -> None:
    """Members, last ack and guard are on file: the new processes ask each other, attest at once, and stop nothing."""
    h1, first, h2, second = await two_hosts(stack, tmp_path)
    await asyncio.gather(first.stop(), second.stop())
    await asyncio.sleep(LEASE_S / 2)
    for host, manager in ((h1, first), (h2, second)):
        await host.stop()
        await host.start(manager.target)
    await asyncio.sleep(LEASE_S / 2 + 2 * CERTIFICATE_S)

    assert h1.runs
    assert h2.runs


async def test_r9_a_leased_host_without_its_record_keeps_no_vm(stack: AsyncExitStack, tmp_path: Path) -> None:
    """The record is lost while the agent is down: VMs found are stopped before the host registers anew."""
    host, manager = Host(tmp_path, "h1"), await make_manager(stack)
    manager.config.CopyFrom(agent_config(("h2", "127.0.0.1:1"), scale=SCALE))
    await host.start(manager.target)
    session = await manager.session()
    await until(lambda: session.all("heartbeat") and session.all("heartbeat")[-1].own.self_fencing)
    await host.stop()
    (tmp_path / "h1" / "agent.json").unlink()
    await host.start(manager.target)
    stack.push_async_callback(host.stop)
    registration = await (await manager.session(2)).heard("registration")

    assert host.hypervisor.states() == {VM1: VmState.SHUTOFF}
    assert list(registration.vms) == []
    assert manager.sessions[1].all("hello")[0].incarnation == 0


@pytest.mark.parametrize("protected", [True, False])
async def test_where_nothing_is_enforced_nothing_is_stopped(stack: AsyncExitStack, tmp_path: Path, protected: bool) -> None:
    """Protection off, or self-fencing off: the manager's silence changes nothing, and no self-fencing is announced."""
    host, manager = Host(tmp_path, "h1"), await make_manager(stack)
    config = agent_config(("h2", "127.0.0.1:1"), scale=SCALE / 4, protected=protected)
    config.self_fencing = not protected
    manager.config.CopyFrom(config)
    await host.start(manager.target)
    stack.push_async_callback(host.stop)
    session = await manager.session()
    await session.heard("heartbeat", 3)
    manager.acks = False
    await asyncio.sleep(2 * LEASE_S / 4)

    assert host.runs
    assert not any(beat.own.self_fencing for beat in session.all("heartbeat"))
    assert not (tmp_path / "h1" / "disk" / "leased").exists()


@pytest.mark.parametrize("revoked", [False, True])
async def test_an_agent_that_was_away_for_long_asks_before_it_acts(stack: AsyncExitStack, tmp_path: Path, revoked: bool) -> None:
    """Its guard ended while it was gone. In force: its VMs run on, under a new registration. Revoked: they are stopped first."""
    host, manager = Host(tmp_path, "h1"), await make_manager(stack)
    manager.config.CopyFrom(agent_config(("h2", "127.0.0.1:1"), scale=SCALE))
    await host.start(manager.target)
    session = await manager.session()
    await until(lambda: session.all("heartbeat") and session.all("heartbeat")[-1].own.self_fencing)
    await host.stop()
    state = host.state
    state.keep(replace(state.kept, lease_until=SystemClock().now() - 100.0))
    manager.in_force += 10 * revoked
    before = manager.in_force
    await host.start(manager.target)
    stack.push_async_callback(host.stop)
    again = await manager.session(2)
    registration = await again.heard("registration")
    beat = await heard_of(manager, before + 1)

    hello = again.all("hello")[0]
    assert (hello.incarnation, hello.self_fencing) == (1, False)
    assert host.runs is not revoked
    assert [vm.vm_id for vm in registration.vms] == ([] if revoked else [VM1])
    assert beat.incarnation == before + 1
    assert [b.own.incarnation for b in again.all("heartbeat")].count(1) == 0
