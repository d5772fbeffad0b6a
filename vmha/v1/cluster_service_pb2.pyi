import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from vmha.v1 import cluster_pb2 as _cluster_pb2
from vmha.v1 import host_pb2 as _host_pb2
from vmha.v1 import manager_service_pb2 as _manager_service_pb2
from vmha.v1 import vm_pb2 as _vm_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GroupPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_POLICY_UNSPECIFIED: _ClassVar[GroupPolicy]
    GROUP_POLICY_AFFINITY: _ClassVar[GroupPolicy]
    GROUP_POLICY_ANTI_AFFINITY: _ClassVar[GroupPolicy]

class GroupMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_MODE_UNSPECIFIED: _ClassVar[GroupMode]
    GROUP_MODE_SOFT: _ClassVar[GroupMode]
    GROUP_MODE_HARD: _ClassVar[GroupMode]

class FindingSeverity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINDING_SEVERITY_UNSPECIFIED: _ClassVar[FindingSeverity]
    FINDING_SEVERITY_REFUSES: _ClassVar[FindingSeverity]
    FINDING_SEVERITY_WARNS: _ClassVar[FindingSeverity]
GROUP_POLICY_UNSPECIFIED: GroupPolicy
GROUP_POLICY_AFFINITY: GroupPolicy
GROUP_POLICY_ANTI_AFFINITY: GroupPolicy
GROUP_MODE_UNSPECIFIED: GroupMode
GROUP_MODE_SOFT: GroupMode
GROUP_MODE_HARD: GroupMode
FINDING_SEVERITY_UNSPECIFIED: FindingSeverity
FINDING_SEVERITY_REFUSES: FindingSeverity
FINDING_SEVERITY_WARNS: FindingSeverity

class Group(_message.Message):
    __slots__ = ("group_id", "policy", "mode", "vm_ids", "etag")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    VM_IDS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    policy: GroupPolicy
    mode: GroupMode
    vm_ids: _containers.RepeatedScalarFieldContainer[str]
    etag: str
    def __init__(self, group_id: _Optional[str] = ..., policy: _Optional[_Union[GroupPolicy, str]] = ..., mode: _Optional[_Union[GroupMode, str]] = ..., vm_ids: _Optional[_Iterable[str]] = ..., etag: _Optional[str] = ...) -> None: ...

class HostExplanation(_message.Message):
    __slots__ = ("host", "summary", "silent_since", "votes", "quorum", "manager_probe", "confirm_time", "held_reason", "history")
    HOST_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SILENT_SINCE_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    MANAGER_PROBE_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_TIME_FIELD_NUMBER: _ClassVar[int]
    HELD_REASON_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    summary: str
    silent_since: _timestamp_pb2.Timestamp
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    quorum: int
    manager_probe: _manager_service_pb2.PeerObservation
    confirm_time: _timestamp_pb2.Timestamp
    held_reason: str
    history: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ..., summary: _Optional[str] = ..., silent_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ..., quorum: _Optional[int] = ..., manager_probe: _Optional[_Union[_manager_service_pb2.PeerObservation, _Mapping]] = ..., confirm_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., held_reason: _Optional[str] = ..., history: _Optional[_Iterable[str]] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("reporter_host_id", "observation", "credible", "discredit_reason")
    REPORTER_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    CREDIBLE_FIELD_NUMBER: _ClassVar[int]
    DISCREDIT_REASON_FIELD_NUMBER: _ClassVar[int]
    reporter_host_id: str
    observation: _manager_service_pb2.PeerObservation
    credible: bool
    discredit_reason: str
    def __init__(self, reporter_host_id: _Optional[str] = ..., observation: _Optional[_Union[_manager_service_pb2.PeerObservation, _Mapping]] = ..., credible: _Optional[bool] = ..., discredit_reason: _Optional[str] = ...) -> None: ...

class VmExplanation(_message.Message):
    __slots__ = ("vm", "summary", "history")
    VM_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    vm: _vm_pb2.Vm
    summary: str
    history: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, vm: _Optional[_Union[_vm_pb2.Vm, _Mapping]] = ..., summary: _Optional[str] = ..., history: _Optional[_Iterable[str]] = ...) -> None: ...

class GetClusterRequest(_message.Message):
    __slots__ = ("cluster_id",)
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    def __init__(self, cluster_id: _Optional[str] = ...) -> None: ...

class GetClusterResponse(_message.Message):
    __slots__ = ("cluster",)
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    cluster: _cluster_pb2.Cluster
    def __init__(self, cluster: _Optional[_Union[_cluster_pb2.Cluster, _Mapping]] = ...) -> None: ...

class ListClustersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListClustersResponse(_message.Message):
    __slots__ = ("clusters", "next_page_token")
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    clusters: _containers.RepeatedCompositeFieldContainer[_cluster_pb2.Cluster]
    next_page_token: str
    def __init__(self, clusters: _Optional[_Iterable[_Union[_cluster_pb2.Cluster, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreateClusterRequest(_message.Message):
    __slots__ = ("cluster_id", "config", "enable_ha")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    ENABLE_HA_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    config: _cluster_pb2.ClusterConfig
    enable_ha: bool
    def __init__(self, cluster_id: _Optional[str] = ..., config: _Optional[_Union[_cluster_pb2.ClusterConfig, _Mapping]] = ..., enable_ha: _Optional[bool] = ...) -> None: ...

class CreateClusterResponse(_message.Message):
    __slots__ = ("cluster",)
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    cluster: _cluster_pb2.Cluster
    def __init__(self, cluster: _Optional[_Union[_cluster_pb2.Cluster, _Mapping]] = ...) -> None: ...

class UpdateClusterRequest(_message.Message):
    __slots__ = ("cluster_id", "config", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    config: _cluster_pb2.ClusterConfig
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., config: _Optional[_Union[_cluster_pb2.ClusterConfig, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class UpdateClusterResponse(_message.Message):
    __slots__ = ("cluster",)
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    cluster: _cluster_pb2.Cluster
    def __init__(self, cluster: _Optional[_Union[_cluster_pb2.Cluster, _Mapping]] = ...) -> None: ...

class DeleteClusterRequest(_message.Message):
    __slots__ = ("cluster_id", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteClusterResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnableClusterRequest(_message.Message):
    __slots__ = ("cluster_id", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class EnableClusterResponse(_message.Message):
    __slots__ = ("cluster", "warnings")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    cluster: _cluster_pb2.Cluster
    warnings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, cluster: _Optional[_Union[_cluster_pb2.Cluster, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("type", "severity", "subject", "description", "remedy")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    type: str
    severity: FindingSeverity
    subject: str
    description: str
    remedy: str
    def __init__(self, type: _Optional[str] = ..., severity: _Optional[_Union[FindingSeverity, str]] = ..., subject: _Optional[str] = ..., description: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class PassedCheck(_message.Message):
    __slots__ = ("type", "description")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    type: str
    description: str
    def __init__(self, type: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class HostClock(_message.Message):
    __slots__ = ("host_id", "sane", "compared_for", "gained")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    SANE_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FOR_FIELD_NUMBER: _ClassVar[int]
    GAINED_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    sane: bool
    compared_for: _duration_pb2.Duration
    gained: _duration_pb2.Duration
    def __init__(self, host_id: _Optional[str] = ..., sane: _Optional[bool] = ..., compared_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., gained: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CheckClusterRequest(_message.Message):
    __slots__ = ("cluster_id",)
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    def __init__(self, cluster_id: _Optional[str] = ...) -> None: ...

class CheckClusterResponse(_message.Message):
    __slots__ = ("cluster", "findings", "passed", "clocks", "manager_version", "unknown_types")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    CLOCKS_FIELD_NUMBER: _ClassVar[int]
    MANAGER_VERSION_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_TYPES_FIELD_NUMBER: _ClassVar[int]
    cluster: _cluster_pb2.Cluster
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    passed: _containers.RepeatedCompositeFieldContainer[PassedCheck]
    clocks: _containers.RepeatedCompositeFieldContainer[HostClock]
    manager_version: str
    unknown_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster: _Optional[_Union[_cluster_pb2.Cluster, _Mapping]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., passed: _Optional[_Iterable[_Union[PassedCheck, _Mapping]]] = ..., clocks: _Optional[_Iterable[_Union[HostClock, _Mapping]]] = ..., manager_version: _Optional[str] = ..., unknown_types: _Optional[_Iterable[str]] = ...) -> None: ...

class DisableClusterRequest(_message.Message):
    __slots__ = ("cluster_id", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DisableClusterResponse(_message.Message):
    __slots__ = ("cluster",)
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    cluster: _cluster_pb2.Cluster
    def __init__(self, cluster: _Optional[_Union[_cluster_pb2.Cluster, _Mapping]] = ...) -> None: ...

class GetHostRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ...) -> None: ...

class GetHostResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class ListHostsRequest(_message.Message):
    __slots__ = ("cluster_id", "page_size", "page_token")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    page_size: int
    page_token: str
    def __init__(self, cluster_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListHostsResponse(_message.Message):
    __slots__ = ("hosts", "next_page_token")
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    hosts: _containers.RepeatedCompositeFieldContainer[_host_pb2.Host]
    next_page_token: str
    def __init__(self, hosts: _Optional[_Iterable[_Union[_host_pb2.Host, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreateHostRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "config")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    config: _host_pb2.HostConfig
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., config: _Optional[_Union[_host_pb2.HostConfig, _Mapping]] = ...) -> None: ...

class CreateHostResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class UpdateHostRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "config", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    config: _host_pb2.HostConfig
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., config: _Optional[_Union[_host_pb2.HostConfig, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class UpdateHostResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class DeleteHostRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteHostResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StartHostMaintenanceRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "reason", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    reason: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class StartHostMaintenanceResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class EndHostMaintenanceRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class EndHostMaintenanceResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class StartHostDrainRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "stop_vms", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    STOP_VMS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    stop_vms: bool
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., stop_vms: _Optional[bool] = ..., etag: _Optional[str] = ...) -> None: ...

class StartHostDrainResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class CancelHostDrainRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class CancelHostDrainResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class ConfirmHostOffRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id", "fence_epoch", "operator", "comment")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    FENCE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    fence_epoch: int
    operator: str
    comment: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ..., fence_epoch: _Optional[int] = ..., operator: _Optional[str] = ..., comment: _Optional[str] = ...) -> None: ...

class ConfirmHostOffResponse(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: _host_pb2.Host
    def __init__(self, host: _Optional[_Union[_host_pb2.Host, _Mapping]] = ...) -> None: ...

class ExplainHostRequest(_message.Message):
    __slots__ = ("cluster_id", "host_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    host_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., host_id: _Optional[str] = ...) -> None: ...

class ExplainHostResponse(_message.Message):
    __slots__ = ("explanation",)
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    explanation: HostExplanation
    def __init__(self, explanation: _Optional[_Union[HostExplanation, _Mapping]] = ...) -> None: ...

class ListVmsRequest(_message.Message):
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

class ListVmsResponse(_message.Message):
    __slots__ = ("vms", "next_page_token")
    VMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    vms: _containers.RepeatedCompositeFieldContainer[_vm_pb2.Vm]
    next_page_token: str
    def __init__(self, vms: _Optional[_Iterable[_Union[_vm_pb2.Vm, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExplainVmRequest(_message.Message):
    __slots__ = ("cluster_id", "vm_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    vm_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., vm_id: _Optional[str] = ...) -> None: ...

class ExplainVmResponse(_message.Message):
    __slots__ = ("explanation",)
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    explanation: VmExplanation
    def __init__(self, explanation: _Optional[_Union[VmExplanation, _Mapping]] = ...) -> None: ...

class GetGroupRequest(_message.Message):
    __slots__ = ("cluster_id", "group_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    group_id: str
    def __init__(self, cluster_id: _Optional[str] = ..., group_id: _Optional[str] = ...) -> None: ...

class GetGroupResponse(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: Group
    def __init__(self, group: _Optional[_Union[Group, _Mapping]] = ...) -> None: ...

class ListGroupsRequest(_message.Message):
    __slots__ = ("cluster_id", "page_size", "page_token")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    page_size: int
    page_token: str
    def __init__(self, cluster_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGroupsResponse(_message.Message):
    __slots__ = ("groups", "next_page_token")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    next_page_token: str
    def __init__(self, groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreateGroupRequest(_message.Message):
    __slots__ = ("cluster_id", "group")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    group: Group
    def __init__(self, cluster_id: _Optional[str] = ..., group: _Optional[_Union[Group, _Mapping]] = ...) -> None: ...

class CreateGroupResponse(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: Group
    def __init__(self, group: _Optional[_Union[Group, _Mapping]] = ...) -> None: ...

class UpdateGroupRequest(_message.Message):
    __slots__ = ("cluster_id", "group")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    group: Group
    def __init__(self, cluster_id: _Optional[str] = ..., group: _Optional[_Union[Group, _Mapping]] = ...) -> None: ...

class UpdateGroupResponse(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: Group
    def __init__(self, group: _Optional[_Union[Group, _Mapping]] = ...) -> None: ...

class DeleteGroupRequest(_message.Message):
    __slots__ = ("cluster_id", "group_id", "etag")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    group_id: str
    etag: str
    def __init__(self, cluster_id: _Optional[str] = ..., group_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
