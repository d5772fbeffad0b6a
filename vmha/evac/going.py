"""A VM whose host died while a drain migrated it: only the host that it was going to knows whether it has it (R22).

Its agent may be slow, or away. So its libvirt is asked, after the proof: what could still send the VM is dead by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

from vmha.errors import Aborted, NotFound
from vmha.evac.hypervisor import HypervisorError, RemoteHypervisor
from vmha.model import VmState
from vmha.store import Store
from vmha.store.records import EvacuationRecord, HostRecord, VmRecord

LOOK_TIMEOUT_S = 5.0


class Went(Enum):
    """What became of it."""

    ARRIVED = auto()  # that host owns it now
    NOWHERE = auto()  # nothing of it is there, and that is on record: it may be claimed
    UNKNOWN = auto()


async def where_it_went(
    store: Store,
    stored: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
    evacuation: EvacuationRecord,
    runner: str,
    vm: VmRecord,
    target: HostRecord,
    hypervisor: RemoteHypervisor,
) -> Went:
    """Looks, and writes down what the look has shown. `stored` calls the store as the runner does."""
    try:
        state = await hypervisor.state(vm.vm_id, LOOK_TIMEOUT_S)
        if state is VmState.PAUSED:
            # What has come in so far will never be whole: its sender is proven dead.
            await hypervisor.drop_incoming(vm.vm_id, LOOK_TIMEOUT_S)
            state = await hypervisor.state(vm.vm_id, LOOK_TIMEOUT_S)
    except HypervisorError:
        return Went.UNKNOWN
    key = (evacuation.cluster_id, vm.vm_id, vm.owner_host_id, target.host_id, target.incarnation, vm.epoch)
    if state is VmState.RUNNING:
        try:
            await stored(lambda: store.vms.move(*key))
        except (Aborted, NotFound):
            return Went.UNKNOWN
        return Went.ARRIVED
    if state is VmState.PAUSED:
        return Went.UNKNOWN  # it had arrived, and its user has paused it: its agent is to say so
    await stored(
        lambda: store.evacuations.not_there(evacuation.cluster_id, evacuation.evacuation_id, runner, vm.vm_id, target.host_id)
    )
    return Went.NOWHERE
