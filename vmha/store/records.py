"""Typed records: what the store hands out and takes. No Redis in here.

Times are Unix seconds on Redis's clock (one clock for all); spans that a decision needs are computed against that clock inside
the script that reads them, and come as `*_in_s` or `*_age_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vmha.facts import HostFacts, VmFacts
from vmha.model import (
    ClusterConfig,
    EvacuationKind,
    EvacuationState,
    Group,
    HostConfig,
    HostState,
    ProofKind,
    VmOutcome,
    VmState,
    VmStep,
)

MIGRATED_AWAY = "MIGRATED_AWAY"
"""The reason of a VM that its owner saw leave by live migration and that no host has reported since: not to be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyConfig:
    """What a number of R18 stands for: it never changes under that number.

    Attributes:
        protected: Protection is switched on.
        self_fencing: Agents of a protected cluster destroy their VMs when their guard ends.
        voters: Hosts whose word counts, sorted.
        certificate_quorum: Voters that make a certificate (C).
        evacuation_quorum: Voters in contact that an evacuation needs (E).
        constants: The constants of the safety protocol, in seconds, by configuration name.
    """

    protected: bool
    self_fencing: bool
    voters: tuple[str, ...]
    certificate_quorum: int
    evacuation_quorum: int
    constants: Mapping[str, float]

    @property
    def enforced(self) -> bool:
        """Whether agents that hold it destroy their VMs when their guard ends."""
        return self.protected and self.self_fencing


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """A cluster.

    Attributes:
        version: Grows with every change of it, its hosts' configuration or its groups.
        config_version: Number of the newest configuration of the safety protocol (R18).
        store_generation: Grows with every durable decision (R20).
        awaited: Hosts that safe mode waits for; empty when it is off.
    """

    cluster_id: str
    config: ClusterConfig
    ha_enabled: bool
    version: int
    config_version: int
    store_generation: int
    awaited: tuple[str, ...] = ()

    @property
    def safe_mode(self) -> bool:
        """Whether the store was lost and not everybody has said yet what runs: nothing is started or evacuated (R20)."""
        return bool(self.awaited)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """A host: what the operator configured and what the manager decided.

    Attributes:
        version: Grows with every change of config or maintenance; the contract's etag.
        incarnation: The registration in force; 0 when none.
        incarnation_revoked: Set when the host was confirmed down (R17): heartbeats of it are never acked again.
        fence_epoch: Grows with every confirmed failure: max(old + 1, Unix ms).
        confirmed_off_by: The operator who stated that the host is off, for `confirmed_off_epoch`; empty when none did.
        self_fencing: It holds a guard, and destroys its VMs when that ends, as far as its silence would prove that.
        watchdog: A watchdog resets the host when its agent dies, likewise.
        config_sent: Number of the newest configuration that it may have been sent.
        config_confirmed: Number of the newest configuration that it said it holds; it gets VMs only under the newest one (R18).
        agent_gone: Its agent ended before anything else of it was lost, and was not heard since.
        dead_incarnation: The newest registration whose end an evacuation has proven; 0 when none.
        clock_suspect_s: When its clock was last found slower or faster than its manager's; 0 when it was not in this boot.
        flaps_s: When it was suspected in vain within the last hour.
        undelivered: It registered, and has not shown yet that it was told to start what it owns.
        drain_id: Its drain that has not ended; empty when there is none.
        drain_stop: The drain shuts down what cannot be migrated.
        drain_before: It was in maintenance before its drain, or was put there since.
    """

    host_id: str
    cluster_id: str
    config: HostConfig
    version: int
    state: HostState = HostState.UNKNOWN
    state_reason: str = ""
    state_message: str = ""
    state_time_s: float = 0.0
    boot_id: str = ""
    incarnation: int = 0
    incarnation_revoked: bool = False
    fence_epoch: int = 0
    in_maintenance: bool = False
    incident_id: str = ""
    facts: HostFacts | None = None
    confirmed_off_by: str = ""
    confirmed_off_epoch: int = 0
    confirmed_off_time_s: float = 0.0
    self_fencing: bool = False
    watchdog: bool = False
    config_sent: int = 0
    config_confirmed: int = 0
    agent_gone: bool = False
    undelivered: bool = False
    dead_incarnation: int = 0
    drain_id: str = ""
    drain_stop: bool = False
    drain_before: bool = False
    clock_suspect_s: float = 0.0
    flaps_s: tuple[float, ...] = ()

    def has_in_force(self, incarnation: int) -> bool:
        """Whether a registration is its own, and stands."""
        return 0 < incarnation == self.incarnation and not self.incarnation_revoked

    @property
    def is_confirmed_off(self) -> bool:
        """Whether an operator's word that it is off stands."""
        return bool(self.confirmed_off_by) and self.confirmed_off_epoch == self.fence_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspectRecord:
    """A host under suspicion. `confirm_in_s` is negative when the cooldown is over."""

    host_id: str
    boot_id: str
    since_age_s: float
    confirm_in_s: float
    reason: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A confirmed failure of a host. `incident_id` is the UUID that the evacuator gets as request_id.

    Attributes:
        fence_decides: Too few credible reporters confirmed it: no lease proof is given for it (design section 4).
    """

    incident_id: str
    host_id: str
    boot_id: str
    incarnation: int
    fence_epoch: int
    evidence: str
    fence_decides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRecord:
    """One VM: who owns it, under which epoch, and what it is.

    Attributes:
        owner_incarnation: The owner's registration under which it owns the VM.
        claim_id: The evacuation that made the present owner its owner; empty when none did.
        autostart: libvirt's flag before vmha took it over.
        seen_on: Another host that said it executes it, under the registration `seen_incarnation`, in `seen_state`: a live
            migration is under way, or ended before the owner could say so (R22).
        unadmitted: Its owner has it as an evacuation created it, and the store has lost the claim: no evacuation will admit it.
        withheld: Its owner was not told to start it when it registered, for another host might have had it (R22).
        moving_to: Where the drain `moving_by` is migrating it to, under that host's registration `moving_incarnation`; empty when
            nothing of it is on its way (R22).
    """

    vm_id: str
    name: str
    owner_host_id: str
    owner_incarnation: int
    epoch: int
    desired_state: VmState
    state: VmState
    state_reason: str = ""
    domain_xml: str = ""
    facts: VmFacts = field(default_factory=VmFacts)
    claim_id: str = ""
    autostart: bool = False
    reason: str = ""
    seen_on: str = ""
    seen_incarnation: int = 0
    seen_state: VmState = VmState.UNSPECIFIED
    unadmitted: bool = False
    withheld: bool = False
    moving_to: str = ""
    moving_incarnation: int = 0
    moving_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmObservation:
    """What a host's agent says of one VM now. Empty `domain_xml` and None facts: unchanged.

    Attributes:
        epoch: That the agent was told for it; 0 when none.
        claim_epoch: Of the claim under which an evacuation created the domain, or an earlier one of it; 0 when none did.
    """

    vm_id: str
    name: str
    state: VmState
    state_reason: str = ""
    domain_xml: str = ""
    facts: VmFacts | None = None
    epoch: int = 0
    autostart: bool = False
    claim_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvacuationRecord:
    """The head of the journal of an evacuation or a drain. Counters are derived from its VMs' entries when it is read."""

    evacuation_id: str
    cluster_id: str
    host_id: str
    fence_epoch: int
    incarnation: int
    state: EvacuationState
    reason: str = ""
    message: str = ""
    proof: ProofKind = ProofKind.UNPROVEN
    sequence: int = 0
    start_time_s: float = 0.0
    proof_time_s: float = 0.0
    end_time_s: float = 0.0
    leader_term: int = 0
    lease_proof: str = ""
    cancel_requested: bool = False
    kind: EvacuationKind = EvacuationKind.EVACUATION
    counts: Mapping[VmOutcome, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmEntry:
    """One VM's entry in an evacuation's journal.

    Attributes:
        source_epoch: The ownership epoch that the plan was made for; the claim compares with it.
        epoch: The ownership epoch of this start; 0 before it is claimed.
        target_incarnation: The target's registration that the start is made for (R12).
        attempts: Targets that definitely refused the start so far, in order.
        image: The image that its root disk is made anew from on the target (S24); empty when it moves with its disks.
        violated: Soft groups that the planned target does not keep, as SOFT_AFFINITY:group_id (S17, S18).
    """

    vm_id: str
    vm_name: str
    step: VmStep = VmStep.UNPLANNED
    outcome: VmOutcome = VmOutcome.OPEN
    target_host_id: str = ""
    target_incarnation: int = 0
    source_epoch: int = 0
    epoch: int = 0
    reason: str = ""
    message: str = ""
    attempts: tuple[str, ...] = ()
    image: str = ""
    violated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One entry of a cluster's event log.

    `kind` names the contract's oneof case (`host_state_change`, `alarm`, ...), `detail` its
    fields by their proto names, JSON-able.
    """

    revision: int
    time_s: float
    kind: str
    detail: Mapping[str, object]
    incident_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSnapshot:
    """A cluster with its hosts, groups and numbered configurations, read at one moment."""

    cluster: ClusterRecord
    hosts: Mapping[str, HostRecord]
    groups: Mapping[str, Group]
    configs: Mapping[int, SafetyConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A VM of another owner that a host's whole inventory shows shut off, and nobody there had stopped.

    Attributes:
        fenced: The host's guard had ended, and it stopped the VM; else its libvirt does not say why it is off.
        owner_silent: Nobody hears its owner at this moment: what that one executes it will say when it is back.
    """

    vm_id: str
    fenced: bool
    owner_silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveResult:
    """What an inventory changed, and what is odd in it.

    Attributes:
        adopted: VMs that had no record; the host owns them now.
        updated: VMs of the host whose state, XML or facts changed.
        moved: VMs that changed owner because a live migration ended.
        deleted: VMs that their owner undefined, by vm_id.
        foreign: VMs that are on the host and owned by another, as recorded.
        absent: VMs that the host owns and that ran when last seen, but are not in its full inventory.
    """

    adopted: tuple[VmRecord, ...] = ()
    updated: tuple[VmRecord, ...] = ()
    moved: tuple[VmRecord, ...] = ()
    deleted: tuple[str, ...] = ()
    foreign: tuple[VmRecord, ...] = ()
    absent: tuple[VmRecord, ...] = ()


class HistoryRecord(NamedTuple):
    """One step of an evacuation: where it stood after it, and the VM that it concerned."""

    sequence: int
    time_s: float
    evacuation: EvacuationRecord
    vm: VmEntry | None
