"""Refusals that need to know the cluster."""

from __future__ import annotations

from vmha.errors import FieldViolation, InvalidField, PreconditionFailed
from vmha.store.leaders import LeaderRecord


def foreign_host(field: str, host_id: str, cluster_id: str) -> InvalidField:
    """A message names a host that is not of the session's cluster, or that the session may not speak for."""
    message = f"host {host_id} is not of cluster {cluster_id}, or not this session's to speak for"
    metadata = {"field": field, "host_id": host_id, "cluster_id": cluster_id}
    return InvalidField([FieldViolation(field, message)], reason="FOREIGN_HOST", metadata=metadata)


def not_leader(cluster_id: str, leader: LeaderRecord) -> PreconditionFailed:
    """Another replica leads the cluster, or none does at the moment; `leader` in the metadata is where to go."""
    whom = f"{leader.manager_id} at {leader.address} does" if leader.address else "at the moment nobody does"
    metadata = {"cluster_id": cluster_id, "leader": leader.address, "manager_id": leader.manager_id}
    return PreconditionFailed("NOT_LEADER", f"This replica does not lead cluster {cluster_id}: {whom}.", metadata)
