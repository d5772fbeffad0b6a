"""Tests of vmha.agent.keeper: what the lease wants is done in order, and nothing leaves before it is written (R3, R8, R9)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.agent.conftest import running
from tests.support.agent_state import FAST, HandClock, leased
from tests.support.waiting import until
from vmha.agent.keeper import Keeper
from vmha.agent.lease_events import AckReceived, ConfigTaken, HeartbeatSent, Kept, Registered, VmsGone
from vmha.agent.metrics import Metrics
from vmha.agent.state import State
from vmha.agent.state_file import MemoryFile
from vmha.clock import Clock, SystemClock
from vmha.errors import PreconditionFailed, Unavailable


class Disk(MemoryFile):
    """A file that can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def write(self, content: bytes) -> None:
        if self.full:
            raise Unavailable("STATE_UNAVAILABLE", "no space left")
        super().write(content)


class Rig:
    """A keeper on a clock that stands, with its files."""

    def __init__(self, kept: Kept = Kept(), clock: Clock | None = None) -> None:  # noqa: B008 - frozen
        self.file, self.marker, self.clock = Disk(), Disk(), HandClock()
        state = self.state = State(self.file, self.marker, "h1", "boot-1")
        state.keep(kept)
        state.joined("c1")
        self.metrics = Metrics(self.clock)
        self.keeper = Keeper(state, clock or self.clock, self.metrics)
        self.destroyed: list[bool] = []
        self.asked: list[tuple[str, ...]] = []
        self.keeper.destroy_all = lambda reason: self.destroyed.append(self.on_file().latched)
        self.keeper.ask_peers = self.asked.append

    def on_file(self) -> Kept:
        """What the next process would find."""
        return State(self.file, self.marker, "h1", "boot-1").kept

    def ack(self, sequence: int = 1) -> None:
        """A heartbeat, and its ack, at this moment."""
        self.keeper.tell(HeartbeatSent(sequence=sequence))
        self.keeper.tell(AckReceived(incarnation=self.keeper.lease.incarnation, sequence=sequence, nonce=f"n{sequence}"))


def registered() -> Rig:
    """A rig that is registered as 17 in a cluster that enforces leases, without an ack so far."""
    rig = Rig()
    rig.keeper.tell(ConfigTaken(config=FAST))
    rig.keeper.tell(Registered(incarnation=17))
    return rig


def test_an_ack_is_on_file_before_anything_follows() -> None:
    """Lease and last ack; the next process of this boot goes on with them."""
    rig = registered()
    rig.ack()

    kept = rig.on_file()
    assert (kept.incarnation, kept.last_ack, kept.lease_until) == (17, 1000.0, 1000.0 + FAST.lease_duration_s)


def test_r8_what_is_not_written_keeps_everything_from_leaving() -> None:
    """A full disk: no heartbeat with the new echo, no start. It is written as soon as there is room."""
    rig = registered()
    rig.file.full = True
    rig.ack()
    assert not rig.keeper.is_written
    with pytest.raises(PreconditionFailed):
        rig.keeper.check_may_start()
    assert rig.on_file().last_ack != 1000.0 or rig.on_file().lease_until < 1000.0

    rig.file.full = False

    assert rig.keeper.is_written
    assert rig.on_file().lease_until == 1000.0 + FAST.lease_duration_s
    rig.keeper.check_may_start()


def test_r3_an_expired_guard_is_on_file_before_vms_are_destroyed() -> None:
    """Whoever looks first notices; every VM is destroyed once, and a late ack revives nothing."""
    rig = registered()
    rig.ack()
    rig.keeper.tell(HeartbeatSent(sequence=2))
    rig.clock.time += FAST.lease_duration_s
    rig.keeper.tell(AckReceived(incarnation=17, sequence=2, nonce="late"))
    rig.keeper.look()

    assert rig.destroyed == [True]
    assert rig.keeper.lease.latched
    with pytest.raises(PreconditionFailed) as caught:
        rig.keeper.check_may_start()
    assert (caught.value.reason, caught.value.metadata) == ("LEASE_EXPIRED", {"guard": "LATCHED"})


def test_a_full_disk_does_not_keep_vms_alive() -> None:
    """The latch can't be written, and the VMs are destroyed nevertheless."""
    rig = registered()
    rig.ack()
    rig.file.full = True
    rig.clock.time += FAST.lease_duration_s
    rig.keeper.look()

    assert len(rig.destroyed) == 1


def test_r9_self_fencing_is_announced_when_the_marker_is_there() -> None:
    """Not before the first ack, nor while the marker can't be written: a lost record would let the VMs run on."""
    rig = registered()
    assert not rig.keeper.self_fencing
    rig.marker.full = True
    rig.ack()
    assert not rig.keeper.self_fencing

    rig.marker.full = False
    rig.ack(2)
    assert rig.keeper.self_fencing
    assert rig.marker.content is not None

    rig.keeper.tell(ConfigTaken(config=replace(FAST, version=2, enforced=False)))
    assert (rig.keeper.self_fencing, rig.marker.content) == (False, None)


def test_listeners_hear_of_the_latch_and_of_the_vms_end() -> None:
    """Twice: latched, and free to register."""
    rig = registered()
    rig.ack()
    heard: list[tuple[bool, bool]] = []
    rig.keeper.listeners.append(lambda: heard.append((rig.keeper.lease.latched, rig.keeper.lease.may_register)))
    rig.clock.time += 100.0
    rig.keeper.look()
    rig.keeper.look()
    rig.keeper.tell(VmsGone())

    assert heard == [(True, False), (True, True)]


def test_an_interrupted_self_fencing_goes_on_in_the_next_process() -> None:
    """Latched on file, and the VMs not verified gone: destroyed at once."""
    rig = Rig(replace(leased(17), latched=True))
    rig.keeper.look()

    assert rig.destroyed == [True]


def test_peers_are_asked_when_acks_stay_away() -> None:
    """Every voter but oneself, after relay_after, and again every request_interval."""
    rig = registered()
    rig.ack()
    for after in (FAST.relay_after_s - 0.01, FAST.relay_after_s, FAST.relay_after_s + FAST.request_interval_s):
        rig.clock.time = 1000.0 + after
        rig.keeper.look()

    assert rig.asked == [("h2", "h3"), ("h2", "h3")]


async def test_the_deadline_is_kept_by_itself() -> None:
    """Nobody asks, no message comes: the guard's end is noticed when it comes, and not before."""
    now = SystemClock().now()
    rig = Rig(replace(leased(17, lasts_s=0.2, now=now), last_ack=now), SystemClock())
    async with running(rig.keeper.run()):
        await asyncio.sleep(0)
        assert rig.destroyed == []
        await until(lambda: rig.destroyed)

    assert SystemClock().now() >= now + 0.2


def test_the_guard_can_be_watched() -> None:
    """What is left of it, counted down; 1 while it is latched."""
    rig = registered()
    figure = rig.metrics.registry.get_sample_value
    rig.ack()
    rig.clock.time += 5.0
    assert figure("vmha_agent_guard_seconds") == pytest.approx(FAST.lease_duration_s - 5.0)
    assert figure("vmha_agent_latched") == 0.0
    rig.clock.time += 5.0
    rig.keeper.look()

    assert (figure("vmha_agent_guard_seconds"), figure("vmha_agent_latched")) == (0.0, 1.0)
