"""What the detector is told. Frozen facts in the past tense; no clock in them: `now` comes beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vmha.manager.contact import VoterSet
from vmha.model import ClusterConfig, EvacuationState, GoodbyeReason, HostState, Observation, PeerVerdict, ProofKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfigured:
    """The cluster's settings, whether protection is on, and whether the store was lost and is not made good yet (R20)."""

    config: ClusterConfig
    enabled: bool
    safe_mode: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigsKnown:
    """The numbered configurations that some host may hold (R18), and the newest that each host may hold and has confirmed.

    Attributes:
        voters: By number.
        enforced: The numbers under which agents destroy their VMs when their guard ends.
        held: host_id -> (confirmed, sent).
    """

    voters: Mapping[int, VoterSet]
    enforced: frozenset[int]
    held: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigConfirmed:
    """A host said in a heartbeat which configuration it holds."""

    host_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredSuspicion:
    """A suspicion that outlived a manager: how long ago it began, and in how many seconds its cooldown ends."""

    boot_id: str
    since_age_s: float
    confirm_in_s: float
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfigured:
    """A host belongs to the cluster: for the first time in this run, or with new settings.

    Attributes:
        state: What the store says; read only the first time.
        incident_id: The open incident; empty when none.
        fence_decides: That was confirmed without a quorum: no lease proof is given for it.
        suspicion: What a former manager run suspected; None when nothing.
        has_fence: A fence device is configured for it.
        self_fencing: Its agent's last word on its guard, as the store has it.
        watchdog: A watchdog resets it when its agent dies.
        agent_gone: A former run saw its agent end before the rest of it.
        clock_suspect_age_s: How long ago its clock was found wrong; None where it was not.
        flaps_age_s: How long ago it was suspected in vain.
    """

    host_id: str
    in_maintenance: bool = False
    state: HostState = HostState.UNKNOWN
    boot_id: str = ""
    incident_id: str = ""
    fence_decides: bool = False
    suspicion: RestoredSuspicion | None = None
    has_fence: bool = False
    self_fencing: bool = False
    watchdog: bool = False
    agent_gone: bool = False
    clock_suspect_age_s: float | None = None
    flaps_age_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRemoved:
    """A host left the cluster."""

    host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    """An agent said hello. No sign of life by itself: a registration or a heartbeat is.

    Attributes:
        self_fencing: It holds a guard, and destroys its VMs when that ends.
        watchdog: A watchdog resets the host when the agent dies.

    Of a host that was silent neither counts before its next heartbeat, except that there is none.
    """

    host_id: str
    boot_id: str
    self_fencing: bool = False
    watchdog: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed:
    """An agent's session ended, and not by our doing: its process ended, or its connection was lost."""

    host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatReceived:
    """A heartbeat of the incarnation in force was processed; relayed: by a peer.

    Attributes:
        self_fencing: The agent holds a guard, and destroys its VMs when that ends.
        boot_time_s: CLOCK_BOOTTIME of the host when it made the heartbeat; 0 where it did not say.
    """

    host_id: str
    boot_id: str
    relayed: bool = False
    self_fencing: bool = False
    boot_time_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodbyeReceived:
    """An agent said that it stops on purpose."""

    host_id: str
    reason: GoodbyeReason


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchersDrawn:
    """A new round of the watch graph: watcher -> the hosts that it probes."""

    assignment: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReceived:
    """A watcher's whole view. `scout_id` names the request that it answers; empty for an ordinary report."""

    reporter_id: str
    observations: tuple[Observation, ...]
    scout_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRequested:
    """An agent asks for an incarnation: its host is alive, and runs nothing that it does not own."""

    host_id: str
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationCompleted:
    """A host's new incarnation is in force (safety.md R14): what ran under the old one is dead."""

    host_id: str
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEnded:
    """The manager's own probe of a host's exporter ended."""

    host_id: str
    verdict: PeerVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspectRecorded:
    """The store holds the suspicion; with the seconds that it says are left of the cooldown."""

    host_id: str
    confirm_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmEnded:
    """The store's answer to ConfirmDown. None: the record was gone or changed, and nothing was confirmed."""

    host_id: str
    incident_id: str | None
    fence_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvacuationAdvanced:
    """The evacuator said where an incident's evacuation stands."""

    host_id: str
    incident_id: str
    state: EvacuationState
    proof: ProofKind = ProofKind.UNPROVEN
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfirmedOff:
    """An operator stated that the host is off (design section 5.3, rung 3)."""

    host_id: str
    operator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReachable:
    """The store answers, or does not."""

    reachable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLost:
    """The store came back without what it held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLagged:
    """This process stood still; what it did not hear meanwhile proves nothing (safety.md R21)."""

    lag_s: float


Event = (
    ClusterConfigured
    | ConfigsKnown
    | ConfigConfirmed
    | HostConfigured
    | HostRemoved
    | SessionOpened
    | SessionClosed
    | HeartbeatReceived
    | GoodbyeReceived
    | WatchersDrawn
    | ReportReceived
    | RegistrationRequested
    | RegistrationCompleted
    | ProbeEnded
    | SuspectRecorded
    | ConfirmEnded
    | EvacuationAdvanced
    | OperatorConfirmedOff
    | StoreReachable
    | StoreLost
    | LoopLagged
)
