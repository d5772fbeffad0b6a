import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProtectionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTECTION_STATE_UNSPECIFIED: _ClassVar[ProtectionState]
    PROTECTION_STATE_DISABLED: _ClassVar[ProtectionState]
    PROTECTION_STATE_WAITING: _ClassVar[ProtectionState]
    PROTECTION_STATE_ACTIVE: _ClassVar[ProtectionState]

class Profile(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROFILE_UNSPECIFIED: _ClassVar[Profile]
    PROFILE_STANDARD: _ClassVar[Profile]
    PROFILE_FAST: _ClassVar[Profile]

class ProofPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROOF_POLICY_UNSPECIFIED: _ClassVar[ProofPolicy]
    PROOF_POLICY_LADDER: _ClassVar[ProofPolicy]
    PROOF_POLICY_NONE: _ClassVar[ProofPolicy]

class SelfFencing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SELF_FENCING_UNSPECIFIED: _ClassVar[SelfFencing]
    SELF_FENCING_DESTROY: _ClassVar[SelfFencing]
    SELF_FENCING_OFF: _ClassVar[SelfFencing]
PROTECTION_STATE_UNSPECIFIED: ProtectionState
PROTECTION_STATE_DISABLED: ProtectionState
PROTECTION_STATE_WAITING: ProtectionState
PROTECTION_STATE_ACTIVE: ProtectionState
PROFILE_UNSPECIFIED: Profile
PROFILE_STANDARD: Profile
PROFILE_FAST: Profile
PROOF_POLICY_UNSPECIFIED: ProofPolicy
PROOF_POLICY_LADDER: ProofPolicy
PROOF_POLICY_NONE: ProofPolicy
SELF_FENCING_UNSPECIFIED: SelfFencing
SELF_FENCING_DESTROY: SelfFencing
SELF_FENCING_OFF: SelfFencing

class Cluster(_message.Message):
    __slots__ = ("cluster_id", "config", "protection_state", "host_count", "hosts_without_agent", "config_version", "store_generation", "learning", "etag", "leader_manager_id", "leader_target", "leader_term", "safe_mode", "awaited_hosts")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_STATE_FIELD_NUMBER: _ClassVar[int]
    HOST_COUNT_FIELD_NUMBER: _ClassVar[int]
    HOSTS_WITHOUT_AGENT_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    LEARNING_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    LEADER_MANAGER_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_TARGET_FIELD_NUMBER: _ClassVar[int]
    LEADER_TERM_FIELD_NUMBER: _ClassVar[int]
    SAFE_MODE_FIELD_NUMBER: _ClassVar[int]
    AWAITED_HOSTS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    config: ClusterConfig
    protection_state: ProtectionState
    host_count: int
    hosts_without_agent: _containers.RepeatedScalarFieldContainer[str]
    config_version: int
    store_generation: int
    learning: bool
    etag: str
    leader_manager_id: str
    leader_target: str
    leader_term: int
    safe_mode: bool
    awaited_hosts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster_id: _Optional[str] = ..., config: _Optional[_Union[ClusterConfig, _Mapping]] = ..., protection_state: _Optional[_Union[ProtectionState, str]] = ..., host_count: _Optional[int] = ..., hosts_without_agent: _Optional[_Iterable[str]] = ..., config_version: _Optional[int] = ..., store_generation: _Optional[int] = ..., learning: _Optional[bool] = ..., etag: _Optional[str] = ..., leader_manager_id: _Optional[str] = ..., leader_target: _Optional[str] = ..., leader_term: _Optional[int] = ..., safe_mode: _Optional[bool] = ..., awaited_hosts: _Optional[_Iterable[str]] = ...) -> None: ...

class ClusterConfig(_message.Message):
    __slots__ = ("profile", "timers", "proof", "self_fencing", "max_down_fraction", "reserve_fraction", "cpu_overcommit", "parallel", "parallel_per_target", "watchers", "image_directory")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    TIMERS_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    SELF_FENCING_FIELD_NUMBER: _ClassVar[int]
    MAX_DOWN_FRACTION_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FRACTION_FIELD_NUMBER: _ClassVar[int]
    CPU_OVERCOMMIT_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_PER_TARGET_FIELD_NUMBER: _ClassVar[int]
    WATCHERS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    profile: Profile
    timers: ClusterTimers
    proof: ProofPolicy
    self_fencing: SelfFencing
    max_down_fraction: float
    reserve_fraction: float
    cpu_overcommit: float
    parallel: int
    parallel_per_target: int
    watchers: int
    image_directory: str
    def __init__(self, profile: _Optional[_Union[Profile, str]] = ..., timers: _Optional[_Union[ClusterTimers, _Mapping]] = ..., proof: _Optional[_Union[ProofPolicy, str]] = ..., self_fencing: _Optional[_Union[SelfFencing, str]] = ..., max_down_fraction: _Optional[float] = ..., reserve_fraction: _Optional[float] = ..., cpu_overcommit: _Optional[float] = ..., parallel: _Optional[int] = ..., parallel_per_target: _Optional[int] = ..., watchers: _Optional[int] = ..., image_directory: _Optional[str] = ...) -> None: ...

class ClusterTimers(_message.Message):
    __slots__ = ("peer_refresh", "report_interval", "cooldown", "probe_interval", "probe_timeout", "probe_misses", "heartbeat_interval", "stream_stale", "learning", "planned_grace", "fence_retry", "fence_timeout", "start_timeout", "fence_confirm", "relay_after", "contact_ttl", "certificate_window", "attest_after", "ack_max_age", "lease_duration", "kill_timeout", "wait_duration", "request_interval", "lost_heartbeats", "round_trip", "tick", "destroy", "watchdog")
    PEER_REFRESH_FIELD_NUMBER: _ClassVar[int]
    REPORT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    COOLDOWN_FIELD_NUMBER: _ClassVar[int]
    PROBE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PROBE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PROBE_MISSES_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    STREAM_STALE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_FIELD_NUMBER: _ClassVar[int]
    PLANNED_GRACE_FIELD_NUMBER: _ClassVar[int]
    FENCE_RETRY_FIELD_NUMBER: _ClassVar[int]
    FENCE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    START_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    FENCE_CONFIRM_FIELD_NUMBER: _ClassVar[int]
    RELAY_AFTER_FIELD_NUMBER: _ClassVar[int]
    CONTACT_TTL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_WINDOW_FIELD_NUMBER: _ClassVar[int]
    ATTEST_AFTER_FIELD_NUMBER: _ClassVar[int]
    ACK_MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    KILL_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    WAIT_DURATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    LOST_HEARTBEATS_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_FIELD_NUMBER: _ClassVar[int]
    TICK_FIELD_NUMBER: _ClassVar[int]
    DESTROY_FIELD_NUMBER: _ClassVar[int]
    WATCHDOG_FIELD_NUMBER: _ClassVar[int]
    peer_refresh: _duration_pb2.Duration
    report_interval: _duration_pb2.Duration
    cooldown: _duration_pb2.Duration
    probe_interval: _duration_pb2.Duration
    probe_timeout: _duration_pb2.Duration
    probe_misses: int
    heartbeat_interval: _duration_pb2.Duration
    stream_stale: _duration_pb2.Duration
    learning: _duration_pb2.Duration
    planned_grace: _duration_pb2.Duration
    fence_retry: _duration_pb2.Duration
    fence_timeout: _duration_pb2.Duration
    start_timeout: _duration_pb2.Duration
    fence_confirm: _duration_pb2.Duration
    relay_after: _duration_pb2.Duration
    contact_ttl: _duration_pb2.Duration
    certificate_window: _duration_pb2.Duration
    attest_after: _duration_pb2.Duration
    ack_max_age: _duration_pb2.Duration
    lease_duration: _duration_pb2.Duration
    kill_timeout: _duration_pb2.Duration
    wait_duration: _duration_pb2.Duration
    request_interval: _duration_pb2.Duration
    lost_heartbeats: int
    round_trip: _duration_pb2.Duration
    tick: _duration_pb2.Duration
    destroy: _duration_pb2.Duration
    watchdog: _duration_pb2.Duration
    def __init__(self, peer_refresh: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., report_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cooldown: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probe_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probe_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probe_misses: _Optional[int] = ..., heartbeat_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stream_stale: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., learning: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., planned_grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fence_retry: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fence_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., start_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fence_confirm: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., relay_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., contact_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., certificate_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., attest_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ack_max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., kill_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., request_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lost_heartbeats: _Optional[int] = ..., round_trip: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tick: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., destroy: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., watchdog: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
