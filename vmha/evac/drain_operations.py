"""The operations of a drain: each does one thing outside, writes its step to the journal, and answers with one event.

All are safe to repeat. Where a VM is going stands in its record before libvirt is asked (`store.vm_locks`), and goes from there
when it has arrived, or when both hosts were looked at; whoever runs next goes by that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from vmha.clock import Clock
from vmha.errors import Aborted, NotFound, Unavailable, VmhaError
from vmha.evac import drain_plan, planner
from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.admission import AgentNotReached
from vmha.evac.hypervisor import Busy, HypervisorError, NotReached, OutcomeUnknown, Refused, RemoteHypervisor, TargetNotReached
from vmha.evac.operations import HOST_AGE_S, LOOK_TIMEOUT_S, Edges, Operations
from vmha.evac.placement import refusal
from vmha.evac.reasons import VmReason
from vmha.model import HostState, VmOutcome, VmState, VmStep
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry, VmRecord

LOCK_S: Final = 15.0
"""How long a VM stays locked after its drain went silent."""
ABORT_S: Final = 30.0
"""How long a migration may take to end after it was aborted."""
STOP_POLL_S: Final = 1.0
MISSES: Final = 2
"""Looks in vain, five seconds apart, after which a host's libvirt is not waited for."""
PRESENT: Final = frozenset({HostState.HEALTHY, HostState.IN_MAINTENANCE, HostState.EVACUATED})
"""States of a host whose VMs can be looked at; an evacuated one has none, and its drain ends."""
ACTIVE: Final = frozenset({VmState.RUNNING, VmState.PAUSED})
HELD: Final = {"VM_LOCKED": VmReason.VM_LOCKED, "VM_MIGRATING": VmReason.VM_MIGRATING, "SAFE_MODE": VmReason.SAFE_MODE}


class DrainSpans(NamedTuple):
    """Seconds for one live migration, and for a guest that is shut down."""

    migrate_timeout_s: float
    stop_grace_s: float


class Sides(NamedTuple):
    """Both hosts of a migration, and the VM as the store has it."""

    vm: VmRecord
    source: HostRecord
    target: HostRecord


class DrainOperations(Operations):
    """Executes the operations of one drain. `tell` takes a word on the way of one that takes long."""

    def __init__(
        self,
        edges: Edges,
        drain: EvacuationRecord,
        runner: str,
        clock: Clock,
        written: Callable[[], None],
        spans: DrainSpans,
        tell: Callable[[ev.Event], None],
    ) -> None:
        super().__init__(edges, drain, runner, clock, written)
        self._spans, self._tell = spans, tell
        self._ways = {
            fx.LookAtHost: self._look_at_host,
            fx.PlanDrain: self._plan_drain,
            fx.MigrateVm: self._migrate,
            fx.InspectMigration: self._inspect_migration,
            fx.StopVm: self._stop_vm,
        }

    async def run(self, operation: fx.AnyOperation) -> ev.Event:
        """Does it. Raises VmhaError when the store refuses or does not answer."""
        try:
            return await self._ways[type(operation)](operation)
        except HypervisorError as error:
            if not isinstance(operation, fx.MigrateVm | fx.InspectMigration | fx.StopVm):
                raise
            return ev.OutcomeUnknown(vm_id=operation.entry.vm_id, message=str(error))

    async def abort(self, entry: VmEntry) -> None:
        """Ends the migration of a VM away from its host; whoever waits for that sees what became of it."""
        with contextlib.suppress(HypervisorError, VmhaError):
            source = await self._host(self._evacuation.host_id)
            if source is not None:
                await self._hypervisor(source).abort_migration(entry.vm_id, LOOK_TIMEOUT_S)

    async def _look_at_host(self, _: fx.LookAtHost) -> ev.Event:
        host = await self._host(self._evacuation.host_id, max_age_s=0.0)
        if host is None:
            return ev.HostLooked(present=False, reason="HOST_UNKNOWN", message="the store does not hold the host")
        there = host.state in PRESENT and (host.state is HostState.EVACUATED or host.has_in_force(host.incarnation))
        message = "" if there else f"{host.host_id} is {host.state}; the drain goes on when it is back"
        return ev.HostLooked(present=there, stop_vms=host.drain_stop, reason="" if there else VmReason.HOST_AWAY, message=message)

    async def _plan_drain(self, operation: fx.PlanDrain) -> ev.Event:
        cluster_id, drain = self._evacuation.cluster_id, self._evacuation
        async with self._turn.taken() as journaled:
            snapshot, vms = await asyncio.gather(
                self.stored(lambda: self._store.clusters.snapshot(cluster_id)),
                self.stored(lambda: self._store.vms.list(cluster_id)),
            )
            self._start_timeout_s = snapshot.cluster.config.timers.start_timeout_s
            new = drain_plan.new_entries(drain, vms, operation.known)
            situation = planner.Situation(snapshot=snapshot, vms=vms, journaled=journaled, not_answering=operation.not_answering)
            host = snapshot.hosts.get(drain.host_id)
            if host is None:
                return ev.PlanMade(entries=operation.entries)
            # Off the loop, as an evacuation's.
            made = await asyncio.to_thread(drain_plan.plan, drain, host, [*operation.entries, *new], situation)
            if new:
                ids = {entry.vm_id for entry in new}
                first = [entry for entry in made.entries if entry.vm_id in ids]
                await self.stored(lambda: self._store.evacuations.plan(*self._id, self._runner, first))
                self._written()
            known = tuple(entry for entry in made.entries if entry.vm_id in operation.known)
            kept = await self._journal_changes(operation.entries, replace(made, entries=known))
            return replace(made, entries=(*kept.entries, *(e for e in made.entries if e.vm_id not in operation.known)))

    # Moving one VM.

    async def _migrate(self, operation: fx.MigrateVm) -> ev.Event:
        entry = operation.entry
        vm, target = await self._vm(entry.vm_id), await self._host(operation.target_host_id, max_age_s=HOST_AGE_S)
        gone = self._gone(entry, vm)
        if gone is not None or vm is None:
            return gone or ev.OutcomeUnknown(vm_id=entry.vm_id, message="no record")
        why = "it is gone" if target is None else refusal(target, self._evacuation.host_id)
        if target is None or why is not None:
            return ev.TargetLost(vm_id=entry.vm_id, message=f"{operation.target_host_id} is no target any more: {why}")
        source = await self._host(self._evacuation.host_id, max_age_s=HOST_AGE_S)
        if source is None:
            raise OutcomeUnknown("the host was deleted")
        refused = await self._take(entry, vm, target)
        if refused is not None:
            return refused
        moving = replace(
            entry,
            step=VmStep.MIGRATING,
            outcome=VmOutcome.OPEN,
            reason="",
            message=f"migrates to {target.host_id}",
            target_host_id=target.host_id,
            target_incarnation=target.incarnation,
            source_epoch=vm.epoch,
        )
        await self.journal(moving)
        self._tell(ev.MigrationBegun(entry=moving))
        return await self._send(moving, Sides(vm, source, target))

    async def _send(self, entry: VmEntry, sides: Sides) -> ev.Event:
        hypervisor, uri = self._hypervisor(sides.source), sides.target.config.libvirt_uri
        move = asyncio.create_task(
            hypervisor.migrate(entry.vm_id, uri, self._spans.migrate_timeout_s + ABORT_S), name=f"migration {entry.vm_id}"
        )
        keeper = asyncio.create_task(self._keep(entry.vm_id, hypervisor), name=f"lock of {entry.vm_id}")
        try:
            await asyncio.wait([move, keeper], return_when=asyncio.FIRST_COMPLETED)
            if not move.done():
                # Its host died, or somebody has said already where it is: libvirt's answer may not come for long.
                return await self._inspect_migration(fx.InspectMigration(entry=entry))
            return await self._sent(move, entry, sides)
        finally:
            keeper.cancel()
            move.cancel()
            await asyncio.gather(keeper, move, return_exceptions=True)

    async def _sent(self, move: asyncio.Task[None], entry: VmEntry, sides: Sides) -> ev.Event:
        try:
            move.result()
        except Busy as error:
            await self._let_go(entry, looked=True)
            return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.VM_BUSY, message=str(error))
        except NotReached as error:
            await self._let_go(entry, looked=True)
            return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.HOST_AWAY, message=str(error))
        except TargetNotReached as error:
            await self._let_go(entry, looked=True)
            return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.TARGET_UNREACHABLE, message=str(error))
        except Refused as error:
            return await self._where_it_is(entry, sides, str(error))
        return await self._where_it_is(entry, sides, "libvirt calls it done, and it is not there")

    async def _inspect_migration(self, operation: fx.InspectMigration) -> ev.Event:
        entry = operation.entry
        vm, target = await self._vm(entry.vm_id), await self._host(entry.target_host_id, max_age_s=HOST_AGE_S)
        source = await self._host(self._evacuation.host_id, max_age_s=HOST_AGE_S)
        if vm is not None and vm.owner_host_id == entry.target_host_id and not vm.claim_id:
            return await self._moved(entry, vm.epoch)  # its agent has said so
        gone = self._gone(entry, vm)
        if gone is not None or vm is None:
            return gone or ev.OutcomeUnknown(vm_id=entry.vm_id, message="no record")
        if source is None or target is None:
            raise OutcomeUnknown("one of its hosts was deleted")
        return await self._where_it_is(entry, Sides(vm, source, target), "its migration did not come to its end")

    async def _where_it_is(self, entry: VmEntry, sides: Sides, why: str) -> ev.Event:
        """Looks at both hosts; only what both say ends a migration."""
        here, there = self._hypervisor(sides.source), self._hypervisor(sides.target)
        if await here.is_migrating(entry.vm_id, LOOK_TIMEOUT_S):
            with contextlib.suppress(Aborted):
                await self.stored(lambda: self._store.vm_locks.renew(*self._id, self._runner, entry.vm_id, LOCK_S))
            return ev.MigrationUnderWay(vm_id=entry.vm_id)
        source = await here.state(entry.vm_id, LOOK_TIMEOUT_S)
        try:
            target = await there.state(entry.vm_id, LOOK_TIMEOUT_S)
        except NotReached as error:
            return await self._without_the_target(entry, sides, source, error)
        if source not in ACTIVE and (target is VmState.RUNNING or (target is VmState.PAUSED and source is VmState.ABSENT)):
            return await self._arrived(entry, sides)
        if target in ACTIVE:
            raise OutcomeUnknown(f"it is {source} on its host and {target} on {sides.target.host_id}")
        await self._let_go(entry, looked=True)
        if source in ACTIVE:
            return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.MIGRATION_REFUSED, message=why)
        return await self._runs_nowhere(entry, sides)

    async def _without_the_target(self, entry: VmEntry, sides: Sides, source: VmState, error: NotReached) -> ev.Event:
        """Nothing is known of the VM there: it has no other target until that host was looked at, or is proven dead."""
        vm = await self._vm(entry.vm_id)
        dead = vm is not None and vm.moving_to != sides.target.host_id
        if source not in ACTIVE or not dead:
            raise OutcomeUnknown(f"{sides.target.host_id} cannot be looked at: {error}") from error
        await self._let_go(entry, looked=True)
        message = f"{sides.target.host_id} is proven dead; it runs on where it was"
        return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.TARGET_UNREACHABLE, message=message)

    async def _arrived(self, entry: VmEntry, sides: Sides) -> ev.Event:
        vm, target = sides.vm, sides.target
        move = (entry.vm_id, vm.owner_host_id, target.host_id, entry.target_incarnation, vm.epoch)
        try:
            moved = await self.stored(lambda: self._store.vms.move(self._evacuation.cluster_id, *move))
        except (Aborted, NotFound):
            now = await self._vm(entry.vm_id)
            if now is None or now.owner_host_id != target.host_id:
                raise OutcomeUnknown(f"it runs on {target.host_id}, whose registration is another one now") from None
            moved = now
        return await self._moved(entry, moved.epoch)

    async def _moved(self, entry: VmEntry, epoch: int) -> ev.Event:
        done = replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.MOVED, reason="", message="", epoch=epoch)
        await self.journal(done)
        return ev.VmMigrated(entry=done)

    async def _runs_nowhere(self, entry: VmEntry, sides: Sides) -> ev.Event:
        """Its host went down in the middle, or its user stopped it. A host that is back was not told to start it (R22)."""
        # Read after the word on its way was taken back: a host that registers from now on is told to start it.
        vm = await self._vm(entry.vm_id)
        returned = vm is not None and vm.epoch > entry.source_epoch and drain_plan.left(self._evacuation, vm) is None
        if vm is None or not returned or vm.desired_state is not VmState.RUNNING:
            message = "it runs on neither host; its own host's agent is to say what became of it"
            return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.HOST_RETURNED, message=message)
        held = await self._take(entry, vm, None)
        if held is not None:
            raise OutcomeUnknown(f"it cannot be started on its own host now: {getattr(held, 'message', '')}")
        own = replace(entry, target_host_id=vm.owner_host_id, target_incarnation=vm.owner_incarnation, epoch=vm.epoch)
        try:
            await self._hypervisor(sides.source).start_paused(entry.vm_id, vm.domain_xml, self._start_timeout_s)
            await self._edges.admission.admit(sides.source, self._evacuation, own, self._start_timeout_s)
        except AgentNotReached as error:
            raise OutcomeUnknown(f"its own host does not start it: {error}") from error
        except VmhaError as error:
            raise OutcomeUnknown(f"its own host does not start it: {error.message}") from error
        finally:
            await self._let_go(entry, looked=True)
        message = f"{vm.owner_host_id} went down in the middle and came back; it runs there again"
        return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.HOST_RETURNED, message=message)

    # Stopping one.

    async def _stop_vm(self, operation: fx.StopVm) -> ev.Event:
        entry = operation.entry
        vm, source = await self._vm(entry.vm_id), await self._host(self._evacuation.host_id, max_age_s=HOST_AGE_S)
        gone = self._gone(entry, vm)
        if gone is not None or vm is None:
            return gone or ev.OutcomeUnknown(vm_id=entry.vm_id, message="no record")
        if source is None:
            raise OutcomeUnknown("the host was deleted")
        refused = await self._take(entry, vm, None)
        if refused is not None:
            return refused
        hypervisor, until = self._hypervisor(source), self._clock.now() + self._spans.stop_grace_s
        async with self._holding(entry.vm_id, hypervisor):
            try:
                await hypervisor.shut_down(entry.vm_id, LOOK_TIMEOUT_S)
                while await hypervisor.state(entry.vm_id, LOOK_TIMEOUT_S) in ACTIVE and self._clock.now() < until:  # noqa: ASYNC110 - a guest tells nobody
                    await asyncio.sleep(STOP_POLL_S)
                await hypervisor.stop(entry.vm_id, self._start_timeout_s)
                if (left := await hypervisor.state(entry.vm_id, LOOK_TIMEOUT_S)) in ACTIVE:
                    return ev.StopRefused(vm_id=entry.vm_id, message=f"it is {left} after it was ended")
            finally:
                await self._let_go(entry, looked=True)
        message = f"it was stopped, for it could not be moved: {entry.message}"
        done = replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.SKIPPED, reason=VmReason.VM_STOPPED, message=message)
        await self.journal(done)
        return ev.VmStopped(entry=done)

    # The lock.

    def _gone(self, entry: VmEntry, vm: VmRecord | None) -> ev.ClaimLost | None:
        said = drain_plan.left(self._evacuation, vm)
        return said and ev.ClaimLost(vm_id=entry.vm_id, outcome=VmOutcome.SKIPPED, reason=said[0], message=said[1])

    async def _take(self, entry: VmEntry, vm: VmRecord, target: HostRecord | None) -> ev.Event | None:
        """Locks it. Answers why that cannot be; None when it is this drain's."""
        going: Any = (target.host_id, target.incarnation) if target else ()
        try:
            await self.stored(lambda: self._store.vm_locks.take(*self._id, self._runner, vm, LOCK_S, *going))
        except (Aborted, Unavailable) as error:
            return self._not_taken(entry, error, target)
        except NotFound as error:
            message = error.message
            return ev.ClaimLost(vm_id=entry.vm_id, outcome=VmOutcome.SKIPPED, reason=VmReason.VM_DELETED, message=message)
        return None

    def _not_taken(self, entry: VmEntry, error: Aborted | Unavailable, target: HostRecord | None) -> ev.Event:
        vm_id, message = entry.vm_id, error.message
        if error.reason in HELD:
            return ev.StartHeld(vm_id=vm_id, reason=HELD[error.reason], message=message)
        at_target = target is not None and error.metadata.get("host_id") == target.host_id
        if error.reason == "CONFIG_UNCONFIRMED" or (error.reason == "STALE_INCARNATION" and at_target):
            return ev.TargetLost(vm_id=vm_id, message=message)
        if error.reason in {"STALE_INCARNATION", "STALE_VM_EPOCH"}:
            return ev.StartHeld(vm_id=vm_id, reason=VmReason.HOST_AWAY, message=message)
        raise error

    async def _let_go(self, entry: VmEntry, *, looked: bool) -> None:
        await self.stored(lambda: self._store.vm_locks.release(*self._id, self._runner, entry.vm_id, looked=looked))

    @contextlib.asynccontextmanager
    async def _holding(self, vm_id: str, hypervisor: RemoteHypervisor) -> AsyncIterator[None]:
        """Keeps the lock while something takes long."""
        keeper = asyncio.create_task(self._keep(vm_id, hypervisor), name=f"lock of {vm_id}")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self, vm_id: str, hypervisor: RemoteHypervisor) -> None:
        """Holds the lock; returns when there is nothing more to wait for: the VM is another's, or its host's libvirt is gone."""
        misses = 0
        while misses < MISSES:
            await asyncio.sleep(LOCK_S / 3)
            try:
                await self._store.vm_locks.renew(*self._id, self._runner, vm_id, LOCK_S)
                await hypervisor.is_migrating(vm_id, LOOK_TIMEOUT_S)
                misses = 0
            except Aborted:
                return
            except Unavailable:
                continue
            except HypervisorError:
                misses += 1
