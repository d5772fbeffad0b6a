"""Core: which host is to be looked at next, and when."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from vmha.manager.hostview import HostView

NEVER = float("inf")


class Agenda:
    """A heap of looks; a host's `due` says which of its entries counts."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, host: HostView, due: float) -> None:
        """A host is due then, and not when it was due so far."""
        if due == host.due:
            return
        host.due = due
        if due != NEVER:
            heapq.heappush(self._heap, (due, host.host_id))

    def next_due(self, hosts: Mapping[str, HostView]) -> float | None:
        """When the next look is due; None when none is. Entries that count no more are dropped on the way."""
        while self._heap:
            due, host_id = self._heap[0]
            host = hosts.get(host_id)
            if host is not None and host.due == due:
                return due
            heapq.heappop(self._heap)
        return None

    def take(self, hosts: Mapping[str, HostView]) -> HostView:
        """The host whose look is due next; only after `next_due` named a time."""
        host = hosts[heapq.heappop(self._heap)[1]]
        host.due = NEVER
        return host
