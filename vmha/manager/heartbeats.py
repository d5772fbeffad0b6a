"""Takes heartbeats and acknowledges them: the lease of every host (safety.md R1, R5, R17).

Everything between looking at a heartbeat and queueing its ack is one step of the event loop: no decision can slip between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vmha.clock import Clock
from vmha.manager import metrics
from vmha.manager.contact import Contact
from vmha.manager.memory import ClusterMemory
from vmha.manager.refusals import foreign_host
from vmha.manager.sessions import Session
from vmha.v1 import heartbeat_pb2
from vmha.v1 import manager_service_pb2 as ms


class Life(Protocol):
    """Whom to tell of signs of life."""

    def heard(self, host_id: str, boot_id: str, beat: heartbeat_pb2.Heartbeat, *, relayed: bool) -> None:
        """A heartbeat of the incarnation in force was taken in."""
        ...

    def leading(self) -> bool:
        """Whether this manager may acknowledge at this moment (R19)."""
        ...

    def delivered(self, host_id: str) -> None:
        """A host was told what it owns, and has shown it."""
        ...

    def offer_taken(self, session: Session) -> None:
        """An agent uses the incarnation that it was offered."""
        ...


class Nonces:
    """Fresh, unguessable, and ordered within this run: the run's id and a counter (R5)."""

    def __init__(self, run_id: str) -> None:
        self._begin = f"{run_id}-"
        self.count = 0

    def make(self) -> str:
        """The next one."""
        self.count += 1
        return f"{self._begin}{self.count}"

    def number(self, nonce: str) -> int:
        """Its place in the order; 0 when it is none of this run."""
        count = nonce[len(self._begin) :]
        return int(count) if count.isdecimal() and nonce.startswith(self._begin) else 0


class HeartbeatDesk:
    """Serves the heartbeats of one cluster."""

    def __init__(self, memory: ClusterMemory, nonces: Nonces, life: Life, contact: Contact, clock: Clock) -> None:
        self._memory = memory
        self._nonces = nonces
        self._life = life
        self._contact = contact
        self._clock = clock
        self._counted: dict[str, Callable[[], None]] = {
            result: metrics.HEARTBEATS.labels(memory.cluster.cluster_id, result).inc
            for result in ("acked", "relayed", "revoked", "held", "ignored", "not_leading")
        }

    def take(self, session: Session, message: ms.AgentHeartbeat) -> None:
        """Takes in a message with the sender's own heartbeat and those that it carries.

        Raises:
            InvalidField: FOREIGN_HOST when a heartbeat is not the sender's to bring.
        """
        own = message.own
        if own.host_id != session.host_id:
            raise foreign_host("heartbeat.own.host_id", own.host_id, session.cluster_id)
        if not self._life.leading():
            self._counted["not_leading"]()
            return
        # Built in place: a message that is handed to another one is copied.
        answer = ms.ReportHealthResponse()
        acks = answer.heartbeat_acks
        self._own(session, message, acks)
        if message.forwarded:
            self._forwarded(message, acks)
        if acks.acks:
            session.send(answer)

    def replay(self, session: Session) -> None:
        """Takes the heartbeat that was held back while a decision was on its way."""
        held, session.held = session.held, None
        if held is not None:
            self.take(session, ms.AgentHeartbeat(own=held.own))

    def _own(self, session: Session, message: ms.AgentHeartbeat, acks: ms.HeartbeatAcks) -> None:
        own = message.own
        if session.host_id in self._memory.deciding:
            session.held = message
            self._counted["held"]()
        elif session.registered and self._memory.in_force(session.host_id, own.incarnation):
            now = self._hear(own)
            self._life.heard(session.host_id, session.boot_id, own, relayed=False)
            self._note_delivery(session, own)
            self._counted["acked"]()
            self._ack(own, acks, now)
        elif own.incarnation == session.offered:
            session.held = message
            self._life.offer_taken(session)
        else:
            self._counted["revoked"]()
            session.revoke(own.incarnation, "NOT_IN_FORCE")

    def _forwarded(self, message: ms.AgentHeartbeat, acks: ms.HeartbeatAcks) -> None:
        for number, beat in enumerate(message.forwarded):
            if beat.host_id not in self._memory.hosts:
                if beat.host_id in self._memory.departed:
                    continue
                raise foreign_host(f"heartbeat.forwarded[{number}].host_id", beat.host_id, self._memory.cluster.cluster_id)
            if beat.host_id in self._memory.deciding or not self._memory.in_force(beat.host_id, beat.incarnation):
                self._counted["ignored"]()
                continue
            now = self._hear(beat)
            self._life.heard(beat.host_id, self._memory.hosts[beat.host_id].boot_id, beat, relayed=True)
            self._counted["relayed"]()
            self._ack(beat, acks, now)

    def _hear(self, beat: heartbeat_pb2.Heartbeat) -> float:
        """Returns when it was processed: after it was read, and before its ack is made."""
        now = self._clock.now()
        self._contact.heard(beat.host_id, now)
        number = self._nonces.number(beat.echoed_nonce)
        if number:
            self._contact.echoed(beat.host_id, beat.incarnation, number, now)
        return now

    def _ack(self, beat: heartbeat_pb2.Heartbeat, acks: ms.HeartbeatAcks, now: float) -> None:
        cluster, nonce = self._memory.cluster, self._nonces.make()
        # Before it is handed to the socket (R6); the earlier the time, the shorter the contact that it proves.
        self._contact.issued(beat.host_id, beat.incarnation, self._nonces.count, now)
        acks.acks.add(
            host_id=beat.host_id,
            incarnation=beat.incarnation,
            sequence=beat.sequence,
            nonce=nonce,
            config_version=cluster.config_version,
            store_generation=cluster.store_generation,
        )

    def _note_delivery(self, session: Session, own: heartbeat_pb2.Heartbeat) -> None:
        # An ack that was sent after the ownership update came back: the stream keeps order, so the update arrived, too.
        if 0 <= session.ownership_mark < self._nonces.number(own.echoed_nonce):
            session.ownership_mark = -1
            if self._memory.undelivered.get(session.host_id) == own.incarnation:
                del self._memory.undelivered[session.host_id]
                self._life.delivered(session.host_id)
