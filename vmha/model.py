"""The nouns of vmha, shared by all rooms: states, settings, and what is known of hosts and VMs.

Enum members have the names of the contract's values without their prefix (`HostState.DOWN` is HOST_STATE_DOWN);
`vmha.rpc.convert` relies on it. Everything is frozen. Spans are seconds, sizes are MiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

REASON_SELF_FENCED: Final = "self_fenced"
"""An agent's reason for the state of a VM that it stopped because its guard had ended: nobody wished it to be off."""
ID_PATTERN = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,61}[a-z0-9])?\Z")
"""What a cluster_id, host_id or group_id looks like."""


class HostState(StrEnum):
    """The manager's view of a host (design section 4)."""

    UNKNOWN = "UNKNOWN"
    HEALTHY = "HEALTHY"
    SUSPECT = "SUSPECT"
    COOLDOWN = "COOLDOWN"
    DOWN = "DOWN"
    FENCING = "FENCING"
    FENCED = "FENCED"
    EVACUATING = "EVACUATING"
    EVACUATED = "EVACUATED"
    AGENT_LOST = "AGENT_LOST"
    ISOLATED = "ISOLATED"
    IN_MAINTENANCE = "IN_MAINTENANCE"
    FENCE_PENDING = "FENCE_PENDING"


PROVEN_DEAD = frozenset({HostState.FENCED, HostState.EVACUATING, HostState.EVACUATED})
"""States of a host on which nothing runs any more, whatever the store says that it owns."""


class PeerVerdict(StrEnum):
    """What one prober saw of one host."""

    OK = "OK"
    REFUSED = "REFUSED"
    TIMEOUT = "TIMEOUT"
    DEGRADED = "DEGRADED"


class VmState(StrEnum):
    """What libvirt says of a domain."""

    UNSPECIFIED = "UNSPECIFIED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    AWAITING_ADMISSION = "AWAITING_ADMISSION"
    SHUTOFF = "SHUTOFF"
    CRASHED = "CRASHED"
    ABSENT = "ABSENT"


class ProtectionState(StrEnum):
    """S12: Disabled, Waiting (fewer than two hosts) or Active."""

    DISABLED = "DISABLED"
    WAITING = "WAITING"
    ACTIVE = "ACTIVE"


class Profile(StrEnum):
    """Which set of timers a cluster starts from (design section 11)."""

    STANDARD = "STANDARD"
    FAST = "FAST"


class ProofPolicy(StrEnum):
    """What it takes to call a host dead (design section 5.3)."""

    LADDER = "LADDER"
    NONE = "NONE"


class SelfFencing(StrEnum):
    """What an agent does with its VMs when it is cut off."""

    DESTROY = "DESTROY"
    OFF = "OFF"


class GoodbyeReason(StrEnum):
    """Why an agent ends its session on purpose."""

    UNSPECIFIED = "UNSPECIFIED"
    AGENT_RESTARTING = "AGENT_RESTARTING"
    HOST_SHUTTING_DOWN = "HOST_SHUTTING_DOWN"


class EvacuationState(StrEnum):
    """Where an evacuation stands."""

    VERIFYING = "VERIFYING"
    FENCE_PENDING = "FENCE_PENDING"
    PLANNING = "PLANNING"
    RUNNING = "RUNNING"
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_FAILED = "PARTIALLY_FAILED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self in _TERMINAL

    @property
    def is_proven(self) -> bool:
        """Whether the host's death was proven on the way here."""
        return self not in {EvacuationState.VERIFYING, EvacuationState.FENCE_PENDING, EvacuationState.CANCELLED}


_TERMINAL = frozenset(
    {EvacuationState.SUCCEEDED, EvacuationState.PARTIALLY_FAILED, EvacuationState.FAILED, EvacuationState.CANCELLED}
)


class EvacuationKind(StrEnum):
    """Why VMs are moved: their host is dead, or an operator drains it."""

    EVACUATION = "EVACUATION"
    DRAIN = "DRAIN"


class VmOutcome(StrEnum):
    """What became of one VM of an evacuation; OPEN until it is known."""

    OPEN = "UNSPECIFIED"
    MOVED = "MOVED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    RESTARTED = "RESTARTED"
    REBUILT = "REBUILT"


class VmStep(StrEnum):
    """How far one VM's start, or migration, has come in the journal."""

    UNPLANNED = "UNSPECIFIED"
    PLANNED = "PLANNED"
    CLAIMED = "CLAIMED"
    STARTED = "STARTED"
    ADMITTED = "ADMITTED"
    MIGRATING = "MIGRATING"
    SETTLED = "SETTLED"


class ProofKind(StrEnum):
    """Which rung of the ladder proved a host's death."""

    UNPROVEN = "UNSPECIFIED"
    FENCE = "FENCE"
    LEASE = "LEASE"
    OPERATOR = "OPERATOR"
    NONE = "NONE"


class GroupPolicy(StrEnum):
    """Whether VMs of a group want to be together."""

    AFFINITY = "AFFINITY"
    ANTI_AFFINITY = "ANTI_AFFINITY"


class GroupMode(StrEnum):
    """How strictly a group is kept."""

    SOFT = "SOFT"
    HARD = "HARD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """Every span of a cluster's life, in seconds (design section 11). Field names are configuration names.

    From `relay_after_s` on they are the constants of the safety protocol (docs/safety.md), bound by I1 to I6 (`vmha.safety`).
    """

    peer_refresh_s: float = 59.0
    report_interval_s: float = 127.0
    cooldown_s: float = 150.0
    probe_interval_s: float = 5.0
    probe_timeout_s: float = 1.0
    probe_misses: int = 3
    heartbeat_interval_s: float = 5.0
    stream_stale_s: float = 15.0
    learning_s: float = 150.0
    planned_grace_s: float = 300.0
    fence_retry_s: float = 10.0
    fence_timeout_s: float = 20.0
    fence_confirm_s: float = 1.0
    start_timeout_s: float = 60.0
    relay_after_s: float = 12.0
    contact_ttl_s: float = 22.0
    certificate_window_s: float = 15.0
    attest_after_s: float = 40.0
    ack_max_age_s: float = 10.0
    lease_duration_s: float = 100.0
    kill_timeout_s: float = 40.0
    wait_duration_s: float = 150.0
    request_interval_s: float = 5.0
    lost_heartbeats: int = 2
    round_trip_s: float = 1.0
    tick_s: float = 1.0
    destroy_s: float = 30.0
    watchdog_s: float = 30.0


STANDARD_TIMERS = Timers()
FAST_TIMERS = Timers(
    peer_refresh_s=5.0,
    report_interval_s=10.0,
    cooldown_s=0.0,
    probe_interval_s=0.5,
    probe_timeout_s=0.4,
    heartbeat_interval_s=0.5,
    stream_stale_s=1.5,
    learning_s=11.9,
    planned_grace_s=60.0,
    fence_retry_s=2.0,
    fence_timeout_s=5.0,
    start_timeout_s=20.0,
    relay_after_s=1.1,
    contact_ttl_s=2.0,
    certificate_window_s=1.5,
    attest_after_s=3.6,
    ack_max_age_s=0.9,
    lease_duration_s=7.6,
    kill_timeout_s=4.0,
    wait_duration_s=11.9,
    request_interval_s=0.5,
    lost_heartbeats=1,
    round_trip_s=0.1,
    tick_s=0.1,
    destroy_s=3.5,
    watchdog_s=3.5,
)
PARALLEL = {Profile.STANDARD: (1, 1), Profile.FAST: (16, 4)}
"""VMs started at a time, by profile: (in one evacuation, on one target)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """A cluster's settings, complete: profile and overrides are already merged into `timers`.

    `timer_overrides` keeps what the operator wrote, by configuration name, so that it can be shown again.
    """

    profile: Profile = Profile.STANDARD
    timers: Timers = STANDARD_TIMERS
    timer_overrides: Mapping[str, float] = field(default_factory=dict)
    proof: ProofPolicy = ProofPolicy.LADDER
    self_fencing: SelfFencing = SelfFencing.DESTROY
    max_down_fraction: float = 1 / 3
    reserve_fraction: float = 0.0
    cpu_overcommit: float = 1.0
    parallel: int = 1
    parallel_per_target: int = 1
    watchers: int = 5
    image_directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceConfig:
    """How to fence a host. `secret_files`: parameter -> file on the evacuator's disk."""

    agent: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    secret_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """How vmha reaches a host, and what it is. Targets are `host:port`."""

    probe_target: str
    agent_target: str
    libvirt_uri: str
    rack: str = ""
    aggregates: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("hypervisor",)
    fence: FenceConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An affinity rule over VMs."""

    group_id: str
    policy: GroupPolicy
    mode: GroupMode
    vm_ids: tuple[str, ...]
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one prober saw of one host, `age_s` ago."""

    host_id: str
    verdict: PeerVerdict
    consecutive_count: int = 1
    age_s: float = 0.0
    round_trip_s: float | None = None


def valid_id(text: str) -> bool:
    """Whether text may be a cluster_id, host_id or group_id."""
    return ID_PATTERN.match(text) is not None
