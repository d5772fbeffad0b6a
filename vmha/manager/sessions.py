"""The agents' sessions of one cluster: at most one for each host; a newer hello ends the older one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import structlog

from vmha.errors import Aborted, Exhausted, VmhaError
from vmha.manager import metrics
from vmha.v1 import manager_service_pb2 as ms

OUTBOX: Final = 64
"""Messages that may wait for an agent that does not read."""

_log = structlog.get_logger("vmha.manager")


class Outbox:
    """What waits to be written to one agent, bounded; cheaper than asyncio.Queue, of which 10,000 sessions have 25 MiB.

    Attributes:
        on_put: Called after each message that was put; None while nobody writes.
    """

    __slots__ = ("_waiting", "on_put")

    def __init__(self) -> None:
        self._waiting: list[ms.ReportHealthResponse] = []
        self.on_put: Callable[[], None] | None = None

    def put_nowait(self, message: ms.ReportHealthResponse) -> None:
        """Queue a message.

        Raises:
            asyncio.QueueFull: OUTBOX messages wait already.
        """
        if len(self._waiting) >= OUTBOX:
            raise asyncio.QueueFull
        self._waiting.append(message)
        if self.on_put is not None:
            self.on_put()

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._waiting

    def get_nowait(self) -> ms.ReportHealthResponse:
        """The oldest message. IndexError where none waits."""
        return self._waiting.pop(0)


class Session:
    """One agent's open stream, as the rest of the manager sees it.

    Attributes:
        registered: The agent speaks for the incarnation in force.
        incarnation: For which it speaks, or spoke last; 0 before.
        boot_token: Of the registration that it asked for; empty when none is under way.
        offered: The incarnation that was offered to it; 0 when none was.
        held: Its newest heartbeat, while a decision about its host, or its registration, is on its way to the store.
        ownership_mark: How many acks had been made when the ownership update was queued; -1 when its arrival is known.
        config: The configuration that it was sent last; None before.
        copy_version: Of the copy of the cluster's configuration that it holds.
        same_boot: It asked to register in a boot in which it was registered before and never given up.
    """

    __slots__ = (
        "boot_id",
        "boot_token",
        "cluster_id",
        "config",
        "copy_version",
        "ended",
        "held",
        "host_id",
        "incarnation",
        "instance_id",
        "offered",
        "outbox",
        "ownership_mark",
        "registered",
        "revoked_told",
        "same_boot",
        "self_fencing",
        "session_id",
    )

    def __init__(self, cluster_id: str, hello: ms.AgentHello) -> None:
        self.session_id = secrets.token_hex(8)
        self.cluster_id = cluster_id
        self.host_id = hello.host_id
        self.boot_id = hello.boot_id
        self.instance_id = hello.agent_instance_id
        self.self_fencing = hello.self_fencing
        self.registered = False
        self.incarnation = 0
        self.boot_token = ""
        self.offered = 0
        self.held: ms.AgentHeartbeat | None = None
        self.revoked_told = 0
        self.ownership_mark = -1
        self.same_boot = False
        self.config: ms.AgentConfig | None = None
        self.copy_version = hello.copy_version
        self.outbox = Outbox()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Tells of this session; made anew each time, for 10,000 that are kept have 6 MiB."""
        bound: structlog.stdlib.BoundLogger = _log.bind(
            cluster_id=self.cluster_id, host_id=self.host_id, session_id=self.session_id
        )
        return bound

    def send(self, message: ms.ReportHealthResponse) -> None:
        """Queue a message; an agent that does not read loses its session (OUTBOX_FULL)."""
        if self.ended.done():
            return
        try:
            self.outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.end(Exhausted("OUTBOX_FULL", f"more than {OUTBOX} messages wait for this agent"))

    def end(self, error: VmhaError | None = None) -> None:
        """End the session, with an error or without; the first end counts."""
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.log.info("session ends", reason=error.reason, message=error.message)
            metrics.REFUSED_MESSAGES.labels(error.reason).inc()
            self.ended.set_exception(error.again())

    def revoke(self, incarnation: int, reason: str) -> None:
        """Tell the agent once that an incarnation is over."""
        self.registered = False
        if incarnation > 0 and incarnation != self.revoked_told:
            self.revoked_told = incarnation
            self.send(ms.ReportHealthResponse(revoked=ms.IncarnationRevoked(incarnation=incarnation, reason=reason)))


class Sessions:
    """The open sessions of a cluster, and how far each agent's messages are stored."""

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._open: dict[str, Session] = {}
        self._stored: dict[str, tuple[str, int]] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, session: Session) -> None:
        """Take a session in; an older one of its host ends with SESSION_SUPERSEDED."""
        older = self._open.get(session.host_id)
        if older is not None:
            metrics.SUPERSEDED.labels(self._cluster_id).inc()
            older.end(Aborted("SESSION_SUPERSEDED", "a newer session of this host was opened"))
        self._open[session.host_id] = session
        self._empty.clear()
        metrics.SESSIONS.labels(self._cluster_id).set(len(self._open))

    def close(self, session: Session) -> None:
        """Forget a session that has ended. Says nothing of the host's health."""
        if self._open.get(session.host_id) is session:
            del self._open[session.host_id]
        if not self._open:
            self._empty.set()
        metrics.SESSIONS.labels(self._cluster_id).set(len(self._open))

    def get(self, host_id: str) -> Session | None:
        """The open session of a host."""
        return self._open.get(host_id)

    def all(self) -> list[Session]:
        """All open sessions."""
        return list(self._open.values())

    async def wait_empty(self) -> None:
        """Returns when no session is open."""
        await self._empty.wait()

    def is_current(self, session: Session) -> bool:
        """Whether no newer session of the host was opened."""
        return self._open.get(session.host_id) is session

    def last_stored(self, host_id: str, instance_id: str) -> int:
        """The last report or inventory of an agent process that is stored; 0 when this run has stored none."""
        instance, sequence = self._stored.get(host_id, ("", 0))
        return sequence if instance == instance_id else 0

    def mark_stored(self, session: Session, sequence: int) -> None:
        """A report or inventory is stored; acknowledges it."""
        if sequence > self.last_stored(session.host_id, session.instance_id):
            self._stored[session.host_id] = (session.instance_id, sequence)
        self.acknowledge(session, sequence)

    def acknowledge(self, session: Session, sequence: int) -> None:
        """Say (again) that it is stored."""
        session.send(ms.ReportHealthResponse(report_ack=ms.ReportAck(sequence=sequence)))

    def forget(self, host_id: str, error: VmhaError) -> None:
        """The host is gone: its session ends."""
        self._stored.pop(host_id, None)
        session = self._open.get(host_id)
        if session is not None:
            session.end(error)
