"""What the store keeps, as messages of the contract. Stands above both `vmha.store.records` and `vmha.rpc`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import Message

from vmha.model import ProtectionState, VmOutcome
from vmha.rpc.convert import cluster_config_to_proto, host_config_to_proto, host_facts_to_proto, vm_facts_to_proto
from vmha.rpc.scalars import enum_to_proto, timestamp
from vmha.store.leaders import LeaderRecord
from vmha.store.records import ClusterRecord, EvacuationRecord, EventRecord, HostRecord, VmEntry, VmRecord
from vmha.v1 import cluster_pb2, evacuation_service_pb2, event_service_pb2, host_pb2, vm_pb2

EVENT_KINDS: Final = frozenset(field.name for field in event_service_pb2.Event.DESCRIPTOR.oneofs_by_name["detail"].fields)
"""What `EventRecord.kind` may be."""


def etag(version: int) -> str:
    """A record's version as the contract's etag: quoted, opaque to callers."""
    return f'"{version}"'


def cluster_to_proto(
    record: ClusterRecord,
    protection: ProtectionState,
    leader: LeaderRecord,
    *,
    host_count: int,
    hosts_without_agent: Sequence[str] = (),
    learning: bool = False,
) -> cluster_pb2.Cluster:
    """A cluster with what the manager knows of it at the moment."""
    return cluster_pb2.Cluster(
        cluster_id=record.cluster_id,
        config=cluster_config_to_proto(record.config),
        protection_state=enum_to_proto(cluster_pb2.ProtectionState, protection),
        host_count=host_count,
        hosts_without_agent=sorted(hosts_without_agent),
        config_version=record.config_version,
        store_generation=record.store_generation,
        learning=learning,
        etag=etag(record.version),
        leader_manager_id=leader.manager_id,
        leader_target=leader.address,
        leader_term=leader.term,
        safe_mode=record.safe_mode,
        awaited_hosts=record.awaited,
    )


def host_to_proto(record: HostRecord, *, agent_connected: bool) -> host_pb2.Host:
    """A host with what the manager knows of it at the moment."""
    return host_pb2.Host(
        host_id=record.host_id,
        cluster_id=record.cluster_id,
        config=host_config_to_proto(record.config),
        state=enum_to_proto(host_pb2.HostState, record.state),
        state_time=timestamp(record.state_time_s),
        state_reason=record.state_reason,
        boot_id=record.boot_id,
        incarnation=record.incarnation,
        fence_epoch=record.fence_epoch,
        in_maintenance=record.in_maintenance,
        incident_id=record.incident_id,
        agent_connected=agent_connected,
        facts=None if record.facts is None else host_facts_to_proto(record.facts),
        etag=etag(record.version),
        self_fencing=record.self_fencing,
        watchdog=record.watchdog,
        config_version=record.config_confirmed,
        drain_id=record.drain_id,
    )


def vm_to_proto(record: VmRecord, cluster_id: str) -> vm_pb2.Vm:
    """A VM as the store has it."""
    return vm_pb2.Vm(
        vm_id=record.vm_id,
        name=record.name,
        cluster_id=cluster_id,
        owner_host_id=record.owner_host_id,
        owner_incarnation=record.owner_incarnation,
        epoch=record.epoch,
        desired_state=enum_to_proto(vm_pb2.VmState, record.desired_state),
        state=enum_to_proto(vm_pb2.VmState, record.state),
        facts=vm_facts_to_proto(record.facts),
        reason=record.reason,
    )


def evacuation_to_proto(record: EvacuationRecord) -> evacuation_service_pb2.Evacuation:
    """Where an evacuation stands."""
    counts = record.counts
    return evacuation_service_pb2.Evacuation(
        evacuation_id=record.evacuation_id,
        cluster_id=record.cluster_id,
        host_id=record.host_id,
        state=enum_to_proto(evacuation_service_pb2.EvacuationState, record.state),
        reason=record.reason,
        message=record.message,
        fence_epoch=record.fence_epoch,
        proof=enum_to_proto(evacuation_service_pb2.ProofKind, record.proof),
        total_count=sum(counts.values()),
        moved_count=counts.get(VmOutcome.MOVED, 0) + counts.get(VmOutcome.REBUILT, 0),
        skipped_count=counts.get(VmOutcome.SKIPPED, 0),
        failed_count=counts.get(VmOutcome.FAILED, 0),
        pending_count=counts.get(VmOutcome.PENDING, 0),
        restarted_count=counts.get(VmOutcome.RESTARTED, 0),
        start_time=timestamp(record.start_time_s),
        proof_time=timestamp(record.proof_time_s),
        end_time=timestamp(record.end_time_s),
        kind=enum_to_proto(evacuation_service_pb2.EvacuationKind, record.kind),
    )


def vm_entry_to_proto(entry: VmEntry) -> evacuation_service_pb2.VmEvacuation:
    """One VM's part of an evacuation."""
    return evacuation_service_pb2.VmEvacuation(
        vm_id=entry.vm_id,
        vm_name=entry.vm_name,
        target_host_id=entry.target_host_id,
        step=enum_to_proto(evacuation_service_pb2.VmStep, entry.step),
        outcome=enum_to_proto(evacuation_service_pb2.VmOutcome, entry.outcome),
        reason=entry.reason,
        message=entry.message,
        epoch=entry.epoch,
        image=entry.image,
    )


def evacuation_event(
    sequence: int, time_s: float, record: EvacuationRecord, entry: VmEntry | None = None
) -> evacuation_service_pb2.EvacuationEvent:
    """One step of an evacuation."""
    return evacuation_service_pb2.EvacuationEvent(
        sequence=sequence,
        event_time=timestamp(time_s),
        evacuation=evacuation_to_proto(record),
        vm=None if entry is None else vm_entry_to_proto(entry),
    )


def event_to_proto(record: EventRecord, cluster_id: str) -> event_service_pb2.Event:
    """One entry of the event log. A kind or field that this release does not know is left out."""
    event = event_service_pb2.Event(
        event_time=timestamp(record.time_s), cluster_id=cluster_id, incident_id=record.incident_id, actor=record.actor
    )
    if record.kind in EVENT_KINDS:
        part: Message = getattr(event, record.kind)
        part.SetInParent()
        json_format.ParseDict(dict(record.detail), part, ignore_unknown_fields=True)
    return event


def event_detail(message: Message) -> Mapping[str, object]:
    """A message as `EventRecord.detail`: its set fields by their proto names, enums by name, JSON-able."""
    detail: Mapping[str, object] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return detail
