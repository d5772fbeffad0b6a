"""Keeps a session with one of the managers: opens the next when one ends, goes where it is told, and asks for peers.

New attempts are spread at random, the first over one heartbeat interval, later ones over more: a manager that restarts, or takes
over, is not run over by all its agents at once. In each attempt all managers are tried, one soon after the other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc
import structlog

from vmha.agent import messages
from vmha.agent.managers import ManagerConnection, Managers
from vmha.agent.session import Desk, Session
from vmha.errors import VmhaError
from vmha.model import GoodbyeReason
from vmha.rpc.checks import valid_target
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.scalars import seconds
from vmha.v1 import manager_service_pb2 as ms

if TYPE_CHECKING:
    from vmha.v1.manager_service_pb2_grpc import ManagerServiceAsyncStub

MOST_BACKOFF_S: Final = 5.0
MOST_INTERVALS: Final = 4
"""Heartbeat intervals that one pause may last where they are short: a lease is not to run out for it."""
LEAST_BACKOFF_S: Final = 0.1
MAX_REDIRECTS: Final = 3
RESTORING: Final = frozenset({"CLUSTER_COPY_WANTED", "CLUSTER_RESTORING"})
"""Who is told so comes back within a heartbeat interval: the first host that has an ack attests no more for the others."""
STEADY_S: Final = 5.0
"""A session that lasted this long makes up for earlier failures; two agents that supersede each other soon slow down."""
POLL_TIMEOUT_S: Final = 5.0
LEAVE_WITHIN_S: Final = 2.0
"""How long a manager may take to end a session that this agent left."""

_log = structlog.get_logger("vmha.agent")


class Link:
    """The agent's way to its managers."""

    def __init__(self, desk: Desk, targets: Sequence[str], managers: Managers) -> None:
        self._desk = desk
        self._targets = list(targets)
        self._managers = managers
        self._metrics = desk.identity.metrics
        self._place = 0
        self._redirect = ""
        self._redirects = 0
        self._failures = 0
        self._last_failure = ""
        self._failed_targets = 0
        self._sessions: list[Session] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._goodbye: GoodbyeReason | None = None
        desk.prober.listener = self._verdict_changed
        desk.relays.bundle_now = self._bundle_now

    async def run(self) -> None:
        """Keep a session until cancelled, or until `say_goodbye`."""
        try:
            while not self._is_leaving():
                target = self._redirect or self._targets[self._place % len(self._targets)]
                self._redirect = ""
                older = self._sessions[-1:]
                drained = await self._hold(target, older)
                if not self._is_leaving() and not drained and not self._redirect:
                    await asyncio.sleep(self._pause())
        finally:
            for task in self._leaving:
                task.cancel()
            await asyncio.gather(*self._leaving, return_exceptions=True)

    def say_goodbye(self, reason: GoodbyeReason) -> bool:
        """Tell the manager that this agent stops on purpose. False: there is none to tell. Else `run` returns when it knows."""
        self._goodbye = reason
        for session in self._sessions:
            session.leave(reason)
        return bool(self._sessions)

    def _is_leaving(self) -> bool:
        return self._goodbye is not None

    async def _hold(self, target: str, older: Sequence[Session]) -> bool:
        """Hold one session to its end, or until it is drained. Returns whether it was drained."""
        opened_at = self._desk.identity.clock.now()
        connection = self._managers.connect(target)
        session = Session(self._desk, connection.stub.ReportHealth())
        self._sessions.append(session)
        running = asyncio.create_task(self._serve(session, connection, target), name=f"session with {target}")
        poll = asyncio.create_task(self._poll(session, connection.stub), name=f"peers from {target}")
        drained = asyncio.create_task(self._drained(session, older), name=f"drain of {target}")
        try:
            await asyncio.wait([running, drained], return_when=asyncio.FIRST_COMPLETED)
            if running.done() or self._is_leaving():
                await asyncio.wait([running])
                running.result()
                return False
            self._place += 1
            if len(self._targets) == 1:
                session.leave(None)
            self._leaving.add(running)
            running.add_done_callback(self._leaving.discard)
            return True
        finally:
            for task in (poll, drained):
                task.cancel()
            if session.welcomed.is_set():
                # All agents of this manager may have lost it in this moment.
                self._failed_targets = len(self._targets)
                if self._desk.identity.clock.now() - opened_at > STEADY_S:
                    self._failures, self._last_failure = 0, ""
            if running not in self._leaving:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await asyncio.gather(poll, drained, return_exceptions=True)

    async def _serve(self, session: Session, connection: ManagerConnection, target: str) -> None:
        try:
            await session.run()
        except VmhaError as error:
            self._failed(error, target)
        except TimeoutError:
            self._place += 1
        else:
            _log.info("session_ended", manager=target)
        finally:
            self._sessions.remove(session)
            self._metrics.session_open.set(any(other.welcomed.is_set() for other in self._sessions))
            await connection.close()

    async def _drained(self, session: Session, older: Sequence[Session]) -> None:
        await session.welcomed.wait()
        self._redirects = 0
        self._metrics.sessions.inc()
        self._metrics.session_open.set(1)
        for other in older:
            other.leave(None)
        await session.drained.wait()

    async def _poll(self, session: Session, stub: ManagerServiceAsyncStub) -> None:
        """Ask for peers in each round (S2); what the session pushed meanwhile is newer."""
        await session.welcomed.wait()
        request = ms.GetPeersRequest(host_id=self._desk.identity.state.host_id)
        pause = session.refresh_s
        while True:
            await asyncio.sleep(pause)
            pushed = session.pushed
            try:
                answer = await stub.GetPeers(request, timeout=POLL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                _log.info("peers_not_told", reason=from_rpc_error(error).reason)
                pause = session.refresh_s
                continue
            if pushed == session.pushed and answer.assignment_version != self._desk.prober.version:
                self._desk.prober.assign_peers(answer.assignment_version, messages.peers(answer.peers))
            pause = max(messages.LEAST_INTERVAL_S, seconds(answer.refresh_interval) or session.refresh_s)

    def _failed(self, error: VmhaError, target: str) -> None:
        self._metrics.session_failures.labels(error.reason).inc()
        leader = error.metadata.get("leader", "") or error.metadata.get("leader_target", "")
        if error.reason == "NOT_LEADER" and valid_target(leader) and self._redirects < MAX_REDIRECTS:
            self._redirects += 1
            self._redirect = leader
            return
        copy = self._desk.identity.copy
        if error.reason == "CLUSTER_COPY_WANTED":
            copy.ask()
        elif error.reason == "HOST_UNKNOWN":
            copy.left(error.metadata.get("left_cluster_id", ""))
        self._redirects = 0
        self._place += 1
        if error.reason != self._last_failure:
            # Once, not with every attempt.
            _log.warning("session_failed", manager=target, reason=error.reason, error=error.message)
        self._last_failure = error.reason

    def _pause(self) -> float:
        if self._desk.identity.keeper.is_lapsed:
            return LEAST_BACKOFF_S  # guests wait for a manager's word, and not for long
        self._failed_targets += 1
        if self._failed_targets < len(self._targets):
            return LEAST_BACKOFF_S  # a dead manager must not keep an agent from the one that lives
        self._failed_targets = 0
        first = self._desk.identity.heartbeat_interval_s
        if self._last_failure in RESTORING:
            return random.uniform(LEAST_BACKOFF_S, max(LEAST_BACKOFF_S, first))
        cap = max(first, min(MOST_BACKOFF_S, MOST_INTERVALS * first))
        most = min(cap, first * 2 ** min(self._failures, 10))
        self._failures += 1
        return random.uniform(LEAST_BACKOFF_S, most)

    def _bundle_now(self) -> None:
        for session in self._sessions[-1:]:
            session.bundle_now()

    def _verdict_changed(self) -> None:
        for session in self._sessions:
            session.verdict_changed()


async def end_within(task: asyncio.Task[None], limit_s: float) -> None:
    """Wait for a task's end, at most `limit_s`; then cancel it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await asyncio.wait([task])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
