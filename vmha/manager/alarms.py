"""Alarms: each is an event once when it begins and once when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from vmha.manager import metrics
from vmha.manager.host_queues import HostQueues
from vmha.store import Store

_log = structlog.get_logger("vmha.manager")


class AlarmSink(Protocol):
    """Whom to tell that somebody should look."""

    def raise_alarm(self, reason: str, host_id: str, message: str, vm_id: str = "") -> None:
        """Begin an alarm; one that stands is left alone."""
        ...

    def clear_alarm(self, reason: str, host_id: str, vm_id: str = "") -> None:
        """End it; one that does not stand is no error."""
        ...


class Alarms:
    """The alarms of one cluster that this run has raised. After a restart one that stands may be told again."""

    def __init__(self, store: Store, cluster_id: str, queues: HostQueues, incident_of: Callable[[str], str]) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._queues = queues
        self._incident_of = incident_of
        self._standing: dict[tuple[str, str, str], str] = {}

    def raise_alarm(self, reason: str, host_id: str, message: str, vm_id: str = "") -> None:
        """See `AlarmSink`."""
        key = (reason, host_id, vm_id)
        if key in self._standing:
            return
        self._standing[key] = message
        metrics.ALARMS.labels(self._cluster_id, reason).inc()
        _log.warning("alarm", cluster_id=self._cluster_id, reason=reason, host_id=host_id, vm_id=vm_id, message=message)
        self._append(reason, host_id, vm_id, message, cleared=False)

    def clear_alarm(self, reason: str, host_id: str, vm_id: str = "") -> None:
        """See `AlarmSink`."""
        message = self._standing.pop((reason, host_id, vm_id), None)
        if message is not None:
            _log.info("alarm over", cluster_id=self._cluster_id, reason=reason, host_id=host_id, vm_id=vm_id)
            self._append(reason, host_id, vm_id, message, cleared=True)

    def hosts_of(self, reason: str) -> frozenset[str]:
        """The hosts of which an alarm stands."""
        return frozenset(key[1] for key in self._standing if key[0] == reason)

    def forget_host(self, host_id: str) -> None:
        """A host left the cluster: its alarms are over."""
        for reason, host, vm_id in [key for key in self._standing if key[1] == host_id]:
            self.clear_alarm(reason, host, vm_id)

    def _append(self, reason: str, host_id: str, vm_id: str, message: str, *, cleared: bool) -> None:
        detail = {"reason": reason, "host_id": host_id, "vm_id": vm_id, "message": message, "cleared": cleared}
        incident_id = self._incident_of(host_id)

        async def append() -> None:
            await self._store.events.append(self._cluster_id, "alarm", detail, incident_id=incident_id, actor="manager")

        self._queues.put(host_id, append, until_done=True, tells=True)
