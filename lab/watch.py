"""What the services say while they work: a cluster's event stream with the moment at which each event arrived here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from vmha.v1 import evacuation_service_pb2, event_service_pb2_grpc, host_pb2
from vmha.v1 import event_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Seen:
    """One event and when it arrived (time.monotonic())."""

    at: float
    event: pb.Event

    @property
    def host_state(self) -> tuple[str, str] | None:
        """(host_id, new state) of a host_state_change, else None."""
        if self.event.WhichOneof("detail") != "host_state_change":
            return None
        change = self.event.host_state_change
        return change.host_id, host_pb2.HostState.Name(change.new_state).removeprefix("HOST_STATE_")

    @property
    def vm(self) -> tuple[str, str, str] | None:
        """(vm_name, step, outcome) of a vm_evacuation_change, else None."""
        if self.event.WhichOneof("detail") != "vm_evacuation_change":
            return None
        vm = self.event.vm_evacuation_change.vm
        step = evacuation_service_pb2.VmStep.Name(vm.step).removeprefix("VM_STEP_")
        return vm.vm_name, step, evacuation_service_pb2.VmOutcome.Name(vm.outcome).removeprefix("VM_OUTCOME_")


class EventLog:
    """Follows WatchEvents in a thread of its own, across restarts of the manager."""

    def __init__(self, channel: grpc.Channel, cluster_id: str) -> None:
        self._stub = event_service_pb2_grpc.EventServiceStub(channel)
        self._cluster_id = cluster_id
        self._seen: list[Seen] = []
        self._ended = threading.Event()
        self._call: object | None = None
        self._thread: threading.Thread | None = None
        self.listeners: list[Callable[[Seen], None]] = []

    def start(self) -> None:
        """Begin to follow, from the oldest event that is kept."""
        self._thread = threading.Thread(target=self._follow, name="event-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._ended.set()
        if (call := self._call) is not None:
            call.cancel()  # type: ignore[attr-defined]
        if self._thread is not None:
            self._thread.join(5)

    def all(self) -> list[Seen]:
        """Everything seen so far."""
        return list(self._seen)

    def first(self, wanted: Callable[[Seen], bool], since: float = 0.0) -> Seen | None:
        """The first event that arrived after `since` and is wanted."""
        return next((seen for seen in list(self._seen) if seen.at >= since and wanted(seen)), None)

    def host_state_at(self, host_id: str, state: str, since: float = 0.0) -> float | None:
        """When a host was first seen entering a state."""
        seen = self.first(lambda s: s.host_state == (host_id, state), since)
        return seen.at if seen else None

    def states_of(self, host_id: str, since: float = 0.0) -> list[str]:
        """The states that a host entered, in order."""
        changes = (seen.host_state for seen in list(self._seen) if seen.at >= since)
        return [change[1] for change in changes if change and change[0] == host_id]

    def alarms(self, since: float = 0.0) -> list[str]:
        """Reasons of the alarms raised, in order."""
        return [
            seen.event.alarm.reason
            for seen in list(self._seen)
            if seen.at >= since and seen.event.WhichOneof("detail") == "alarm" and not seen.event.alarm.cleared
        ]

    def _follow(self) -> None:
        revision = 0
        while not self._ended.is_set():
            try:
                call = self._stub.WatchEvents(pb.WatchEventsRequest(cluster_id=self._cluster_id, after_revision=revision))
                self._call = call
                for answer in call:
                    revision = answer.revision
                    if answer.WhichOneof("payload") == "event":
                        self._add(Seen(time.monotonic(), answer.event))
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    revision = 0
                self._ended.wait(0.1)

    def _add(self, seen: Seen) -> None:
        self._seen.append(seen)
        for listener in self.listeners:
            listener(seen)
