"""One evacuation's state machine over its journal. Decides; does nothing.

Invariants, whatever the order of events and wherever a crash falls:
- no VM is touched before a proof; each VM gets exactly one outcome;
- a VM goes to another target only after its present one definitely refused and nothing of it is left there. A start whose
  outcome is unknown, and any admission that may have been sent, pins it to that target (design 5.4);
- at most `parallel` starts at a time, `parallel_per_target` on one host; a VM waits for none of lower priority.

`event` and `tick` raise ValueError for what can't happen now, and change nothing then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.machine import Machine, final_state
from vmha.evac.reasons import AlarmReason, VmReason
from vmha.evac.vmwork import BACKOFF_S, NOT_ANSWERING_S, PATIENCE, Limits, Phase, VmWork
from vmha.model import EvacuationState, VmOutcome, VmState, VmStep
from vmha.store.records import VmEntry

OPERATOR_POLL_S = 1.0
"""How often the operator's word is looked for between two tries of the fence device."""

_ACTIVE = (Phase.UNPLACED, Phase.READY, Phase.AGAIN, Phase.WAITING, Phase.BUSY)
_PROVING = frozenset({EvacuationState.VERIFYING, EvacuationState.FENCE_PENDING})
_NEXT: dict[type, type[fx.StartVm | fx.AdmitVm | fx.VerifyVm]] = {
    ev.VmClaimed: fx.StartVm,
    ev.VmStarted: fx.AdmitVm,
    ev.VmAdmitted: fx.VerifyVm,
}
"""The way of a VM to which nothing happens."""


class Workflow(Machine[fx.Effect]):
    """The state machine of an evacuation."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(EvacuationState.VERIFYING, limits.parallel, limits.parallel_per_target)
        self._limits = limits
        self._vms: dict[str, VmWork] = {}
        self._phases: dict[Phase, dict[str, VmWork]] = {phase: {} for phase in Phase}
        self._proving = self._offered = self._planned = False
        self._fence_at = self._proof_at = self._pending_at = 0.0

    def entries(self) -> list[VmEntry]:
        """The journal as the workflow sees it."""
        return [vm.entry for vm in self._vms.values()]

    def _on(self, x: ev.Event, now: float) -> list[fx.Effect]:
        match x:
            case ev.Restored():
                out = self._on_restored(x, now)
            case ev.ProofGiven() | ev.ProofDenied():
                out = self._on_proof(x, now)
            case ev.ProofOffered():
                out = self._on_offered(now)
            case ev.PlanMade():
                out = self._on_plan(x, now)
            case ev.OperatorConfirmed():
                out = self._on_operator(now)
            case ev.CancelRequested():
                out = self._on_cancel()
            case _:
                out = self._on_vm(x, now)
        return out

    def deadline(self) -> float | None:
        """When `tick` has something to do; None when only an event can help."""
        if self.ended or not self._restored:
            return None
        times = [vm.retry_at for vm in self._phases[Phase.WAITING].values()]
        if self._state in _PROVING and not self._proving:
            times.append(self._proof_at)
        if self._phases[Phase.PENDING] and not self._planning:
            times.append(self._pending_at)
        return min(times, default=None)

    def tick(self, now: float) -> list[fx.Effect]:
        """Does what is due."""
        if self.ended or not self._restored:
            return []
        out: list[fx.Effect] = []
        if self._state in _PROVING and not self._proving and now >= self._proof_at:
            self._proving = True
            out.append(fx.ProveDeath(ask_fence=now >= self._fence_at))
        due = [vm for vm in self._phases[Phase.WAITING].values() if now >= vm.retry_at]
        out += [self._run(vm, fx.InspectVm(entry=vm.entry)) for vm in due]
        return out + self._progress(now)

    # The host's death.

    def _on_restored(self, x: ev.Restored, now: float) -> list[fx.Effect]:
        self._take_up(x)
        self._pending_at = self._fence_at = self._proof_at = now
        self._planned = bool(x.entries) or x.record.state not in {*_PROVING, EvacuationState.PLANNING}
        for entry in x.entries:
            # A claimed VM without a start under way belongs to a target that refused it: it wants another one.
            target = "" if entry.epoch else entry.target_host_id
            self._add(entry, x.priorities.get(entry.vm_id, 0), target, now)
        if self.ended or x.record.state.is_proven:
            return []
        if self._cancelling:
            return [*self._advance(EvacuationState.CANCELLED)]
        self._proving = True
        return [fx.ProveDeath(ask_fence=True), fx.Prepare()]

    def _on_proof(self, x: ev.ProofGiven | ev.ProofDenied, now: float) -> list[fx.Effect]:
        if not self._proving and not self._offered:
            raise ValueError(f"{type(x).__name__} while {self._state}")
        if self._state not in _PROVING or (not self._proving and isinstance(x, ev.ProofDenied)):
            return []  # of a climb that was dropped for a better one
        self._proving = False
        if isinstance(x, ev.ProofGiven):
            return [*self._advance(EvacuationState.PLANNING, message=x.message, proof=x.kind)]
        if now >= self._fence_at:
            self._fence_at = now + self._limits.fence_retry_s
        self._proof_at = min(self._fence_at, now + OPERATOR_POLL_S)
        return [*self._advance(EvacuationState.FENCE_PENDING, reason=x.reason, message=x.message)]

    def _on_offered(self, now: float) -> list[fx.Effect]:
        """A fence device may take long to fail: it is not waited for. Its answer may be on its way all the same."""
        if self._state not in _PROVING:
            return []
        self._proof_at, asked, self._proving, self._offered = now, self._proving, False, True
        return [fx.StopProving()] if asked else []

    def _on_cancel(self) -> list[fx.Effect]:
        self._cancelling = True
        if self._state not in _PROVING:
            return []
        self._proving = False
        return [fx.StopProving(), *self._advance(EvacuationState.CANCELLED)]

    # The plan.

    def _on_plan(self, x: ev.PlanMade, now: float) -> list[fx.Effect]:
        if not self._planning:
            raise ValueError("PlanMade without MakePlan")
        self._planning, self._planned = False, True
        self._pending_at = now + self._limits.pending_retry_s
        for entry in x.entries:
            known = self._vms.get(entry.vm_id)
            priority = x.priorities.get(entry.vm_id, known.priority if known else 0)
            if known is None:
                self._add(entry, priority, x.targets.get(entry.vm_id, ""), now)
            elif known.phase in {Phase.UNPLACED, Phase.PENDING}:
                known.entry, known.priority = entry, priority
                self._settle_into(known, x.targets.get(entry.vm_id, ""))
        return []

    def _add(self, entry: VmEntry, priority: int, target: str, now: float) -> None:
        vm = VmWork(entry=entry, priority=priority, phase=Phase.DONE, retry_at=now)
        self._vms[entry.vm_id] = vm
        self._phases[vm.phase][entry.vm_id] = vm
        under_way = entry.step in {VmStep.CLAIMED, VmStep.STARTED, VmStep.ADMITTED}
        # The dead process may have sent an admission once STARTED stood in the journal.
        vm.pinned = under_way and (entry.step is not VmStep.CLAIMED or entry.reason == VmReason.OUTCOME_UNKNOWN)
        if under_way and entry.reason != VmReason.SOURCE_STILL_RUNNING:
            self._move(vm, Phase.WAITING)
        else:
            self._settle_into(vm, target)

    def _settle_into(self, vm: VmWork, target: str) -> None:
        if vm.entry.step is VmStep.SETTLED:
            self._move(vm, Phase.DONE)
        elif vm.entry.outcome is VmOutcome.PENDING:
            held = vm.entry.reason == VmReason.SOURCE_STILL_RUNNING
            self._move(vm, Phase.HELD if held else Phase.PENDING)
        elif target:
            vm.target = target
            self._move(vm, Phase.READY)
        else:
            self._move(vm, Phase.UNPLACED)

    def _on_operator(self, now: float) -> list[fx.Effect]:
        self._pending_at = now
        for vm in list(self._phases[Phase.HELD].values()):
            if vm.pinned:
                vm.entry, vm.retry_at = replace(vm.entry, outcome=VmOutcome.OPEN), now
            self._move(vm, Phase.WAITING if vm.pinned else Phase.PENDING)
        return []

    # One VM.

    def _on_vm(self, x: ev.Event, now: float) -> list[fx.Effect]:
        entry = getattr(x, "entry", None)
        vm_id = entry.vm_id if entry is not None else getattr(x, "vm_id", "")
        vm = self._vms.get(vm_id)
        if vm is None or vm.busy_with is None or type(x) not in fx.ANSWERS[vm.busy_with]:
            raise ValueError(f"{type(x).__name__} for {vm_id} while {vm.busy_with if vm else 'unknown'}")
        if entry is not None:
            vm.entry = entry
            if type(x) is not ev.VmClaimed:
                self._not_answering.pop(entry.target_host_id, None)
            vm.pinned |= type(x) is ev.VmAdmitted  # the guest may have executed there
        following = _NEXT.get(type(x))
        if following is not None:
            return [self._run(vm, following(entry=vm.entry))]
        match x:
            case ev.VmVerified():
                self._move(vm, Phase.DONE)
                return []
            case ev.AdmitRefused(reason=reason, message=message):
                return [self._run(vm, fx.WithdrawVm(entry=vm.entry, reason=reason, message=message))]
            case ev.VmInspected(state=state):
                return self._on_inspected(vm, state, now)
        return self._on_setback(vm, x, now)

    def _on_inspected(self, vm: VmWork, state: VmState, now: float) -> list[fx.Effect]:
        if state is VmState.RUNNING and vm.busy_with is not fx.VerifyVm:
            vm.pinned = True
            return [self._run(vm, fx.VerifyVm(entry=vm.entry))]
        if vm.busy_with is fx.VerifyVm:
            return self._wait(vm, now, VmReason.OUTCOME_UNKNOWN, f"it was let execute, and is {state}")
        self._move(vm, Phase.AGAIN)
        return []

    def _on_setback(self, vm: VmWork, x: ev.Event, now: float) -> list[fx.Effect]:
        match x:
            case ev.ClaimLost(outcome=outcome, reason=reason, message=message):
                return [self._settle(vm, outcome, reason, message)]
            case ev.TargetLost():
                self._move(vm, Phase.UNPLACED)
                return []
            case ev.StartHeld(reason=reason, message=message):
                return self._on_held(vm, reason, message, now)
            case ev.StartRefused(reason=reason, message=message):
                return self._on_refused(vm, reason, message, now)
            case ev.LockRefused(message=message):
                reason, step = VmReason.SOURCE_STILL_RUNNING, VmStep.STARTED if vm.pinned else VmStep.PLANNED
                vm.entry = replace(vm.entry, step=step, outcome=VmOutcome.PENDING, reason=reason, message=message)
                self._move(vm, Phase.HELD)
                return [fx.JournalVm(entry=vm.entry, alarm=AlarmReason.SOURCE_STILL_RUNNING)]
            case ev.OutcomeUnknown(message=message):
                vm.pinned = True
                self._stop_sending_to(vm.entry.target_host_id, now)
                return self._wait(vm, now, VmReason.OUTCOME_UNKNOWN, message)
        raise ValueError(f"no rule for {type(x).__name__}")

    def _on_held(self, vm: VmWork, reason: str, message: str, now: float) -> list[fx.Effect]:
        if vm.busy_with is not fx.ClaimVm:
            return self._wait(vm, now) if vm.pinned else self._wait(vm, now, reason, message)
        vm.entry = replace(vm.entry, step=VmStep.PLANNED, outcome=VmOutcome.PENDING, reason=reason, message=message)
        self._pending_at = max(self._pending_at, now + self._limits.pending_retry_s)
        self._move(vm, Phase.PENDING)
        return [fx.JournalVm(entry=vm.entry)]

    def _on_refused(self, vm: VmWork, reason: str, message: str, now: float) -> list[fx.Effect]:
        if vm.pinned:
            return self._wait(vm, now, VmReason.OUTCOME_UNKNOWN, message)
        target = vm.entry.target_host_id
        attempts = vm.entry.attempts
        if reason in {VmReason.TARGET_UNREACHABLE, VmReason.TARGET_NOT_READY}:
            self._stop_sending_to(target, now)  # it may take this VM later: no attempt
        elif target not in attempts:
            attempts = (*attempts, target)
        vm.entry = replace(vm.entry, step=VmStep.PLANNED, reason=reason, message=message, attempts=attempts)
        self._move(vm, Phase.UNPLACED)
        return [fx.JournalVm(entry=vm.entry)]

    def _stop_sending_to(self, host_id: str, now: float) -> None:
        self._not_answering[host_id] = now + NOT_ANSWERING_S
        for vm in [self._vms[vm_id] for vm_id in self._queue.drop(host_id)]:
            self._move(vm, Phase.AGAIN if vm.phase is Phase.AGAIN else Phase.UNPLACED)

    def _wait(self, vm: VmWork, now: float, reason: str = "", message: str = "") -> list[fx.Effect]:
        vm.retry_at = now + BACKOFF_S[min(vm.failures, len(BACKOFF_S) - 1)]
        vm.failures += 1
        self._move(vm, Phase.WAITING)
        outcome = VmOutcome.PENDING if vm.pinned and vm.failures >= PATIENCE else vm.entry.outcome
        if (reason or vm.entry.reason, outcome) == (vm.entry.reason, vm.entry.outcome):
            return []
        vm.entry = replace(vm.entry, reason=reason or vm.entry.reason, message=message or vm.entry.message, outcome=outcome)
        return [fx.JournalVm(entry=vm.entry)]

    def _settle(self, vm: VmWork, outcome: VmOutcome, reason: str, message: str) -> fx.Effect:
        vm.entry = replace(vm.entry, step=VmStep.SETTLED, outcome=outcome, reason=reason, message=message)
        self._move(vm, Phase.DONE)
        return fx.JournalVm(entry=vm.entry)

    # All VMs.

    def _move(self, vm: VmWork, phase: Phase) -> None:
        vm_id = vm.entry.vm_id
        del self._phases[vm.phase][vm_id]
        self._phases[phase][vm_id] = vm
        vm.phase, vm.busy_with = phase, None
        self._queue.give_back(vm_id)
        if phase is Phase.READY:
            self._queue.put(vm_id, vm.target, vm.priority)
        elif phase is Phase.AGAIN:
            self._queue.put(vm_id, vm.entry.target_host_id, vm.priority)

    def _run(self, vm: VmWork, operation: fx.Operation) -> fx.Operation:
        if vm.phase is not Phase.BUSY:
            del self._phases[vm.phase][vm.entry.vm_id]
            self._phases[Phase.BUSY][vm.entry.vm_id] = vm
            vm.phase = Phase.BUSY
        vm.busy_with = type(operation)
        return operation

    def _progress(self, now: float) -> list[fx.Effect]:
        if self.ended or self._state in _PROVING:
            return []
        out: list[fx.Effect] = []
        if self._cancelling:
            out += self._drop_unstarted()
        elif not self._planning:
            out += self._ask_for_plan(now)
        for vm in [self._vms[vm_id] for vm_id in self._queue.take()]:
            out += self._start(vm)
        return self._reach_state(out)

    def _start(self, vm: VmWork) -> Iterator[fx.Effect]:
        if vm.phase is Phase.AGAIN:
            yield self._run(vm, fx.StartVm(entry=vm.entry))
        elif vm.entry.epoch and vm.entry.target_host_id == vm.target:
            vm.entry = replace(vm.entry, step=VmStep.CLAIMED)  # it owns the VM already, and could not be reached
            yield fx.JournalVm(entry=vm.entry)
            yield self._run(vm, fx.StartVm(entry=vm.entry))
        else:
            yield self._run(vm, fx.ClaimVm(entry=vm.entry, target_host_id=vm.target))

    def _ask_for_plan(self, now: float) -> Iterator[fx.Effect]:
        if self._phases[Phase.UNPLACED]:  # it may need what others were promised, or its group another host
            self._queue_only_again()
            for vm in list(self._phases[Phase.READY].values()):
                self._move(vm, Phase.READY if vm.entry.epoch else Phase.UNPLACED)
        phases = (Phase.UNPLACED, Phase.PENDING) if now >= self._pending_at else (Phase.UNPLACED,)
        unplaced = list(self._in(phases))
        if unplaced or not self._planned:
            self._planning = True
            yield fx.MakePlan(entries=tuple(vm.entry for vm in unplaced), not_answering=self._silent_hosts(now))

    def _queue_only_again(self) -> None:
        self._queue.drop_all()
        for vm_id, vm in self._phases[Phase.AGAIN].items():
            self._queue.put(vm_id, vm.entry.target_host_id, vm.priority)

    def _drop_unstarted(self) -> Iterator[fx.Effect]:
        self._queue_only_again()
        asked_for = () if self._planning else (Phase.UNPLACED, Phase.PENDING)
        for vm in list(self._in((Phase.READY, Phase.HELD, *asked_for))):
            yield self._settle(vm, VmOutcome.SKIPPED, VmReason.EVACUATION_CANCELLED, "the evacuation was cancelled")

    def _reach_state(self, out: list[fx.Effect]) -> list[fx.Effect]:
        # What is pinned to a target that does not answer keeps nobody else waiting; a cancel ends when it is settled.
        if any(self._cancelling or vm.entry.outcome is not VmOutcome.PENDING for vm in self._in(_ACTIVE)):
            return [*self._advance(EvacuationState.RUNNING), *out]
        waiting = list(self._in((Phase.PENDING, Phase.HELD, *_ACTIVE)))
        if self._cancelling:
            return out if self._planning else [*out, *self._advance(EvacuationState.CANCELLED)]
        if not self._planned:
            return out
        if waiting:
            first = waiting[0].entry
            message = f"{len(waiting)} VMs wait, the first for: {first.message}"
            return [*out, *self._advance(EvacuationState.PENDING, reason=first.reason, message=message)]
        return [*out, *self._advance(final_state(self.entries()))]

    def _in(self, phases: Iterable[Phase]) -> Iterator[VmWork]:
        return (vm for phase in phases for vm in self._phases[phase].values())
