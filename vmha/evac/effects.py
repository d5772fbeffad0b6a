"""What an evacuation or a drain orders: the output of `workflow` and `drain`, executed by `vmha.evac.runner`.

Effects that write (AdvanceState, JournalVm) are done in order before anything else; the others are operations: each
runs beside the rest, writes its own step to the journal, and comes back as exactly one event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vmha.evac import events as ev
from vmha.evac.reasons import AlarmReason
from vmha.model import EvacuationState, ProofKind
from vmha.store.records import VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Open connections to candidate targets while the proof is under way. Touches no VM, answers nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveDeath:
    """Climb the ladder. `ask_fence` false: only what costs nothing (the operator's word). -> ProofGiven, ProofDenied."""

    ask_fence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StopProving:
    """Drop a proof that is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceState:
    """Journal where the evacuation stands."""

    state: EvacuationState
    reason: str = ""
    message: str = ""
    proof: ProofKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MakePlan:
    """Find targets and journal them. Empty `entries`: for all VMs that the host owns. -> PlanMade.

    `not_answering`: hosts that left a start without an answer; no new VM goes there.
    """

    entries: tuple[VmEntry, ...] = ()
    not_answering: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVm:
    """Make the target the VM's owner. -> VmClaimed, ClaimLost, TargetLost, StartHeld, VmInspected (it runs)."""

    entry: VmEntry
    target_host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartVm:
    """Define and create it paused; safe to repeat.

    -> VmStarted, StartRefused, LockRefused, OutcomeUnknown, ClaimLost, StartHeld.
    """

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitVm:
    """Ask the target's agent to let it execute. -> VmAdmitted, AdmitRefused, OutcomeUnknown."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyVm:
    """Ask the target's libvirt whether it runs, settle it. -> VmVerified, VmInspected, OutcomeUnknown."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectVm:
    """Find out how far it came. -> VmInspected, OutcomeUnknown, ClaimLost."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawVm:
    """Take back what was not admitted. -> StartRefused, VmInspected (it runs), OutcomeUnknown, ClaimLost."""

    entry: VmEntry
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalVm:
    """Write a VM's entry, and an alarm about it in the same change."""

    entry: VmEntry
    alarm: AlarmReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtHost:
    """Of a drain: see whether its host is there. -> HostLooked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDrain:
    """Find targets for these entries, and for VMs of the host that are not `known`; journal them. -> PlanMade."""

    entries: tuple[VmEntry, ...] = ()
    known: frozenset[str] = frozenset()
    not_answering: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateVm:
    """Lock it, write down where it goes, migrate it live. MigrationBegun comes on the way.

    -> VmMigrated, MigrationUnderWay, MigrationRefused, StartHeld, TargetLost, OutcomeUnknown, ClaimLost.
    """

    entry: VmEntry
    target_host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectMigration:
    """Look at both hosts. -> VmMigrated, MigrationUnderWay, MigrationRefused, StartHeld, OutcomeUnknown, ClaimLost."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortMigration:
    """Have it stay on its host, if it is not too late. Answers nothing: who waits for the migration learns of its end."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class SpareVm:
    """Do not end by force what is being shut down. Answers nothing: StopVm comes to its end."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class StopVm:
    """Shut it down, with force after a while. -> VmStopped, StopRefused, StartHeld, OutcomeUnknown, ClaimLost."""

    entry: VmEntry


Operation = ProveDeath | MakePlan | ClaimVm | StartVm | AdmitVm | VerifyVm | InspectVm | WithdrawVm
Effect = Prepare | StopProving | AdvanceState | JournalVm | Operation
DrainOperation = LookAtHost | PlanDrain | MigrateVm | InspectMigration | StopVm
DrainEffect = AbortMigration | SpareVm | AdvanceState | JournalVm | DrainOperation
AnyOperation = Operation | DrainOperation
AnyEffect = Effect | DrainEffect

ANSWERS: Mapping[type, frozenset[type]] = {
    ClaimVm: frozenset({ev.VmClaimed, ev.ClaimLost, ev.TargetLost, ev.StartHeld, ev.VmInspected}),
    StartVm: frozenset({ev.VmStarted, ev.StartRefused, ev.LockRefused, ev.OutcomeUnknown, ev.ClaimLost, ev.StartHeld}),
    AdmitVm: frozenset({ev.VmAdmitted, ev.AdmitRefused, ev.OutcomeUnknown}),
    VerifyVm: frozenset({ev.VmVerified, ev.VmInspected, ev.OutcomeUnknown}),
    InspectVm: frozenset({ev.VmInspected, ev.OutcomeUnknown, ev.ClaimLost}),
    WithdrawVm: frozenset({ev.StartRefused, ev.VmInspected, ev.OutcomeUnknown, ev.ClaimLost}),
}
"""The machine's table: what may come back of each operation on a VM."""

_ENDS_OF_A_MIGRATION = frozenset(
    {ev.VmMigrated, ev.MigrationUnderWay, ev.MigrationRefused, ev.StartHeld, ev.OutcomeUnknown, ev.ClaimLost}
)
DRAIN_ANSWERS: Mapping[type, frozenset[type]] = {
    MigrateVm: _ENDS_OF_A_MIGRATION | {ev.TargetLost},
    InspectMigration: _ENDS_OF_A_MIGRATION,
    StopVm: frozenset({ev.VmStopped, ev.StopRefused, ev.StartHeld, ev.OutcomeUnknown, ev.ClaimLost}),
}
"""The same of a drain's machine."""
