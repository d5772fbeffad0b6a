import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FencePower(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FENCE_POWER_UNSPECIFIED: _ClassVar[FencePower]
    FENCE_POWER_ON: _ClassVar[FencePower]
    FENCE_POWER_OFF: _ClassVar[FencePower]

class EvacuationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVACUATION_STATE_UNSPECIFIED: _ClassVar[EvacuationState]
    EVACUATION_STATE_VERIFYING: _ClassVar[EvacuationState]
    EVACUATION_STATE_FENCE_PENDING: _ClassVar[EvacuationState]
    EVACUATION_STATE_PLANNING: _ClassVar[EvacuationState]
    EVACUATION_STATE_RUNNING: _ClassVar[EvacuationState]
    EVACUATION_STATE_PENDING: _ClassVar[EvacuationState]
    EVACUATION_STATE_SUCCEEDED: _ClassVar[EvacuationState]
    EVACUATION_STATE_PARTIALLY_FAILED: _ClassVar[EvacuationState]
    EVACUATION_STATE_FAILED: _ClassVar[EvacuationState]
    EVACUATION_STATE_CANCELLED: _ClassVar[EvacuationState]

class VmOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VM_OUTCOME_UNSPECIFIED: _ClassVar[VmOutcome]
    VM_OUTCOME_MOVED: _ClassVar[VmOutcome]
    VM_OUTCOME_SKIPPED: _ClassVar[VmOutcome]
    VM_OUTCOME_FAILED: _ClassVar[VmOutcome]
    VM_OUTCOME_PENDING: _ClassVar[VmOutcome]
    VM_OUTCOME_RESTARTED: _ClassVar[VmOutcome]
    VM_OUTCOME_REBUILT: _ClassVar[VmOutcome]

class VmStep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VM_STEP_UNSPECIFIED: _ClassVar[VmStep]
    VM_STEP_PLANNED: _ClassVar[VmStep]
    VM_STEP_CLAIMED: _ClassVar[VmStep]
    VM_STEP_STARTED: _ClassVar[VmStep]
    VM_STEP_ADMITTED: _ClassVar[VmStep]
    VM_STEP_SETTLED: _ClassVar[VmStep]
    VM_STEP_MIGRATING: _ClassVar[VmStep]

class EvacuationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVACUATION_KIND_UNSPECIFIED: _ClassVar[EvacuationKind]
    EVACUATION_KIND_EVACUATION: _ClassVar[EvacuationKind]
    EVACUATION_KIND_DRAIN: _ClassVar[EvacuationKind]

class ProofKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROOF_KIND_UNSPECIFIED: _ClassVar[ProofKind]
    PROOF_KIND_FENCE: _ClassVar[ProofKind]
    PROOF_KIND_LEASE: _ClassVar[ProofKind]
    PROOF_KIND_OPERATOR: _ClassVar[ProofKind]
    PROOF_KIND_NONE: _ClassVar[ProofKind]
FENCE_POWER_UNSPECIFIED: FencePower
FENCE_POWER_ON: FencePower
FENCE_POWER_OFF: FencePower
EVACUATION_STATE_UNSPECIFIED: EvacuationState
EVACUATION_STATE_VERIFYING: EvacuationState
EVACUATION_STATE_FENCE_PENDING: EvacuationState
EVACUATION_STATE_PLANNING: EvacuationState
EVACUATION_STATE_RUNNING: EvacuationState
EVACUATION_STATE_PENDING: EvacuationState
EVACUATION_STATE_SUCCEEDED: EvacuationState
EVACUATION_STATE_PARTIALLY_FAILED: EvacuationState
EVACUATION_STATE_FAILED: EvacuationState
EVACUATION_STATE_CANCELLED: EvacuationState
VM_OUTCOME_UNSPECIFIED: VmOutcome
VM_OUTCOME_MOVED: VmOutcome
VM_OUTCOME_SKIPPED: VmOutcome
VM_OUTCOME_FAILED: VmOutcome
VM_OUTCOME_PENDING: VmOutcome
VM_OUTCOME_RESTARTED: VmOutcome
VM_OUTCOME_REBUILT: VmOutcome
VM_STEP_UNSPECIFIED: VmStep
VM_STEP_PLANNED: VmStep
VM_STEP_CLAIMED: VmStep
VM_STEP_STARTED: VmStep
VM_STEP_ADMITTED: VmStep
VM_STEP_SETTLED: VmStep
VM_STEP_MIGRATING: VmStep
EVACUATION_KIND_UNSPECIFIED: EvacuationKind
EVACUATION_KIND_EVACUATION: EvacuationKind
EVACUATION_KIND_DRAIN: EvacuationKind
PROOF_KIND_UNSPECIFIED: ProofKind
PROOF_KIND_FENCE: ProofKind
PROOF_KIND_LEASE: ProofKind
PROOF_KIND_OPERATOR: ProofKind
PROOF_KIND_NONE: ProofKind

class EvacuateRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "request_id", "fence_epoch", "validate_only", "leader_term", "lease_proof")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FENCE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    LEADER_TERM_FIELD_NUMBER: _ClassVar[int]
    LEASE_PROOF_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    request_id: str
    fence_epoch: int
    validate_only: bool
    leader_term: int
    lease_proof: LeaseProof
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., request_id: _Optional[str] = ..., fence_epoch: _Optional[int] = ..., validate_only: _Optional[bool] = ..., leader_term: _Optional[int] = ..., lease_proof: _Optional[_Union[LeaseProof, _Mapping]] = ...) -> None: ...

class LeaseProof(_message.Message):
    __slots__ = ("silent_for", "waited", "in_contact_for", "hosts_in_contact", "evacuation_quorum")
    SILENT_FOR_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    IN_CONTACT_FOR_FIELD_NUMBER: _ClassVar[int]
    HOSTS_IN_CONTACT_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_QUORUM_FIELD_NUMBER: _ClassVar[int]
    silent_for: _duration_pb2.Duration
    waited: _duration_pb2.Duration
    in_contact_for: _duration_pb2.Duration
    hosts_in_contact: int
    evacuation_quorum: int
    def __init__(self, silent_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., waited: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., in_contact_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., hosts_in_contact: _Optional[int] = ..., evacuation_quorum: _Optional[int] = ...) -> None: ...

class EvacuateResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: EvacuationEvent
    def __init__(self, event: _Optional[_Union[EvacuationEvent, _Mapping]] = ...) -> None: ...

class WatchEvacuationRequest(_message.Message):
    __slots__ = ("cluster_id", "evacuation_id", "after_sequence")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    evacuation_id: str
    after_sequence: int
    def __init__(self, cluster_id: _Optional[str] = ..., evacuation_id: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class WatchEvacuationResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: EvacuationEvent
    def __init__(self, event: _Optional[_Union[EvacuationEvent, _Mapping]] = ...) -> None: ...

class EvacuationEvent(_message.Message):
    __slots__ = ("sequence", "event_time", "evacuation", "vm")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_FIELD_NUMBER: _ClassVar[int]
    VM_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    event_time: _timestamp_pb2.Timestamp
    evacuation: Evacuation
    vm: VmEvacuation
    def __init__(self, sequence: _Optional[int] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., evacuation: _Optional[_Union[Evacuation, _Mapping]] = ..., vm: _Optional[_Union[VmEvacuation, _Mapping]] = ...) -> None: ...

class Evacuation(_message.Message):
    __slots__ = ("evacuation_id", "cluster_id", "host_id", "state", "reason", "message", "fence_epoch", "proof", "total_count", "moved_count", "skipped_count", "failed_count", "pending_count", "restarted_count", "start_time", "proof_time", "end_time", "kind")
    EVACUATION_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FENCE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    MOVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    PENDING_COUNT_FIELD_NUMBER: _ClassVar[int]
    RESTARTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PROOF_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    evacuation_id: str
    cluster_id: str
    host_id: str
    state: EvacuationState
    reason: str
    message: str
    fence_epoch: int
    proof: ProofKind
    total_count: int
    moved_count: int
    skipped_count: int
    failed_count: int
    pending_count: int
    restarted_count: int
    start_time: _timestamp_pb2.Timestamp
    proof_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    kind: EvacuationKind
    def __init__(self, evacuation_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., state: _Optional[_Union[EvacuationState, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., fence_epoch: _Optional[int] = ..., proof: _Optional[_Union[ProofKind, str]] = ..., total_count: _Optional[int] = ..., moved_count: _Optional[int] = ..., skipped_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., pending_count: _Optional[int] = ..., restarted_count: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., proof_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[EvacuationKind, str]] = ...) -> None: ...

class VmEvacuation(_message.Message):
    __slots__ = ("vm_id", "vm_name", "target_host_id", "step", "outcome", "reason", "message", "epoch", "image")
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    VM_NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    vm_id: str
    vm_name: str
    target_host_id: str
    step: VmStep
    outcome: VmOutcome
    reason: str
    message: str
    epoch: int
    image: str
    def __init__(self, vm_id: _Optional[str] = ..., vm_name: _Optional[str] = ..., target_host_id: _Optional[str] = ..., step: _Optional[_Union[VmStep, str]] = ..., outcome: _Optional[_Union[VmOutcome, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., epoch: _Optional[int] = ..., image: _Optional[str] = ...) -> None: ...

class GetEvacuationRequest(_message.Message):
    __slots__ = ("cluster_id", "evacuation_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    evacuation_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., evacuation_id: _Optional[str] = ...) -> None: ...

class GetEvacuationResponse(_message.Message):
    __slots__ = ("evacuation", "vms")
    EVACUATION_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    evacuation: Evacuation
    vms: _containers.RepeatedCompositeFieldContainer[VmEvacuation]
    def __init__(self, evacuation: _Optional[_Union[Evacuation, _Mapping]] = ..., vms: _Optional[_Iterable[_Union[VmEvacuation, _Mapping]]] = ...) -> None: ...

class ListEvacuationsRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "page_size", "page_token")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    page_size: int
    page_token: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEvacuationsResponse(_message.Message):
    __slots__ = ("evacuations", "next_page_token")
    EVACUATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    evacuations: _containers.RepeatedCompositeFieldContainer[Evacuation]
    next_page_token: str
    def __init__(self, evacuations: _Optional[_Iterable[_Union[Evacuation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelEvacuationRequest(_message.Message):
    __slots__ = ("cluster_id", "evacuation_id", "reason")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    evacuation_id: str
    reason: str
    def __init__(self, cluster_id: _Optional[str] = ..., evacuation_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelEvacuationResponse(_message.Message):
    __slots__ = ("evacuation",)
    EVACUATION_FIELD_NUMBER: _ClassVar[int]
    evacuation: Evacuation
    def __init__(self, evacuation: _Optional[_Union[Evacuation, _Mapping]] = ...) -> None: ...

class CheckFenceRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ...) -> None: ...

class CheckFenceResponse(_message.Message):
    __slots__ = ("power", "reason", "message", "agent", "duration")
    POWER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    power: FencePower
    reason: str
    message: str
    agent: str
    duration: _duration_pb2.Duration
    def __init__(self, power: _Optional[_Union[FencePower, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., agent: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ExplainVmPlacementRequest(_message.Message):
    __slots__ = ("cluster_id", "vm_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    vm_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., vm_id: _Optional[str] = ...) -> None: ...

class ExplainVmPlacementResponse(_message.Message):
    __slots__ = ("placement",)
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    placement: VmPlacement
    def __init__(self, placement: _Optional[_Union[VmPlacement, _Mapping]] = ...) -> None: ...

class VmPlacement(_message.Message):
    __slots__ = ("vm_id", "vm_name", "host_id", "evacuation", "journaled", "planned", "vm_rules", "host_rules", "host_count", "other_host_ids", "other_count", "ha_disabled")
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    VM_NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_FIELD_NUMBER: _ClassVar[int]
    JOURNALED_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    VM_RULES_FIELD_NUMBER: _ClassVar[int]
    HOST_RULES_FIELD_NUMBER: _ClassVar[int]
    HOST_COUNT_FIELD_NUMBER: _ClassVar[int]
    OTHER_HOST_IDS_FIELD_NUMBER: _ClassVar[int]
    OTHER_COUNT_FIELD_NUMBER: _ClassVar[int]
    HA_DISABLED_FIELD_NUMBER: _ClassVar[int]
    vm_id: str
    vm_name: str
    host_id: str
    evacuation: Evacuation
    journaled: VmEvacuation
    planned: VmEvacuation
    vm_rules: _containers.RepeatedCompositeFieldContainer[VmRule]
    host_rules: _containers.RepeatedCompositeFieldContainer[HostRule]
    host_count: int
    other_host_ids: _containers.RepeatedScalarFieldContainer[str]
    other_count: int
    ha_disabled: bool
    def __init__(self, vm_id: _Optional[str] = ..., vm_name: _Optional[str] = ..., host_id: _Optional[str] = ..., evacuation: _Optional[_Union[Evacuation, _Mapping]] = ..., journaled: _Optional[_Union[VmEvacuation, _Mapping]] = ..., planned: _Optional[_Union[VmEvacuation, _Mapping]] = ..., vm_rules: _Optional[_Iterable[_Union[VmRule, _Mapping]]] = ..., host_rules: _Optional[_Iterable[_Union[HostRule, _Mapping]]] = ..., host_count: _Optional[int] = ..., other_host_ids: _Optional[_Iterable[str]] = ..., other_count: _Optional[int] = ..., ha_disabled: _Optional[bool] = ...) -> None: ...

class VmRule(_message.Message):
    __slots__ = ("reason", "against", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    against: bool
    message: str
    def __init__(self, reason: _Optional[str] = ..., against: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class HostRule(_message.Message):
    __slots__ = ("reason", "message", "refused_count", "hosts")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    refused_count: int
    hosts: _containers.RepeatedCompositeFieldContainer[RefusedHost]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., refused_count: _Optional[int] = ..., hosts: _Optional[_Iterable[_Union[RefusedHost, _Mapping]]] = ...) -> None: ...

class RefusedHost(_message.Message):
    __slots__ = ("host_id", "message")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    message: str
    def __init__(self, host_id: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ExplainHostLossRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ...) -> None: ...

class ExplainHostLossResponse(_message.Message):
    __slots__ = ("loss",)
    LOSS_FIELD_NUMBER: _ClassVar[int]
    loss: HostLoss
    def __init__(self, loss: _Optional[_Union[HostLoss, _Mapping]] = ...) -> None: ...

class HostLoss(_message.Message):
    __slots__ = ("host_id", "evacuation", "vm_count", "fates", "vms", "targets", "target_count", "ha_disabled")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_FIELD_NUMBER: _ClassVar[int]
    VM_COUNT_FIELD_NUMBER: _ClassVar[int]
    FATES_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TARGET_COUNT_FIELD_NUMBER: _ClassVar[int]
    HA_DISABLED_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    evacuation: Evacuation
    vm_count: int
    fates: _containers.RepeatedCompositeFieldContainer[VmFate]
    vms: _containers.RepeatedCompositeFieldContainer[VmEvacuation]
    targets: _containers.RepeatedCompositeFieldContainer[TargetShare]
    target_count: int
    ha_disabled: bool
    def __init__(self, host_id: _Optional[str] = ..., evacuation: _Optional[_Union[Evacuation, _Mapping]] = ..., vm_count: _Optional[int] = ..., fates: _Optional[_Iterable[_Union[VmFate, _Mapping]]] = ..., vms: _Optional[_Iterable[_Union[VmEvacuation, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[TargetShare, _Mapping]]] = ..., target_count: _Optional[int] = ..., ha_disabled: _Optional[bool] = ...) -> None: ...

class VmFate(_message.Message):
    __slots__ = ("outcome", "reason", "vm_count")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VM_COUNT_FIELD_NUMBER: _ClassVar[int]
    outcome: VmOutcome
    reason: str
    vm_count: int
    def __init__(self, outcome: _Optional[_Union[VmOutcome, str]] = ..., reason: _Optional[str] = ..., vm_count: _Optional[int] = ...) -> None: ...

class TargetShare(_message.Message):
    __slots__ = ("host_id", "vm_count", "memory_mib")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    VM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    vm_count: int
    memory_mib: int
    def __init__(self, host_id: _Optional[str] = ..., vm_count: _Optional[int] = ..., memory_mib: _Optional[int] = ...) -> None: ...
