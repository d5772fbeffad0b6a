"""What this agent does for peers whose acks stay away: carries their heartbeats to the manager, or states that it hears nothing
either (R7, R8).

Everything is bounded by the cluster's size and by figures here: a peer that asks faster replaces what it asked before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vmha.agent.identity import Identity
from vmha.errors import FieldViolation, InvalidField, NotFound
from vmha.rpc.scalars import duration
from vmha.v1 import agent_service_pb2 as pb
from vmha.v1 import heartbeat_pb2

MAX_FORWARDED: Final = 64
"""Heartbeats that one message carries on: what the manager takes in."""
MAX_FORWARDED_BYTES: Final = 512 * 1024
MAX_WAITING: Final = 256
"""Requests that wait for the manager's ack; whoever asks beyond is told at once what this agent knows itself."""
FRESH_INTERVALS: Final = 2.5
"""A heartbeat is carried on for this many heartbeat intervals after its host asked (R7)."""
ANSWER_SHARE: Final = 0.8
"""Of the time that the requester waits: the rest is the answer's way back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    heartbeat: heartbeat_pb2.Heartbeat
    asked_at: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiter:
    heartbeat: heartbeat_pb2.Heartbeat
    answered: asyncio.Future[heartbeat_pb2.HeartbeatAck]

    def is_answered_by(self, ack: heartbeat_pb2.HeartbeatAck) -> bool:
        beat = self.heartbeat
        return beat.host_id == ack.host_id and beat.incarnation == ack.incarnation and beat.sequence <= ack.sequence


def _nobody() -> None:
    """No session is there to carry anything."""


class RelayDesk:
    """Answers RelayHeartbeat.

    Attributes:
        bundle_now: Called when a heartbeat waits to be carried on.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._keeper = identity.keeper
        self._clock = identity.clock
        self._metrics = identity.metrics
        self._pending: dict[str, _Pending] = {}
        self._waiters: dict[_Waiter, None] = {}
        self.bundle_now: Callable[[], None] = _nobody

    async def relay(self, request: pb.RelayHeartbeatRequest, within_s: float | None) -> pb.RelayHeartbeatResponse:
        """The manager's ack, or this agent's word.

        Args:
            within_s: What is left of the caller's deadline; None when it set none.

        Raises:
            InvalidField: It is meant for another cluster, or comes from this host itself.
            NotFound: HOST_UNKNOWN, the requester is no member of the cluster.
        """
        self._check(request)
        beat = request.heartbeat
        self._pending.pop(beat.host_id, None)
        self._pending[beat.host_id] = _Pending(heartbeat=beat, asked_at=self._clock.now())
        self.bundle_now()
        terms = self._identity.terms
        knows_outage = self._keeper.lease.no_ack_age(self._clock.now()) >= terms.attest_after_s
        if not knows_outage and len(self._waiters) < MAX_WAITING:
            limit = terms.request_interval_s if within_s is None else min(within_s, terms.request_interval_s)
            ack = await self._ack(beat, ANSWER_SHARE * limit)
            if ack is not None:
                self._metrics.relayed.labels("ack").inc()
                return pb.RelayHeartbeatResponse(ack=ack)
        self._metrics.relayed.labels("attest").inc()
        return pb.RelayHeartbeatResponse(attest=self._attest(request))

    def bundle(self) -> list[heartbeat_pb2.Heartbeat]:
        """The peers' heartbeats that go with this host's own; unchanged, and those that waited longest first."""
        now = self._clock.now()
        fresh_s = FRESH_INTERVALS * self._identity.heartbeat_interval_s
        chosen: list[heartbeat_pb2.Heartbeat] = []
        room = MAX_FORWARDED_BYTES
        for host_id, pending in list(self._pending.items()):
            if now - pending.asked_at > fresh_s:
                del self._pending[host_id]
                continue
            room -= pending.heartbeat.ByteSize()
            if room < 0 or len(chosen) == MAX_FORWARDED:
                break
            chosen.append(pending.heartbeat)
        for beat in chosen:
            self._pending[beat.host_id] = self._pending.pop(beat.host_id)
        return chosen

    def acked(self, ack: heartbeat_pb2.HeartbeatAck) -> None:
        """The manager acknowledged a peer's heartbeat: the ack goes on at once."""
        pending = self._pending.get(ack.host_id)
        if pending is not None and pending.heartbeat.sequence <= ack.sequence:
            del self._pending[ack.host_id]
        for waiter in [waiter for waiter in self._waiters if waiter.is_answered_by(ack)]:
            if not waiter.answered.done():
                waiter.answered.set_result(ack)

    def _check(self, request: pb.RelayHeartbeatRequest) -> None:
        host_id, own = request.heartbeat.host_id, self._identity.state
        wrong = []
        if not own.cluster_id or request.cluster_id != own.cluster_id:
            wrong.append(FieldViolation("cluster_id", f"must be this host's own, {own.cluster_id!r}"))
        if host_id == own.host_id:
            wrong.append(FieldViolation("heartbeat.host_id", "must be another host's"))
        if wrong:
            raise InvalidField(wrong)
        if host_id not in self._identity.members:
            raise NotFound("HOST_UNKNOWN", f"{host_id} is no member of {own.cluster_id}", {"host_id": host_id})

    async def _ack(self, beat: heartbeat_pb2.Heartbeat, within_s: float) -> heartbeat_pb2.HeartbeatAck | None:
        waiter = _Waiter(heartbeat=beat, answered=asyncio.get_running_loop().create_future())
        self._waiters[waiter] = None
        try:
            async with asyncio.timeout(within_s):
                return await waiter.answered
        except TimeoutError:
            return None
        finally:
            self._waiters.pop(waiter, None)

    def _attest(self, request: pb.RelayHeartbeatRequest) -> pb.Attest:
        # Of this moment: an ack that came while the manager was waited for counts.
        age_s = max(0.0, self._keeper.lease.no_ack_age(self._clock.now()))
        return pb.Attest(
            cluster_id=request.cluster_id,
            incarnation=request.heartbeat.incarnation,
            request_nonce=request.request_nonce,
            attester_host_id=self._identity.state.host_id,
            no_ack_age=duration(age_s),
            config_version=self._identity.config_version,
        )
