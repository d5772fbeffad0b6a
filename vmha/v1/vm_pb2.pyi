from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VmState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VM_STATE_UNSPECIFIED: _ClassVar[VmState]
    VM_STATE_RUNNING: _ClassVar[VmState]
    VM_STATE_PAUSED: _ClassVar[VmState]
    VM_STATE_AWAITING_ADMISSION: _ClassVar[VmState]
    VM_STATE_SHUTOFF: _ClassVar[VmState]
    VM_STATE_CRASHED: _ClassVar[VmState]
    VM_STATE_ABSENT: _ClassVar[VmState]

class DiskStorage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISK_STORAGE_UNSPECIFIED: _ClassVar[DiskStorage]
    DISK_STORAGE_VOLUME: _ClassVar[DiskStorage]
    DISK_STORAGE_SHARED: _ClassVar[DiskStorage]
    DISK_STORAGE_LOCAL: _ClassVar[DiskStorage]
VM_STATE_UNSPECIFIED: VmState
VM_STATE_RUNNING: VmState
VM_STATE_PAUSED: VmState
VM_STATE_AWAITING_ADMISSION: VmState
VM_STATE_SHUTOFF: VmState
VM_STATE_CRASHED: VmState
VM_STATE_ABSENT: VmState
DISK_STORAGE_UNSPECIFIED: DiskStorage
DISK_STORAGE_VOLUME: DiskStorage
DISK_STORAGE_SHARED: DiskStorage
DISK_STORAGE_LOCAL: DiskStorage

class Vm(_message.Message):
    __slots__ = ("vm_id", "name", "cluster_id", "owner_host_id", "owner_incarnation", "epoch", "desired_state", "state", "facts", "reason")
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DESIRED_STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    vm_id: str
    name: str
    cluster_id: str
    owner_host_id: str
    owner_incarnation: int
    epoch: int
    desired_state: VmState
    state: VmState
    facts: VmFacts
    reason: str
    def __init__(self, vm_id: _Optional[str] = ..., name: _Optional[str] = ..., cluster_id: _Optional[str] = ..., owner_host_id: _Optional[str] = ..., owner_incarnation: _Optional[int] = ..., epoch: _Optional[int] = ..., desired_state: _Optional[_Union[VmState, str]] = ..., state: _Optional[_Union[VmState, str]] = ..., facts: _Optional[_Union[VmFacts, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class VmFacts(_message.Message):
    __slots__ = ("vcpus", "memory_mib", "ha_enabled", "priority", "aggregates", "machine", "has_vtpm", "has_passthrough", "resize_unconfirmed", "groups", "image", "disks", "cpu_mode", "cpu_model", "hugepage_kib")
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    HA_ENABLED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    HAS_VTPM_FIELD_NUMBER: _ClassVar[int]
    HAS_PASSTHROUGH_FIELD_NUMBER: _ClassVar[int]
    RESIZE_UNCONFIRMED_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    CPU_MODE_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    HUGEPAGE_KIB_FIELD_NUMBER: _ClassVar[int]
    vcpus: int
    memory_mib: int
    ha_enabled: bool
    priority: int
    aggregates: _containers.RepeatedScalarFieldContainer[str]
    machine: str
    has_vtpm: bool
    has_passthrough: bool
    resize_unconfirmed: bool
    groups: _containers.RepeatedScalarFieldContainer[str]
    image: str
    disks: _containers.RepeatedCompositeFieldContainer[VmDisk]
    cpu_mode: str
    cpu_model: str
    hugepage_kib: int
    def __init__(self, vcpus: _Optional[int] = ..., memory_mib: _Optional[int] = ..., ha_enabled: _Optional[bool] = ..., priority: _Optional[int] = ..., aggregates: _Optional[_Iterable[str]] = ..., machine: _Optional[str] = ..., has_vtpm: _Optional[bool] = ..., has_passthrough: _Optional[bool] = ..., resize_unconfirmed: _Optional[bool] = ..., groups: _Optional[_Iterable[str]] = ..., image: _Optional[str] = ..., disks: _Optional[_Iterable[_Union[VmDisk, _Mapping]]] = ..., cpu_mode: _Optional[str] = ..., cpu_model: _Optional[str] = ..., hugepage_kib: _Optional[int] = ...) -> None: ...

class VmDisk(_message.Message):
    __slots__ = ("target", "storage", "source", "storage_id", "servers", "root")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_ID_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    target: str
    storage: DiskStorage
    source: str
    storage_id: str
    servers: _containers.RepeatedScalarFieldContainer[str]
    root: bool
    def __init__(self, target: _Optional[str] = ..., storage: _Optional[_Union[DiskStorage, str]] = ..., source: _Optional[str] = ..., storage_id: _Optional[str] = ..., servers: _Optional[_Iterable[str]] = ..., root: _Optional[bool] = ...) -> None: ...
