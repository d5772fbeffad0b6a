from vmha.v1 import cluster_pb2 as _cluster_pb2
from vmha.v1 import cluster_service_pb2 as _cluster_service_pb2
from vmha.v1 import host_pb2 as _host_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClusterCopy(_message.Message):
    __slots__ = ("cluster_id", "version", "config", "protection_enabled", "config_version", "hosts", "groups")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_ENABLED_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    version: int
    config: _cluster_pb2.ClusterConfig
    protection_enabled: bool
    config_version: int
    hosts: _containers.RepeatedCompositeFieldContainer[CopiedHost]
    groups: _containers.RepeatedCompositeFieldContainer[_cluster_service_pb2.Group]
    def __init__(self, cluster_id: _Optional[str] = ..., version: _Optional[int] = ..., config: _Optional[_Union[_cluster_pb2.ClusterConfig, _Mapping]] = ..., protection_enabled: _Optional[bool] = ..., config_version: _Optional[int] = ..., hosts: _Optional[_Iterable[_Union[CopiedHost, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[_cluster_service_pb2.Group, _Mapping]]] = ...) -> None: ...

class CopiedHost(_message.Message):
    __slots__ = ("host_id", "config", "in_maintenance")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IN_MAINTENANCE_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    config: _host_pb2.HostConfig
    in_maintenance: bool
    def __init__(self, host_id: _Optional[str] = ..., config: _Optional[_Union[_host_pb2.HostConfig, _Mapping]] = ..., in_maintenance: _Optional[bool] = ...) -> None: ...
