import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from vmha.v1 import cluster_pb2 as _cluster_pb2
from vmha.v1 import evacuation_service_pb2 as _evacuation_service_pb2
from vmha.v1 import host_pb2 as _host_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchEventsRequest(_message.Message):
    __slots__ = ("cluster_id", "after_revision")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    after_revision: int
    def __init__(self, cluster_id: _Optional[str] = ..., after_revision: _Optional[int] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("revision", "event", "bookmark")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_FIELD_NUMBER: _ClassVar[int]
    revision: int
    event: Event
    bookmark: Bookmark
    def __init__(self, revision: _Optional[int] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., bookmark: _Optional[_Union[Bookmark, _Mapping]] = ...) -> None: ...

class Bookmark(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_time", "cluster_id", "incident_id", "actor", "host_state_change", "protection_state_change", "alarm", "vm_evacuation_change", "evacuation_state_change", "operator_act")
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    HOST_STATE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_STATE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    VM_EVACUATION_CHANGE_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_STATE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_ACT_FIELD_NUMBER: _ClassVar[int]
    event_time: _timestamp_pb2.Timestamp
    cluster_id: str
    incident_id: str
    actor: str
    host_state_change: HostStateChange
    protection_state_change: ProtectionStateChange
    alarm: Alarm
    vm_evacuation_change: VmEvacuationChange
    evacuation_state_change: EvacuationStateChange
    operator_act: OperatorAct
    def __init__(self, event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cluster_id: _Optional[str] = ..., incident_id: _Optional[str] = ..., actor: _Optional[str] = ..., host_state_change: _Optional[_Union[HostStateChange, _Mapping]] = ..., protection_state_change: _Optional[_Union[ProtectionStateChange, _Mapping]] = ..., alarm: _Optional[_Union[Alarm, _Mapping]] = ..., vm_evacuation_change: _Optional[_Union[VmEvacuationChange, _Mapping]] = ..., evacuation_state_change: _Optional[_Union[EvacuationStateChange, _Mapping]] = ..., operator_act: _Optional[_Union[OperatorAct, _Mapping]] = ...) -> None: ...

class HostStateChange(_message.Message):
    __slots__ = ("host_id", "old_state", "new_state", "reason", "message")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    OLD_STATE_FIELD_NUMBER: _ClassVar[int]
    NEW_STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    old_state: _host_pb2.HostState
    new_state: _host_pb2.HostState
    reason: str
    message: str
    def __init__(self, host_id: _Optional[str] = ..., old_state: _Optional[_Union[_host_pb2.HostState, str]] = ..., new_state: _Optional[_Union[_host_pb2.HostState, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ProtectionStateChange(_message.Message):
    __slots__ = ("old_state", "new_state", "reason")
    OLD_STATE_FIELD_NUMBER: _ClassVar[int]
    NEW_STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    old_state: _cluster_pb2.ProtectionState
    new_state: _cluster_pb2.ProtectionState
    reason: str
    def __init__(self, old_state: _Optional[_Union[_cluster_pb2.ProtectionState, str]] = ..., new_state: _Optional[_Union[_cluster_pb2.ProtectionState, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Alarm(_message.Message):
    __slots__ = ("reason", "host_id", "vm_id", "message", "cleared")
    REASON_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CLEARED_FIELD_NUMBER: _ClassVar[int]
    reason: str
    host_id: str
    vm_id: str
    message: str
    cleared: bool
    def __init__(self, reason: _Optional[str] = ..., host_id: _Optional[str] = ..., vm_id: _Optional[str] = ..., message: _Optional[str] = ..., cleared: _Optional[bool] = ...) -> None: ...

class VmEvacuationChange(_message.Message):
    __slots__ = ("evacuation_id", "source_host_id", "vm")
    EVACUATION_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    VM_FIELD_NUMBER: _ClassVar[int]
    evacuation_id: str
    source_host_id: str
    vm: _evacuation_service_pb2.VmEvacuation
    def __init__(self, evacuation_id: _Optional[str] = ..., source_host_id: _Optional[str] = ..., vm: _Optional[_Union[_evacuation_service_pb2.VmEvacuation, _Mapping]] = ...) -> None: ...

class EvacuationStateChange(_message.Message):
    __slots__ = ("evacuation",)
    EVACUATION_FIELD_NUMBER: _ClassVar[int]
    evacuation: _evacuation_service_pb2.Evacuation
    def __init__(self, evacuation: _Optional[_Union[_evacuation_service_pb2.Evacuation, _Mapping]] = ...) -> None: ...

class OperatorAct(_message.Message):
    __slots__ = ("act", "subject", "refused_reason", "message")
    ACT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    act: str
    subject: str
    refused_reason: str
    message: str
    def __init__(self, act: _Optional[str] = ..., subject: _Optional[str] = ..., refused_reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
