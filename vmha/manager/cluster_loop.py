"""One cluster: its detector, its timer, and everything that turns between them. One thread, one order of events."""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias

import structlog

from vmha.errors import NotFound, Unavailable, VmhaError
from vmha.manager import events as ev
from vmha.manager import metrics
from vmha.manager.alarms import Alarms
from vmha.manager.cluster_copies import ClusterCopies
from vmha.manager.config_keeper import ConfigKeeper, voter_sets
from vmha.manager.contact import Contact
from vmha.manager.detector import Detector
from vmha.manager.enablement import protection_state
from vmha.manager.executor import Executor
from vmha.manager.host_queues import HostQueues
from vmha.manager.mandate import Mandate
from vmha.manager.memory import ClusterMemory
from vmha.manager.parts import Parts
from vmha.manager.rounds import Assignment, Rounds
from vmha.manager.safe_mode import SafeMode
from vmha.manager.session_desk import SessionDesk
from vmha.manager.session_messages import HYPERVISOR
from vmha.manager.sessions import Sessions
from vmha.manager.waiting_events import WaitingEvents
from vmha.model import FenceConfig, ProtectionState
from vmha.store.records import ClusterSnapshot, HostRecord, Incident, SuspectRecord

SHORTEST_TIMER_S: Final = 0.001
AFTER_FAILURE_S: Final = 1.0

HostSettings: TypeAlias = tuple[bool, FenceConfig | None]
"""Of a host, what the detector goes by: in maintenance, and its fence device."""

_log = structlog.get_logger("vmha.manager")


class ClusterLoop:
    """Everything that the manager does for one cluster, while it leads it.

    Args:
        parts: The edges, under the mandate's term.
        mandate: What it acts under. The moment it does not hold nothing is taken in, decided or carried out any more (R19).
    """

    def __init__(
        self,
        parts: Parts,
        snapshot: ClusterSnapshot,
        incidents: list[Incident],
        suspects: list[SuspectRecord],
        mandate: Mandate,
    ) -> None:
        self._parts = parts
        self._mandate = mandate
        self.memory = memory = ClusterMemory.of(snapshot)
        memory.incidents.update((incident.host_id, incident) for incident in incidents)
        self.cluster_id = memory.cluster.cluster_id
        self.sessions = Sessions(self.cluster_id)
        self.queues = HostQueues("store", self.cluster_id, store_away=parts.store_watch.away, may_act=mandate.holds)
        self.alarms = Alarms(parts.store, self.cluster_id, self.queues, self._incident_of)
        self.rounds = Rounds(parts, memory, self.sessions, self._drawn)
        self.contact = Contact(max(parts.clock.now(), mandate.settled_s))
        self._settles_s = mandate.settled_s
        self.configs = ConfigKeeper(parts.store, memory, self.queues, connected=self._connected, made=self._config_made)
        self.copies = ClusterCopies(memory, self.sessions)
        self.safe_mode = SafeMode(
            parts.store, memory, self.queues, self.alarms, lost=self._store_lost, changed=self._safe_mode_changed
        )
        self._executor = Executor(parts, memory, self.sessions, self.queues, self.alarms, self)
        self.desk = SessionDesk(parts, self)
        self.started_s = parts.clock.now()
        self.core = Detector(self.cluster_id, self.started_s, self.contact)
        self._waiting = WaitingEvents(self.cluster_id)
        self._busy = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._contact_timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._suspects = {suspect.host_id: suspect for suspect in suspects}
        self._protection = self.protection
        # What the detector was told: a call of another room may have put a newer record into the memory meanwhile.
        self._configured: dict[str, HostSettings] = {}

    def start(self) -> None:
        """Begin: tell the detector what is known, draw the first round."""
        parts, memory = self._parts, self.memory
        parts.lag.listen(self._lagged)
        parts.store_watch.listen(self._store_changed)
        self._configure_cluster()
        self._feed_configs()
        for host_id in memory.hypervisors:
            self._configure_host(memory.hosts[host_id], restored=True)
        self.safe_mode.look()
        self.configs.review()
        self.desk.registration.withheld.look_after()
        self._tick_contact()
        metrics.INCIDENTS_OPEN.labels(self.cluster_id).set(len(memory.incidents))
        self.rounds.start()
        if not parts.store_watch.reachable:
            self._store_changed(False)

    def leading(self) -> bool:
        """Whether this loop may acknowledge and decide at this moment: ask after a message was read, before it is answered."""
        return not self._closed and self._mandate.holds()

    async def close(self, error: VmhaError | None = None) -> None:
        """Stop deciding; what is in the store stays there. Sessions end with `error`, or with DRAINING."""
        self._closed = True
        self._parts.lag.forget(self._lagged)
        self._parts.store_watch.forget(self._store_changed)
        for timer in (self._timer, self._contact_timer):
            if timer is not None:
                timer.cancel()
        self.configs.close()
        await self.rounds.close()
        await self._executor.close()
        await self.desk.stop(error or Unavailable("DRAINING", "this cluster is not served here any more"))
        await self.queues.close()
        # The evacuations go on; who leads next asks for them again.
        for incident in self.memory.incidents.values():
            self._parts.evacuator.release(incident.incident_id)

    # Events

    def feed(self, event: ev.Event) -> None:
        """Tell the detector, and carry out what it wants. Events that come meanwhile wait for their turn."""
        self._parts.lag.check()
        self._waiting.put(event)
        self._turn()

    def _turn(self) -> None:
        if not self.leading():
            self._waiting.clear()
            return
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                event, now = self._waiting.take(), self._parts.clock.now()
                try:
                    # What has run out by now has run out before this event (R16).
                    self.contact.advance(now)
                    effects = self.core.event(event, now)
                except Exception:
                    # The core refused the event and changed nothing.
                    metrics.CORE_ERRORS.labels(self.cluster_id).inc()
                    _log.exception("detector refused", cluster_id=self.cluster_id, fact=type(event).__name__)
                else:
                    self._executor.run(effects)
        finally:
            self._busy = False
        self._arm()

    def _arm(self, *, at_least_s: float = SHORTEST_TIMER_S) -> None:
        deadline = self.core.deadline()
        if self._timer is not None:
            if deadline == self._armed_for:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None and not self._closed:
            delay = max(at_least_s, deadline - self._parts.clock.now())
            self._armed_for = deadline
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.leading():
            return
        self._parts.lag.check()
        self._busy = True
        try:
            now = self._parts.clock.now()
            self.contact.advance(now)
            self._executor.run(self.core.tick(now))
        except Exception:
            metrics.CORE_ERRORS.labels(self.cluster_id).inc()
            _log.exception("detector failed", cluster_id=self.cluster_id)
            # What it choked on is due still: not at once again.
            self._arm(at_least_s=AFTER_FAILURE_S)
        finally:
            self._busy = False
        self._turn()

    def _tick_contact(self) -> None:
        """Who is in contact is looked at each tick, too, not only when something happens (R16)."""
        now, tick_s = self._parts.clock.now(), self.memory.cluster.config.timers.tick_s
        if not self._closed:
            self.contact.advance(now)
            if self.started_s < self._settles_s <= now:
                # Until now an earlier leader could have heard what this one did not.
                self._settles_s = self.started_s
                self.contact.restart(now)
            self._contact_timer = asyncio.get_running_loop().call_later(tick_s, self._tick_contact)

    def _lagged(self, lag_s: float) -> None:
        # Before whatever waits: it is older than the stall's end.
        self._waiting.put_first(ev.LoopLagged(lag_s=lag_s))
        self._turn()

    def _store_changed(self, reachable: bool) -> None:
        self.feed(ev.StoreReachable(reachable=reachable))

    def _drawn(self, assignment: Assignment) -> None:
        self.feed(ev.WatchersDrawn(assignment=assignment))

    # What effects need of it

    def permit(self, host_id: str) -> None:
        """A host may register."""
        self.desk.registration.permit(host_id)

    def settled(self, host_id: str) -> None:
        """A host's new state is durable: who left, or is back, changes who votes."""
        self.configs.review()
        self.rounds.redraw()

    def decided(self, host_id: str) -> None:
        """A confirmation has ended: look at the heartbeat that was held back."""
        session = self.sessions.get(host_id)
        if session is not None:
            self.desk.heartbeats.replay(session)

    def _incident_of(self, host_id: str) -> str:
        incident = self.memory.incidents.get(host_id)
        return "" if incident is None else incident.incident_id

    # What the operator and the store say

    def apply(self, snapshot: ClusterSnapshot) -> None:
        """Take in a newer state of the store."""
        memory, before = self.memory, self.memory.cluster
        memory.groups = dict(snapshot.groups)
        if _settings(before) != _settings(snapshot.cluster):
            memory.put_cluster(snapshot)
            self._configure_cluster()
        memory.put_cluster(snapshot)
        racks = {host_id: memory.hosts[host_id].config.rack for host_id in memory.hypervisors}
        for record in snapshot.hosts.values():
            self._apply_host(record)
        for host_id in [host_id for host_id in memory.hosts if host_id not in snapshot.hosts]:
            self._remove_host(host_id)
        redraw = racks != {host_id: memory.hosts[host_id].config.rack for host_id in memory.hypervisors}
        if redraw or before.config.watchers != snapshot.cluster.config.watchers:
            self.rounds.draw()
        elif before.config_version != snapshot.cluster.config_version:
            self.rounds.push_assignments()
        self._feed_configs()
        self.rounds.push_settings()
        self.copies.push()
        self.configs.review()
        self.safe_mode.look()
        self._note_protection()

    def _apply_host(self, record: HostRecord) -> None:
        self.memory.put_host(record)
        configured = self._configured.get(record.host_id)
        if HYPERVISOR not in record.config.roles:
            if configured is not None:
                del self._configured[record.host_id]
                self.feed(ev.HostRemoved(host_id=record.host_id))
            return
        if configured != _settings_of(record):
            self._configure_host(record, restored=configured is None)
        session = self.sessions.get(record.host_id)
        if session is not None and session.registered and self.memory.hosts[record.host_id].incarnation_revoked:
            session.revoke(session.incarnation, "CONFIRMED_DOWN")

    def _configure_host(self, record: HostRecord, *, restored: bool) -> None:
        self._configured[record.host_id] = _settings_of(record)
        suspect = self._suspects.pop(record.host_id, None) if restored else None
        suspicion = None
        if suspect is not None:
            suspicion = ev.RestoredSuspicion(
                boot_id=suspect.boot_id,
                since_age_s=suspect.since_age_s,
                confirm_in_s=suspect.confirm_in_s,
                evidence=suspect.evidence,
            )
        incident, wall_s = self.memory.incidents.get(record.host_id), self._parts.clock.wall()
        self.feed(
            ev.HostConfigured(
                host_id=record.host_id,
                in_maintenance=record.in_maintenance,
                state=record.state,
                boot_id=record.boot_id,
                incident_id="" if incident is None else incident.incident_id,
                fence_decides=incident is not None and incident.fence_decides,
                suspicion=suspicion,
                has_fence=record.config.fence is not None,
                self_fencing=record.self_fencing,
                watchdog=record.watchdog,
                agent_gone=record.agent_gone,
                clock_suspect_age_s=max(0.0, wall_s - record.clock_suspect_s) if record.clock_suspect_s else None,
                flaps_age_s=tuple(max(0.0, wall_s - at) for at in record.flaps_s),
            )
        )
        metrics.set_host_state(self.cluster_id, record.host_id, record.state)

    def _remove_host(self, host_id: str) -> None:
        self.memory.forget_host(host_id)
        self._configured.pop(host_id, None)
        self.feed(ev.HostRemoved(host_id=host_id))
        self.alarms.forget_host(host_id)
        about = {"host_id": host_id, "left_cluster_id": self.cluster_id}
        self.sessions.forget(host_id, NotFound("HOST_UNKNOWN", f"host {host_id} left the cluster", about))
        metrics.forget_host(self.cluster_id, host_id)

    def store_lost(self, message: str, *, emptied: bool) -> None:
        """The store came back without what it held: nothing is decided until what matters was learnt again (R20)."""
        self._store_lost()
        self.safe_mode.begin(message, emptied=emptied)

    def _store_lost(self) -> None:
        self.memory.told = 0
        self.feed(ev.StoreLost())
        self.desk.ask_inventories("STORE_LOST")

    def _safe_mode_changed(self) -> None:
        self._configure_cluster()
        if not self.memory.cluster.safe_mode:
            # What a host may start or admit was held back.
            self.desk.ask_inventories("SAFE_MODE_OVER")

    # The safety protocol's configurations

    def _connected(self) -> list[str]:
        return [session.host_id for session in self.sessions.all()]

    def _config_made(self) -> None:
        self._feed_configs()
        self.rounds.push_settings()

    def _configure_cluster(self) -> None:
        cluster = self.memory.cluster
        self.feed(ev.ClusterConfigured(config=cluster.config, enabled=cluster.ha_enabled, safe_mode=cluster.safe_mode))

    def _feed_configs(self) -> None:
        memory = self.memory
        self.feed(
            ev.ConfigsKnown(
                voters=voter_sets(memory.configs),
                enforced=frozenset(version for version, config in memory.configs.items() if config.enforced),
                held={host_id: (host.config_confirmed, host.config_sent) for host_id, host in memory.hosts.items()},
            )
        )

    # What is shown

    @property
    def learning(self) -> bool:
        """Whether evidence is taken in, but nothing is confirmed yet."""
        return self.core.learning(self._parts.clock.now())

    @property
    def protection(self) -> ProtectionState:
        """Disabled, Waiting or Active (S12)."""
        memory = self.memory
        return protection_state(memory.cluster.ha_enabled, {host_id: host.config for host_id, host in memory.hosts.items()})

    @property
    def hosts_without_agent(self) -> list[str]:
        """Hosts whose agent is not heard, by name (S1)."""
        fresh = self.core.fresh(self._parts.clock.now())
        return sorted(
            host_id for host_id, host in self.memory.hosts.items() if host_id not in fresh and HYPERVISOR in host.config.roles
        )

    def _note_protection(self) -> None:
        old, new = self._protection, self.protection
        if old is new:
            return
        self._protection = new
        detail = {
            "old_state": f"PROTECTION_STATE_{old.value}",
            "new_state": f"PROTECTION_STATE_{new.value}",
            "reason": {ProtectionState.WAITING: "FEWER_THAN_TWO_HOSTS", ProtectionState.ACTIVE: "ENABLED"}.get(new, "DISABLED"),
        }

        async def tell() -> None:
            await self._parts.store.events.append(self.cluster_id, "protection_state_change", detail, actor="manager")

        self.queues.put("", tell, until_done=True, tells=True)


def _settings_of(host: HostRecord) -> HostSettings:
    return (host.in_maintenance, host.config.fence)


def _settings(cluster: object) -> tuple[object, ...]:
    return tuple(getattr(cluster, name) for name in ("config", "ha_enabled", "awaited"))
