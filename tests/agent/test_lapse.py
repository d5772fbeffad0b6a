"""Tests of vmha.agent.lapse, and of how the keeper acts on it: an agent's crash alone harms no guest, and revives no guard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.agent.test_keeper import Rig
from tests.support.agent_state import FAST, leased
from vmha.agent.keeper import Keeper
from vmha.agent.lapse import is_lapsed, without_guard
from vmha.agent.lease_events import AckReceived, HeartbeatSent, Kept, Registered
from vmha.agent.metrics import Metrics
from vmha.agent.state import State
from vmha.errors import PreconditionFailed

ENDED = 1000.0
KEPT = leased(17, lasts_s=FAST.lease_duration_s, now=ENDED - FAST.lease_duration_s)
LATE = ENDED + FAST.kill_timeout_s
MOMENT_S = 0.4


def at(now: float, kept: Kept = KEPT, *, may_lapse: bool = True, rig: Rig | None = None) -> Rig:
    """An agent that starts now with this record; `rig`: with the files of an earlier one."""
    files, rig = rig, Rig()
    rig.clock.time = now
    if files is None:
        rig.state.keep(kept)
    else:
        rig.file, rig.marker = files.file, files.marker
    rig.state = State(rig.file, rig.marker, "h1", "boot-1")
    rig.keeper = Keeper(rig.state, rig.clock, Metrics(rig.clock), may_lapse=may_lapse)
    rig.keeper.destroy_all = lambda reason: rig.destroyed.append(rig.on_file().latched)
    return rig


def test_only_a_guard_that_has_ended_lapses() -> None:
    """Any of the three ends counts."""
    assert is_lapsed(KEPT, ENDED)
    assert not is_lapsed(KEPT, ENDED - 0.01)
    assert not is_lapsed(replace(KEPT, cert_until=LATE + 1.0), LATE)
    assert not is_lapsed(replace(KEPT, carried_until=LATE + 1.0), LATE)


@pytest.mark.parametrize(
    "kept",
    [
        Kept(),
        Kept(config=FAST),
        replace(KEPT, latched=True),
        replace(KEPT, config=replace(FAST, enforced=False)),
        without_guard(KEPT),
    ],
)
def test_what_promised_nothing_or_is_over_does_not_lapse(kept: Kept) -> None:
    """No guard, no enforcement, or latched already."""
    assert not is_lapsed(kept, 1e9)


@pytest.mark.parametrize("back", [ENDED, LATE, LATE + 1000.0])
def test_i6_a_manager_gets_a_moment_only(back: float) -> None:
    """A tenth of T_kill, however long ago the guard ended; when it is over the VMs are destroyed."""
    deadline = back + MOMENT_S
    rig = at(back)
    rig.clock.time = deadline - 0.001
    rig.keeper.look()
    assert rig.destroyed == []
    rig.clock.time = deadline
    rig.keeper.look()

    assert rig.destroyed == [True]


def test_r3_an_agent_that_runs_when_its_guard_ends_waits_for_nobody() -> None:
    """Lapsing is for guards that ended without an agent."""
    rig = at(ENDED - 0.01)
    rig.clock.time = ENDED
    rig.keeper.look()

    assert rig.destroyed == [True]


def test_r10_where_a_watchdog_stands_in_for_the_agent_nothing_lapses() -> None:
    """Others do rely on the lease then, whether an agent ran or not."""
    rig = at(LATE, may_lapse=False)
    rig.keeper.look()

    assert rig.destroyed == [True]


def test_a_lapsed_host_does_nothing_until_it_is_settled() -> None:
    """VMs run on; nothing starts, and nothing is announced. A late ack of the old incarnation changes nothing."""
    rig = at(LATE)
    rig.keeper.look()
    rig.keeper.tell(AckReceived(incarnation=17, sequence=1, nonce="late"))

    assert rig.destroyed == []
    assert (rig.keeper.is_lapsed, rig.keeper.self_fencing, rig.keeper.lease.latched) == (True, False, False)
    with pytest.raises(PreconditionFailed):
        rig.keeper.check_may_start()


def test_a_lapsed_host_waits_for_its_manager_for_a_bounded_time() -> None:
    """The next process counts on, not anew; then the VMs are destroyed."""
    rig = at(LATE)
    deadline = LATE + MOMENT_S
    again = at(deadline - 0.01, rig=rig)
    again.keeper.look()
    assert again.destroyed == []
    again.clock.time = deadline
    again.keeper.look()

    assert again.destroyed == [True]
    assert again.on_file().latched
    assert not again.keeper.is_lapsed


def test_a_lapsed_host_that_is_spared_begins_a_new_incarnation() -> None:
    """The old one is over; the new one promises nothing before its first ack, and then as much as any."""
    rig = at(LATE)
    rig.keeper.spare()
    assert (rig.keeper.is_lapsed, rig.state.incarnation, rig.destroyed) == (False, 0, [])
    assert not at(LATE + 100.0, rig=rig).keeper.is_lapsed

    rig.keeper.tell(Registered(incarnation=18))
    rig.keeper.tell(HeartbeatSent(sequence=1))
    rig.keeper.tell(AckReceived(incarnation=18, sequence=1, nonce="n"))

    assert rig.keeper.self_fencing
    rig.keeper.check_may_start()
    rig.clock.time += FAST.lease_duration_s
    rig.keeper.look()
    assert rig.destroyed == [True]


def test_a_lapsed_host_whose_registration_was_revoked_keeps_nothing() -> None:
    """Somebody may run its VMs: destroyed at once."""
    rig = at(LATE)
    rig.keeper.condemn("revoked")

    assert rig.destroyed == [True]
    assert not rig.keeper.lease.may_register
