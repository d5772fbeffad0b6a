"""The watch graph's rounds: who probes whom, drawn anew every peer_refresh and when membership changes (S2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from vmha.manager import session_messages, watchgraph
from vmha.manager.memory import ClusterMemory
from vmha.manager.parts import Parts
from vmha.manager.sessions import Session, Sessions
from vmha.v1 import manager_service_pb2 as ms

Assignment = Mapping[str, tuple[str, ...]]


class Rounds:
    """Draws rounds and tells them to the agents.

    Args:
        drawn: Told of each new round before the agents are.
    """

    def __init__(self, parts: Parts, memory: ClusterMemory, sessions: Sessions, drawn: Callable[[Assignment], None]) -> None:
        self._parts = parts
        self._memory = memory
        self._sessions = sessions
        self._drawn = drawn
        self._number = 0
        self._assignment: Assignment = {}
        self._task: asyncio.Task[None] | None = None
        self._config = session_messages.agent_config(memory.cluster, memory.hosts)

    def start(self) -> None:
        """Draw the first round, and go on."""
        self.draw()
        self._task = asyncio.create_task(self._refresh(), name=f"rounds {self._memory.cluster.cluster_id}")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def draw(self) -> None:
        """A new round now."""
        racks = {host_id: self._memory.hosts[host_id].config.rack for host_id in self._memory.hypervisors}
        self._number += 1
        self._assignment = watchgraph.draw(racks, self._memory.cluster.config.watchers, self._parts.random)
        self._drawn(self._assignment)
        self.push_assignments()

    def of(self, host_id: str) -> ms.SessionAssignment:
        """A host's part of the present round."""
        peers = self._assignment.get(host_id, ())
        return session_messages.assignment(self._memory.cluster, self._memory.hosts, peers, self.version)

    @property
    def version(self) -> str:
        """Names the round."""
        return f"{self._parts.run_id}/{self._number}"

    def push_settings(self) -> None:
        """Tell the agents a new configuration, where there is one."""
        config = session_messages.agent_config(self._memory.cluster, self._memory.hosts)
        if config == self._config:
            return
        self._config = config
        message = ms.ReportHealthResponse(config=config)
        for session in self._sessions.all():
            session.send(message)

    def push_assignments(self) -> None:
        """Tell the agents of the present round, with the intervals and addresses of this moment."""
        for session in self._sessions.all():
            session.send(ms.ReportHealthResponse(assignment=self.of(session.host_id)))

    def welcome(self, session: Session, last_stored: int, *, registration_required: bool) -> ms.SessionWelcome:
        """The answer to hello."""
        return ms.SessionWelcome(
            session_id=session.session_id,
            manager_id=self._parts.manager_id,
            last_stored_sequence=last_stored,
            assignment=self.of(session.host_id),
            config=self._config,
            registration_required=registration_required,
            cluster_id=session.cluster_id,
        )

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self._memory.cluster.config.timers.peer_refresh_s)
            self.draw()
