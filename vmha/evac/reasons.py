"""Every reason that the evacuator gives for a VM, an evacuation or an alarm. docs/reasons.md says what each means."""

from __future__ import annotations

from enum import StrEnum


class VmReason(StrEnum):
    """Why a VM of an evacuation has the outcome that it has, or waits."""

    HA_OFF = "HA_OFF"
    VM_PAUSED = "VM_PAUSED"
    VM_SHUTOFF = "VM_SHUTOFF"
    NO_DEFINITION = "NO_DEFINITION"
    NO_CAPACITY = "NO_CAPACITY"
    NO_HOST = "NO_HOST"
    START_REFUSED = "START_REFUSED"
    TARGET_UNREACHABLE = "TARGET_UNREACHABLE"
    TARGET_NOT_READY = "TARGET_NOT_READY"
    ADMISSION_REFUSED = "ADMISSION_REFUSED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    SOURCE_STILL_RUNNING = "SOURCE_STILL_RUNNING"
    TAKEN_OVER = "TAKEN_OVER"
    VM_DELETED = "VM_DELETED"
    VM_MIGRATED_AWAY = "VM_MIGRATED_AWAY"
    VM_MIGRATING = "VM_MIGRATING"
    SAFE_MODE = "SAFE_MODE"
    HOST_RETURNED = "HOST_RETURNED"
    EVACUATION_CANCELLED = "EVACUATION_CANCELLED"


class HostRefusal(StrEnum):
    """Why a host is no target; shown in the message of NO_CAPACITY and NO_HOST."""

    FAILED_HOST = "FAILED_HOST"
    NOT_HEALTHY = "NOT_HEALTHY"
    IN_MAINTENANCE = "IN_MAINTENANCE"
    FLAPPING = "FLAPPING"
    NOT_REGISTERED = "NOT_REGISTERED"
    NO_FACTS = "NO_FACTS"
    CONFIG_UNCONFIRMED = "CONFIG_UNCONFIRMED"
    NOT_A_HYPERVISOR = "NOT_A_HYPERVISOR"
    REFUSED_BEFORE = "REFUSED_BEFORE"
    NOT_ANSWERING = "NOT_ANSWERING"
    MEMORY_FULL = "MEMORY_FULL"
    VCPUS_FULL = "VCPUS_FULL"


class ProofReason(StrEnum):
    """Why there is no proof of a host's death yet; the reason of FENCE_PENDING."""

    FENCE_NOT_CONFIGURED = "FENCE_NOT_CONFIGURED"
    FENCE_PARAMETERS_WRONG = "FENCE_PARAMETERS_WRONG"
    FENCE_AGENT_UNKNOWN = "FENCE_AGENT_UNKNOWN"
    FENCE_SECRET_UNREADABLE = "FENCE_SECRET_UNREADABLE"  # noqa: S105 - a reason, not a secret
    FENCE_TIMEOUT = "FENCE_TIMEOUT"
    FENCE_FAILED = "FENCE_FAILED"
    FENCE_STILL_ON = "FENCE_STILL_ON"


class AlarmReason(StrEnum):
    """The alarms that the evacuator raises. FENCE_PENDING is the manager's: it knows when the incident is over."""

    SOURCE_STILL_RUNNING = "SOURCE_STILL_RUNNING"
