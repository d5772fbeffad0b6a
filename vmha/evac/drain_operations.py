"""The operations of a drain: each does one thing outside, writes its step to the journal, and answers with one event.

All are safe to repeat. Where a VM is going stands in its record before libvirt is asked (`store.vm_locks`), and goes from there
when it has arrived, or when both hosts were looked at; whoever runs next goes by that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from vmha.clock import Clock
from vmha.errors import Aborted, NotFound, VmhaError
from vmha.evac import drain_plan, planner
from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.admission import AgentNotReached
from vmha.evac.hypervisor import Busy, HypervisorError, LockHeld, NotReached, OutcomeUnknown, Refused, TargetNotReached
from vmha.evac.operations import HOST_AGE_S, LOOK_TIMEOUT_S, Edges, Operations
from vmha.evac.placement import refusal
from vmha.evac.reasons import AlarmReason, VmReason
from vmha.evac.vm_hold import VmHold
from vmha.model import HostState, VmOutcome, VmState, VmStep
from vmha.store.records import MIGRATED_AWAY, EvacuationRecord, HostRecord, VmEntry, VmRecord

ABORT_S: Final = 30.0
"""How long a migration may take to end after it was aborted."""
STOP_POLL_S: Final = 1.0
PRESENT: Final = frozenset({HostState.HEALTHY, HostState.IN_MAINTENANCE, HostState.EVACUATED})
"""States of a host whose VMs can be looked at; an evacuated one has none, and its drain ends."""
ACTIVE: Final = frozenset({VmState.RUNNING, VmState.PAUSED})


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
        self._hold = VmHold(edges.store.vm_locks, self.stored, drain, runner)
        self._spared: set[str] = set()
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

    def spare(self, entry: VmEntry) -> None:
        """Lets a guest that is being shut down take its time: the drain was cancelled."""
        self._spared.add(entry.vm_id)

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
            if host is None or not host.in_maintenance:
                # Whoever took it back into service has cancelled the drain; its own host may be a target now.
                self._tell(ev.CancelRequested(reason=f"{drain.host_id} is back in service"))
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
        refused = await self._held_at_home(entry, source) or await self._hold.take(entry, vm, target)
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

    async def _held_at_home(self, entry: VmEntry, source: HostRecord) -> ev.Event | None:
        """Somebody else's job on it, seen before it is sent: a cancel aborts whatever is on its way for this drain."""
        reason, message = VmReason.VM_BUSY, "another job has it"
        try:
            if not await self._hypervisor(source).is_migrating(entry.vm_id, LOOK_TIMEOUT_S):
                return None
        except NotReached as error:
            reason, message = VmReason.HOST_AWAY, str(error)
        return ev.StartHeld(vm_id=entry.vm_id, reason=reason, message=message)

    async def _send(self, entry: VmEntry, sides: Sides) -> ev.Event:
        hypervisor, uri = self._hypervisor(sides.source), sides.target.config.libvirt_uri
        move = asyncio.create_task(
            hypervisor.migrate(entry.vm_id, uri, self._spans.migrate_timeout_s + ABORT_S), name=f"migration {entry.vm_id}"
        )
        keeper = asyncio.create_task(self._hold.keep(entry.vm_id, hypervisor), name=f"lock of {entry.vm_id}")
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
            await self._hold.let_go(entry, looked=True)
            return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.VM_BUSY, message=str(error))
        except NotReached as error:
            await self._hold.let_go(entry, looked=True)
            return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.HOST_AWAY, message=str(error))
        except TargetNotReached as error:
            await self._hold.let_go(entry, looked=True)
            return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.TARGET_UNREACHABLE, message=str(error))
        except Refused as error:
            return await self._where_it_is(entry, sides, str(error))
        return await self._where_it_is(entry, sides, "libvirt calls it done, and it is not there", done=True)

    async def _inspect_migration(self, operation: fx.InspectMigration) -> ev.Event:
        entry = operation.entry
        vm, target = await self._vm(entry.vm_id), await self._host(entry.target_host_id, max_age_s=HOST_AGE_S)
        source = await self._host(self._evacuation.host_id, max_age_s=HOST_AGE_S)
        if vm is not None and vm.owner_host_id == entry.target_host_id and not vm.claim_id and vm.state in ACTIVE:
            return await self._moved(entry, vm.epoch)  # its agent has said so
        gone = self._gone(entry, vm)
        if gone is not None or vm is None:
            return gone or ev.OutcomeUnknown(vm_id=entry.vm_id, message="no record")
        if source is None or target is None:
            raise OutcomeUnknown("one of its hosts was deleted")
        return await self._where_it_is(entry, Sides(vm, source, target), "its migration did not come to its end")

    async def _where_it_is(self, entry: VmEntry, sides: Sides, why: str, *, done: bool = False) -> ev.Event:
        """Looks at both hosts; only what both say ends a migration.

        Args:
            done: Its own host's libvirt has said that the target has it. If that one dies now, the VM is its evacuation's.
        """
        here, there = self._hypervisor(sides.source), self._hypervisor(sides.target)
        if await here.is_migrating(entry.vm_id, LOOK_TIMEOUT_S):
            await self._hold.renew(entry.vm_id)
            return ev.MigrationUnderWay(vm_id=entry.vm_id)
        source = await here.state(entry.vm_id, LOOK_TIMEOUT_S)
        try:
            target = await there.state(entry.vm_id, LOOK_TIMEOUT_S)
        except (NotReached, OutcomeUnknown) as error:
            if done and source is VmState.ABSENT:
                return await self._arrived(entry, sides)
            return await self._without_the_target(entry, sides, source, error)
        if target is VmState.PAUSED and source not in ACTIVE and sides.vm.epoch > entry.source_epoch:
            # Its host has registered again: what had come in by then will never be whole, and libvirt there may wait for long.
            await there.drop_incoming(entry.vm_id, LOOK_TIMEOUT_S)
            target = await there.state(entry.vm_id, LOOK_TIMEOUT_S)
            if target is VmState.PAUSED:
                return await self._arrived(entry, sides)
        if _has_arrived(entry, sides.target, source, target):
            return await self._arrived(entry, sides)
        if target in ACTIVE:
            raise OutcomeUnknown(f"it is {source} on its host and {target} on {sides.target.host_id}")
        return await self._stayed(entry, sides, source, VmReason.MIGRATION_REFUSED, why)

    async def _without_the_target(self, entry: VmEntry, sides: Sides, source: VmState, error: HypervisorError) -> ev.Event:
        """Nothing is known of the VM there: it has no other target until that host was looked at, or is proven dead."""
        vm = await self._vm(entry.vm_id)
        if vm is None or vm.moving_to == sides.target.host_id:
            raise OutcomeUnknown(f"{sides.target.host_id} cannot be looked at: {error}") from error
        why = f"{sides.target.host_id} is proven dead; it runs on where it was"
        return await self._stayed(entry, sides, source, VmReason.TARGET_UNREACHABLE, why)

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

    async def _stayed(self, entry: VmEntry, sides: Sides, source: VmState, reason: VmReason, why: str) -> ev.Event:
        """It neither runs at the target nor is on its way. Where its host went down in the middle it runs on neither."""
        await self._check_told(entry, source)
        await self._hold.let_go(entry, looked=True)
        # Read after the word on its way was taken back: a host that registers from now on is told to start it.
        vm = await self._vm(entry.vm_id)
        # Paused, and neither running nor paused when its agent last spoke: it may be a start that waits for admission.
        down = source not in ACTIVE or (source is VmState.PAUSED and vm is not None and vm.state not in ACTIVE)
        own = await self._own_again(entry, vm, sides, source) if vm is not None and down else None
        if own is None and source in ACTIVE:
            return ev.MigrationRefused(vm_id=entry.vm_id, reason=reason, message=why)
        if own is None:
            message = "it runs on neither host; its own host's agent is to say what became of it"
            return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.HOST_RETURNED, message=message)
        try:
            await self._start_at_home(entry, own, sides.source)
        except LockHeld as error:
            return await self._runs_somewhere(entry, str(error))
        message = f"it went down in the middle; {own.owner_host_id} runs it again"
        return ev.MigrationRefused(vm_id=entry.vm_id, reason=VmReason.HOST_RETURNED, message=message)

    async def _check_told(self, entry: VmEntry, source: VmState) -> None:
        """What is on neither host stays on its way until its own host has said what it saw, or registers."""
        vm = await self._vm(entry.vm_id)
        untold = vm is not None and vm.epoch == entry.source_epoch and vm.state in ACTIVE
        if source is VmState.ABSENT and untold:
            raise OutcomeUnknown("it runs on neither host; its own host's agent is to say what became of it")

    async def _own_again(self, entry: VmEntry, vm: VmRecord, sides: Sides, source: VmState) -> VmRecord | None:
        """The VM under the epoch in which its own host is to start it; None when it is not, or was told to already (R22)."""
        if drain_plan.left(self._evacuation, vm) is not None or vm.desired_state is not VmState.RUNNING:
            return None
        if vm.epoch > entry.source_epoch:
            return vm  # it has registered since, and was not told to start what might have arrived
        target_died = (vm.seen_on, vm.seen_state) == (sides.target.host_id, VmState.ABSENT)
        target_registered = sides.target.incarnation > entry.target_incarnation
        if source is not VmState.ABSENT or vm.reason != MIGRATED_AWAY or not (target_died or target_registered):
            return None
        # Its host saw it leave; where it went is proven dead, or came back without it: both that could have it have not (R22).
        key = (vm.vm_id, vm.owner_host_id, vm.owner_host_id, vm.owner_incarnation, vm.epoch)
        return await self.stored(lambda: self._store.vms.move(self._evacuation.cluster_id, *key))

    async def _start_at_home(self, entry: VmEntry, vm: VmRecord, source: HostRecord) -> None:
        held = await self._hold.take(entry, vm, None)
        if held is not None:
            raise OutcomeUnknown(f"it cannot be started on its own host now: {getattr(held, 'message', '')}")
        own = replace(entry, target_host_id=vm.owner_host_id, target_incarnation=vm.owner_incarnation, epoch=vm.epoch)
        try:
            await self._hypervisor(source).start_paused(entry.vm_id, vm.domain_xml, self._start_timeout_s)
            await self._edges.admission.admit(source, self._evacuation, own, self._start_timeout_s)
        except (AgentNotReached, VmhaError) as error:
            raise OutcomeUnknown(f"its own host does not start it: {error}") from error
        finally:
            await self._hold.let_go(entry, looked=True)

    async def _runs_somewhere(self, entry: VmEntry, message: str) -> ev.Event:
        """Its storage says so, whatever both hosts say: nothing more is tried (design 5.4)."""
        lost = replace(
            entry, step=VmStep.SETTLED, outcome=VmOutcome.FAILED, reason=VmReason.SOURCE_STILL_RUNNING, message=message
        )
        await self.journal(lost, AlarmReason.SOURCE_STILL_RUNNING.value)
        return ev.ClaimLost(vm_id=entry.vm_id, outcome=lost.outcome, reason=lost.reason, message=message)

    # Stopping one.

    async def _stop_vm(self, operation: fx.StopVm) -> ev.Event:
        entry = operation.entry
        vm, source = await self._vm(entry.vm_id), await self._host(self._evacuation.host_id, max_age_s=HOST_AGE_S)
        gone = self._gone(entry, vm)
        if gone is not None or vm is None:
            return gone or ev.OutcomeUnknown(vm_id=entry.vm_id, message="no record")
        if source is None:
            raise OutcomeUnknown("the host was deleted")
        refused = await self._hold.take(entry, vm, None)
        if refused is not None:
            return refused
        hypervisor, until = self._hypervisor(source), self._clock.now() + self._spans.stop_grace_s
        async with self._hold.kept(entry.vm_id, hypervisor):
            try:
                await hypervisor.shut_down(entry.vm_id, LOOK_TIMEOUT_S)
                while (left := await hypervisor.state(entry.vm_id, LOOK_TIMEOUT_S)) in ACTIVE and self._clock.now() < until:
                    if entry.vm_id in self._spared:
                        message = f"it was asked to shut down, and is {left}"
                        return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.DRAIN_CANCELLED, message=message)
                    await asyncio.sleep(STOP_POLL_S)
                await hypervisor.stop(entry.vm_id, self._start_timeout_s)
                if (left := await hypervisor.state(entry.vm_id, LOOK_TIMEOUT_S)) in ACTIVE:
                    return ev.StopRefused(vm_id=entry.vm_id, message=f"it is {left} after it was ended")
            finally:
                await self._hold.let_go(entry, looked=True)
        message = f"it was stopped, for it could not be moved: {entry.message}"
        done = replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.SKIPPED, reason=VmReason.VM_STOPPED, message=message)
        await self.journal(done)
        return ev.VmStopped(entry=done)

    def _gone(self, entry: VmEntry, vm: VmRecord | None) -> ev.ClaimLost | None:
        said = drain_plan.left(self._evacuation, vm)
        return said and ev.ClaimLost(vm_id=entry.vm_id, outcome=VmOutcome.SKIPPED, reason=said[0], message=said[1])


def _has_arrived(entry: VmEntry, target: HostRecord, here: VmState, there: VmState) -> bool:
    """Whether libvirt of its own host and of the target say that it is the target's now."""
    if here is VmState.ABSENT and there is VmState.SHUTOFF:
        # Only a migration that came to its end leaves the definition there alone. A host that has registered since was not told
        # to start it, and will not be.
        return target.incarnation == entry.target_incarnation
    return here not in ACTIVE and (there is VmState.RUNNING or (there is VmState.PAUSED and here is VmState.ABSENT))
