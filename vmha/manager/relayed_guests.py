"""What a host runs whose heartbeats come through its peers only: it can send no inventory, and a VM that migrated to it meanwhile
must not be started elsewhere when its source dies (safety.md R13, R22)."""

from __future__ import annotations

from vmha.errors import Aborted
from vmha.manager.host_queues import HostQueues
from vmha.model import VmState
from vmha.rpc.scalars import enum_from_proto
from vmha.store import Store
from vmha.v1 import heartbeat_pb2, vm_pb2

EXECUTES = frozenset({VmState.RUNNING, VmState.PAUSED})


class RelayedGuests:
    """The VMs that relayed heartbeats of one cluster name. The store is asked only when a host's VMs have changed."""

    def __init__(self, store: Store, cluster_id: str, queues: HostQueues) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._queues = queues
        self._said: dict[str, tuple[int, dict[str, VmState]]] = {}
        self._newest: dict[str, tuple[int, float]] = {}

    def take(self, beat: heartbeat_pb2.Heartbeat, made_at_s: float, *, relayed: bool) -> None:
        """A heartbeat of the incarnation in force. One that came by the host's own session ends what is remembered of it.

        Only the newest counts (R13): a peer may bring what it was given a while ago.

        Args:
            made_at_s: Its `boot_time`, seconds on the host's own clock.
        """
        host_id, incarnation = beat.host_id, beat.incarnation
        made = (incarnation, made_at_s)
        is_old = made < self._newest.get(host_id, made)
        if not is_old:
            self._newest[host_id] = made
        if not relayed:
            self._said.pop(host_id, None)
        if is_old or not relayed:
            return
        states = {vm.vm_id: enum_from_proto(VmState, vm_pb2.VmState, vm.state, VmState.RUNNING) for vm in beat.vms}
        runs = {vm_id: state for vm_id, state in states.items() if state in EXECUTES}
        if self._said.get(host_id) == (incarnation, runs):
            return
        self._said[host_id] = (incarnation, runs)

        async def record() -> None:
            if self._said.get(host_id) != (incarnation, runs):
                return  # newer news came while it waited
            try:
                await self._store.vms.sighted(self._cluster_id, host_id, incarnation, runs)
            except Aborted:
                return  # it was given up meanwhile

        self._queues.put(host_id, record, until_done=True, fact="relayed_guests")
