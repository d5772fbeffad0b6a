import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from vmha.v1 import heartbeat_pb2 as _heartbeat_pb2
from vmha.v1 import vm_pb2 as _vm_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RelayHeartbeatRequest(_message.Message):
    __slots__ = ("cluster_id", "heartbeat", "request_nonce")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_NONCE_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    heartbeat: _heartbeat_pb2.Heartbeat
    request_nonce: str
    def __init__(self, cluster_id: _Optional[str] = ..., heartbeat: _Optional[_Union[_heartbeat_pb2.Heartbeat, _Mapping]] = ..., request_nonce: _Optional[str] = ...) -> None: ...

class RelayHeartbeatResponse(_message.Message):
    __slots__ = ("ack", "attest")
    ACK_FIELD_NUMBER: _ClassVar[int]
    ATTEST_FIELD_NUMBER: _ClassVar[int]
    ack: _heartbeat_pb2.HeartbeatAck
    attest: Attest
    def __init__(self, ack: _Optional[_Union[_heartbeat_pb2.HeartbeatAck, _Mapping]] = ..., attest: _Optional[_Union[Attest, _Mapping]] = ...) -> None: ...

class Attest(_message.Message):
    __slots__ = ("cluster_id", "incarnation", "request_nonce", "attester_host_id", "no_ack_age", "config_version")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_NONCE_FIELD_NUMBER: _ClassVar[int]
    ATTESTER_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    NO_ACK_AGE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    incarnation: int
    request_nonce: str
    attester_host_id: str
    no_ack_age: _duration_pb2.Duration
    config_version: int
    def __init__(self, cluster_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., request_nonce: _Optional[str] = ..., attester_host_id: _Optional[str] = ..., no_ack_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., config_version: _Optional[int] = ...) -> None: ...

class AdmitVmRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "incarnation", "vm_id", "epoch", "evacuation_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    incarnation: int
    vm_id: str
    epoch: int
    evacuation_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., vm_id: _Optional[str] = ..., epoch: _Optional[int] = ..., evacuation_id: _Optional[str] = ...) -> None: ...

class AdmitVmResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _vm_pb2.VmState
    def __init__(self, state: _Optional[_Union[_vm_pb2.VmState, str]] = ...) -> None: ...
