"""A cluster in virtual time round one Detector: hosts that beat and watch one another, a store and an evacuator that answer."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TypeVar

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.detector import Detector
from vmha.model import (
    STANDARD_TIMERS,
    ClusterConfig,
    EvacuationState,
    GoodbyeReason,
    HostState,
    Observation,
    PeerVerdict,
    ProofKind,
    Timers,
)

E = TypeVar("E", bound=fx.Effect)
TICKS_AT_ONE_MOMENT = 1000
MANY = 1e9


def names(count: int) -> list[str]:
    """h00, h01, ..."""
    return [f"h{number:02d}" for number in range(count)]


class World:
    """Answers effects the way that the shell does; everything that a test wants otherwise is a field.

    Attributes:
        beating: Hosts whose own heartbeats arrive.
        relayed: Hosts whose heartbeats arrive by a peer.
        watching: Hosts that report what they see.
        sees: (watcher, host) or host -> the verdict; OK where nothing is set.
        own_probe: Host -> what the manager's probe meets; OK where nothing is set.
        confirms: What the store answers to ConfirmDown: True makes an incident, False says no, None does not answer.
        records: Whether the store answers RecordSuspect.
        log: Every effect with its time.
    """

    def __init__(
        self,
        count: int = 6,
        *,
        timers: Timers = STANDARD_TIMERS,
        enabled: bool = True,
        learned: bool = True,
        start: bool = True,
        max_down_fraction: float = 1 / 3,
        now: float = 1000.0,
    ) -> None:
        self.now = now
        self.timers = timers
        self.config = ClusterConfig(timers=timers, max_down_fraction=max_down_fraction)
        self.core = Detector("c1", now - (MANY if learned else 0.0))
        self.hosts = names(count)
        self.beating: set[str] = set(self.hosts)
        self.watching: set[str] = set(self.hosts)
        self.relayed: set[str] = set()
        self.sees: dict[object, PeerVerdict] = {}
        self.own_probe: dict[str, PeerVerdict] = {}
        self.boots = {host: f"boot-of-{host}" for host in self.hosts}
        self.confirms: bool | None = True
        self.records = True
        self.scouts_answer = True
        self.incidents = 0
        self.log: list[tuple[float, fx.Effect]] = []
        self._todo: deque[ev.Event] = deque()
        self._next_beat = now
        self.tell(ev.ClusterConfigured(config=self.config, enabled=enabled))
        if start:
            for host in self.hosts:
                self.tell(ev.HostConfigured(host_id=host, boot_id=self.boots[host]))
            self.draw()
            self.run(0.0)

    # What happens

    def tell(self, event: ev.Event) -> list[fx.Effect]:
        """Tell the core something, and answer what it wants; all effects that follow."""
        mark = len(self.log)
        self._take(self.core.event(event, self.now))
        while self._todo:
            self._take(self.core.event(self._todo.popleft(), self.now))
        return [effect for _, effect in self.log[mark:]]

    def draw(self, watchers: int | None = None) -> None:
        """A round in which each host watches the next ones in the ring."""
        reach = min(watchers or self.config.watchers, len(self.hosts) - 1)
        ring = self.hosts * 2
        self.assignment = {host: tuple(ring[place + 1 : place + 1 + reach]) for place, host in enumerate(self.hosts)}
        self.tell(ev.WatchersDrawn(assignment=self.assignment))

    def kill(self, *hosts: str) -> None:
        """Power off: no heartbeat, no report, silence for everybody."""
        for host in hosts:
            self.beating.discard(host)
            self.relayed.discard(host)
            self.watching.discard(host)
            self.sees[host] = self.own_probe[host] = PeerVerdict.TIMEOUT

    def revive(self, *hosts: str) -> None:
        """As if nothing had been."""
        for host in hosts:
            self.beating.add(host)
            self.watching.add(host)
            for key in [key for key in self.sees if key == host or (isinstance(key, tuple) and key[1] == host)]:
                del self.sees[key]
            self.own_probe.pop(host, None)

    def lose_agent(self, host: str) -> None:
        """The agent dies, its host lives."""
        self.beating.discard(host)
        self.watching.discard(host)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            due = self.core.deadline()
            now = min(end, self._next_beat, end if due is None else max(due, self.now))
            self.now = max(self.now, now)
            if self._next_beat <= self.now:
                self._beat()
            for _ in range(TICKS_AT_ONE_MOMENT):
                due = self.core.deadline()
                if due is None or due > self.now:
                    break
                self._take(self.core.tick(self.now))
                while self._todo:
                    self._take(self.core.event(self._todo.popleft(), self.now))
            else:
                raise AssertionError(f"the core wants to tick for ever at {self.now}")
            if self.now >= end:
                return

    def run_until(self, host: str, state: HostState, within_s: float) -> float:
        """Let time pass until a host is in a state; the seconds that it took."""
        began = self.now
        while self.state(host) is not state:
            assert self.now - began < within_s, f"{host} is {self.state(host)} after {within_s} s"
            self.run(0.5)
        return self.now - began

    def report(self, reporter: str, **verdicts: PeerVerdict) -> list[fx.Effect]:
        """One watcher's report: its usual view, and `verdicts` in place of what it usually sees."""
        seen = {peer: self.verdict(reporter, peer) for peer in self.assignment.get(reporter, ())} | verdicts
        observations = tuple(Observation(host_id=peer, verdict=verdict) for peer, verdict in seen.items())
        return self.tell(ev.ReportReceived(reporter_id=reporter, observations=observations))

    def verdict(self, reporter: str, host: str) -> PeerVerdict:
        """What a watcher sees of a host."""
        return self.sees.get((reporter, host), self.sees.get(host, PeerVerdict.OK))

    def advance(
        self, host: str, state: EvacuationState, incident: str | None = None, proof: ProofKind = ProofKind.UNPROVEN
    ) -> list[fx.Effect]:
        """The evacuator's word on a host's newest incident."""
        incident_id = incident or f"incident-{self.incidents}"
        return self.tell(ev.EvacuationAdvanced(host_id=host, incident_id=incident_id, state=state, proof=proof))

    def goodbye(self, host: str, reason: GoodbyeReason = GoodbyeReason.HOST_SHUTTING_DOWN) -> None:
        """An agent's goodbye."""
        self.tell(ev.GoodbyeReceived(host_id=host, reason=reason))

    def request(self, host: str) -> list[fx.Effect]:
        """An agent asks for an incarnation."""
        return self.tell(ev.RegistrationRequested(host_id=host, boot_id=self.boots[host]))

    def register(self, host: str) -> list[fx.Effect]:
        """A registration comes in force, in a new boot."""
        self.boots[host] += "'"
        return self.tell(ev.RegistrationCompleted(host_id=host, boot_id=self.boots[host]))

    # What is seen

    def state(self, host: str) -> HostState:
        """A host's state."""
        return self.core.state(host)

    def of(self, kind: type[E], host: str | None = None) -> list[E]:
        """All effects of a kind so far."""
        return [e for _, e in self.log if isinstance(e, kind) and (host is None or e.host_id == host)]

    def path(self, host: str) -> list[HostState]:
        """The states that a host went through."""
        return [change.new for change in self.of(fx.ChangeState, host)]

    def alarms(self, host: str) -> set[str]:
        """The alarms of a host that stand."""
        standing: set[str] = set()
        for _, effect in self.log:
            if isinstance(effect, fx.RaiseAlarm) and effect.host_id == host:
                standing.add(effect.reason)
            elif isinstance(effect, fx.ClearAlarm) and effect.host_id == host:
                standing.discard(effect.reason)
        return standing

    # How it works

    def _beat(self) -> None:
        for host in self.hosts:
            if host in self.beating:
                self.tell(ev.HeartbeatReceived(host_id=host, boot_id=self.boots[host]))
            elif host in self.relayed:
                self.tell(ev.HeartbeatReceived(host_id=host, boot_id=self.boots[host], relayed=True))
        for host in self.hosts:
            if host in self.watching:
                self.report(host)
        self._next_beat = self.now + self.timers.heartbeat_interval_s

    def _take(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            self.log.append((self.now, effect))
            self._answer(effect)

    def _answer(self, effect: fx.Effect) -> None:
        match effect:
            case fx.ProbeHost():
                verdict = self.own_probe.get(effect.host_id, PeerVerdict.OK)
                self._todo.append(ev.ProbeEnded(host_id=effect.host_id, verdict=verdict))
            case fx.RecordSuspect() if self.records:
                self._todo.append(ev.SuspectRecorded(host_id=effect.host_id, confirm_in_s=effect.cooldown_s))
            case fx.ConfirmDown():
                self._answer_confirm(effect)
            case fx.SendScouts() if self.scouts_answer:
                for scout in effect.reporters:
                    seen = Observation(host_id=effect.host_id, verdict=self.verdict(scout, effect.host_id))
                    report = ev.ReportReceived(reporter_id=scout, observations=(seen,), scout_id=effect.scout_id)
                    self._todo.append(report)

    def _answer_confirm(self, effect: fx.ConfirmDown) -> None:
        if self.confirms is None:
            return
        self.incidents += self.confirms
        incident_id = f"incident-{self.incidents}" if self.confirms else None
        self._todo.append(ev.ConfirmEnded(host_id=effect.host_id, incident_id=incident_id, fence_epoch=self.incidents))


def quick(**changes: float) -> Timers:
    """Standard timers with some of them changed."""
    return replace(STANDARD_TIMERS, **changes)  # type: ignore[arg-type]
