"""Serves the agents' sessions of one cluster: what each message means, and to whom it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from vmha.errors import Exhausted, FieldViolation, InvalidField, VmhaError
from vmha.manager import events as ev
from vmha.manager import metrics
from vmha.manager.alarms import Alarms
from vmha.manager.cluster_copies import ClusterCopies
from vmha.manager.config_keeper import ConfigKeeper
from vmha.manager.contact import Contact
from vmha.manager.duplicates import Duplicates
from vmha.manager.heartbeats import HeartbeatDesk
from vmha.manager.host_queues import HostQueues
from vmha.manager.inventory import InventoryDesk, Seen
from vmha.manager.memory import ClusterMemory
from vmha.manager.parts import Parts
from vmha.manager.refusals import foreign_host
from vmha.manager.registration import RegistrationDesk, request_inventory
from vmha.manager.relayed_guests import RelayedGuests
from vmha.manager.rounds import Rounds
from vmha.manager.safe_mode import SafeMode
from vmha.manager.sessions import Session, Sessions
from vmha.model import GoodbyeReason, Observation, PeerVerdict
from vmha.rpc import validate_session
from vmha.rpc.options import MIB
from vmha.rpc.scalars import enum_from_proto, seconds
from vmha.v1 import heartbeat_pb2, host_pb2
from vmha.v1 import manager_service_pb2 as ms

MAX_MESSAGE_BYTES: Final = MIB
"""What one session message may be long; the transport lets a little more in, so that the refusal can say so."""
FULL_WITHIN_S: Final = 2.0
"""An agent that resumes sends a full inventory by itself within this; else it is asked."""


class Core(Protocol):
    """The detector, as sessions see it."""

    def may_register(self, host_id: str) -> bool:
        """Whether a host may register now."""
        ...


class Cluster(Protocol):
    """The cluster that the sessions belong to."""

    memory: ClusterMemory
    sessions: Sessions
    alarms: Alarms
    rounds: Rounds
    queues: HostQueues
    contact: Contact
    configs: ConfigKeeper
    copies: ClusterCopies
    safe_mode: SafeMode

    @property
    def core(self) -> Core:
        """Who decides."""
        ...

    def leading(self) -> bool:
        """Whether this manager may acknowledge and decide at this moment (R19)."""
        ...

    def feed(self, event: ev.Event) -> None:
        """Tell the detector."""
        ...


class SessionDesk:
    """Serves sessions. Handling a message never waits."""

    def __init__(self, parts: Parts, cluster: Cluster) -> None:
        self._parts = parts
        self._cluster = cluster
        memory, sessions = cluster.memory, cluster.sessions
        self._inventories: dict[Session, InventoryDesk] = {}
        self._duplicates = Duplicates(parts.store, memory.cluster.cluster_id, cluster.alarms)
        self.registration = RegistrationDesk(parts.store, memory, sessions, parts.nonces, self, self._inventories)
        self.heartbeats = HeartbeatDesk(memory, parts.nonces, self, cluster.contact, parts.clock)
        self.registration.heartbeats = self.heartbeats
        self._relayed = RelayedGuests(parts.store, memory.cluster.cluster_id, cluster.queues)
        self._closing: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[Session, Any], None]] = {
            "report": self._report,
            "heartbeat": self._heartbeat,
            "goodbye": self._goodbye,
            "registration": self._registration,
            "inventory": self._inventory,
        }

    def open(self, hello: ms.AgentHello) -> Session:
        """Open the session of a host of this cluster. Nothing is waited for: what must be stored is stored when Redis answers."""
        memory, cluster_id = self._cluster.memory, self._cluster.memory.cluster.cluster_id
        host = memory.hosts[hello.host_id]
        session = Session(cluster_id, hello)
        resumes = (
            host.boot_id == hello.boot_id
            and memory.in_force(hello.host_id, hello.incarnation)
            and hello.host_id not in memory.deciding
        )
        last_stored = self._cluster.sessions.last_stored(session.host_id, session.instance_id)
        self._inventories[session] = self._inventory_desk(session)
        self._cluster.sessions.open(session)
        self._store_hello(session, hello)
        welcome = self._cluster.rounds.welcome(session, last_stored, registration_required=not resumes)
        session.send(ms.ReportHealthResponse(welcome=welcome))
        self._cluster.copies.send(session)
        self._cluster.configs.admit(session.host_id)
        self._cluster.safe_mode.seen(hello.store_generation)
        self._cluster.feed(
            ev.SessionOpened(
                host_id=session.host_id,
                boot_id=session.boot_id,
                self_fencing=hello.self_fencing,
                watchdog=hello.watchdog,
            )
        )
        if resumes:
            self._resume(session)
        session.log.info("session open", boot_id=session.boot_id, incarnation=hello.incarnation, resumed=resumes)
        return session

    def handle(self, session: Session, message: ms.ReportHealthRequest) -> None:
        """Take in one message after hello.

        Raises:
            VmhaError: Ends the session.
        """
        kind = message.WhichOneof("payload")
        if kind is None:
            raise InvalidField([FieldViolation("payload", "exactly one must be set")])
        size = message.ByteSize()
        if size > MAX_MESSAGE_BYTES:
            raise Exhausted(
                "MESSAGE_TOO_LARGE",
                f"{kind} has {size} bytes; a session message may have {MAX_MESSAGE_BYTES}",
                {"bytes": str(size), "limit": str(MAX_MESSAGE_BYTES)},
            )
        if self._cluster.sessions.is_current(session):
            self._handlers[kind](session, getattr(message, kind))

    def close(self, session: Session) -> None:
        """The stream has ended. That says nothing of the host's health, but of its agent's it may."""
        if self._cluster.sessions.is_current(session) and not session.ended.done():
            self._cluster.feed(ev.SessionClosed(host_id=session.host_id))
        self._cluster.sessions.close(session)
        self.registration.close(session)
        inventory = self._inventories.pop(session, None)
        if inventory is not None:
            task = asyncio.ensure_future(inventory.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def stop(self, error: VmhaError) -> None:
        """End all sessions with an error that says why; this cluster is not served any more."""
        self._duplicates.close()
        for session in self._cluster.sessions.all():
            session.end(error)
        for session in list(self._inventories):
            self.close(session)
        await self.registration.withheld.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def ask_inventories(self, reason: str) -> None:
        """Ask every agent for a full inventory."""
        for session in self._cluster.sessions.all():
            request_inventory(session, reason)

    # Life and Registrar: what the desks report

    def heard(self, host_id: str, boot_id: str, beat: heartbeat_pb2.Heartbeat, *, relayed: bool) -> None:
        """A heartbeat of the incarnation in force."""
        cluster = self._cluster
        boot_time_s = seconds(beat.boot_time)
        self._relayed.take(beat, boot_time_s, relayed=relayed)
        if beat.store_generation > cluster.memory.cluster.store_generation:
            cluster.safe_mode.seen(beat.store_generation)
        if beat.config_version and cluster.configs.confirmed(host_id, beat.config_version):
            cluster.feed(ev.ConfigConfirmed(host_id=host_id, version=beat.config_version))
        cluster.feed(
            ev.HeartbeatReceived(
                host_id=host_id,
                boot_id=boot_id,
                relayed=relayed,
                self_fencing=beat.self_fencing,
                boot_time_s=boot_time_s,
            )
        )

    def leading(self) -> bool:
        """Whether this manager may acknowledge at this moment."""
        return self._cluster.leading()

    def delivered(self, host_id: str) -> None:
        """A host was told to start what it owns: no later run of the manager need say it again."""

        async def record() -> None:
            await self._parts.store.hosts.note(self._cluster.memory.cluster.cluster_id, host_id, undelivered=False)

        self._cluster.queues.put(host_id, record, until_done=True)

    def offer_taken(self, session: Session) -> None:
        """The first heartbeat under an offered incarnation."""
        self.registration.offer_taken(session)

    def wants_registration(self, host_id: str, boot_id: str) -> None:
        """A host asks to register."""
        self._cluster.feed(ev.RegistrationRequested(host_id=host_id, boot_id=boot_id))

    def may_register(self, host_id: str) -> bool:
        """Whether it may."""
        return self._cluster.core.may_register(host_id)

    def registered(self, host_id: str, boot_id: str) -> None:
        """Its registration is in force."""
        self._cluster.feed(ev.RegistrationCompleted(host_id=host_id, boot_id=boot_id))
        self._cluster.configs.review()

    def store_away(self) -> None:
        """Redis does not answer."""
        self._parts.store_watch.away()

    # Messages

    def _heartbeat(self, session: Session, message: ms.AgentHeartbeat) -> None:
        validate_session.heartbeats(message)
        self.heartbeats.take(session, message)

    def _report(self, session: Session, message: ms.HealthReport) -> None:
        validate_session.health_report(message)
        sessions = self._cluster.sessions
        observations = self._observations(session, message)
        if message.sequence <= sessions.last_stored(session.host_id, session.instance_id):
            sessions.acknowledge(session, message.sequence)
            return
        metrics.REPORTS.labels(session.cluster_id).inc()
        report = ev.ReportReceived(reporter_id=session.host_id, observations=observations, scout_id=message.scout_id)
        self._cluster.feed(report)
        sessions.acknowledge(session, message.sequence)

    def _observations(self, session: Session, message: ms.HealthReport) -> tuple[Observation, ...]:
        memory, seen = self._cluster.memory, []
        for number, observation in enumerate(message.observations):
            peer_id = observation.host_id
            if peer_id not in memory.hosts and peer_id not in memory.departed:
                raise foreign_host(f"report.observations[{number}].host_id", peer_id, session.cluster_id)
            if peer_id in memory.hosts and peer_id != session.host_id:
                seen.append(_observation(observation))
        return tuple(seen)

    def _goodbye(self, session: Session, message: ms.AgentGoodbye) -> None:
        reason = enum_from_proto(GoodbyeReason, ms.GoodbyeReason, message.reason, GoodbyeReason.UNSPECIFIED)
        session.log.info("goodbye", reason=reason.value)
        if reason is GoodbyeReason.HOST_SHUTTING_DOWN:
            self._cluster.memory.planned_boots[session.host_id] = session.boot_id
        self._cluster.feed(ev.GoodbyeReceived(host_id=session.host_id, reason=reason))

    def _registration(self, session: Session, message: ms.AgentRegistration) -> None:
        validate_session.registration(message)
        self.registration.request(session, message)

    def _inventory(self, session: Session, message: ms.InventoryReport) -> None:
        validate_session.inventory(message)
        self._inventories[session].put(message)

    # What follows from them

    def _inventory_desk(self, session: Session) -> InventoryDesk:
        return InventoryDesk(
            self._parts.store,
            self._cluster.memory,
            self._cluster.sessions,
            session,
            done=self._stored,
            alarms=self._cluster.alarms,
            store_away=self._parts.store_watch.away,
            all_told=self._cluster.safe_mode.all_told,
            turns=self._parts.inventories,
        )

    def _resume(self, session: Session) -> None:
        self.registration.resumed(session)
        self._inventories[session].registered(True)
        asyncio.get_running_loop().call_later(FULL_WITHIN_S, self._ask_for_full, session)

    def _ask_for_full(self, session: Session) -> None:
        # What changed while no session was open would be missing for ever, and a returned host would not hear what it owns.
        inventory = self._inventories.get(session)
        if inventory is not None and not inventory.has_full:
            request_inventory(session, "SESSION_RESUMED")

    def _store_hello(self, session: Session, hello: ms.AgentHello) -> None:
        memory, store = self._cluster.memory, self._parts.store
        host = memory.hosts[session.host_id]
        if (host.boot_id, host.watchdog) == (hello.boot_id, hello.watchdog):
            return

        async def write() -> None:
            record = await store.hosts.hello(
                session.cluster_id, session.host_id, hello.boot_id, hello.self_fencing, hello.watchdog
            )
            memory.put_host(record)

        self._cluster.queues.put(session.host_id, write, until_done=True)

    async def _stored(self, session: Session, seen: Seen, whole: bool) -> None:
        self._duplicates.note(session.host_id, seen, whole=whole)
        if whole:
            self._cluster.safe_mode.arrived(session.host_id)
        await self.registration.stored(session, seen, whole)


def _observation(seen: ms.PeerObservation) -> Observation:
    return Observation(
        host_id=seen.host_id,
        verdict=enum_from_proto(PeerVerdict, host_pb2.PeerVerdict, seen.verdict),
        consecutive_count=seen.consecutive_count,
        age_s=seconds(seen.age),
        round_trip_s=seconds(seen.round_trip_duration) if seen.HasField("round_trip_duration") else None,
    )
