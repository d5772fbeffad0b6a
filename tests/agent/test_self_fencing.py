"""Tests of vmha.agent.self_fencing: a guard that has ended stops every VM, whatever libvirt does, and only then is it said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.agent.conftest import VM1, VM2, VM3
from tests.support.agent_state import FAST, leased
from tests.support.hypervisor import EXECUTING, MemoryHypervisor
from tests.support.waiting import until
from vmha.agent.guests import Guests
from vmha.agent.keeper import Keeper
from vmha.agent.lease_events import Registered
from vmha.agent.metrics import Metrics
from vmha.agent.self_fencing import SelfFencing
from vmha.agent.state import State
from vmha.clock import SystemClock
from vmha.errors import Unavailable
from vmha.model import VmState


class Rig:
    """A host whose guard has just ended."""

    def __init__(self, state: State, hypervisor: MemoryHypervisor, guests: Guests, kill_timeout_s: float = 0.4) -> None:
        clock = SystemClock()
        config = replace(FAST, kill_timeout_s=kill_timeout_s)
        state.keep(replace(leased(17, lasts_s=1.0, now=clock.now() - 5.0), config=config))
        self.state, self.hypervisor, self.guests, self.metrics = state, hypervisor, guests, Metrics(clock)
        self.keeper = Keeper(state, clock, self.metrics, may_lapse=False)
        self.fencing = SelfFencing(self.keeper, hypervisor, guests, state, clock, self.metrics)
        self.keeper.destroy_all = self.fencing.order

    def alive(self) -> set[str]:
        return {vm_id for vm_id, state in self.hypervisor.states().items() if state in EXECUTING}

    def figure(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"vmha_agent_{name}_total")


@pytest.fixture
async def rig(state: State, hypervisor: MemoryHypervisor, guests: Guests) -> AsyncIterator[Rig]:
    """One runs, one is paused, one waits for its admission."""
    states = {VM1: VmState.RUNNING, VM2: VmState.PAUSED, VM3: VmState.AWAITING_ADMISSION}
    for vm_id, now in states.items():
        hypervisor.user_defines(f"vm {vm_id[0]}", vm_id)
        hypervisor.user_sets(vm_id, now)
    await until(lambda: len(guests.table or {}) == 3)
    rig = Rig(state, hypervisor, guests)
    yield rig
    await rig.fencing.close()


async def test_r3_every_vm_is_stopped_and_then_the_host_may_register(rig: Rig) -> None:
    """Stopped through libvirt, whatever state it was in; said when verified, and the host's table is read anew by then."""
    rig.keeper.look()
    assert not rig.keeper.lease.may_register
    await until(lambda: rig.keeper.lease.may_register)

    assert rig.alive() == set()
    assert sorted(act for act in rig.hypervisor.acts if act[0] == "destroy") == [("destroy", vm) for vm in (VM1, VM2, VM3)]
    assert rig.state.kept.vms_gone
    assert (rig.figure("self_fencings"), rig.figure("self_fencings_late")) == (1.0, 0.0)


async def test_nobody_is_told_that_its_user_stopped_it(rig: Rig) -> None:
    """The inventory's reason is "self_fenced", in the next process too, until the VM runs again."""
    rig.keeper.look()
    await until(lambda: rig.keeper.lease.may_register and rig.guests.table is not None)
    assert {guest.reason for guest in (rig.guests.table or {}).values()} == {"self_fenced"}
    assert rig.state.fenced == {VM1, VM2, VM3}

    rig.keeper.tell(Registered(incarnation=18))
    rig.hypervisor.user_sets(VM1, VmState.RUNNING, "booted")
    await until(lambda: rig.state.fenced == {VM2, VM3})
    rig.hypervisor.user_sets(VM1, VmState.SHUTOFF, "destroyed")
    await until(lambda: (rig.guests.table or {})[VM1].reason == "destroyed")


@pytest.mark.parametrize("broken", ["hung", "away", "refusing"])
async def test_a_libvirt_that_fails_keeps_no_vm_alive(rig: Rig, broken: str) -> None:
    """Hung, gone or refusing: the processes are killed, within T_kill."""
    if broken == "hung":
        rig.hypervisor.hang()
    elif broken == "away":
        rig.hypervisor.away()
    else:
        rig.hypervisor.refuse = dict.fromkeys((VM1, VM2, VM3), 99)
    began = SystemClock().now()
    rig.keeper.look()
    await until(lambda: rig.keeper.lease.may_register)

    assert rig.alive() == set()
    assert SystemClock().now() - began < 0.4 + 0.2
    rig.hypervisor.hang(False)


async def test_a_process_that_no_signal_ends_is_not_said_to_be_gone(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on trying, and complains once; when the process ends at last, the host may register."""
    rig.hypervisor.undying.add(VM2)
    rig.hypervisor.refuse[VM2] = 10_000
    rig.keeper.look()
    await until(lambda: rig.figure("self_fencings_late") == 1.0)
    await asyncio.sleep(0.3)
    assert (rig.alive(), rig.keeper.lease.may_register) == ({VM2}, False)
    assert capsys.readouterr().out.count("self_fencing_late") == 1

    rig.hypervisor.undying.clear()
    await until(lambda: rig.keeper.lease.may_register)


async def test_while_nobody_can_say_what_lives_nothing_is_said_to_be_gone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was known to be here is killed blindly; "gone" needs somebody's word."""

    async def unknown() -> frozenset[str]:
        raise Unavailable("LIBVIRT_UNAVAILABLE", "no list")

    with monkeypatch.context() as patched:
        patched.setattr(rig.hypervisor, "alive", unknown)
        rig.keeper.look()
        await until(lambda: rig.alive() == set())
        assert not rig.keeper.lease.may_register
    await until(lambda: rig.keeper.lease.may_register)


async def test_what_is_started_under_the_latch_is_stopped_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, or by a start that came late: nothing runs before the next registration."""
    monkeypatch.setattr("vmha.agent.self_fencing.WATCH_S", 0.02)
    rig.keeper.look()
    await until(lambda: rig.keeper.lease.may_register)
    rig.hypervisor.user_sets(VM1, VmState.RUNNING)
    await until(lambda: rig.alive() == set())

    rig.keeper.tell(Registered(incarnation=18))
    rig.hypervisor.user_sets(VM1, VmState.RUNNING)
    await asyncio.sleep(0.1)

    assert rig.alive() == {VM1}
