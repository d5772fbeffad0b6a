"""What the detector wants done. Imperatives; the executor carries them out, in order for each host, and answers with events."""

from __future__ import annotations

from dataclasses import dataclass

from vmha.manager.contact import LeaseProof
from vmha.model import HostState


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeHost:
    """Probe a host's exporter from here; answer ProbeEnded."""

    host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendScouts:
    """Ask these agents to probe a host now; they answer with reports that carry the scout_id."""

    host_id: str
    reporters: tuple[str, ...]
    scout_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSuspect:
    """Make a suspicion durable; answer SuspectRecorded."""

    host_id: str
    boot_id: str
    cooldown_s: float
    reason: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSuspect:
    """Forget a suspicion."""

    host_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmDown:
    """Make the incident, if the suspicion is still on record (or an operator said so); answer ConfirmEnded.

    Attributes:
        fence_decides: There is no quorum: no lease proof is given for it, by this run or a later one (design section 4).
    """

    host_id: str
    boot_id: str
    evidence: str
    operator: bool = False
    fence_decides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvacuation:
    """Order, or join, the evacuation of an open incident, at least once; answer EvacuationAdvanced as it goes.

    With a lease proof it is news for an evacuation that waits for one (R16).
    """

    host_id: str
    incident_id: str
    lease_proof: LeaseProof | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEvacuation:
    """Cancel an incident's evacuation; EvacuationAdvanced(CANCELLED) tells that it is."""

    host_id: str
    incident_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseIncident:
    """The incident is over."""

    host_id: str
    incident_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TellNoProof:
    """Tell people why there is no lease proof for a host that is confirmed down."""

    host_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAgent:
    """Make durable what a host's agent is known to be: a later run of the manager must not take its silence for the host's."""

    host_id: str
    gone: bool
    self_fencing: bool
    watchdog: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordClock:
    """Make durable that a host's clock was found wrong now, or that it was ours: it proves nothing for an hour, to any leader."""

    host_id: str
    suspect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFlap:
    """Make durable that a host was suspected in vain."""

    host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCalm:
    """Take FLAPPING off the durable state of a host, which stays what it is."""

    host_id: str
    state: HostState


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitRegistration:
    """The host may be offered an incarnation now; where its agent waits for one, offer it."""

    host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeState:
    """Make a host's state durable and tell it to whoever watches."""

    host_id: str
    old: HostState
    new: HostState
    reason: str
    message: str = ""
    incident_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseAlarm:
    """Somebody should look. Raised once until it is cleared."""

    reason: str
    host_id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearAlarm:
    """The alarm is over."""

    reason: str
    host_id: str


Effect = (
    ProbeHost
    | SendScouts
    | RecordSuspect
    | ClearSuspect
    | ConfirmDown
    | OrderEvacuation
    | CancelEvacuation
    | CloseIncident
    | TellNoProof
    | RecordAgent
    | RecordClock
    | RecordFlap
    | RecordCalm
    | PermitRegistration
    | ChangeState
    | RaiseAlarm
    | ClearAlarm
)
