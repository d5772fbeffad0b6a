"""What all sessions of one agent process share: who it is, what it counts, and what the manager acknowledged last."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from vmha import __version__
from vmha.agent.metrics import Metrics
from vmha.agent.state import State
from vmha.clock import Clock
from vmha.rpc.scalars import duration
from vmha.v1 import heartbeat_pb2
from vmha.v1 import manager_service_pb2 as ms

SENT_KEPT: Final = 256
"""Heartbeats whose send time is remembered until they are acknowledged."""


@dataclass(kw_only=True)
class Identity:
    """One agent process.

    Attributes:
        instance_id: New with each process.
        nonce: Of the newest ack that was accepted; echoed in the next heartbeat (safety.md R5).
        acked_send_time: When the heartbeat of the newest accepted ack was sent, on `clock`: the lease starts there (next issue).
    """

    state: State
    clock: Clock
    metrics: Metrics
    self_fencing: bool = False
    instance_id: str = field(default_factory=lambda: secrets.token_hex(16))
    config: ms.AgentConfig | None = None
    store_generation: int = 0
    nonce: str = ""
    acked_send_time: float | None = None
    acked_report: int = 0
    _reports: int = 0
    _heartbeats: int = 0
    _acked_heartbeat: int = 0
    _sent: dict[int, float] = field(default_factory=dict)

    def next_report(self) -> int:
        """The sequence of the next report or inventory."""
        self._reports += 1
        return self._reports

    def report_acked(self, sequence: int) -> None:
        """A report or inventory is stored."""
        self.acked_report = max(self.acked_report, min(sequence, self._reports))

    @property
    def config_version(self) -> int:
        """The configuration that is held; 0 when none is."""
        return 0 if self.config is None else self.config.version

    def hello(self) -> ms.AgentHello:
        """Opens or resumes a session."""
        return ms.AgentHello(
            host_id=self.state.host_id,
            boot_id=self.state.boot_id,
            agent_instance_id=self.instance_id,
            agent_version=__version__,
            last_acked_sequence=self.acked_report,
            incarnation=self.state.incarnation,
            self_fencing=self.self_fencing,
            config_version=self.config_version,
            store_generation=self.store_generation,
            boot_time=duration(self.clock.now()),
        )

    def heartbeat(self) -> heartbeat_pb2.Heartbeat:
        """The next heartbeat, made to be sent at once."""
        now = self.clock.now()
        self._heartbeats += 1
        self._sent[self._heartbeats] = now
        while len(self._sent) > SENT_KEPT:
            del self._sent[next(iter(self._sent))]
        return heartbeat_pb2.Heartbeat(
            host_id=self.state.host_id,
            incarnation=self.state.incarnation,
            sequence=self._heartbeats,
            agent_instance_id=self.instance_id,
            echoed_nonce=self.nonce,
            config_version=self.config_version,
            boot_time=duration(now),
            store_generation=self.store_generation,
        )

    def accept(self, ack: heartbeat_pb2.HeartbeatAck) -> bool:
        """Take an ack in. Only a newer one of this host's own incarnation, for a heartbeat that was sent, counts."""
        if ack.host_id != self.state.host_id or ack.incarnation != self.state.incarnation or not self.state.incarnation:
            return False
        sent_at = self._sent.get(ack.sequence)
        if sent_at is None or ack.sequence <= self._acked_heartbeat:
            return False
        for sequence in [s for s in self._sent if s <= ack.sequence]:
            del self._sent[sequence]
        self._acked_heartbeat, self.nonce, self.acked_send_time = ack.sequence, ack.nonce, sent_at
        self.store_generation = max(self.store_generation, ack.store_generation)
        self.metrics.acked(sent_at)
        return True
