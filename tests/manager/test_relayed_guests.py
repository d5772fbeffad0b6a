"""What relayed heartbeats say of a host's VMs is written down once, under the registration that they were said in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from vmha.errors import Aborted
from vmha.manager.host_queues import HostQueues
from vmha.manager.relayed_guests import RelayedGuests
from vmha.model import VmState
from vmha.store import Store
from vmha.v1 import heartbeat_pb2, vm_pb2


class Sighted:
    """A store that takes sightings, and queues that keep what they are given."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, dict[str, VmState]]] = []
        self.tasks: list[Callable[[], Awaitable[None]]] = []
        self.stale = False
        store = cast(Store, SimpleNamespace(vms=self))
        self.guests = RelayedGuests(store, "c1", cast(HostQueues, self))

    def put(self, host_id: str, task: Callable[[], Awaitable[None]], *, until_done: bool, fact: str) -> None:
        assert until_done and fact
        self.tasks.append(task)

    async def sighted(self, cluster_id: str, host_id: str, incarnation: int, states: dict[str, VmState]) -> None:
        if self.stale:
            raise Aborted("STALE_INCARNATION", "it was revoked")
        self.said.append((host_id, incarnation, states))

    def hear(self, *, relayed: bool = True, incarnation: int = 3, at_s: float = 0.0, **vms: Any) -> None:
        epochs = [heartbeat_pb2.VmEpoch(vm_id=vm_id, state=state) for vm_id, state in vms.items()]
        beat = heartbeat_pb2.Heartbeat(host_id="h2", incarnation=incarnation, vms=epochs)
        self.guests.take(beat, at_s, relayed=relayed)

    async def take(self, **said: Any) -> None:
        self.hear(**said)
        for task in self.tasks:
            await task()
        self.tasks = []


async def test_only_a_change_is_written() -> None:
    """The same VMs again ask nothing of the store; another state, or another registration, does. A domain that waits is none."""
    desk = Sighted()
    for state in (vm_pb2.VM_STATE_PAUSED, vm_pb2.VM_STATE_PAUSED, vm_pb2.VM_STATE_RUNNING):
        await desk.take(v1=state, v2=vm_pb2.VM_STATE_AWAITING_ADMISSION)
    await desk.take(v1=vm_pb2.VM_STATE_RUNNING, incarnation=4)

    assert desk.said == [
        ("h2", 3, {"v1": VmState.PAUSED}),
        ("h2", 3, {"v1": VmState.RUNNING}),
        ("h2", 4, {"v1": VmState.RUNNING}),
    ]


async def test_a_host_with_a_session_reports_its_inventory_itself() -> None:
    """Its own heartbeats are no news, and end what was remembered: cut off again, its VMs are written again."""
    desk = Sighted()
    for relayed in (True, False, True):
        await desk.take(v1=vm_pb2.VM_STATE_RUNNING, relayed=relayed)

    assert len(desk.said) == 2


async def test_r13_an_older_heartbeat_says_nothing_of_what_runs_now() -> None:
    """A peer brings what it was given before the host's own session was back, and before the VM went on to another host."""
    desk = Sighted()
    await desk.take(v1=vm_pb2.VM_STATE_RUNNING, at_s=10)
    await desk.take(at_s=12, relayed=False)
    await desk.take(v1=vm_pb2.VM_STATE_RUNNING, at_s=11)
    assert desk.said == [("h2", 3, {"v1": VmState.RUNNING})]

    await desk.take(v2=vm_pb2.VM_STATE_RUNNING, at_s=1, incarnation=4)
    assert desk.said[1:] == [("h2", 4, {"v2": VmState.RUNNING})]


async def test_r13_what_waited_for_the_store_is_not_written_over_newer_news() -> None:
    """The host's own session is back before the store takes in what its peers had said."""
    desk = Sighted()
    desk.hear(v1=vm_pb2.VM_STATE_RUNNING, at_s=10)
    await desk.take(relayed=False, at_s=11)

    assert desk.said == []


async def test_a_host_that_was_given_up_meanwhile_is_no_error() -> None:
    """The store refuses the word of a revoked registration; nothing is tried again."""
    desk = Sighted()
    desk.stale = True
    await desk.take(v1=vm_pb2.VM_STATE_RUNNING)

    assert desk.said == []
