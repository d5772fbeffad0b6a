"""Tests of vmha.agent.autostart (S8: a returned host starts nothing by itself)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.agent.conftest import VM1, VM2, VM3, running
from tests.support.hypervisor import MARK, MemoryHypervisor
from tests.support.waiting import until
from vmha.agent.autostart import Autostart
from vmha.agent.guests import Guests


@pytest.fixture
async def autostart(hypervisor: MemoryHypervisor, guests: Guests) -> AsyncIterator[Autostart]:
    """VM1 autostarts, VM2 does and wants no HA, VM3 does not."""
    hypervisor.user_defines("one", VM1, autostart=True)
    hypervisor.user_defines("two", VM2, autostart=True, instance="ha='off'")
    hypervisor.user_defines("three", VM3)
    await until(lambda: len(guests.table or {}) == 3)
    keeper = Autostart(guests, hypervisor)
    async with running(keeper.run()):
        yield keeper


async def test_s08_autostart_is_taken_over_while_protected_and_put_back_after(
    autostart: Autostart, hypervisor: MemoryHypervisor, guests: Guests
) -> None:
    """On: protected VMs autostart no more, a VM that wants no HA does. Off: all is as it was."""
    autostart.protect(True)
    await until(lambda: hypervisor.autostarts() == {VM1: False, VM2: True, VM3: False})
    await until(lambda: (guest := guests.get(VM1)) is not None and guest.autostart_taken)

    autostart.protect(False)
    await until(lambda: hypervisor.autostarts() == {VM1: True, VM2: True, VM3: False})
    assert set(hypervisor.acts) == {("take_autostart", VM1), ("return_autostart", VM1)}
    assert MARK not in hypervisor._domains[VM1].xml


async def test_nothing_is_done_before_a_manager_said_so(
    autostart: Autostart, hypervisor: MemoryHypervisor, guests: Guests
) -> None:
    """An agent that has not reached a manager since its start leaves autostart as it is."""
    hypervisor.user_defines("one again", VM1, autostart=True)
    await until(lambda: (guest := guests.get(VM1)) is not None and guest.name == "one again")

    assert hypervisor.acts == []


async def test_a_vm_that_wants_no_ha_any_more_gets_its_autostart_back(autostart: Autostart, hypervisor: MemoryHypervisor) -> None:
    """ha="off" set while protected: the flag returns at once."""
    autostart.protect(True)
    await until(lambda: not hypervisor.autostarts()[VM1])
    marked = hypervisor._domains[VM1].xml.replace("<metadata>", "<metadata><v:instance xmlns:v='urn:vmha:instance:1' ha='off'/>")
    await hypervisor.define(VM1, marked)

    await until(lambda: hypervisor.autostarts()[VM1])


async def test_what_libvirt_refuses_is_tried_again(
    autostart: Autostart, hypervisor: MemoryHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal delays the taking over; it does not end it."""
    monkeypatch.setattr("vmha.agent.autostart.RETRY_S", 0.01)
    hypervisor.refuse[VM1] = 2
    autostart.protect(True)

    await until(lambda: hypervisor.autostarts()[VM1] is False)
