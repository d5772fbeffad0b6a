"""What all sessions of one agent process share: who it is, what it counts, and the heartbeats that it makes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from vmha import __version__
from vmha.agent import messages
from vmha.agent.cluster_copy import ClusterCopy
from vmha.agent.guests import Guests
from vmha.agent.keeper import Keeper
from vmha.agent.lease_events import AckReceived, ConfigTaken, HeartbeatSent, LeaseConfig
from vmha.agent.metrics import Metrics
from vmha.agent.state import State
from vmha.agent.watchdog import is_quick_enough
from vmha.agent.watchdog_life import WatchdogLife
from vmha.clock import Clock
from vmha.model import Timers
from vmha.rpc.scalars import duration, seconds
from vmha.v1 import heartbeat_pb2
from vmha.v1 import manager_service_pb2 as ms


@dataclass(kw_only=True)
class Identity:
    """One agent process.

    Attributes:
        may_destroy: This agent may destroy VMs at all (a setting).
        copy: The copy of the cluster's configuration.
        watchdog: Where the process that feeds the host's watchdog shows that it does; None: none is configured.
        instance_id: New with each process.
        is_relayed: The newest ack that counted came through a peer.
        config: The newest configuration; what an earlier process of this boot held, until another comes.
        heartbeat_interval_s: How often the cluster's hosts send heartbeats.
        members: The agents of the cluster: host_id -> host:port.
        terms: What the configuration says about the lease; the standard profile's constants before there is one.
    """

    state: State
    clock: Clock
    metrics: Metrics
    keeper: Keeper
    guests: Guests
    copy: ClusterCopy
    may_destroy: bool = True
    watchdog: WatchdogLife | None = None
    instance_id: str = field(default_factory=lambda: secrets.token_hex(16))
    config: ms.AgentConfig = field(init=False)
    members: Mapping[str, str] = field(init=False)
    terms: LeaseConfig = field(init=False)
    heartbeat_interval_s: float = field(init=False)
    is_relayed: bool = False
    acked_report: int = 0
    _reports: int = 0
    _heartbeats: int = 0

    def __post_init__(self) -> None:
        self._hold(ms.AgentConfig.FromString(self.state.config))
        # An earlier process of this boot had the same incarnation. A late ack of its heartbeat must not be taken for one of this
        # process's, which was sent later (R1): no number comes twice, since nobody sends a thousand a second.
        self._heartbeats = int(1000 * self.clock.now())

    # Reports

    def next_report(self) -> int:
        """The sequence of the next report or inventory."""
        self._reports += 1
        return self._reports

    def report_acked(self, sequence: int) -> None:
        """A report or inventory is stored."""
        self.acked_report = max(self.acked_report, min(sequence, self._reports))

    # The configuration

    @property
    def config_version(self) -> int:
        """The configuration that is held; 0 when none is."""
        return 0 if self.keeper.lease.config is None else self.keeper.lease.config.version

    def configure(self, config: ms.AgentConfig) -> bool:
        """Take a configuration in, unless a newer one is held. Returns whether it was taken."""
        if config.version < self.config_version:
            return False
        self._hold(config)
        self.state.configured(config.SerializeToString())
        self.keeper.tell(ConfigTaken(config=self.terms))
        return True

    def _hold(self, config: ms.AgentConfig) -> None:
        self.config = config
        self.members = {member.host_id: member.agent_target for member in config.members}
        self.terms = messages.lease_config(config, may_destroy=self.may_destroy)
        self.heartbeat_interval_s = seconds(config.timers.heartbeat_interval) or Timers().heartbeat_interval_s

    @property
    def has_watchdog(self) -> bool:
        """Whether this host is reset, and in time, should this agent stall now (R10, I6)."""
        device = None if self.watchdog is None else self.watchdog.armed(self.clock.now())
        return device is not None and is_quick_enough(device, self.terms.kill_timeout_s)

    # What is sent and what comes back

    def hello(self) -> ms.AgentHello:
        """Opens or resumes a session. A latched incarnation is no longer named: it is over (R3)."""
        self.keeper.look()
        return ms.AgentHello(
            host_id=self.state.host_id,
            boot_id=self.state.boot_id,
            agent_instance_id=self.instance_id,
            agent_version=__version__,
            last_acked_sequence=self.acked_report,
            incarnation=0 if self.keeper.lease.latched else self.state.incarnation,
            self_fencing=self.keeper.self_fencing,
            watchdog=self.has_watchdog,
            config_version=self.config_version,
            store_generation=self.state.store_generation,
            boot_time=duration(self.clock.now()),
            copy_version=self.copy.held.version,
            cluster_copy=self.copy.offered,
        )

    def heartbeat(self) -> heartbeat_pb2.Heartbeat | None:
        """The next heartbeat, made to be sent at once (R1). None: none may be sent (R3, R8), or there is no registration."""
        keeper = self.keeper
        keeper.look()
        if not keeper.is_written or keeper.is_lapsed:
            return None
        sequence = self._heartbeats + 1
        keeper.tell(HeartbeatSent(sequence=sequence))
        if keeper.lease.latched or not self.state.incarnation:
            return None
        self._heartbeats = sequence
        self.metrics.heartbeats_sent.inc()
        return heartbeat_pb2.Heartbeat(
            host_id=self.state.host_id,
            incarnation=self.state.incarnation,
            sequence=sequence,
            agent_instance_id=self.instance_id,
            echoed_nonce=keeper.lease.echo,
            config_version=self.config_version,
            boot_time=duration(self.clock.now()),
            store_generation=self.state.store_generation,
            vms=messages.vm_epochs(self.guests.table, self.state),
            self_fencing=keeper.self_fencing,
        )

    def accept(self, ack: heartbeat_pb2.HeartbeatAck, *, relayed: bool = False) -> bool:
        """Take an ack in, from the manager or through a peer. Returns whether it counts; the lease says."""
        if ack.host_id != self.state.host_id:
            return False
        lease = self.keeper.lease
        before = lease.echo
        self.keeper.tell(AckReceived(incarnation=ack.incarnation, sequence=ack.sequence, nonce=ack.nonce))
        if not lease.echo == ack.nonce != before:
            self.metrics.acks_ignored.inc()
            return False
        self.state.saw_generation(ack.store_generation)
        self.metrics.acked(lease.kept.last_ack)
        self.is_relayed = relayed
        return True
