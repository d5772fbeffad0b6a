"""A manager that does what a test tells it: a real gRPC server of ManagerService, scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.support.waiting import until
from vmha.errors import VmhaError
from vmha.rpc import validate_session
from vmha.rpc.scalars import duration
from vmha.rpc.server import Server
from vmha.v1 import heartbeat_pb2
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1.manager_service_pb2_grpc import ManagerServiceServicer, add_ManagerServiceServicer_to_server

CHECKS: dict[str, Callable[[Any], None]] = {
    "hello": validate_session.hello,
    "registration": validate_session.registration,
    "report": validate_session.health_report,
    "heartbeat": validate_session.heartbeats,
    "inventory": validate_session.inventory,
}

HEARTBEAT_S = 0.1


def assignment(
    *peers: tuple[str, str],
    version: str = "v1",
    heartbeat_s: float = HEARTBEAT_S,
    report_s: float = 30.0,
    refresh_s: float = 30.0,
) -> ms.SessionAssignment:
    """Peers as (host_id, probe_target), and quick intervals."""
    return ms.SessionAssignment(
        nonce=f"nonce-{version}",
        peers=[ms.Peer(host_id=host_id, probe_target=target) for host_id, target in peers],
        assignment_version=version,
        report_interval=duration(report_s),
        heartbeat_interval=duration(heartbeat_s),
        peer_refresh_interval=duration(refresh_s),
        probe_interval=duration(0.05),
        probe_timeout=duration(0.05),
        probe_misses=3,
    )


@dataclass
class Conversation:
    """One session, as the manager sees it. Every message of the agent is checked as the real manager would."""

    messages: list[ms.ReportHealthRequest] = field(default_factory=list)
    outbox: asyncio.Queue[ms.ReportHealthResponse | VmhaError | None] = field(default_factory=asyncio.Queue)
    half_closed: bool = False
    ended: bool = False

    def all(self, kind: str) -> list[Any]:
        """What the agent said of one kind."""
        return [getattr(message, kind) for message in self.messages if message.WhichOneof("payload") == kind]

    def say(self, **payload: Any) -> None:
        """Send a message."""
        self.outbox.put_nowait(ms.ReportHealthResponse(**payload))

    def end(self, error: VmhaError | None = None) -> None:
        """End the session."""
        self.outbox.put_nowait(error)

    async def heard(self, kind: str, count: int = 1) -> Any:
        """Wait until the agent said something `count` times; returns the newest."""
        await until(lambda: len(self.all(kind)) >= count)
        return self.all(kind)[-1]


class ScriptedManager(ManagerServiceServicer):
    """Welcomes, offers and acknowledges by itself, unless told not to.

    Attributes:
        in_force: The incarnation in force; a hello with another one must register.
        offers: Whether registrations are answered; the next incarnation is `in_force` + 1.
        acks: Whether heartbeats and reports are acknowledged.
        refuse: Raised at each hello.
    """

    def __init__(self) -> None:
        self.sessions: list[Conversation] = []
        self.assignment = assignment()
        # An agent that lost a session waits for up to one interval, which is 5 s without a word.
        self.config = ms.AgentConfig(version=1, timers=ms.SafetyTimers(heartbeat_interval=duration(HEARTBEAT_S)))
        self.in_force = 0
        self.offers = self.acks = True
        self.refuse: VmhaError | None = None
        self.polls = 0
        self.polled: ms.GetPeersResponse | None = None
        self._server = Server([(add_ManagerServiceServicer_to_server, self, "vmha.v1.ManagerService")], "127.0.0.1:0")
        self.target = ""

    async def start(self) -> None:
        """Listen."""
        self.target = f"127.0.0.1:{await self._server.start()}"

    async def stop(self) -> None:
        """Stop at once."""
        await self._server.stop(0)

    async def session(self, number: int = 1) -> Conversation:
        """Wait for the `number`-th session."""
        await until(lambda: len(self.sessions) >= number)
        return self.sessions[number - 1]

    async def GetPeers(self, request: ms.GetPeersRequest, context: Any) -> ms.GetPeersResponse:  # noqa: N802
        """Answers what was scripted."""
        self.polls += 1
        return self.polled or ms.GetPeersResponse(
            peers=self.assignment.peers, assignment_version=self.assignment.assignment_version, refresh_interval=duration(0.1)
        )

    async def ReportHealth(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[ms.ReportHealthRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """One session."""
        conversation = Conversation()
        reader = asyncio.create_task(self._read(conversation, requests))
        try:
            while (message := await conversation.outbox.get()) is not None:
                if isinstance(message, VmhaError):
                    raise message
                await context.write(message)
        finally:
            conversation.ended = True
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, conversation: Conversation, requests: AsyncIterator[ms.ReportHealthRequest]) -> None:
        try:
            async for message in requests:
                kind = message.WhichOneof("payload")
                assert kind is not None
                if kind in CHECKS:
                    CHECKS[kind](getattr(message, kind))
                conversation.messages.append(message)
                getattr(self, f"_on_{kind}", lambda *_: None)(conversation, getattr(message, kind))
        except VmhaError as error:
            conversation.end(error)
            raise
        conversation.half_closed = True
        conversation.end()

    def _on_hello(self, conversation: Conversation, hello: ms.AgentHello) -> None:
        if self.refuse is not None:
            conversation.end(self.refuse)
            return
        self.sessions.append(conversation)
        conversation.say(
            welcome=ms.SessionWelcome(
                session_id=f"s{len(self.sessions)}",
                manager_id="scripted",
                assignment=self.assignment,
                config=self.config,
                registration_required=hello.incarnation != self.in_force or not self.in_force,
                cluster_id="c1",
            )
        )

    def _on_registration(self, conversation: Conversation, registration: ms.AgentRegistration) -> None:
        if self.offers:
            offer = ms.RegistrationOffer(boot_token=registration.boot_token, incarnation=self.in_force + 1)
            conversation.say(offer=offer)

    def _on_heartbeat(self, conversation: Conversation, heartbeat: ms.AgentHeartbeat) -> None:
        own = heartbeat.own
        self.in_force = max(self.in_force, own.incarnation)
        if self.acks:
            acks = [
                heartbeat_pb2.HeartbeatAck(
                    host_id=beat.host_id,
                    incarnation=beat.incarnation,
                    sequence=beat.sequence,
                    nonce=f"ack-{beat.host_id}-{beat.sequence}",
                    store_generation=3,
                )
                for beat in (own, *heartbeat.forwarded)
            ]
            conversation.say(heartbeat_acks=ms.HeartbeatAcks(acks=acks))

    def _on_report(self, conversation: Conversation, report: ms.HealthReport) -> None:
        if self.acks:
            conversation.say(report_ack=ms.ReportAck(sequence=report.sequence))

    def _on_inventory(self, conversation: Conversation, inventory: ms.InventoryReport) -> None:
        if self.acks:
            conversation.say(report_ack=ms.ReportAck(sequence=inventory.sequence))
