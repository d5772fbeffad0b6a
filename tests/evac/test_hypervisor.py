"""The contract of RemoteHypervisor, kept by the double, the simulated one and the real adapter on libvirt's test driver."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import libvirt
import pytest

from tests.evac.doubles import FakeHypervisor
from tests.evac.world import domain_xml, vm_uuid
from tests.support.hypervisor import FACTS
from vmha.clock import SystemClock
from vmha.evac import libvirt_migration
from vmha.evac.hypervisor import (
    LOCK_ERROR,
    Busy,
    LockHeld,
    NotReached,
    OutcomeUnknown,
    Refused,
    RemoteHypervisor,
    TargetNotReached,
)
from vmha.evac.libvirt_hypervisor import LibvirtHypervisor, _shown
from vmha.model import VmState
from vmha.sim.history import History
from vmha.sim.hypervisor import SimHypervisor, Site
from vmha.sim.hypervisor_ports import SimRemoteHypervisor

VM = vm_uuid(1)
XML = domain_xml(VM, "vm1")
T = 5.0


def node_uri(folder: Path) -> str:
    """A URI of the test driver with no domains, private to its connection."""
    node = folder / "node.xml"
    node.write_text(
        "<node><cpu><mhz>2000</mhz><model>x86</model><active>8</active><nodes>1</nodes></cpu><memory>64000000</memory></node>"
    )
    return f"test://{node}"


class Immortal:
    """A process that is never killed."""

    def require_alive(self) -> bool:
        return True


def simulated() -> SimRemoteHypervisor:
    """A simulated host's hypervisor, as the evacuator sees it."""
    site = Site(loop=asyncio.get_running_loop(), history=History(), start_s=0.0)
    return SimRemoteHypervisor(SimHypervisor("h1", site, FACTS), Immortal(), lambda: True)


@pytest.fixture(params=["double", "simulated", "libvirt"])
async def hypervisor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RemoteHypervisor]:
    makers: dict[str, Callable[[], RemoteHypervisor]] = {
        "double": FakeHypervisor,
        "simulated": simulated,
        "libvirt": lambda: LibvirtHypervisor(node_uri(tmp_path)),
    }
    made = makers[request.param]()
    yield made
    made.close()


def resume(hypervisor: RemoteHypervisor, vm_id: str) -> None:
    """What the target's agent does."""
    if isinstance(hypervisor, FakeHypervisor):
        hypervisor.resume(vm_id)
    elif isinstance(hypervisor, SimRemoteHypervisor):
        hypervisor._hypervisor.resume(hypervisor._hypervisor.domains[vm_id])
    else:
        cast("Any", hypervisor)._connection.lookupByUUIDString(vm_id).resume()


def pause(hypervisor: RemoteHypervisor, vm_id: str) -> None:
    """What a user does."""
    if isinstance(hypervisor, FakeHypervisor):
        hypervisor.domains[vm_id] = VmState.PAUSED
    else:
        assert isinstance(hypervisor, SimRemoteHypervisor)
        hypervisor._hypervisor.pause(hypervisor._hypervisor.domains[vm_id])


async def test_a_started_domain_is_paused(hypervisor: RemoteHypervisor) -> None:
    """After start_paused the domain exists and executes nothing."""
    assert await hypervisor.start_paused(VM, XML, T) is VmState.PAUSED
    assert await hypervisor.state(VM, T) is VmState.PAUSED
    assert await hypervisor.list(T) == {VM: VmState.PAUSED}


async def test_a_repeated_start_changes_nothing(hypervisor: RemoteHypervisor) -> None:
    """What is active already stays as it is, paused or running."""
    await hypervisor.start_paused(VM, XML, T)
    assert await hypervisor.start_paused(VM, XML, T) is VmState.PAUSED
    resume(hypervisor, VM)
    assert await hypervisor.start_paused(VM, XML, T) is VmState.RUNNING
    assert await hypervisor.state(VM, T) is VmState.RUNNING


async def test_what_is_not_there_is_absent(hypervisor: RemoteHypervisor) -> None:
    """A domain that nobody defined is ABSENT, and removing it is done already."""
    assert await hypervisor.state(VM, T) is VmState.ABSENT
    await hypervisor.remove(VM, T)


async def test_a_removed_domain_is_gone(hypervisor: RemoteHypervisor) -> None:
    """remove ends and undefines a domain in any state; it can be started again."""
    await hypervisor.start_paused(VM, XML, T)
    resume(hypervisor, VM)
    await hypervisor.remove(VM, T)

    assert await hypervisor.list(T) == {}
    assert await hypervisor.start_paused(VM, XML, T) is VmState.PAUSED


async def test_a_definite_refusal_leaves_nothing(hypervisor: RemoteHypervisor) -> None:
    """XML of another UUID is refused; afterwards nothing of either VM is there."""
    with pytest.raises(Refused):
        await hypervisor.start_paused(VM, domain_xml(vm_uuid(2), "vm2"), T)

    assert await hypervisor.list(T) == {}


def give_image(hypervisor: RemoteHypervisor, directory: str, name: str) -> None:
    """The image library has an image; where the disks are, for libvirt's test driver copies within one pool only."""
    if isinstance(hypervisor, FakeHypervisor):
        hypervisor.images.add(f"{directory}/{name}")
    elif isinstance(hypervisor, SimRemoteHypervisor):
        hypervisor._hypervisor.site.images.add(name)
        hypervisor._hypervisor.site.local_disks[VM] = set()
    else:
        connection = cast("Any", hypervisor)._connection
        pool = connection.storagePoolCreateXML(
            f"<pool type='dir'><name>images</name><target><path>{directory}</path></target></pool>", 0
        )
        pool.createXML(f"<volume><name>{name}</name><capacity>1048576</capacity></volume>", 0)


def with_local_disk(xml: str) -> str:
    """The same domain with a local root disk."""
    disk = "<disk type='file' device='disk'><source file='/var/local/vm1.qcow2'/><target dev='vda'/></disk>"
    return xml.replace("</domain>", f"<devices>{disk}</devices></domain>")


async def test_s24_a_disk_is_made_anew_and_the_domain_starts_from_it(hypervisor: RemoteHypervisor) -> None:
    """A rebuild can be repeated, and the start follows; of an active domain nothing is touched."""
    await hypervisor.connect(T)
    give_image(hypervisor, "/var/local", "debian-12")
    xml = with_local_disk(XML)

    await hypervisor.rebuild_disk(VM, xml, "/var/local/debian-12", T)
    await hypervisor.rebuild_disk(VM, xml, "/var/local/debian-12", T)
    assert await hypervisor.start_paused(VM, xml, T) is VmState.PAUSED
    await hypervisor.rebuild_disk(VM, xml, "/var/local/gone", T)

    assert await hypervisor.state(VM, T) is VmState.PAUSED


async def test_s24_without_the_image_it_is_a_definite_refusal(hypervisor: RemoteHypervisor) -> None:
    """Refused, and nothing of the VM is there."""
    with pytest.raises(Refused, match="debian-12"):
        await hypervisor.rebuild_disk(VM, with_local_disk(XML), "/var/local/debian-12", T)

    assert await hypervisor.list(T) == {}


async def test_an_invalid_definition_is_a_definite_refusal(tmp_path: Path) -> None:
    """libvirt refuses to define it: Refused, not unknown."""
    hypervisor = LibvirtHypervisor(node_uri(tmp_path))
    with pytest.raises(Refused):
        await hypervisor.start_paused(VM, "<domain type='test'><name>", T)


async def test_a_name_that_is_taken_is_a_definite_refusal(tmp_path: Path) -> None:
    """Another VM of that name runs on the target: refused, and that VM is untouched."""
    hypervisor = LibvirtHypervisor(node_uri(tmp_path))
    await hypervisor.start_paused(VM, XML, T)
    with pytest.raises(Refused):
        await hypervisor.start_paused(vm_uuid(2), domain_xml(vm_uuid(2), "vm1"), T)

    assert await hypervisor.list(T) == {VM: VmState.PAUSED}


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        ('internal error: process exited: qemu: Failed to get "write" lock\nIs another process using the image?', True),
        ('Failed to get shared "write" lock', True),
        ("Failed to lock byte 100", True),
        ("internal error: Failed to acquire lock: error -243", True),
        ("Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatch)", False),
        ("resource busy: Lockspace resource '/var/lib/disk' is locked", True),
        ("internal error: Failed to get monitor", False),
        ("unsupported machine type", False),
    ],
)
def test_lock_errors_are_told_from_others(text: str, locked: bool) -> None:
    """QEMU's and virtlockd's words for "somebody else runs this VM"."""
    assert bool(LOCK_ERROR.search(text)) is locked


async def test_a_lock_error_on_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """create fails for a lock: LockHeld, and the definition is taken back."""
    hypervisor = LibvirtHypervisor(node_uri(tmp_path))

    def refuse(_self: object, _domain: object) -> None:
        raise libvirt.libvirtError('Failed to get "write" lock')

    monkeypatch.setattr(LibvirtHypervisor, "_create", refuse)
    with pytest.raises(LockHeld):
        await hypervisor.start_paused(VM, XML, T)

    assert await hypervisor.list(T) == {}


async def test_a_closed_port_is_not_reached_at_once() -> None:
    """Nothing was sent: NotReached, long before libvirt's own time-out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = SystemClock().now()

    with pytest.raises(NotReached, match=re.escape(f"127.0.0.1:{port}")):
        await LibvirtHypervisor(f"qemu+tcp://127.0.0.1:{port}/system").state(VM, T)

    assert SystemClock().now() - began < 1.0


async def test_a_daemon_that_accepts_and_says_nothing_is_not_reached_in_time() -> None:
    """libvirt.open never returns there; the caller is told after its time-out, and its threads are replaced."""
    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel accepts, nobody answers
        hypervisor = LibvirtHypervisor(f"qemu+tcp://127.0.0.1:{mute.getsockname()[1]}/system")
        began = SystemClock().now()

        with pytest.raises(NotReached):
            await hypervisor.state(VM, 0.3)

        assert SystemClock().now() - began < 2.0


async def test_a_call_that_hangs_is_unknown_and_others_go_on(tmp_path: Path) -> None:
    """A start without an answer is OutcomeUnknown; the next call of the same host works, on new threads."""
    hypervisor = LibvirtHypervisor(node_uri(tmp_path))
    await hypervisor.start_paused(VM, XML, T)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(_connection: object) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()

    with pytest.raises(OutcomeUnknown):
        await hypervisor._ask(hang, 0.1)
    assert await hypervisor.state(VM, T) is VmState.ABSENT  # a new connection: the test driver starts empty
    gate.set()


def test_uris_are_shown_without_their_secrets() -> None:
    """Users and queries of a URI are in no message."""
    assert _shown("qemu+tls://ann@h2:16514/system?pkipath=/secret") == "qemu+tls://h2:16514/system"


# Live migration. libvirt's test driver cannot: its answer is a test of its own below, and the lab has the rest.


class Pair:
    """Two hypervisors of a kind, and the second one's URI."""

    def __init__(self, kind: str, span_s: float) -> None:
        self.source: RemoteHypervisor
        self.target: RemoteHypervisor
        if kind == "double":
            double = FakeHypervisor()
            self.source, self.target = FakeHypervisor(at=lambda _: double, migrate_s=span_s), double
        else:
            site = Site(loop=asyncio.get_running_loop(), history=History(), start_s=0.0, migrate_s=span_s)
            hosts = [SimHypervisor(name, site, FACTS) for name in ("h1", "h2")]
            self.source, self.target = (SimRemoteHypervisor(host, Immortal(), lambda: True) for host in hosts)
        self.uri = "qemu+tcp://h2/system"


@pytest.fixture(params=["double", "simulated"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[float], Pair]]:
    """Makes a pair whose migrations take so long."""
    pairs: list[Pair] = []

    def make(span_s: float) -> Pair:
        pairs.append(Pair(request.param, span_s))
        return pairs[-1]

    yield make
    for each in pairs:
        each.source.close()


@pytest.mark.parametrize("running", [True, False])
async def test_a_migrated_domain_is_there_and_not_here(pair: Callable[[float], Pair], running: bool) -> None:
    """Gone from its host with its definition; at the target as it was, running or paused."""
    both = pair(0.0)
    await both.source.start_paused(VM, XML, T)
    resume(both.source, VM)
    if not running:
        pause(both.source, VM)

    await both.source.migrate(VM, both.uri, T)

    assert await both.source.list(T) == {}
    assert await both.target.list(T) == {VM: VmState.RUNNING if running else VmState.PAUSED}
    assert not await both.source.is_migrating(VM, T)


async def test_one_job_at_a_time(pair: Callable[[float], Pair]) -> None:
    """A second migration of a domain is Busy, and does not disturb the first; meanwhile it is paused at the target."""
    both = pair(0.2)
    await both.source.start_paused(VM, XML, T)
    resume(both.source, VM)
    first = asyncio.create_task(both.source.migrate(VM, both.uri, T))
    await asyncio.sleep(0.05)

    with pytest.raises(Busy):
        await both.source.migrate(VM, both.uri, T)
    assert await both.source.is_migrating(VM, T)
    assert await both.target.state(VM, T) is VmState.PAUSED
    await first

    assert await both.target.state(VM, T) is VmState.RUNNING


async def test_an_aborted_migration_leaves_the_domain_where_it_was(pair: Callable[[float], Pair]) -> None:
    """The caller is told Refused; it runs on, nothing of it is at the target; a second abort has nothing to do."""
    both = pair(5.0)
    await both.source.start_paused(VM, XML, T)
    resume(both.source, VM)
    move = asyncio.create_task(both.source.migrate(VM, both.uri, T))
    await asyncio.sleep(0.05)

    await both.source.abort_migration(VM, T)
    with pytest.raises(Refused):
        await move
    await both.source.abort_migration(VM, T)

    assert await both.source.list(T) == {VM: VmState.RUNNING}
    assert await both.target.list(T) == {}


async def test_only_what_is_coming_in_is_dropped(pair: Callable[[float], Pair]) -> None:
    """A half-sent domain is gone from the target, and its migration fails; one that runs or was paused there stays."""
    both = pair(5.0)
    other, unknown = vm_uuid(2), vm_uuid(3)
    await both.target.start_paused(other, domain_xml(other, "vm2"), T)
    await both.source.start_paused(VM, XML, T)
    resume(both.source, VM)
    move = asyncio.create_task(both.source.migrate(VM, both.uri, T))
    await asyncio.sleep(0.05)

    for vm_id in (VM, other, unknown):
        await both.target.drop_incoming(vm_id, T)

    assert await both.target.list(T) == {other: VmState.PAUSED}
    await both.source.abort_migration(VM, T)
    with pytest.raises(Refused):
        await move
    assert await both.source.list(T) == {VM: VmState.RUNNING}


async def test_a_target_that_is_not_reached_got_nothing(pair: Callable[[float], Pair]) -> None:
    """TargetNotReached: the domain runs on, and may be sent elsewhere at once."""
    both = pair(0.0)
    await both.source.start_paused(VM, XML, T)
    resume(both.source, VM)
    if isinstance(both.target, FakeHypervisor):
        both.target.unreachable = True

    with pytest.raises(TargetNotReached):
        await both.source.migrate(VM, "qemu+tcp://h9/system", T)

    assert await both.source.list(T) == {VM: VmState.RUNNING}


async def test_a_stopped_domain_keeps_its_definition(hypervisor: RemoteHypervisor) -> None:
    """shut_down asks, stop ends; both are done already for what is not active, and for what is not there."""
    await hypervisor.start_paused(VM, XML, T)
    resume(hypervisor, VM)

    await hypervisor.shut_down(VM, T)
    await hypervisor.stop(VM, T)
    await hypervisor.stop(VM, T)
    await hypervisor.shut_down(vm_uuid(2), T)
    await hypervisor.stop(vm_uuid(2), T)

    assert await hypervisor.list(T) == {VM: VmState.SHUTOFF}


async def test_the_test_driver_refuses_to_migrate(tmp_path: Path) -> None:
    """What libvirt cannot do is a definite refusal, and the domain is as it was; without a job there is nothing to abort."""
    hypervisor = LibvirtHypervisor(node_uri(tmp_path))
    await hypervisor.start_paused(VM, XML, T)

    with pytest.raises(Refused):
        await hypervisor.migrate(VM, "qemu+tcp://192.0.2.1/system", T)
    with pytest.raises(Refused):
        await hypervisor.migrate(vm_uuid(2), "qemu+tcp://192.0.2.1/system", T)
    await hypervisor.abort_migration(VM, T)
    await hypervisor.drop_incoming(VM, T)

    assert not await hypervisor.is_migrating(VM, T)
    assert await hypervisor.list(T) == {VM: VmState.PAUSED}


@pytest.mark.parametrize(
    ("uri", "way"),
    [
        ("qemu+tcp://10.0.0.2/system", "tcp://10.0.0.2"),
        ("qemu+tls://ann@h2.example:16514/system?pkipath=/x", "tcp://h2.example"),
        ("qemu+tcp://[2001:db8::2]:16509/system", "tcp://[2001:db8::2]"),
        ("qemu:///system", ""),
    ],
)
def test_memory_goes_where_the_targets_uri_points(uri: str, way: str) -> None:
    """libvirt would take the target's own host name, which may lead nowhere."""
    assert libvirt_migration.parameters(uri).get(libvirt.VIR_MIGRATE_PARAM_URI, "") == way
