"""The agent's copy of its cluster's configuration, for the case that the store is lost while no manager lives.

It is kept on disk, beyond the boot, and given to a manager only when that does not know the cluster and asks for it.
"""

from __future__ import annotations

from typing import Final

import structlog
from google.protobuf.message import DecodeError

from vmha.agent.state import State
from vmha.agent.state_file import StateFile
from vmha.errors import Unavailable
from vmha.rpc.validate_session import MAX_COPY_BYTES
from vmha.v1 import manager_service_pb2 as ms

COPY_NAME: Final = "cluster-copy.binpb"

_log = structlog.get_logger("vmha.agent")


class ClusterCopy:
    """The newest copy that this host was sent.

    A host that has offered it reports a store generation above all that it has seen: should it come back to a manager of the
    store that was thought to be lost, that one finds out, and starts nothing before everybody has reported (R20).
    """

    def __init__(self, file: StateFile, state: State) -> None:
        self._file = file
        self._state = state
        self._asked = False
        self.held = self._read()
        if self.held.store_generation:
            state.saw_generation(self.held.store_generation)

    @property
    def offered(self) -> ms.ConfigurationCopy | None:
        """What the next hello brings; None while no manager has asked for it."""
        return self.held if self._asked and self.held.version else None

    def take(self, copy: ms.ConfigurationCopy) -> None:
        """Keep a copy, unless a newer one of that cluster is held or it is too large."""
        same = copy.cluster_id == self.held.cluster_id
        if copy.ByteSize() > MAX_COPY_BYTES or copy.version <= 0 or (same and copy.version <= self.held.version):
            return
        self._write(copy)

    def ask(self) -> None:
        """A manager that does not know the cluster wants it."""
        if self._asked or not self.held.version:
            return
        marked = ms.ConfigurationCopy()
        marked.CopyFrom(self.held)
        marked.store_generation = self._state.store_generation + 1
        del marked.voter_host_ids[:]
        marked.voter_host_ids.extend(ms.AgentConfig.FromString(self._state.config).voter_host_ids)
        # On record before it is said: what was offered must show from now on, whatever becomes of this process.
        if self._write(marked):
            self._state.saw_generation(marked.store_generation)
            self._asked = True

    def welcomed(self) -> None:
        """A manager knows the cluster: the copy is wanted no more."""
        self._asked = False

    def left(self, cluster_id: str) -> None:
        """The host left that cluster: its copy must not bring it back."""
        if cluster_id and cluster_id == self.held.cluster_id:
            self._asked = False
            self._write(ms.ConfigurationCopy())

    def _read(self) -> ms.ConfigurationCopy:
        try:
            content = self._file.read()
            return ms.ConfigurationCopy.FromString(content or b"")
        except (OSError, DecodeError) as error:
            # As good as none: the next manager sends it again.
            _log.warning("cluster_copy_unreadable", path=self._file.name, error=type(error).__name__)
            return ms.ConfigurationCopy()

    def _write(self, copy: ms.ConfigurationCopy) -> bool:
        try:
            self._file.write(copy.SerializeToString())
        except Unavailable as error:
            _log.warning("cluster_copy_not_written", reason=error.reason, error=error.message)
            return False
        self.held = copy
        return True
