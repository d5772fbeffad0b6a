"""The libvirt adapter on a real libvirtd and QEMU: what the test driver cannot show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from lab import Lab, missing_for_a_lab
from lab.host import Host
from tests.agent.conftest import running
from tests.agent.test_hypervisor_contract import Ear
from tests.support.agent_state import unmoved
from tests.support.storage import unshared
from tests.support.waiting import until
from vmha.agent.guests import Guests
from vmha.agent.hypervisor import DomainChange
from vmha.agent.libvirt_port import LibvirtPort
from vmha.agent.metrics import Metrics
from vmha.clock import SystemClock
from vmha.errors import Unavailable
from vmha.model import VmState

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(120),
    pytest.mark.skipif(missing_for_a_lab() is not None, reason="no lab here"),
]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One real host, without an agent of its own."""
    with Lab() as lab:
        lab.up(1)
        yield lab


@pytest.fixture
def host(lab: Lab) -> Host:
    """That host."""
    return lab.host("host1")


@pytest.fixture
async def rig(host: Host) -> AsyncIterator[tuple[LibvirtPort, Ear]]:
    """Connected to that host's libvirtd."""
    port, ear = LibvirtPort(host.libvirt_uri, Metrics(SystemClock()), question_timeout_s=1.0), Ear()
    async with running(port.run(ear)):
        await until(lambda: ear.ups == 1)
        yield port, ear


async def test_a_start_that_waits_for_its_admission_is_told_from_a_pause(
    lab: Lab, host: Host, rig: tuple[LibvirtPort, Ear]
) -> None:
    """Created paused: AWAITING_ADMISSION. Resumed and paused by its user: PAUSED. libvirt calls both "paused (user)"."""
    port, _ = rig
    guest = lab.mkvm("vm1")
    host.virsh(f"define {guest.xml} ; start --paused vm1")
    waiting = await port.domain(guest.uuid)
    assert waiting is not None
    assert (waiting.state, waiting.reason) == (VmState.AWAITING_ADMISSION, "user")

    assert await port.resume(guest.uuid) is VmState.RUNNING
    assert await port.resume(guest.uuid) is VmState.RUNNING
    await until(lambda: lab.beats.of("vm1"), 20)
    host.virsh("suspend", "vm1")
    paused = await port.domain(guest.uuid)
    assert paused is not None
    assert (paused.state, paused.reason) == (VmState.PAUSED, "user")

    await port.remove(guest.uuid)
    assert await port.domains() == []
    assert host.guests() == []


async def test_a_real_host_says_what_it_can_give_its_guests(rig: tuple[LibvirtPort, Ear]) -> None:
    """Machine types with their aliases, CPU models, and the operating system."""
    facts = await rig[0].facts()

    assert {"pc", "q35"} <= set(facts.machines)
    assert any(name.startswith("pc-i440fx-") for name in facts.machines)
    assert facts.cpu_models
    assert facts.operating_system


async def test_a_guest_that_dies_is_heard_of_and_started_again(lab: Lab, host: Host, rig: tuple[LibvirtPort, Ear]) -> None:
    """Events carry the reason; autostart's mark does not keep the domain from being read, started and removed."""
    port, ear = rig
    guest = lab.mkvm("vm2")
    await port.define(guest.uuid, guest.definition)
    await port.start(guest.uuid)
    await port.take_autostart(guest.uuid)
    host.virsh("destroy", "vm2")
    await until(lambda: (guest.uuid, DomainChange.DESTROYED) in ear.heard)
    off = await port.domain(guest.uuid)
    assert off is not None
    assert (off.state, off.reason, off.autostart) == (VmState.SHUTOFF, "destroyed", False)

    await port.start(guest.uuid)
    on = await port.domain(guest.uuid)
    assert on is not None
    assert on.state is VmState.RUNNING
    await port.remove(guest.uuid)


async def test_a_libvirtd_that_stands_still_is_noticed_and_found_again(lab: Lab, host: Host) -> None:
    """SIGSTOP: calls end in time, and nothing is known. SIGCONT: everything is read again, and events arrive."""
    clock = SystemClock()
    port = LibvirtPort(host.libvirt_uri, Metrics(clock), question_timeout_s=0.5)
    guests = Guests(port, unshared(), unmoved(), clock, Metrics(clock))
    guest = lab.mkvm("vm3")
    async with running(guests.run()):
        await until(lambda: guests.table is not None)
        host.hang()
        try:
            with pytest.raises(Unavailable):
                await port.domain(guest.uuid)
            await until(lambda: guests.table is None)
        finally:
            host.unhang()
        await until(lambda: guests.table is not None, 30)
        host.virsh("define", str(guest.xml))
        await until(lambda: guest.uuid in (guests.table or {}))
        await port.remove(guest.uuid)


async def test_a_libvirtd_that_dies_is_noticed_and_found_again(lab: Lab, host: Host, rig: tuple[LibvirtPort, Ear]) -> None:
    """SIGKILL: the close is heard at once. A new libvirtd: connected again, with guests that never stopped."""
    port, ear = rig
    guest = lab.mkvm("vm4")
    host.start_guest("vm4")
    host.libvirtd_kill()
    await until(lambda: ear.downs == 1)
    with pytest.raises(Unavailable):
        await port.domains()

    host.libvirtd_start()
    await until(lambda: ear.ups == 2, 20)
    found = await port.domain(guest.uuid)
    assert found is not None
    assert found.state is VmState.RUNNING
    await port.remove(guest.uuid)
