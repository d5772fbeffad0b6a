"""The copy of a cluster's configuration that its agents keep: made from memory, sent where it is not the one that is held."""

from __future__ import annotations

import structlog
from google.protobuf.message import DecodeError

from vmha.errors import FieldViolation, InvalidField
from vmha.manager.memory import ClusterMemory
from vmha.manager.sessions import Session, Sessions
from vmha.model import Group
from vmha.rpc import convert
from vmha.rpc.validate_session import MAX_COPY_BYTES
from vmha.store.records import ClusterRecord, HostRecord
from vmha.v1 import cluster_copy_pb2 as cc
from vmha.v1 import manager_service_pb2 as ms

_log = structlog.get_logger("vmha.manager")


class ClusterCopies:
    """Sends the newest copy to the agents of one cluster."""

    def __init__(self, memory: ClusterMemory, sessions: Sessions) -> None:
        self._memory = memory
        self._sessions = sessions
        self._newest = ms.ConfigurationCopy()

    def push(self) -> None:
        """The cluster may have changed: to all whose copy is another one."""
        for session in self._sessions.all():
            self.send(session)

    def send(self, session: Session) -> None:
        """To one agent."""
        copy = self._made()
        if copy.content and session.copy_version != copy.version:
            session.copy_version = copy.version
            session.send(ms.ReportHealthResponse(cluster_copy=copy))

    def _made(self) -> ms.ConfigurationCopy:
        version = self._memory.cluster.version
        if self._newest.version != version:
            self._newest = copy_of(self._memory)
            if self._newest.ByteSize() > MAX_COPY_BYTES:
                size = self._newest.ByteSize()
                _log.warning("cluster is too large to be kept by agents", cluster_id=self._memory.cluster.cluster_id, bytes=size)
                self._newest = ms.ConfigurationCopy(version=version)
        return self._newest


def copy_of(memory: ClusterMemory) -> ms.ConfigurationCopy:
    """All that an operator configured of the cluster, as it is remembered."""
    cluster = memory.cluster
    content = cc.ClusterCopy(
        cluster_id=cluster.cluster_id,
        version=cluster.version,
        config=convert.cluster_config_to_proto(cluster.config),
        protection_enabled=cluster.ha_enabled,
        config_version=cluster.config_version,
        hosts=[
            cc.CopiedHost(
                host_id=host_id,
                config=convert.host_config_to_proto(memory.hosts[host_id].config),
                in_maintenance=memory.hosts[host_id].in_maintenance,
            )
            for host_id in sorted(memory.hosts)
        ],
        groups=[convert.group_to_proto(memory.groups[group_id]) for group_id in sorted(memory.groups)],
    )
    return ms.ConfigurationCopy(
        cluster_id=cluster.cluster_id, version=cluster.version, content=content.SerializeToString(deterministic=True)
    )


def records_of(
    copy: cc.ClusterCopy, *, generation: int, config_version: int
) -> tuple[ClusterRecord, list[HostRecord], list[Group]]:
    """What the store is given back of a copy.

    Raises:
        InvalidField: It cannot be read.
    """
    cluster = ClusterRecord(
        cluster_id=copy.cluster_id,
        config=convert.cluster_config_from_proto(copy.config, "cluster_copy.config"),
        ha_enabled=copy.protection_enabled,
        version=copy.version,
        config_version=config_version,
        store_generation=generation,
    )
    hosts = [
        HostRecord(
            host_id=host.host_id,
            cluster_id=copy.cluster_id,
            config=convert.host_config_from_proto(host.config),
            version=copy.version,
            in_maintenance=host.in_maintenance,
        )
        for host in copy.hosts
    ]
    return cluster, hosts, [convert.group_from_proto(group, "cluster_copy.groups") for group in copy.groups]


def parsed(copy: ms.ConfigurationCopy) -> cc.ClusterCopy:
    """The content of a copy that an agent offers.

    Raises:
        InvalidField: It is none, or speaks of another cluster or version than it is labelled with.
    """
    wrong = "hello.cluster_copy.content"
    try:
        content = cc.ClusterCopy.FromString(copy.content)
    except DecodeError:
        raise InvalidField([FieldViolation(wrong, "must be a ClusterCopy")]) from None
    if (content.cluster_id, content.version) != (copy.cluster_id, copy.version):
        raise InvalidField([FieldViolation(wrong, "must be of the cluster and version that the copy names")])
    return content
