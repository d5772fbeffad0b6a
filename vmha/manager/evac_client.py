"""The manager's way to the evacuator: each open incident is ordered until it is settled, across restarts of either side.

An order is idempotent by its request_id, the incident's id: whoever asks again joins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import structlog
import tenacity

from vmha.errors import NotFound, Unavailable, VmhaError
from vmha.log import bound
from vmha.manager.contact import LeaseProof
from vmha.model import EvacuationState, ProofKind
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.scalars import duration, enum_from_proto
from vmha.store.records import Incident
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import evacuation_service_pb2_grpc as ev_grpc

CALL_TIMEOUT_S: Final = 10.0
ATTEMPTS: Final = 8
"""Tries in a row before a line is logged and a new row begins."""
REFUSED_WAIT_S: Final = 2.0
"""Between orders that the evacuator refused: what it refuses does not change in a moment."""
UNKNOWN_CONFIRM_S: Final = 1.0
"""An evacuation that is unknown twice, this far apart, was never started: an order may have been on its way at the first time."""

_log = structlog.get_logger("vmha.manager")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where an evacuation stands."""

    cluster_id: str
    host_id: str
    incident_id: str
    state: EvacuationState
    proof: ProofKind
    reason: str
    message: str


Report = Callable[[Progress], None]


class Evacuator(Protocol):
    """What the manager asks of the evacuator."""

    def order(
        self, cluster_id: str, incident: Incident, report: Report, *, leader_term: int, lease_proof: LeaseProof | None = None
    ) -> None:
        """Evacuate the host of an incident and report each step; a second order of the same incident changes nothing.

        Args:
            leader_term: Of the leader that orders: the evacuator refuses an older one than the newest it has seen (R19).
            lease_proof: The host's lease has run out (R16); told to an evacuation that is under way as well.
        """
        ...

    def cancel(self, cluster_id: str, incident: Incident, reason: str, report: Report, *, leader_term: int) -> None:
        """Cancel it, and report where that left it; one that cannot be cancelled any more is followed as an order."""
        ...

    def release(self, incident_id: str) -> None:
        """The incident is closed: ask no more."""
        ...

    async def close(self) -> None:
        """End all orders; the evacuations go on."""
        ...


class EvacClient:
    """The evacuator over gRPC.

    Args:
        channel: To the evacuator. Not closed here.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ev_grpc.EvacuationServiceStub(channel)
        self._orders: dict[str, asyncio.Task[None]] = {}
        self._cancels: dict[str, asyncio.Task[None]] = {}

    def order(
        self, cluster_id: str, incident: Incident, report: Report, *, leader_term: int, lease_proof: LeaseProof | None = None
    ) -> None:
        """See `Evacuator`."""
        task = self._orders.get(incident.incident_id)
        if task is not None and not task.done():
            if lease_proof is None:
                return
            # The same order once more, with what is new: it joins the evacuation that is under way.
            task.cancel()
        order = _Order(self._stub, cluster_id, incident, report, leader_term, lease_proof)
        self._orders[incident.incident_id] = asyncio.create_task(order.run(), name=f"evacuate {incident.host_id}")

    def cancel(self, cluster_id: str, incident: Incident, reason: str, report: Report, *, leader_term: int) -> None:
        """See `Evacuator`."""
        task = self._cancels.get(incident.incident_id)
        if task is None or task.done():
            order = _Order(self._stub, cluster_id, incident, report, leader_term)
            running = self._orders.pop(incident.incident_id, None)
            self._cancels[incident.incident_id] = asyncio.create_task(
                order.cancel(reason, running), name=f"cancel evacuation of {incident.host_id}"
            )

    def release(self, incident_id: str) -> None:
        """See `Evacuator`."""
        for tasks in (self._orders, self._cancels):
            task = tasks.pop(incident_id, None)
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    async def close(self) -> None:
        """See `Evacuator`."""
        tasks = [*self._orders.values(), *self._cancels.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._orders.clear()
        self._cancels.clear()


class _Order:
    def __init__(
        self,
        stub: Any,
        cluster_id: str,
        incident: Incident,
        report: Report,
        leader_term: int,
        lease_proof: LeaseProof | None = None,
    ) -> None:
        self._stub = stub
        self._lease_proof = lease_proof
        self._leader_term = leader_term
        self._cluster_id = cluster_id
        self._incident = incident
        self._report = report
        self._last: EvacuationState | None = None
        self._refused = ""

    async def run(self) -> None:
        """Orders, and follows to the end; again and again while nobody says that the incident is closed."""
        with bound(incident_id=self._incident.incident_id, host_id=self._incident.host_id, cluster_id=self._cluster_id):
            while self._last is None or not self._last.is_terminal:
                try:
                    await _persist(self._follow)
                except Unavailable as error:
                    _log.warning("evacuator does not answer", reason=error.reason, message=error.message)
                except VmhaError as error:
                    await self._wait_after(error, "evacuator refused the order")

    async def cancel(self, reason: str, running: asyncio.Task[None] | None) -> None:
        """Cancels until the evacuator has said where that left the evacuation."""
        with bound(incident_id=self._incident.incident_id, host_id=self._incident.host_id, cluster_id=self._cluster_id):
            if running is not None:
                running.cancel()
                # Not suppressed: this task may be cancelled as well.
                await asyncio.gather(running, return_exceptions=True)
            unknown = 0
            while True:
                try:
                    await _persist(lambda: self._cancel_once(reason))
                    break
                except NotFound:
                    unknown += 1
                    if unknown > 1:
                        self._say(EvacuationState.CANCELLED, ProofKind.UNPROVEN, "NEVER_STARTED", "")
                        return
                    await asyncio.sleep(UNKNOWN_CONFIRM_S)
                except Unavailable as error:
                    _log.warning("evacuator does not answer", reason=error.reason, message=error.message)
                except VmhaError as error:
                    await self._wait_after(error, "evacuator refused to cancel")
        # Proven before the cancellation came: it ends in its own time, and its end is what counts.
        await self.run()

    async def _wait_after(self, error: VmhaError, what: str) -> None:
        if error.reason != self._refused:
            # Once, not every two seconds for as long as it goes on.
            self._refused = error.reason
            _log.error(what, reason=error.reason, message=error.message)
        await asyncio.sleep(REFUSED_WAIT_S)

    async def _follow(self) -> None:
        incident = self._incident
        request = ev.EvacuateRequest(
            cluster_id=self._cluster_id,
            host_id=incident.host_id,
            request_id=incident.incident_id,
            fence_epoch=incident.fence_epoch,
            leader_term=self._leader_term,
            lease_proof=_lease_proof(self._lease_proof),
        )
        call = self._stub.Evacuate(request)
        try:
            async for message in call:
                self._take(message.event.evacuation)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            # A call that is only dropped is never collected (grpc #43462).
            call.cancel()
        if self._last is None or not self._last.is_terminal:
            raise Unavailable("STREAM_ENDED", "The evacuator ended the stream before the evacuation.")

    async def _cancel_once(self, reason: str) -> None:
        request = ev.CancelEvacuationRequest(cluster_id=self._cluster_id, evacuation_id=self._incident.incident_id, reason=reason)
        try:
            answer = await self._stub.CancelEvacuation(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        self._take(answer.evacuation)
        if self._last is not None and not self._last.is_terminal and not self._last.is_proven:
            raise Unavailable("NOT_CANCELLED_YET", "The evacuation has not ended yet.")

    def _take(self, evacuation: ev.Evacuation) -> None:
        state = enum_from_proto(EvacuationState, ev.EvacuationState, evacuation.state, EvacuationState.RUNNING)
        proof = enum_from_proto(ProofKind, ev.ProofKind, evacuation.proof, ProofKind.UNPROVEN)
        self._say(state, proof, evacuation.reason, evacuation.message)

    def _say(self, state: EvacuationState, proof: ProofKind, reason: str, message: str) -> None:
        if state is self._last and not state.is_terminal:
            return
        self._last = state
        incident = self._incident
        self._report(
            Progress(
                cluster_id=self._cluster_id,
                host_id=incident.host_id,
                incident_id=incident.incident_id,
                state=state,
                proof=proof,
                reason=reason,
                message=message,
            )
        )


def _lease_proof(proof: LeaseProof | None) -> ev.LeaseProof | None:
    if proof is None:
        return None
    return ev.LeaseProof(
        silent_for=duration(proof.silent_s),
        waited=duration(proof.wait_s),
        in_contact_for=duration(proof.in_contact_s),
        hosts_in_contact=proof.hosts_in_contact,
        evacuation_quorum=proof.evacuation_quorum,
    )


async def _persist(call: Callable[[], Any]) -> None:
    """One row of tries, for an evacuator that does not answer."""
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    ):
        with attempt:
            await call()
