"""A drain's hold on its VMs: the lock of each one, taken, kept and let go by the runner of its journal (`store.vm_locks`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from vmha.errors import Aborted, NotFound, Unavailable
from vmha.evac import events as ev
from vmha.evac.hypervisor import HypervisorError, RemoteHypervisor
from vmha.evac.operations import LOOK_TIMEOUT_S
from vmha.evac.reasons import VmReason
from vmha.model import VmOutcome
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry, VmRecord
from vmha.store.vm_locks import VmLocks

LOCK_S: Final = 15.0
"""How long a VM stays locked after its drain went silent."""
MISSES: Final = 2
"""Looks in vain, five seconds apart, after which a host's libvirt is not waited for."""
HELD: Final = {"VM_LOCKED": VmReason.VM_LOCKED, "VM_MIGRATING": VmReason.VM_MIGRATING, "SAFE_MODE": VmReason.SAFE_MODE}


class VmHold:
    """The locks of one drain. `stored` calls the store as the runner does."""

    def __init__(
        self,
        locks: VmLocks,
        stored: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
        drain: EvacuationRecord,
        runner: str,
    ) -> None:
        self._locks, self._stored = locks, stored
        self._key = (drain.cluster_id, drain.evacuation_id, runner)

    async def take(self, entry: VmEntry, vm: VmRecord, target: HostRecord | None) -> ev.Event | None:
        """Locks it, and writes down where it goes. Answers why that cannot be; None when it is this drain's."""
        going: Any = (target.host_id, target.incarnation) if target else ()
        try:
            await self._stored(lambda: self._locks.take(*self._key, vm, LOCK_S, *going))
        except (Aborted, Unavailable) as error:
            return _not_taken(entry, error, target)
        except NotFound as error:
            message = error.message
            return ev.ClaimLost(vm_id=entry.vm_id, outcome=VmOutcome.SKIPPED, reason=VmReason.VM_DELETED, message=message)
        return None

    async def renew(self, vm_id: str) -> None:
        """Prolongs it, if it is this drain's still."""
        with contextlib.suppress(Aborted):
            await self._stored(lambda: self._locks.renew(*self._key, vm_id, LOCK_S))

    async def let_go(self, entry: VmEntry, *, looked: bool) -> None:
        """See `VmLocks.release`."""
        await self._stored(lambda: self._locks.release(*self._key, entry.vm_id, looked=looked))

    @contextlib.asynccontextmanager
    async def kept(self, vm_id: str, hypervisor: RemoteHypervisor) -> AsyncIterator[None]:
        """Keeps the lock while something takes long."""
        keeper = asyncio.create_task(self.keep(vm_id, hypervisor), name=f"lock of {vm_id}")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def keep(self, vm_id: str, hypervisor: RemoteHypervisor) -> None:
        """Holds the lock; returns when there is nothing more to wait for: the VM is another's, or its host's libvirt is gone."""
        misses = 0
        while misses < MISSES:
            await asyncio.sleep(LOCK_S / 3)
            try:
                await self._locks.renew(*self._key, vm_id, LOCK_S)
                await hypervisor.is_migrating(vm_id, LOOK_TIMEOUT_S)
                misses = 0
            except Aborted:
                return
            except Unavailable:
                continue
            except HypervisorError:
                misses += 1


def _not_taken(entry: VmEntry, error: Aborted | Unavailable, target: HostRecord | None) -> ev.Event:
    vm_id, message = entry.vm_id, error.message
    if error.reason in HELD:
        return ev.StartHeld(vm_id=vm_id, reason=HELD[error.reason], message=message)
    at_target = target is not None and error.metadata.get("host_id") == target.host_id
    if error.reason == "CONFIG_UNCONFIRMED" or (error.reason == "STALE_INCARNATION" and at_target):
        return ev.TargetLost(vm_id=vm_id, message=message)
    if error.reason in {"STALE_INCARNATION", "STALE_VM_EPOCH"}:
        return ev.StartHeld(vm_id=vm_id, reason=VmReason.HOST_AWAY, message=message)
    raise error
