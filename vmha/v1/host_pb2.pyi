import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HostState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOST_STATE_UNSPECIFIED: _ClassVar[HostState]
    HOST_STATE_UNKNOWN: _ClassVar[HostState]
    HOST_STATE_HEALTHY: _ClassVar[HostState]
    HOST_STATE_SUSPECT: _ClassVar[HostState]
    HOST_STATE_COOLDOWN: _ClassVar[HostState]
    HOST_STATE_DOWN: _ClassVar[HostState]
    HOST_STATE_FENCING: _ClassVar[HostState]
    HOST_STATE_FENCED: _ClassVar[HostState]
    HOST_STATE_EVACUATING: _ClassVar[HostState]
    HOST_STATE_EVACUATED: _ClassVar[HostState]
    HOST_STATE_AGENT_LOST: _ClassVar[HostState]
    HOST_STATE_ISOLATED: _ClassVar[HostState]
    HOST_STATE_IN_MAINTENANCE: _ClassVar[HostState]
    HOST_STATE_FENCE_PENDING: _ClassVar[HostState]

class PeerVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PEER_VERDICT_UNSPECIFIED: _ClassVar[PeerVerdict]
    PEER_VERDICT_OK: _ClassVar[PeerVerdict]
    PEER_VERDICT_REFUSED: _ClassVar[PeerVerdict]
    PEER_VERDICT_TIMEOUT: _ClassVar[PeerVerdict]
    PEER_VERDICT_DEGRADED: _ClassVar[PeerVerdict]
HOST_STATE_UNSPECIFIED: HostState
HOST_STATE_UNKNOWN: HostState
HOST_STATE_HEALTHY: HostState
HOST_STATE_SUSPECT: HostState
HOST_STATE_COOLDOWN: HostState
HOST_STATE_DOWN: HostState
HOST_STATE_FENCING: HostState
HOST_STATE_FENCED: HostState
HOST_STATE_EVACUATING: HostState
HOST_STATE_EVACUATED: HostState
HOST_STATE_AGENT_LOST: HostState
HOST_STATE_ISOLATED: HostState
HOST_STATE_IN_MAINTENANCE: HostState
HOST_STATE_FENCE_PENDING: HostState
PEER_VERDICT_UNSPECIFIED: PeerVerdict
PEER_VERDICT_OK: PeerVerdict
PEER_VERDICT_REFUSED: PeerVerdict
PEER_VERDICT_TIMEOUT: PeerVerdict
PEER_VERDICT_DEGRADED: PeerVerdict

class Host(_message.Message):
    __slots__ = ("host_id", "cluster_id", "config", "state", "state_time", "state_reason", "boot_id", "incarnation", "fence_epoch", "in_maintenance", "incident_id", "agent_connected", "facts", "etag", "self_fencing", "watchdog", "config_version", "drain_id")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    FENCE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IN_MAINTENANCE_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SELF_FENCING_FIELD_NUMBER: _ClassVar[int]
    WATCHDOG_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    DRAIN_ID_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    cluster_id: str
    config: HostConfig
    state: HostState
    state_time: _timestamp_pb2.Timestamp
    state_reason: str
    boot_id: str
    incarnation: int
    fence_epoch: int
    in_maintenance: bool
    incident_id: str
    agent_connected: bool
    facts: HostFacts
    etag: str
    self_fencing: bool
    watchdog: bool
    config_version: int
    drain_id: str
    def __init__(self, host_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., config: _Optional[_Union[HostConfig, _Mapping]] = ..., state: _Optional[_Union[HostState, str]] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state_reason: _Optional[str] = ..., boot_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., fence_epoch: _Optional[int] = ..., in_maintenance: _Optional[bool] = ..., incident_id: _Optional[str] = ..., agent_connected: _Optional[bool] = ..., facts: _Optional[_Union[HostFacts, _Mapping]] = ..., etag: _Optional[str] = ..., self_fencing: _Optional[bool] = ..., watchdog: _Optional[bool] = ..., config_version: _Optional[int] = ..., drain_id: _Optional[str] = ...) -> None: ...

class HostConfig(_message.Message):
    __slots__ = ("probe_target", "agent_target", "libvirt_uri", "rack", "aggregates", "roles", "fence")
    PROBE_TARGET_FIELD_NUMBER: _ClassVar[int]
    AGENT_TARGET_FIELD_NUMBER: _ClassVar[int]
    LIBVIRT_URI_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    probe_target: str
    agent_target: str
    libvirt_uri: str
    rack: str
    aggregates: _containers.RepeatedScalarFieldContainer[str]
    roles: _containers.RepeatedScalarFieldContainer[str]
    fence: FenceConfig
    def __init__(self, probe_target: _Optional[str] = ..., agent_target: _Optional[str] = ..., libvirt_uri: _Optional[str] = ..., rack: _Optional[str] = ..., aggregates: _Optional[_Iterable[str]] = ..., roles: _Optional[_Iterable[str]] = ..., fence: _Optional[_Union[FenceConfig, _Mapping]] = ...) -> None: ...

class FenceConfig(_message.Message):
    __slots__ = ("agent", "parameters", "secret_files")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SecretFilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SECRET_FILES_FIELD_NUMBER: _ClassVar[int]
    agent: str
    parameters: _containers.ScalarMap[str, str]
    secret_files: _containers.ScalarMap[str, str]
    def __init__(self, agent: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., secret_files: _Optional[_Mapping[str, str]] = ...) -> None: ...

class HostFacts(_message.Message):
    __slots__ = ("vcpus", "memory_mib", "operating_system", "libvirt_version", "hypervisor_version", "cpu_model", "agent_version", "storage_pools", "machines", "cpu_models", "hugepages", "shared_directories", "tpm_storage_id")
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    OPERATING_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    LIBVIRT_VERSION_FIELD_NUMBER: _ClassVar[int]
    HYPERVISOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORAGE_POOLS_FIELD_NUMBER: _ClassVar[int]
    MACHINES_FIELD_NUMBER: _ClassVar[int]
    CPU_MODELS_FIELD_NUMBER: _ClassVar[int]
    HUGEPAGES_FIELD_NUMBER: _ClassVar[int]
    SHARED_DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    TPM_STORAGE_ID_FIELD_NUMBER: _ClassVar[int]
    vcpus: int
    memory_mib: int
    operating_system: str
    libvirt_version: str
    hypervisor_version: str
    cpu_model: str
    agent_version: str
    storage_pools: _containers.RepeatedScalarFieldContainer[str]
    machines: _containers.RepeatedScalarFieldContainer[str]
    cpu_models: _containers.RepeatedScalarFieldContainer[str]
    hugepages: _containers.RepeatedCompositeFieldContainer[HugePages]
    shared_directories: _containers.RepeatedCompositeFieldContainer[SharedDirectory]
    tpm_storage_id: str
    def __init__(self, vcpus: _Optional[int] = ..., memory_mib: _Optional[int] = ..., operating_system: _Optional[str] = ..., libvirt_version: _Optional[str] = ..., hypervisor_version: _Optional[str] = ..., cpu_model: _Optional[str] = ..., agent_version: _Optional[str] = ..., storage_pools: _Optional[_Iterable[str]] = ..., machines: _Optional[_Iterable[str]] = ..., cpu_models: _Optional[_Iterable[str]] = ..., hugepages: _Optional[_Iterable[_Union[HugePages, _Mapping]]] = ..., shared_directories: _Optional[_Iterable[_Union[SharedDirectory, _Mapping]]] = ..., tpm_storage_id: _Optional[str] = ...) -> None: ...

class HugePages(_message.Message):
    __slots__ = ("size_kib", "pages")
    SIZE_KIB_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    size_kib: int
    pages: int
    def __init__(self, size_kib: _Optional[int] = ..., pages: _Optional[int] = ...) -> None: ...

class SharedDirectory(_message.Message):
    __slots__ = ("path", "storage_id", "problem")
    PATH_FIELD_NUMBER: _ClassVar[int]
    STORAGE_ID_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    path: str
    storage_id: str
    problem: str
    def __init__(self, path: _Optional[str] = ..., storage_id: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...
