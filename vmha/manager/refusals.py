"""Refusals of session messages that need to know the cluster."""

from __future__ import annotations

from vmha.errors import FieldViolation, InvalidField


def foreign_host(field: str, host_id: str, cluster_id: str) -> InvalidField:
    """A message names a host that is not of the session's cluster, or that the session may not speak for."""
    message = f"host {host_id} is not of cluster {cluster_id}, or not this session's to speak for"
    metadata = {"field": field, "host_id": host_id, "cluster_id": cluster_id}
    return InvalidField([FieldViolation(field, message)], reason="FOREIGN_HOST", metadata=metadata)
