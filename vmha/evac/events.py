"""What happens to an evacuation or a drain: input of `workflow` and `drain`. Whatever is told here is in the journal already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmha.model import ProofKind, VmOutcome, VmState
from vmha.store.records import EvacuationRecord, VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The journal was read: for a new evacuation, and after a crash. Always the first event."""

    record: EvacuationRecord
    entries: tuple[VmEntry, ...] = ()
    priorities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofGiven:
    """A rung of the ladder says that the host is dead."""

    kind: ProofKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofDenied:
    """No rung gives a proof from here."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOffered:
    """A proof was brought from outside: the ladder is worth another climb at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade:
    """What was asked for has a target, an outcome, or the outcome PENDING.

    Attributes:
        entries: In journal form. One that is claimed already keeps its present owner in `target_host_id`.
        targets: vm_id -> the host to start it on; only for VMs that have one.
        stops: Of a drain: VMs that cannot be migrated, and are to be stopped.
    """

    entries: tuple[VmEntry, ...]
    targets: Mapping[str, str] = field(default_factory=dict)
    priorities: Mapping[str, int] = field(default_factory=dict)
    stops: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class VmClaimed:
    """The target owns the VM."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLost:
    """The VM belongs to somebody else now; it has its outcome."""

    vm_id: str
    outcome: VmOutcome
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLost:
    """The chosen target may not be one any more; nothing was claimed for it."""

    vm_id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartHeld:
    """It may not be started now, wherever; nothing was done. It is looked at again."""

    vm_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmStarted:
    """Defined and created on the target, and executes nothing."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class VmAdmitted:
    """The target's agent resumed it."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class VmVerified:
    """libvirt on the target says that it runs; the entry is settled."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRefused:
    """The target refused, and it was verified that nothing of the VM is left there."""

    vm_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRefused:
    """The VM's storage is locked: the old host is alive. Nothing of the VM is left on the target."""

    vm_id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitRefused:
    """The target's agent will not resume it."""

    vm_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown:
    """The target did not answer in time: nobody knows how far it came."""

    vm_id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmInspected:
    """What libvirt on the target says of it now; the claim still holds."""

    vm_id: str
    state: VmState


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfirmed:
    """An operator stated that the old host is off; VMs whose storage was locked may be tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """CancelEvacuation was called."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLooked:
    """Of a drain: whether VMs can leave its host, or why not; and what the operator wishes now."""

    present: bool
    stop_vms: bool = False
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmMigrated:
    """It runs on the target, or is paused there as it was, and the target owns it; the entry is settled."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationBegun:
    """Nothing but a word on the way: where it is going stands in the journal."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationUnderWay:
    """Its host still sends it."""

    vm_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationRefused:
    """It stayed on its host, and both hosts were looked at: nothing of it is on its way."""

    vm_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmStopped:
    """It was shut down; the entry is settled."""

    entry: VmEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRefused:
    """It could not be stopped, and runs on."""

    vm_id: str
    message: str


Event = (
    Restored
    | ProofGiven
    | ProofDenied
    | ProofOffered
    | PlanMade
    | VmClaimed
    | ClaimLost
    | TargetLost
    | StartHeld
    | VmStarted
    | VmAdmitted
    | VmVerified
    | StartRefused
    | LockRefused
    | AdmitRefused
    | OutcomeUnknown
    | VmInspected
    | OperatorConfirmed
    | CancelRequested
    | HostLooked
    | VmMigrated
    | MigrationBegun
    | MigrationUnderWay
    | MigrationRefused
    | VmStopped
    | StopRefused
)
