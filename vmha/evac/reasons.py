"""Every reason that the evacuator gives for a VM, an evacuation or an alarm. docs/reasons.md says what each means."""

from __future__ import annotations

from enum import StrEnum


class VmReason(StrEnum):
    """Why a VM of an evacuation has the outcome that it has, or waits."""

    HA_OFF = "HA_OFF"
    VM_PAUSED = "VM_PAUSED"
    VM_SHUTOFF = "VM_SHUTOFF"
    NO_DEFINITION = "NO_DEFINITION"
    RESIZE_UNCONFIRMED = "RESIZE_UNCONFIRMED"
    PASSTHROUGH_DEVICE = "PASSTHROUGH_DEVICE"
    VTPM_STATE_NOT_SHARED = "VTPM_STATE_NOT_SHARED"
    LOCAL_DISK_NO_IMAGE = "LOCAL_DISK_NO_IMAGE"
    LOCAL_DATA_DISK = "LOCAL_DATA_DISK"
    LOCAL_DISK = "LOCAL_DISK"
    VOLUME_UNAVAILABLE = "VOLUME_UNAVAILABLE"
    NO_HOST = "NO_HOST"
    AGGREGATE_EMPTY = "AGGREGATE_EMPTY"
    OS_VERSION_DIFFERS = "OS_VERSION_DIFFERS"
    STORAGE_NOT_SHARED = "STORAGE_NOT_SHARED"
    VTPM_STATE_ELSEWHERE = "VTPM_STATE_ELSEWHERE"
    CPU_INCOMPATIBLE = "CPU_INCOMPATIBLE"
    MACHINE_UNSUPPORTED = "MACHINE_UNSUPPORTED"
    HUGEPAGES_MISSING = "HUGEPAGES_MISSING"
    HARD_AFFINITY = "HARD_AFFINITY"
    HARD_ANTI_AFFINITY = "HARD_ANTI_AFFINITY"
    NO_CAPACITY = "NO_CAPACITY"
    SOFT_AFFINITY_BROKEN = "SOFT_AFFINITY_BROKEN"
    SOFT_ANTI_AFFINITY_BROKEN = "SOFT_ANTI_AFFINITY_BROKEN"
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
    VM_NOT_RUNNING = "VM_NOT_RUNNING"
    VM_LOCKED = "VM_LOCKED"
    VM_BUSY = "VM_BUSY"
    HOST_AWAY = "HOST_AWAY"
    MIGRATION_REFUSED = "MIGRATION_REFUSED"
    VM_STOPPED = "VM_STOPPED"
    STOP_FAILED = "STOP_FAILED"
    DRAIN_CANCELLED = "DRAIN_CANCELLED"


class HostRefusal(StrEnum):
    """Why a host is no target, for anyone or for one VM, in the order in which a host is tried; shown in the VM's message."""

    NOT_ANSWERING = "NOT_ANSWERING"
    FAILED_HOST = "FAILED_HOST"
    IN_MAINTENANCE = "IN_MAINTENANCE"
    NOT_HEALTHY = "NOT_HEALTHY"
    FLAPPING = "FLAPPING"
    NOT_REGISTERED = "NOT_REGISTERED"
    NOT_A_HYPERVISOR = "NOT_A_HYPERVISOR"
    NO_FACTS = "NO_FACTS"
    CONFIG_UNCONFIRMED = "CONFIG_UNCONFIRMED"
    AGGREGATE_DIFFERS = "AGGREGATE_DIFFERS"
    OS_VERSION_DIFFERS = "OS_VERSION_DIFFERS"
    STORAGE_NOT_SHARED = "STORAGE_NOT_SHARED"
    VTPM_STATE_ELSEWHERE = "VTPM_STATE_ELSEWHERE"
    CPU_INCOMPATIBLE = "CPU_INCOMPATIBLE"
    MACHINE_UNSUPPORTED = "MACHINE_UNSUPPORTED"
    HUGEPAGES_MISSING = "HUGEPAGES_MISSING"
    REFUSED_BEFORE = "REFUSED_BEFORE"
    HUGEPAGES_FULL = "HUGEPAGES_FULL"
    MEMORY_FULL = "MEMORY_FULL"
    VCPUS_FULL = "VCPUS_FULL"
    HARD_AFFINITY = "HARD_AFFINITY"
    HARD_ANTI_AFFINITY = "HARD_ANTI_AFFINITY"


REFUSAL_WORDS = {
    HostRefusal.NOT_ANSWERING: "it left a start without an answer within the last 30 s",
    HostRefusal.FAILED_HOST: "it is the one that is evacuated",
    HostRefusal.IN_MAINTENANCE: "an operator took it out",
    HostRefusal.NOT_HEALTHY: "its state is another than HEALTHY",
    HostRefusal.FLAPPING: "it was suspected too often of late",
    HostRefusal.NOT_REGISTERED: "its agent has no registration in force",
    HostRefusal.NOT_A_HYPERVISOR: "its roles don't include hypervisor",
    HostRefusal.NO_FACTS: "its agent has not reported its capacity yet",
    HostRefusal.CONFIG_UNCONFIRMED: (
        "it has not confirmed the newest configuration of the safety protocol yet (R18); it does so within a heartbeat or two"
    ),
    HostRefusal.AGGREGATE_DIFFERS: "it is not in every aggregate that the VM names",
    HostRefusal.OS_VERSION_DIFFERS: "it runs another operating-system version than the VM's old host",
    HostRefusal.STORAGE_NOT_SHARED: "it does not have the shared storage of the VM's disks under the same path",
    HostRefusal.VTPM_STATE_ELSEWHERE: "it does not have the shared storage of the VM's TPM, or nobody knows",
    HostRefusal.CPU_INCOMPATIBLE: "its hypervisor cannot give the CPU model that the VM asks for; in a drain: it has another CPU",
    HostRefusal.MACHINE_UNSUPPORTED: "its hypervisor does not have the VM's machine type",
    HostRefusal.HUGEPAGES_MISSING: "it has no huge pages of the VM's size",
    HostRefusal.REFUSED_BEFORE: "it refused this VM in this evacuation",
    HostRefusal.HUGEPAGES_FULL: "not enough huge pages of the VM's size are free",
    HostRefusal.MEMORY_FULL: "not enough memory left (its memory less reserve_fraction, less what its VMs hold or were promised)",
    HostRefusal.VCPUS_FULL: "not enough vCPUs left (its vCPUs times cpu_overcommit)",
    HostRefusal.HARD_AFFINITY: "it has room, and others of a hard affinity group are elsewhere",
    HostRefusal.HARD_ANTI_AFFINITY: "it has room, and others of a hard anti-affinity group are there",
}
"""Each refusal in words; docs/reasons.md has the same."""


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
