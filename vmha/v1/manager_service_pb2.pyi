import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from vmha.v1 import heartbeat_pb2 as _heartbeat_pb2
from vmha.v1 import host_pb2 as _host_pb2
from vmha.v1 import vm_pb2 as _vm_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GoodbyeReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GOODBYE_REASON_UNSPECIFIED: _ClassVar[GoodbyeReason]
    GOODBYE_REASON_AGENT_RESTARTING: _ClassVar[GoodbyeReason]
    GOODBYE_REASON_HOST_SHUTTING_DOWN: _ClassVar[GoodbyeReason]
GOODBYE_REASON_UNSPECIFIED: GoodbyeReason
GOODBYE_REASON_AGENT_RESTARTING: GoodbyeReason
GOODBYE_REASON_HOST_SHUTTING_DOWN: GoodbyeReason

class GetPeersRequest(_message.Message):
    __slots__ = ("host_id",)
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    def __init__(self, host_id: _Optional[str] = ...) -> None: ...

class GetPeersResponse(_message.Message):
    __slots__ = ("peers", "assignment_version", "refresh_interval")
    PEERS_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    REFRESH_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    assignment_version: str
    refresh_interval: _duration_pb2.Duration
    def __init__(self, peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ..., assignment_version: _Optional[str] = ..., refresh_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("host_id", "probe_target", "agent_target")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    PROBE_TARGET_FIELD_NUMBER: _ClassVar[int]
    AGENT_TARGET_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    probe_target: str
    agent_target: str
    def __init__(self, host_id: _Optional[str] = ..., probe_target: _Optional[str] = ..., agent_target: _Optional[str] = ...) -> None: ...

class ReportHealthRequest(_message.Message):
    __slots__ = ("applied_nonce", "hello", "report", "heartbeat", "goodbye", "registration", "inventory")
    APPLIED_NONCE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    applied_nonce: str
    hello: AgentHello
    report: HealthReport
    heartbeat: AgentHeartbeat
    goodbye: AgentGoodbye
    registration: AgentRegistration
    inventory: InventoryReport
    def __init__(self, applied_nonce: _Optional[str] = ..., hello: _Optional[_Union[AgentHello, _Mapping]] = ..., report: _Optional[_Union[HealthReport, _Mapping]] = ..., heartbeat: _Optional[_Union[AgentHeartbeat, _Mapping]] = ..., goodbye: _Optional[_Union[AgentGoodbye, _Mapping]] = ..., registration: _Optional[_Union[AgentRegistration, _Mapping]] = ..., inventory: _Optional[_Union[InventoryReport, _Mapping]] = ...) -> None: ...

class AgentHello(_message.Message):
    __slots__ = ("host_id", "boot_id", "agent_instance_id", "agent_version", "last_acked_sequence", "incarnation", "self_fencing", "watchdog", "config_version", "store_generation", "boot_time", "copy_version", "cluster_copy")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    LAST_ACKED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SELF_FENCING_FIELD_NUMBER: _ClassVar[int]
    WATCHDOG_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    BOOT_TIME_FIELD_NUMBER: _ClassVar[int]
    COPY_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_COPY_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    boot_id: str
    agent_instance_id: str
    agent_version: str
    last_acked_sequence: int
    incarnation: int
    self_fencing: bool
    watchdog: bool
    config_version: int
    store_generation: int
    boot_time: _duration_pb2.Duration
    copy_version: int
    cluster_copy: ConfigurationCopy
    def __init__(self, host_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., agent_instance_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., last_acked_sequence: _Optional[int] = ..., incarnation: _Optional[int] = ..., self_fencing: _Optional[bool] = ..., watchdog: _Optional[bool] = ..., config_version: _Optional[int] = ..., store_generation: _Optional[int] = ..., boot_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., copy_version: _Optional[int] = ..., cluster_copy: _Optional[_Union[ConfigurationCopy, _Mapping]] = ...) -> None: ...

class ConfigurationCopy(_message.Message):
    __slots__ = ("cluster_id", "version", "content", "store_generation", "voter_host_ids")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    STORE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    VOTER_HOST_IDS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    version: int
    content: bytes
    store_generation: int
    voter_host_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster_id: _Optional[str] = ..., version: _Optional[int] = ..., content: _Optional[bytes] = ..., store_generation: _Optional[int] = ..., voter_host_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class AgentRegistration(_message.Message):
    __slots__ = ("boot_token", "vms")
    BOOT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    boot_token: str
    vms: _containers.RepeatedCompositeFieldContainer[_heartbeat_pb2.VmEpoch]
    def __init__(self, boot_token: _Optional[str] = ..., vms: _Optional[_Iterable[_Union[_heartbeat_pb2.VmEpoch, _Mapping]]] = ...) -> None: ...

class HealthReport(_message.Message):
    __slots__ = ("sequence", "assignment_version", "observations", "scout_id")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    SCOUT_ID_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    assignment_version: str
    observations: _containers.RepeatedCompositeFieldContainer[PeerObservation]
    scout_id: str
    def __init__(self, sequence: _Optional[int] = ..., assignment_version: _Optional[str] = ..., observations: _Optional[_Iterable[_Union[PeerObservation, _Mapping]]] = ..., scout_id: _Optional[str] = ...) -> None: ...

class PeerObservation(_message.Message):
    __slots__ = ("host_id", "verdict", "consecutive_count", "age", "round_trip_duration")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CONSECUTIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_DURATION_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    verdict: _host_pb2.PeerVerdict
    consecutive_count: int
    age: _duration_pb2.Duration
    round_trip_duration: _duration_pb2.Duration
    def __init__(self, host_id: _Optional[str] = ..., verdict: _Optional[_Union[_host_pb2.PeerVerdict, str]] = ..., consecutive_count: _Optional[int] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., round_trip_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AgentHeartbeat(_message.Message):
    __slots__ = ("own", "forwarded")
    OWN_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    own: _heartbeat_pb2.Heartbeat
    forwarded: _containers.RepeatedCompositeFieldContainer[_heartbeat_pb2.Heartbeat]
    def __init__(self, own: _Optional[_Union[_heartbeat_pb2.Heartbeat, _Mapping]] = ..., forwarded: _Optional[_Iterable[_Union[_heartbeat_pb2.Heartbeat, _Mapping]]] = ...) -> None: ...

class AgentGoodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: GoodbyeReason
    def __init__(self, reason: _Optional[_Union[GoodbyeReason, str]] = ...) -> None: ...

class InventoryReport(_message.Message):
    __slots__ = ("sequence", "full", "more", "host", "vms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    full: bool
    more: bool
    host: _host_pb2.HostFacts
    vms: _containers.RepeatedCompositeFieldContainer[VmReport]
    def __init__(self, sequence: _Optional[int] = ..., full: _Optional[bool] = ..., more: _Optional[bool] = ..., host: _Optional[_Union[_host_pb2.HostFacts, _Mapping]] = ..., vms: _Optional[_Iterable[_Union[VmReport, _Mapping]]] = ...) -> None: ...

class VmReport(_message.Message):
    __slots__ = ("vm_id", "name", "state", "state_reason", "domain_xml", "epoch", "autostart", "facts", "claim_epoch")
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_XML_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AUTOSTART_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    CLAIM_EPOCH_FIELD_NUMBER: _ClassVar[int]
    vm_id: str
    name: str
    state: _vm_pb2.VmState
    state_reason: str
    domain_xml: str
    epoch: int
    autostart: bool
    facts: _vm_pb2.VmFacts
    claim_epoch: int
    def __init__(self, vm_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[_vm_pb2.VmState, str]] = ..., state_reason: _Optional[str] = ..., domain_xml: _Optional[str] = ..., epoch: _Optional[int] = ..., autostart: _Optional[bool] = ..., facts: _Optional[_Union[_vm_pb2.VmFacts, _Mapping]] = ..., claim_epoch: _Optional[int] = ...) -> None: ...

class ReportHealthResponse(_message.Message):
    __slots__ = ("welcome", "report_ack", "assignment", "drain", "offer", "heartbeat_acks", "ownership", "config", "scout", "inventory_request", "revoked", "cluster_copy")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REPORT_ACK_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ACKS_FIELD_NUMBER: _ClassVar[int]
    OWNERSHIP_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SCOUT_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_REQUEST_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_COPY_FIELD_NUMBER: _ClassVar[int]
    welcome: SessionWelcome
    report_ack: ReportAck
    assignment: SessionAssignment
    drain: SessionDrain
    offer: RegistrationOffer
    heartbeat_acks: HeartbeatAcks
    ownership: OwnershipUpdate
    config: AgentConfig
    scout: ScoutRequest
    inventory_request: InventoryRequest
    revoked: IncarnationRevoked
    cluster_copy: ConfigurationCopy
    def __init__(self, welcome: _Optional[_Union[SessionWelcome, _Mapping]] = ..., report_ack: _Optional[_Union[ReportAck, _Mapping]] = ..., assignment: _Optional[_Union[SessionAssignment, _Mapping]] = ..., drain: _Optional[_Union[SessionDrain, _Mapping]] = ..., offer: _Optional[_Union[RegistrationOffer, _Mapping]] = ..., heartbeat_acks: _Optional[_Union[HeartbeatAcks, _Mapping]] = ..., ownership: _Optional[_Union[OwnershipUpdate, _Mapping]] = ..., config: _Optional[_Union[AgentConfig, _Mapping]] = ..., scout: _Optional[_Union[ScoutRequest, _Mapping]] = ..., inventory_request: _Optional[_Union[InventoryRequest, _Mapping]] = ..., revoked: _Optional[_Union[IncarnationRevoked, _Mapping]] = ..., cluster_copy: _Optional[_Union[ConfigurationCopy, _Mapping]] = ...) -> None: ...

class SessionWelcome(_message.Message):
    __slots__ = ("session_id", "manager_id", "last_stored_sequence", "assignment", "config", "registration_required", "cluster_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MANAGER_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_STORED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    manager_id: str
    last_stored_sequence: int
    assignment: SessionAssignment
    config: AgentConfig
    registration_required: bool
    cluster_id: str
    def __init__(self, session_id: _Optional[str] = ..., manager_id: _Optional[str] = ..., last_stored_sequence: _Optional[int] = ..., assignment: _Optional[_Union[SessionAssignment, _Mapping]] = ..., config: _Optional[_Union[AgentConfig, _Mapping]] = ..., registration_required: _Optional[bool] = ..., cluster_id: _Optional[str] = ...) -> None: ...

class ReportAck(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class SessionAssignment(_message.Message):
    __slots__ = ("nonce", "peers", "assignment_version", "report_interval", "heartbeat_interval", "peer_refresh_interval", "probe_interval", "probe_timeout", "probe_misses")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    REPORT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PEER_REFRESH_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PROBE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PROBE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PROBE_MISSES_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    assignment_version: str
    report_interval: _duration_pb2.Duration
    heartbeat_interval: _duration_pb2.Duration
    peer_refresh_interval: _duration_pb2.Duration
    probe_interval: _duration_pb2.Duration
    probe_timeout: _duration_pb2.Duration
    probe_misses: int
    def __init__(self, nonce: _Optional[str] = ..., peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ..., assignment_version: _Optional[str] = ..., report_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., heartbeat_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., peer_refresh_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probe_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probe_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probe_misses: _Optional[int] = ...) -> None: ...

class AgentConfig(_message.Message):
    __slots__ = ("version", "protection_enabled", "members", "voter_host_ids", "certificate_quorum", "evacuation_quorum", "timers", "self_fencing")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    VOTER_HOST_IDS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_QUORUM_FIELD_NUMBER: _ClassVar[int]
    EVACUATION_QUORUM_FIELD_NUMBER: _ClassVar[int]
    TIMERS_FIELD_NUMBER: _ClassVar[int]
    SELF_FENCING_FIELD_NUMBER: _ClassVar[int]
    version: int
    protection_enabled: bool
    members: _containers.RepeatedCompositeFieldContainer[Peer]
    voter_host_ids: _containers.RepeatedScalarFieldContainer[str]
    certificate_quorum: int
    evacuation_quorum: int
    timers: SafetyTimers
    self_fencing: bool
    def __init__(self, version: _Optional[int] = ..., protection_enabled: _Optional[bool] = ..., members: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ..., voter_host_ids: _Optional[_Iterable[str]] = ..., certificate_quorum: _Optional[int] = ..., evacuation_quorum: _Optional[int] = ..., timers: _Optional[_Union[SafetyTimers, _Mapping]] = ..., self_fencing: _Optional[bool] = ...) -> None: ...

class SafetyTimers(_message.Message):
    __slots__ = ("heartbeat_interval", "relay_after", "contact_ttl", "certificate_window", "attest_after", "ack_max_age", "lease_duration", "kill_timeout", "wait_duration", "request_interval")
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    RELAY_AFTER_FIELD_NUMBER: _ClassVar[int]
    CONTACT_TTL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_WINDOW_FIELD_NUMBER: _ClassVar[int]
    ATTEST_AFTER_FIELD_NUMBER: _ClassVar[int]
    ACK_MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    KILL_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    WAIT_DURATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    heartbeat_interval: _duration_pb2.Duration
    relay_after: _duration_pb2.Duration
    contact_ttl: _duration_pb2.Duration
    certificate_window: _duration_pb2.Duration
    attest_after: _duration_pb2.Duration
    ack_max_age: _duration_pb2.Duration
    lease_duration: _duration_pb2.Duration
    kill_timeout: _duration_pb2.Duration
    wait_duration: _duration_pb2.Duration
    request_interval: _duration_pb2.Duration
    def __init__(self, heartbeat_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., relay_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., contact_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., certificate_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., attest_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ack_max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., kill_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., request_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RegistrationOffer(_message.Message):
    __slots__ = ("boot_token", "incarnation")
    BOOT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    boot_token: str
    incarnation: int
    def __init__(self, boot_token: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class HeartbeatAcks(_message.Message):
    __slots__ = ("acks",)
    ACKS_FIELD_NUMBER: _ClassVar[int]
    acks: _containers.RepeatedCompositeFieldContainer[_heartbeat_pb2.HeartbeatAck]
    def __init__(self, acks: _Optional[_Iterable[_Union[_heartbeat_pb2.HeartbeatAck, _Mapping]]] = ...) -> None: ...

class OwnershipUpdate(_message.Message):
    __slots__ = ("incarnation", "owned", "releases", "more", "start_owned")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    OWNED_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    START_OWNED_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    owned: _containers.RepeatedCompositeFieldContainer[OwnedVm]
    releases: _containers.RepeatedCompositeFieldContainer[VmRelease]
    more: bool
    start_owned: bool
    def __init__(self, incarnation: _Optional[int] = ..., owned: _Optional[_Iterable[_Union[OwnedVm, _Mapping]]] = ..., releases: _Optional[_Iterable[_Union[VmRelease, _Mapping]]] = ..., more: _Optional[bool] = ..., start_owned: _Optional[bool] = ...) -> None: ...

class OwnedVm(_message.Message):
    __slots__ = ("vm_id", "epoch", "desired_state", "domain_xml", "admit", "start")
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DESIRED_STATE_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_XML_FIELD_NUMBER: _ClassVar[int]
    ADMIT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    vm_id: str
    epoch: int
    desired_state: _vm_pb2.VmState
    domain_xml: str
    admit: bool
    start: bool
    def __init__(self, vm_id: _Optional[str] = ..., epoch: _Optional[int] = ..., desired_state: _Optional[_Union[_vm_pb2.VmState, str]] = ..., domain_xml: _Optional[str] = ..., admit: _Optional[bool] = ..., start: _Optional[bool] = ...) -> None: ...

class VmRelease(_message.Message):
    __slots__ = ("vm_id", "epoch", "owner_host_id")
    VM_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OWNER_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    vm_id: str
    epoch: int
    owner_host_id: str
    def __init__(self, vm_id: _Optional[str] = ..., epoch: _Optional[int] = ..., owner_host_id: _Optional[str] = ...) -> None: ...

class ScoutRequest(_message.Message):
    __slots__ = ("scout_id", "peers")
    SCOUT_ID_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    scout_id: str
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    def __init__(self, scout_id: _Optional[str] = ..., peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ...) -> None: ...

class InventoryRequest(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class IncarnationRevoked(_message.Message):
    __slots__ = ("incarnation", "reason")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    reason: str
    def __init__(self, incarnation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class SessionDrain(_message.Message):
    __slots__ = ("grace_duration",)
    GRACE_DURATION_FIELD_NUMBER: _ClassVar[int]
    grace_duration: _duration_pb2.Duration
    def __init__(self, grace_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
