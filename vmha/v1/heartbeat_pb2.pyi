import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from vmha.v1 import vm_pb2 as _vm_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Heartbeat(_message.Message):
    __slots__ = ("host_id", "incarnation", "sequence", "agent_instance_id", "echoed_nonce", "config_version", "boot_time", "latched", "store_generation", "vms", "self_fencing")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AGENT_INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ECHOED_NONCE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_TIME_FIELD_NUMBER: _ClassVar[int]
    LATCHED_FIELD_NUMBER: _ClassVar[int]
    STORE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    SELF_FENCING_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    incarnation: int
    sequence: int
    agent_instance_id: str
    echoed_nonce: str
    config_version: int
    boot_time: _duration_pb2.Duration
    latched: bool
    store_generation: int
    vms: _containers.RepeatedCompositeFieldContainer[VmEpoch]
    self_fencing: bool
    def __init__(self, host_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., sequence: _Optional[int] = ..., agent_instance_id: _Optional[str] = ..., echoed_nonce: _Optional[str] = ..., config_version: _Optional[int] = ..., boot_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., latched: _Optional[bool] = ..., store_generation: _Optional[int] = ..., vms: _Optional[_Iterable[_Union[VmEpoch, _Mapping]]] = ..., self_fencing: _Optional[bool] = ...) -> None: ...

class VmEpoch(_message.Message):
    __slots__ = ("vm_id", "epoch", "state")
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    vm_id: str
    epoch: int
    state: _vm_pb2.VmState
    def __init__(self, vm_id: _Optional[str] = ..., epoch: _Optional[int] = ..., state: _Optional[_Union[_vm_pb2.VmState, str]] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("host_id", "incarnation", "sequence", "nonce", "config_version", "store_generation")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    incarnation: int
    sequence: int
    nonce: str
    config_version: int
    store_generation: int
    def __init__(self, host_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., sequence: _Optional[int] = ..., nonce: _Optional[str] = ..., config_version: _Optional[int] = ..., store_generation: _Optional[int] = ...) -> None: ...
