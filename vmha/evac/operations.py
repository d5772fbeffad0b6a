"""The operations of an evacuation: each does one thing outside, writes its step to the journal, and answers with one event.

All are safe to repeat: a killed evacuator's successor repeats the last one. Only an error of the store, or of our own code at a
place where nothing is known to be half done, leaves this module as an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from vmha.clock import Clock
from vmha.domain_xml import with_claim
from vmha.errors import Aborted, NotFound, Unavailable, VmhaError
from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac import planner
from vmha.evac.admission import Admission, AgentNotReached
from vmha.evac.fencing import FenceDevice
from vmha.evac.going import Went, where_it_went
from vmha.evac.hypervisor import HypervisorError, LockHeld, NotReached, OutcomeUnknown, Refused, RemoteHypervisor
from vmha.evac.placement import refusal
from vmha.evac.plan_turn import PlanTurn
from vmha.evac.proof import Case, prove
from vmha.evac.reasons import VmReason
from vmha.model import VmOutcome, VmState, VmStep
from vmha.store import Store
from vmha.store.records import ClusterRecord, ClusterSnapshot, EvacuationRecord, HostRecord, VmEntry, VmRecord

T = TypeVar("T")
STORE_TRIES = 6
LOOK_TIMEOUT_S = 5.0
"""For questions that change nothing."""
HOST_AGE_S = 0.25
"""A target's record may be this old when a VM is claimed for it; the claim itself checks that its registration is in force."""
NOT_READY = frozenset({"LEASE_EXPIRED", "NOT_REGISTERED", "INCARNATION_MISMATCH"})
"""An agent's refusals that say nothing of the VM: its host may take it later."""
REBUILD_TIMEOUT_S = 1800.0
"""For copying an image: the target's disk decides how long that takes."""
PREPARED_HOSTS = 32
"""Connections opened while the proof is under way, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Everything outside the process."""

    store: Store
    hypervisor: Callable[[str], RemoteHypervisor]
    admission: Admission
    device: FenceDevice
    plan_lock: Callable[[str], asyncio.Lock]


class Operations:
    """Executes the operations of one evacuation for one runner. `written` is called after each change of the journal."""

    def __init__(
        self, edges: Edges, evacuation: EvacuationRecord, runner: str, clock: Clock, written: Callable[[], None]
    ) -> None:
        self._edges, self._store, self._clock = edges, edges.store, clock
        self._evacuation, self._runner, self._written = evacuation, runner, written
        self._id = (evacuation.cluster_id, evacuation.evacuation_id)
        self._hosts: dict[str, HostRecord] = {}
        self._read_at: dict[str, float] = {}
        self._start_timeout_s = 60.0
        self._turn = PlanTurn(
            edges.store, edges.plan_lock(evacuation.cluster_id), evacuation.cluster_id, runner, clock, self.stored
        )
        self._looked_at = float("-inf")
        self._cluster_read: ClusterRecord | None = None
        self._log = structlog.get_logger("vmha.evac")
        self._ways: dict[type, Callable[[Any], Awaitable[ev.Event]]] = {
            fx.ProveDeath: self._prove,
            fx.MakePlan: self._plan,
            fx.ClaimVm: self._claim,
            fx.StartVm: self._start,
            fx.AdmitVm: self._admit,
            fx.VerifyVm: self._verify,
            fx.InspectVm: self._inspect,
            fx.WithdrawVm: self._withdraw,
        }

    async def run(self, operation: fx.AnyOperation) -> ev.Event:
        """Does it. Raises VmhaError when the store refuses or does not answer."""
        try:
            return await self._ways[type(operation)](operation)
        except HypervisorError as error:
            return _answer_to(operation, error)
        except VmhaError:
            raise
        except Exception as error:
            if not isinstance(operation, fx.StartVm | fx.AdmitVm | fx.VerifyVm | fx.InspectVm | fx.WithdrawVm):
                raise
            self._log.exception("operation_failed", operation=type(operation).__name__, vm_id=operation.entry.vm_id)
            return ev.OutcomeUnknown(vm_id=operation.entry.vm_id, message=f"internal error: {type(error).__name__}")

    async def journal(self, entry: VmEntry, alarm: str | None = None) -> None:
        """Writes one VM's entry."""
        await self.stored(lambda: self._store.evacuations.step(*self._id, self._runner, entry, alarm=alarm))
        self._written()

    async def stored(self, call: Callable[[], Awaitable[T]]) -> T:
        """Calls the store, again when it does not answer: all its scripts are safe to repeat."""
        try:
            return await call()  # the usual way, without the cost of a retry's bookkeeping
        except Unavailable as error:
            if not _is_away(error):
                raise
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(STORE_TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            retry=retry_if_exception(_is_away),
            reraise=True,
        ):
            with attempt:
                return await call()
        raise AssertionError("unreachable")

    async def prepare(self) -> None:
        """Opens connections to hosts that may become targets. Touches no VM."""
        snapshot = await self.stored(lambda: self._store.clusters.snapshot(self._evacuation.cluster_id))
        hosts = [h for h in snapshot.hosts.values() if refusal(h, self._evacuation.host_id) is None][:PREPARED_HOSTS]
        self._start_timeout_s = snapshot.cluster.config.timers.start_timeout_s
        connecting = [self._hypervisor(host).connect(LOOK_TIMEOUT_S) for host in hosts]
        await asyncio.gather(*connecting, *(self._edges.admission.connect(host) for host in hosts), return_exceptions=True)

    async def _prove(self, operation: fx.ProveDeath) -> ev.Event:
        snapshot = await self.stored(lambda: self._store.clusters.snapshot(self._evacuation.cluster_id))
        record = await self.stored(lambda: self._store.evacuations.get(*self._id))
        host = snapshot.hosts.get(self._evacuation.host_id)
        if host is None:
            return ev.ProofDenied(reason="HOST_UNKNOWN", message="the host was deleted")
        case = Case(
            config=snapshot.cluster.config,
            host=host,
            fence_epoch=self._evacuation.fence_epoch,
            device=self._edges.device,
            lease_proof=record.lease_proof,
            ask_fence=operation.ask_fence,
        )
        return await prove(case)

    async def _plan(self, operation: fx.MakePlan) -> ev.Event:
        cluster_id = self._evacuation.cluster_id
        migrating = [entry.vm_id for entry in operation.entries if entry.reason == VmReason.VM_MIGRATING]
        await asyncio.gather(*(self._drop_incoming(vm_id) for vm_id in migrating))
        async with self._turn.taken() as journaled:
            asked = self._clock.now()
            snapshot, vms = await asyncio.gather(
                self.stored(lambda: self._store.clusters.snapshot(cluster_id)),
                self.stored(lambda: self._store.vms.list(cluster_id)),
            )
            self._start_timeout_s = snapshot.cluster.config.timers.start_timeout_s
            self._hosts.update(snapshot.hosts)
            self._read_at.update(dict.fromkeys(snapshot.hosts, asked))
            entries = operation.entries or planner.first_entries(self._evacuation, vms)
            vms = [await self._where_it_went(vm, snapshot) for vm in vms]
            situation = planner.Situation(snapshot=snapshot, vms=vms, journaled=journaled, not_answering=operation.not_answering)
            # A second or two of arithmetic, at worst: the loop has other evacuations and answers to see to.
            made = await asyncio.to_thread(planner.plan, self._evacuation, entries, situation)
            if operation.entries:
                return await self._journal_changes(operation.entries, made)
            await self.stored(lambda: self._store.evacuations.plan(*self._id, self._runner, made.entries))
            self._written()
            return made

    async def _where_it_went(self, vm: VmRecord, snapshot: ClusterSnapshot) -> VmRecord:
        """Gives a VM that ended a live migration while its host died to the host that runs it (R22)."""
        host = snapshot.hosts.get(vm.seen_on)
        runs = vm.seen_state is VmState.RUNNING and host is not None and host.has_in_force(vm.seen_incarnation)
        if vm.owner_host_id != self._evacuation.host_id or vm.owner_incarnation > self._evacuation.incarnation or not runs:
            return vm
        try:
            return await self.stored(
                lambda: self._store.vms.move(
                    self._evacuation.cluster_id, vm.vm_id, vm.owner_host_id, vm.seen_on, vm.seen_incarnation, vm.epoch
                )
            )
        except (Aborted, NotFound):
            return vm  # it changed meanwhile: the claim looks at what it is then

    async def _drop_incoming(self, vm_id: str) -> None:
        """What a proven dead host was sending will never be whole; its receiver's agent says so when it is gone (R22)."""
        vm = await self._vm(vm_id)
        if vm is None or vm.owner_host_id != self._evacuation.host_id or vm.seen_state is not VmState.PAUSED:
            return
        host = await self._host(vm.seen_on, max_age_s=HOST_AGE_S)
        if host is not None and vm.owner_incarnation <= self._evacuation.incarnation:
            with contextlib.suppress(HypervisorError):
                await self._hypervisor(host).drop_incoming(vm_id, LOOK_TIMEOUT_S)

    async def _journal_changes(self, before: tuple[VmEntry, ...], made: ev.PlanMade) -> ev.PlanMade:
        known = {entry.vm_id: entry for entry in before}
        kept: list[VmEntry] = []
        for entry in made.entries:
            old = known[entry.vm_id]
            if replace(entry, message=old.message) == old:
                kept.append(old)  # it waits as before: figures in the message are no news
                continue
            await self.journal(entry)
            kept.append(entry)
        return replace(made, entries=tuple(kept))

    async def _claim(self, operation: fx.ClaimVm) -> ev.Event:
        entry, target = operation.entry, operation.target_host_id
        host = await self._host(target, max_age_s=HOST_AGE_S)
        why = "it is gone" if host is None else refusal(host, self._evacuation.host_id)
        if host is None or why is not None:
            return ev.TargetLost(vm_id=entry.vm_id, message=f"{target} is no target any more: {why}")
        incarnation, journal = host.incarnation, self._store.evacuations
        try:
            if entry.epoch:
                claimed = await self.stored(lambda: journal.reclaim(*self._id, self._runner, entry, target, incarnation))
            else:
                fresh = replace(entry, target_host_id=target, target_incarnation=incarnation)
                source = self._evacuation
                claimed = await self.stored(
                    lambda: journal.claim(*self._id, self._runner, fresh, source.host_id, source.incarnation)
                )
        except Aborted as error:
            return await self._claim_refused(entry, error)
        except Unavailable as error:
            if error.reason != "SAFE_MODE":
                raise
            return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.SAFE_MODE, message=error.message)
        self._written()
        return ev.VmClaimed(entry=claimed)

    async def _claim_refused(self, entry: VmEntry, error: Aborted) -> ev.Event:
        if error.reason in {"STALE_INCARNATION", "CONFIG_UNCONFIRMED"}:
            return ev.TargetLost(vm_id=entry.vm_id, message=error.message)
        if error.reason == "VM_RUNS_ON_TARGET":
            return ev.VmInspected(vm_id=entry.vm_id, state=VmState.RUNNING)
        if error.reason == "VM_MIGRATING":
            return await self._look_where_it_went(entry, error)
        if error.reason == "VM_MIGRATED_AWAY":
            reason = VmReason.VM_MIGRATED_AWAY
            return ev.ClaimLost(vm_id=entry.vm_id, outcome=VmOutcome.SKIPPED, reason=reason, message=error.message)
        if error.reason != "STALE_VM_EPOCH":
            raise error
        gone = planner.lost(self._evacuation, entry, await self._vm(entry.vm_id))
        if gone is not None:
            return gone
        # The same owner under another epoch: it was planned on an older record.
        return ev.TargetLost(vm_id=entry.vm_id, message=error.message)

    async def _look_where_it_went(self, entry: VmEntry, error: Aborted) -> ev.Event:
        vm, host = await self._vm(entry.vm_id), await self._host(error.metadata["host_id"], max_age_s=HOST_AGE_S)
        # What a host has said itself it takes back itself.
        if vm is not None and host is not None and error.metadata["state"] == "ON_ITS_WAY":
            parts = (self._store, self.stored, self._evacuation, self._runner, vm, host, self._hypervisor(host))
            went = await where_it_went(*parts)
            if went is not Went.UNKNOWN:
                again = ev.TargetLost(vm_id=entry.vm_id, message=f"it was on its way to {host.host_id}, and that host was asked")
                return planner.lost(self._evacuation, entry, await self._vm(entry.vm_id)) or again
        return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.VM_MIGRATING, message=error.message)

    async def _start(self, operation: fx.StartVm) -> ev.Event:
        entry = operation.entry
        vm = await self._vm(entry.vm_id)
        gone = planner.lost(self._evacuation, entry, vm)
        if gone is not None or vm is None:
            return gone or ev.OutcomeUnknown(vm_id=entry.vm_id, message="no record")
        if await self._safe_mode():
            message = "the store has lost writes; nothing is started before every host has said what it runs"
            return ev.StartHeld(vm_id=entry.vm_id, reason=VmReason.SAFE_MODE, message=message)
        hypervisor = await self._target(entry)
        if entry.image and entry.step not in {VmStep.STARTED, VmStep.ADMITTED}:  # else it has its disk, and may have used it
            library = (await self._cluster()).config.image_directory
            image = posixpath.join(library, entry.image)
            await hypervisor.rebuild_disk(entry.vm_id, vm.domain_xml, image, REBUILD_TIMEOUT_S)
        await hypervisor.start_paused(entry.vm_id, with_claim(vm.domain_xml, entry.epoch), self._start_timeout_s)
        started = replace(entry, step=VmStep.STARTED)
        await self.journal(started)
        return ev.VmStarted(entry=started)

    async def _admit(self, operation: fx.AdmitVm) -> ev.Event:
        entry = operation.entry
        host = await self._host(entry.target_host_id)
        if host is None:
            return ev.AdmitRefused(vm_id=entry.vm_id, reason="HOST_UNKNOWN", message="the target was deleted")
        try:
            await self._edges.admission.admit(host, self._evacuation, entry, self._start_timeout_s)
        except AgentNotReached as error:
            return ev.AdmitRefused(vm_id=entry.vm_id, reason=VmReason.TARGET_UNREACHABLE, message=str(error))
        except Unavailable as error:
            return ev.OutcomeUnknown(vm_id=entry.vm_id, message=f"admission: {error.message}")
        except VmhaError as error:
            message = f"{error.reason}: {error.message}"
            reason = VmReason.TARGET_NOT_READY if error.reason in NOT_READY else VmReason.ADMISSION_REFUSED
            return ev.AdmitRefused(vm_id=entry.vm_id, reason=reason, message=message)
        admitted = replace(entry, step=VmStep.ADMITTED)
        await self.journal(admitted)
        return ev.VmAdmitted(entry=admitted)

    async def _verify(self, operation: fx.VerifyVm) -> ev.Event:
        entry = operation.entry
        hypervisor = await self._target(entry)
        state = await hypervisor.state(entry.vm_id, LOOK_TIMEOUT_S)
        if state is not VmState.RUNNING:
            return ev.VmInspected(vm_id=entry.vm_id, state=state)
        moved = planner.moved(entry)
        await self.journal(moved)
        return ev.VmVerified(entry=moved)

    async def _inspect(self, operation: fx.InspectVm) -> ev.Event:
        entry = operation.entry
        gone = planner.lost(self._evacuation, entry, await self._vm(entry.vm_id))
        if gone is not None:
            return gone
        hypervisor = await self._target(entry)
        return ev.VmInspected(vm_id=entry.vm_id, state=await hypervisor.state(entry.vm_id, LOOK_TIMEOUT_S))

    async def _withdraw(self, operation: fx.WithdrawVm) -> ev.Event:
        entry = operation.entry
        gone = planner.lost(self._evacuation, entry, await self._vm(entry.vm_id))
        if gone is not None:
            return gone  # whoever owns it now decides what becomes of the domain
        hypervisor = await self._target(entry)
        if await hypervisor.state(entry.vm_id, LOOK_TIMEOUT_S) is VmState.RUNNING:
            return ev.VmInspected(vm_id=entry.vm_id, state=VmState.RUNNING)
        await hypervisor.remove(entry.vm_id, self._start_timeout_s)
        return ev.StartRefused(vm_id=entry.vm_id, reason=operation.reason, message=operation.message)

    async def _safe_mode(self) -> bool:
        return (await self._cluster()).safe_mode

    async def _cluster(self) -> ClusterRecord:
        """The cluster as it was HOST_AGE_S ago at most."""
        now = self._clock.now()
        if self._cluster_read is None or now - self._looked_at > HOST_AGE_S:
            self._cluster_read = await self.stored(lambda: self._store.clusters.get(self._evacuation.cluster_id))
            self._looked_at = now
        return self._cluster_read

    async def _vm(self, vm_id: str) -> VmRecord | None:
        try:
            return await self.stored(lambda: self._store.vms.get(self._evacuation.cluster_id, vm_id))
        except NotFound:
            return None

    async def _host(self, host_id: str, *, max_age_s: float | None = None) -> HostRecord | None:
        age_s = self._clock.now() - self._read_at.get(host_id, 0.0)
        if host_id not in self._hosts or (max_age_s is not None and age_s > max_age_s):
            asked = self._clock.now()
            try:
                found = await self.stored(lambda: self._store.hosts.get(self._evacuation.cluster_id, host_id))
            except NotFound:
                return None
            self._hosts[host_id], self._read_at[host_id] = found, asked
        return self._hosts[host_id]

    async def _target(self, entry: VmEntry) -> RemoteHypervisor:
        host = await self._host(entry.target_host_id)
        if host is None:
            raise OutcomeUnknown(f"{entry.target_host_id} was deleted")
        return self._hypervisor(host)

    def _hypervisor(self, host: HostRecord) -> RemoteHypervisor:
        return self._edges.hypervisor(host.config.libvirt_uri)


def _is_away(error: BaseException) -> bool:
    return isinstance(error, Unavailable) and error.reason != "SAFE_MODE"


def _answer_to(operation: fx.AnyOperation, error: HypervisorError) -> ev.Event:
    assert isinstance(operation, fx.StartVm | fx.AdmitVm | fx.VerifyVm | fx.InspectVm | fx.WithdrawVm)
    vm_id, message = operation.entry.vm_id, str(error)
    if isinstance(operation, fx.StartVm):
        if isinstance(error, LockHeld):
            return ev.LockRefused(vm_id=vm_id, message=message)
        if isinstance(error, Refused):
            return ev.StartRefused(vm_id=vm_id, reason=VmReason.START_REFUSED, message=message)
        if isinstance(error, NotReached):
            return ev.StartRefused(vm_id=vm_id, reason=VmReason.TARGET_UNREACHABLE, message=message)
    return ev.OutcomeUnknown(vm_id=vm_id, message=message)
