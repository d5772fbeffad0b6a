"""The watch graph's rounds: who probes whom, drawn anew every peer_refresh and when membership changes (S2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from vmha.manager import session_messages, watchgraph
from vmha.manager.memory import ClusterMemory
from vmha.manager.parts import Parts
from vmha.manager.sessions import Session, Sessions
from vmha.model import HostState
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
        self._config: ms.AgentConfig | None = None

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
        racks = self._present()
        self._number += 1
        self._assignment = watchgraph.draw(racks, self._memory.cluster.config.watchers, self._parts.random) if racks else {}
        self._drawn(self._assignment)
        self.push_assignments()

    def redraw(self) -> None:
        """A new round, where hosts left or returned since the last one."""
        if self._present().keys() != self._assignment.keys():
            self.draw()

    def _present(self) -> dict[str, str]:
        """Who watches and is watched, with their racks: an evacuated host has left until it returns."""
        hosts = self._memory.hosts
        present = [h for h in self._memory.hypervisors if hosts[h].state is not HostState.EVACUATED]
        return {host_id: hosts[host_id].config.rack for host_id in present}

    def of(self, host_id: str) -> ms.SessionAssignment:
        """A host's part of the present round."""
        peers = self._assignment.get(host_id, ())
        return session_messages.assignment(self._memory.cluster, self._memory.hosts, peers, self.version)

    @property
    def version(self) -> str:
        """Names the round."""
        return f"{self._parts.run_id}/{self._number}"

    def push_settings(self) -> None:
        """Tell the agents the newest configuration, where they were not told yet and it is on record that they may be (R18)."""
        memory = self._memory
        if memory.config is not None:
            newest = session_messages.agent_config(memory.cluster, memory.hosts, memory.config)
            if newest != self._config:
                self._config = newest
        for session in self._sessions.all():
            config = self._config_of(session.host_id)
            if config is not None and session.config is not config:
                session.config = config
                session.send(ms.ReportHealthResponse(config=config))

    def _config_of(self, host_id: str) -> ms.AgentConfig | None:
        host, config = self._memory.hosts.get(host_id), self._config
        if host is None or config is None:
            return None
        # One that never registered has no lease that a configuration could prolong.
        return config if host.config_sent >= config.version or not (host.incarnation or host.config_confirmed) else None

    def push_assignments(self) -> None:
        """Tell the agents of the present round, with the intervals and addresses of this moment."""
        for session in self._sessions.all():
            session.send(ms.ReportHealthResponse(assignment=self.of(session.host_id)))

    def welcome(self, session: Session, last_stored: int, *, registration_required: bool) -> ms.SessionWelcome:
        """The answer to hello."""
        session.config = self._config_of(session.host_id)
        return ms.SessionWelcome(
            session_id=session.session_id,
            manager_id=self._parts.manager_id,
            last_stored_sequence=last_stored,
            assignment=self.of(session.host_id),
            config=session.config,
            registration_required=registration_required,
            cluster_id=session.cluster_id,
        )

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self._memory.cluster.config.timers.peer_refresh_s)
            self.draw()
