"""What every LocalHypervisor promises, tried on libvirt's test driver, on the double of other tests and on the simulated one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import libvirt
import pytest

from tests.agent.conftest import VM1, VM2, VM3, running
from tests.support.hypervisor import FACTS, MemoryHypervisor, domain_xml
from tests.support.waiting import until
from vmha.agent.hypervisor import DomainChange, HypervisorRefused, LocalHypervisor
from vmha.agent.libvirt_connection import Connection
from vmha.agent.libvirt_port import LibvirtPort
from vmha.agent.metrics import Metrics
from vmha.clock import SystemClock
from vmha.domain_xml import parse_domain
from vmha.errors import NotFound, Unavailable
from vmha.model import VmState
from vmha.sim.history import History
from vmha.sim.hypervisor import SimHypervisor, Site
from vmha.sim.hypervisor_ports import SimLocalHypervisor


class Operator(Protocol):
    """What virsh does."""

    def define(self, name: str, vm_id: str, *, autostart: bool = False) -> None: ...

    def start(self, vm_id: str) -> None: ...

    def pause(self, vm_id: str) -> None: ...

    def destroy(self, vm_id: str) -> None: ...

    def undefine(self, vm_id: str) -> None: ...


class TestDriver:
    """virsh on libvirt's test driver, whose state all connections of a process share."""

    __test__ = False

    def __init__(self) -> None:
        self.connection = libvirt.open("test:///default")
        for domain in self.connection.listAllDomains():
            if domain.isActive():
                domain.destroy()
            domain.undefine()

    def define(self, name: str, vm_id: str, *, autostart: bool = False) -> None:
        self.connection.defineXML(domain_xml(name, vm_id)).setAutostart(int(autostart))

    def start(self, vm_id: str) -> None:
        self._find(vm_id).create()

    def pause(self, vm_id: str) -> None:
        self._find(vm_id).suspend()

    def destroy(self, vm_id: str) -> None:
        self._find(vm_id).destroy()

    def undefine(self, vm_id: str) -> None:
        self._find(vm_id).undefine()

    def _find(self, vm_id: str) -> Any:
        return self.connection.lookupByUUIDString(vm_id)


class Memory:
    """virsh on the double."""

    def __init__(self, hypervisor: MemoryHypervisor) -> None:
        self._hypervisor = hypervisor

    def define(self, name: str, vm_id: str, *, autostart: bool = False) -> None:
        self._hypervisor.user_defines(name, vm_id, autostart=autostart)

    def start(self, vm_id: str) -> None:
        self._hypervisor.user_sets(vm_id, VmState.RUNNING)

    def pause(self, vm_id: str) -> None:
        self._hypervisor.user_sets(vm_id, VmState.PAUSED, "user")

    def destroy(self, vm_id: str) -> None:
        self._hypervisor.user_sets(vm_id, VmState.SHUTOFF, "destroyed", DomainChange.DESTROYED)

    def undefine(self, vm_id: str) -> None:
        self._hypervisor.user_undefines(vm_id)


class Simulated:
    """virsh on a simulated host."""

    def __init__(self, hypervisor: SimHypervisor) -> None:
        self._hypervisor = hypervisor

    def define(self, name: str, vm_id: str, *, autostart: bool = False) -> None:
        self._hypervisor.define(vm_id, name, domain_xml(name, vm_id)).autostart = autostart

    def start(self, vm_id: str) -> None:
        domain = self._hypervisor.domains[vm_id]
        self._hypervisor._enter(domain, VmState.RUNNING, "booted", "operator")

    def pause(self, vm_id: str) -> None:
        self._hypervisor.pause(self._hypervisor.domains[vm_id])

    def destroy(self, vm_id: str) -> None:
        self._hypervisor.stop(self._hypervisor.domains[vm_id], "operator")

    def undefine(self, vm_id: str) -> None:
        self._hypervisor.undefine(self._hypervisor.domains[vm_id])


class Immortal:
    """A process that is never killed."""

    def require_alive(self) -> bool:
        return True


def simulated() -> tuple[SimLocalHypervisor, Simulated]:
    """A simulated host's hypervisor, as its agent sees it."""
    site = Site(loop=asyncio.get_running_loop(), history=History(), start_s=0.0)
    hypervisor = SimHypervisor("h1", site, FACTS)
    return SimLocalHypervisor(hypervisor, Immortal()), Simulated(hypervisor)


class Ear:
    """A Watcher that remembers."""

    def __init__(self) -> None:
        self.ups = self.downs = 0
        self.heard: list[tuple[str, DomainChange]] = []

    def connected(self) -> None:
        self.ups += 1

    def disconnected(self) -> None:
        self.downs += 1

    def domain_changed(self, vm_id: str, change: DomainChange) -> None:
        self.heard.append((vm_id, change))


Rig = tuple[LocalHypervisor, Operator, Ear]


@pytest.fixture(params=["memory", "libvirt", "simulated"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """A connected hypervisor without domains."""
    ear = Ear()
    if request.param == "memory":
        memory = MemoryHypervisor()
        hypervisor: LocalHypervisor = memory
        operator: Operator = Memory(memory)
    elif request.param == "simulated":
        hypervisor, operator = simulated()
    else:
        hypervisor = LibvirtPort("test:///default", Metrics(SystemClock()))
        operator = TestDriver()
    async with running(hypervisor.run(ear)):
        await until(lambda: ear.ups == 1)
        ear.heard.clear()
        yield hypervisor, operator, ear


async def test_domains_are_read_with_state_and_xml(rig: Rig) -> None:
    """Each domain comes with its state and XML that defines it elsewhere."""
    hypervisor, operator, _ = rig
    operator.define("one", VM1)
    operator.define("two", VM2)
    operator.start(VM2)

    found = {domain.vm_id: domain for domain in await hypervisor.domains()}

    assert {vm_id: domain.state for vm_id, domain in found.items()} == {VM1: VmState.SHUTOFF, VM2: VmState.RUNNING}
    assert parse_domain(found[VM2].definition_xml).facts.memory_mib == 16
    assert (await hypervisor.domain(VM1)) == found[VM1]
    assert found[VM1].persistent


async def test_a_pause_by_the_user_is_told_from_a_start_that_waits(rig: Rig) -> None:
    """A guest that has run and was paused is PAUSED by its user, not AWAITING_ADMISSION."""
    hypervisor, operator, _ = rig
    operator.define("one", VM1)
    operator.start(VM1)
    operator.pause(VM1)

    domain = await hypervisor.domain(VM1)

    assert domain is not None
    assert (domain.state, domain.reason) == (VmState.PAUSED, "user")
    assert await hypervisor.resume(VM1) is VmState.RUNNING


async def test_facts_describe_the_host(rig: Rig) -> None:
    """Capacity and versions are there."""
    facts = await rig[0].facts()

    assert facts.vcpus > 0
    assert facts.memory_mib > 0
    assert facts.libvirt_version.count(".") == 2
    assert all(size > 0 and pages >= 0 for size, pages in facts.hugepages.items())
    assert (facts.shared_directories, facts.tpm_storage_id) == ((), "")


async def test_a_volume_of_a_pool_comes_with_its_path() -> None:
    """A disk that names pool and volume says nothing of where it lies; libvirt does, unless the volume is gone."""
    ear, port, operator = Ear(), LibvirtPort("test:///default", Metrics(SystemClock())), TestDriver()
    pool = operator.connection.storagePoolLookupByName("default-pool")
    pool.createXML("<volume><name>vol1</name><capacity>1</capacity></volume>")
    disks = "".join(
        f"<disk type='volume' device='disk'><source pool='{pool}' volume='{volume}'/><target dev='{dev}'/></disk>"
        for pool, volume, dev in (("default-pool", "vol1", "vda"), ("default-pool", "gone", "vdb"), ("none", "vol1", "vdc"))
    )
    xml = domain_xml("one", VM1).replace("</domain>", f"<devices>{disks}</devices></domain>")
    async with running(port.run(ear)):
        await until(lambda: ear.ups == 1)
        await port.define(VM1, xml)
        found = await port.domain(VM1)

    pool.storageVolLookupByName("vol1").delete()
    assert found is not None
    assert found.volumes == {"vda": "/default-pool/vol1"}


async def test_what_is_slow_is_asked_once_over_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU models are asked of libvirt when it connects, not with each inventory: a libvirtd may ask QEMU for seconds."""
    asked = list[object]()

    def models(connection: object) -> tuple[str, ...]:
        asked.append(connection)
        return ("Skylake-Server",)

    monkeypatch.setattr("vmha.agent.libvirt_facts._cpu_models", models)
    ear, port = Ear(), LibvirtPort("test:///default", Metrics(SystemClock()))
    async with running(port.run(ear)):
        await until(lambda: ear.ups == 1)
        for _ in range(3):
            assert (await port.facts()).cpu_models == ("Skylake-Server",)

    assert len(asked) == 1


async def test_lifecycle_events_arrive_with_their_meaning(rig: Rig) -> None:
    """Start, destroy and undefine are heard, the last two by name."""
    hypervisor, operator, ear = rig
    operator.define("one", VM1)
    operator.start(VM1)
    operator.destroy(VM1)
    operator.undefine(VM1)

    await until(lambda: (VM1, DomainChange.UNDEFINED) in ear.heard)

    assert (VM1, DomainChange.CHANGED) in ear.heard
    assert (VM1, DomainChange.DESTROYED) in ear.heard
    assert await hypervisor.domain(VM1) is None


async def test_acts_are_safe_to_repeat(rig: Rig) -> None:
    """define, start, resume and remove twice over change nothing the second time."""
    hypervisor, _, _ = rig
    for _ in range(2):
        await hypervisor.define(VM1, domain_xml("one", VM1))
    for _ in range(2):
        await hypervisor.start(VM1)
    assert await hypervisor.resume(VM1) is VmState.RUNNING
    for _ in range(2):
        await hypervisor.remove(VM1)

    assert await hypervisor.domains() == []


async def test_what_executes_is_stopped_and_stays_defined(rig: Rig) -> None:
    """alive names whatever executes or is paused; destroy ends it, may be repeated, and leaves the definition."""
    hypervisor, operator, _ = rig
    for name, vm_id in (("one", VM1), ("two", VM2), ("three", VM3)):
        operator.define(name, vm_id)
    operator.start(VM1)
    operator.start(VM2)
    operator.pause(VM2)
    assert await hypervisor.alive() == {VM1, VM2}

    for vm_id in (VM1, VM1, VM2, VM3, "99999999-9999-4999-8999-999999999999"):
        await hypervisor.destroy(vm_id)

    assert await hypervisor.alive() == frozenset()
    assert {domain.state for domain in await hypervisor.domains()} == {VmState.SHUTOFF}
    assert len(await hypervisor.domains()) == 3


async def test_what_libvirt_refuses_is_said(rig: Rig) -> None:
    """Wrong XML, XML of another VM and unknown domains are refused by name, and the connection stays."""
    hypervisor, _, ear = rig
    with pytest.raises(HypervisorRefused):
        await hypervisor.define(VM1, "<domain/>")
    with pytest.raises(HypervisorRefused, match="another UUID"):
        await hypervisor.define(VM1, domain_xml("two", VM2))
    for act in (hypervisor.start, hypervisor.resume, hypervisor.take_autostart):
        with pytest.raises(NotFound) as caught:
            await act(VM1)
        assert caught.value.reason == "DOMAIN_UNKNOWN"

    assert ear.downs == 0
    assert hypervisor.is_up


async def test_autostart_is_taken_with_a_mark_that_stays_in_the_xml(rig: Rig) -> None:
    """Taken: off, and marked in the definition. Returned: on, and unmarked. Both may be repeated."""
    hypervisor, operator, _ = rig
    operator.define("one", VM1, autostart=True)
    for _ in range(2):
        await hypervisor.take_autostart(VM1)
    taken = await hypervisor.domain(VM1)
    for _ in range(2):
        await hypervisor.return_autostart(VM1)
    returned = await hypervisor.domain(VM1)

    assert taken is not None and returned is not None
    assert (taken.autostart, parse_domain(taken.definition_xml).autostart_taken) == (False, True)
    assert (returned.autostart, parse_domain(returned.definition_xml).autostart_taken) == (True, False)


async def test_a_libvirt_that_hangs_costs_a_bounded_wait_and_is_opened_again() -> None:
    """A call that does not come back ends in Unavailable in time; the connection is given up and made anew."""
    ear, port = Ear(), LibvirtPort("test:///default", Metrics(SystemClock()), question_timeout_s=0.05)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(_: Any) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

    async with running(port.run(ear)):
        await until(lambda: ear.ups == 1)
        with pytest.raises(Unavailable) as caught:
            await port._ask(hang, 0.05)
        assert caught.value.reason == "LIBVIRT_UNAVAILABLE"
        await until(lambda: (ear.downs, ear.ups) == (1, 2))
        assert (await port.facts()).vcpus > 0
        gate.set()


async def test_a_start_that_does_not_come_back_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that nobody waits for any more may still succeed: until its call returns the VM is not gone."""
    ear, port, gate = Ear(), LibvirtPort("test:///default", Metrics(SystemClock())), threading.Event()
    monkeypatch.setattr("vmha.agent.libvirt_calls.start", lambda connection, vm_id: gate.wait(10))
    async with running(port.run(ear)):
        await until(lambda: ear.ups == 1)
        start = asyncio.create_task(port.start(VM1))
        await until(lambda: VM1 in port._begins.values())
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        assert VM1 in await port.alive()
        gate.set()
        await until(lambda: VM1 not in port._begins.values())
        assert VM1 not in await port.alive()


async def test_a_libvirt_that_hangs_does_not_keep_its_guests_from_being_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word is there after a second, and the acts that follow do not wait for libvirt any more."""
    ear, port, gate = Ear(), LibvirtPort("test:///default", Metrics(SystemClock())), threading.Event()
    for name in ("active", "destroy"):
        monkeypatch.setattr(f"vmha.agent.libvirt_calls.{name}", lambda *_: gate.wait(20))
    monkeypatch.setattr(port._processes, "alive", lambda: frozenset({VM1}))
    monkeypatch.setattr("vmha.agent.libvirt_port.RECONNECT_S", (60.0, 60.0))
    async with running(port.run(ear)):
        await until(lambda: ear.ups == 1)
        async with asyncio.timeout(2.0):
            assert await port.alive() == {VM1}
            with pytest.raises(Unavailable):
                await port.destroy(VM1)
        gate.set()


async def test_a_host_whose_libvirt_is_away_and_whose_processes_are_not_seen_is_not_called_empty() -> None:
    """No process seen, and nobody to ask: no word on what is alive, rather than a wrong one."""
    port = LibvirtPort("test:///default", Metrics(SystemClock()))
    with pytest.raises(Unavailable):
        await port.alive()
    port._sees_processes = True

    assert await port.alive() == frozenset()


async def test_a_libvirt_that_is_not_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a daemon every call is Unavailable at once; when it comes up the watcher hears of it."""
    ear, real = Ear(), libvirt.open
    fail: list[Callable[[str], Any]] = [lambda uri: real("qemu+unix:///system?socket=/nonexistent")]
    monkeypatch.setattr(libvirt, "open", lambda uri: fail[0](uri) if fail else real(uri))
    port = LibvirtPort("test:///default", Metrics(SystemClock()))
    async with running(port.run(ear)):
        with pytest.raises(Unavailable):
            await port.facts()
        fail.clear()
        await until(lambda: ear.ups == 1)


async def test_a_connection_is_closed_only_when_nobody_uses_it() -> None:
    """Dropped in the middle of a call: the call ends as it would, nothing new begins, and then libvirt lets go."""
    connection = await asyncio.to_thread(Connection.open, "test:///default", lambda *_: None, lambda: None)
    begun, gate = threading.Event(), threading.Event()

    def slow(handle: Any) -> int:
        begun.set()
        gate.wait(5)
        return int(handle.getLibVersion())

    call = asyncio.create_task(asyncio.to_thread(connection.use, slow))
    await until(begun.is_set)
    connection.drop()
    connection.drop()
    assert connection._handle._o is not None
    with pytest.raises(libvirt.libvirtError):
        connection.use(lambda handle: handle.getLibVersion())
    gate.set()

    assert await call > 0
    await until(lambda: connection._handle._o is None)
    assert not connection.is_alive()
