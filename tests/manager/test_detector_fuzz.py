"""Whatever the detector is told, in whatever order: it confirms nothing without evidence, and no state changes beside the table.

The oracle keeps its own, simpler book of what was said, and checks each effect against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.detector import Detector
from vmha.manager.guard import COUNTED_DOWN
from vmha.manager.hostview import TRANSITIONS, IllegalInput
from vmha.model import (
    FAST_TIMERS,
    ClusterConfig,
    EvacuationState,
    GoodbyeReason,
    HostState,
    Observation,
    PeerVerdict,
    ProofKind,
)

HOSTS = ("a", "b", "c", "d", "e")
V = PeerVerdict
ALIVE = {V.REFUSED, V.DEGRADED}
TIMERS = replace(FAST_TIMERS, cooldown_s=2.0, learning_s=3.0, planned_grace_s=8.0)
CONFIG = ClusterConfig(timers=TIMERS, max_down_fraction=0.4)
PROVEN = (EvacuationState.PLANNING, EvacuationState.RUNNING, EvacuationState.PENDING, EvacuationState.SUCCEEDED)
UNPROVEN = (EvacuationState.VERIFYING, EvacuationState.FENCE_PENDING, EvacuationState.CANCELLED)

host = st.sampled_from(HOSTS)
verdict = st.sampled_from(list(V))
step = st.one_of(
    # Rounds in which some hosts are silent come often, so that confirmations do.
    st.tuples(st.just("round"), st.frozensets(host, max_size=2), st.sampled_from([0.1, 0.5, 1.0])),
    st.tuples(st.just("rounds"), st.frozensets(host, max_size=2), st.integers(2, 14)),
    st.tuples(st.just("rounds"), st.frozensets(host, min_size=1, max_size=1), st.integers(6, 14)),
    st.tuples(st.just("contradicted"), host, host, verdict, st.integers(6, 14)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.2, 1.6, 5.0])),
    st.tuples(st.just("beat"), host, st.booleans()),
    st.tuples(st.just("report"), host, st.dictionaries(host, verdict, max_size=4)),
    st.tuples(st.just("probe"), host, verdict),
    st.tuples(st.just("scouts"), verdict),
    st.tuples(st.just("store"), st.booleans()),
    st.tuples(st.just("answering"), st.booleans()),
    st.tuples(st.just("intact"), st.booleans()),
    st.tuples(st.just("enabled"), st.booleans()),
    st.tuples(st.just("lost")),
    st.tuples(st.just("lag"), st.sampled_from([0.5, 2.0])),
    st.tuples(st.just("maintenance"), host, st.booleans()),
    st.tuples(st.just("goodbye"), host),
    st.tuples(st.just("request"), host),
    st.tuples(st.just("register"), host),
    st.tuples(st.just("advance"), host, st.sampled_from(PROVEN + UNPROVEN)),
    st.tuples(st.just("operator"), host),
    st.tuples(st.just("draw"), st.integers(1, 4), st.permutations(HOSTS)),
    st.tuples(st.just("session"), host, st.booleans()),
)


@dataclass
class Book:
    """The oracle: drives the detector, keeps what was said, checks each effect."""

    now: float = 100.0
    enabled: bool = True
    reachable: bool = True
    answering: bool = True
    intact: bool = True
    learning_until: float = 100.0 + TIMERS.learning_s
    own: dict[str, float] = field(default_factory=dict)
    life: dict[str, float] = field(default_factory=dict)
    boots: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOSTS, 0))
    reports: dict[str, tuple[float, dict[str, PeerVerdict]]] = field(default_factory=dict)
    scouted: dict[str, dict[str, PeerVerdict]] = field(default_factory=dict)
    probes: dict[str, tuple[float, PeerVerdict]] = field(default_factory=dict)
    state: dict[str, HostState] = field(default_factory=lambda: dict.fromkeys(HOSTS, HostState.HEALTHY))
    was_fenced: dict[str, bool] = field(default_factory=dict)
    confirm_at: dict[str, float] = field(default_factory=dict)
    incidents: dict[str, str] = field(default_factory=dict)
    pending: list[fx.Effect] = field(default_factory=list)
    scouts: list[fx.SendScouts] = field(default_factory=list)
    log: list[tuple[float, fx.Effect]] = field(default_factory=list)
    confirmed: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.core = Detector("c1", self.now)
        self.tell(ev.ClusterConfigured(config=CONFIG, enabled=True))
        for name in HOSTS:
            self.tell(ev.HostConfigured(host_id=name, state=HostState.HEALTHY, boot_id="0"))
        self.do(("draw", 4, HOSTS))

    # Driving

    def do(self, command: tuple[Any, ...]) -> None:
        getattr(self, f"do_{command[0]}")(*command[1:])
        while self.answering and self.reachable and self.pending:
            self.answer(self.pending.pop(0))
        self.check_state()

    def tell(self, event: ev.Event) -> None:
        before = repr(self.core._cluster)
        try:
            effects = self.core.event(event, self.now)
        except IllegalInput:
            self.refused += 1
            assert repr(self.core._cluster) == before, "a refused event changed something"
            return
        self.take(effects)

    def do_wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.core.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.take(self.core.tick(self.now))
            after = self.core.deadline()
            assert after is None or after > self.now, "a tick that leads nowhere"
            while self.answering and self.reachable and self.pending:
                self.answer(self.pending.pop(0))
        self.now = end

    def do_round(self, silent: frozenset[str], seconds: float) -> None:
        for name in HOSTS:
            if name not in silent:
                self.do_beat(name, False)
        for name in HOSTS:
            if name not in silent:
                self.do_report(name, {o: V.TIMEOUT if o in silent else V.OK for o in HOSTS if o != name})
        for name in sorted(silent):
            self.do_probe(name, V.TIMEOUT)
        self.do_wait(seconds)

    def do_rounds(self, silent: frozenset[str], count: int) -> None:
        for _ in range(count):
            self.do(("round", silent, 0.4))

    def do_contradicted(self, silent: str, witness: str, scouts_meet: PeerVerdict, count: int) -> None:
        for _ in range(count):
            self.do(("round", {silent}, 0.1))
            if witness != silent:
                self.do(("report", witness, {o: V.OK for o in HOSTS if o != witness}))
            self.do(("scouts", scouts_meet))
            self.do(("wait", 0.3))

    def do_beat(self, name: str, relayed: bool) -> None:
        if name in self.incidents or self.state[name] is HostState.EVACUATED or self.is_asked(name):
            return  # nothing of it is in force: the shell does not tell
        self.life[name] = self.now
        if not relayed:
            self.own[name] = self.now
        self.tell(ev.HeartbeatReceived(host_id=name, boot_id=str(self.boots[name]), relayed=relayed))

    def do_report(self, name: str, seen: dict[str, PeerVerdict]) -> None:
        view = {peer: v for peer, v in seen.items() if peer != name}
        self.reports[name] = (self.now, view)
        observations = tuple(Observation(host_id=peer, verdict=v) for peer, v in view.items())
        self.tell(ev.ReportReceived(reporter_id=name, observations=observations))

    def do_probe(self, name: str, met: PeerVerdict) -> None:
        self.probes[name] = (self.now, met)
        self.tell(ev.ProbeEnded(host_id=name, verdict=met))

    def do_scouts(self, met: PeerVerdict) -> None:
        asked, self.scouts = self.scouts, []
        for request in asked:
            for scout in request.reporters:
                self.scouted.setdefault(request.host_id, {})[scout] = met
                seen = (Observation(host_id=request.host_id, verdict=met),)
                self.tell(ev.ReportReceived(reporter_id=scout, observations=seen, scout_id=request.scout_id))

    def do_store(self, reachable: bool) -> None:
        self.reachable = reachable
        self.tell(ev.StoreReachable(reachable=reachable))

    def do_answering(self, on: bool) -> None:
        self.answering = on

    def do_intact(self, on: bool) -> None:
        self.intact = on

    def do_enabled(self, on: bool) -> None:
        self.enabled = on
        self.tell(ev.ClusterConfigured(config=CONFIG, enabled=on))

    def do_lost(self) -> None:
        self.learning_until = max(self.learning_until, self.now + TIMERS.learning_s)
        self.tell(ev.StoreLost())

    def do_lag(self, lag_s: float) -> None:
        if lag_s > 1:
            self.learning_until = max(self.learning_until, self.now + TIMERS.learning_s)
        self.tell(ev.LoopLagged(lag_s=lag_s))

    def do_maintenance(self, name: str, on: bool) -> None:
        self.tell(ev.HostConfigured(host_id=name, in_maintenance=on))

    def do_goodbye(self, name: str) -> None:
        self.tell(ev.GoodbyeReceived(host_id=name, reason=GoodbyeReason.HOST_SHUTTING_DOWN))

    def do_request(self, name: str) -> None:
        self.tell(ev.RegistrationRequested(host_id=name, boot_id=str(self.boots[name])))

    def do_register(self, name: str) -> None:
        if not self.core.may_register(name):
            return
        self.boots[name] += 1
        self.own[name] = self.life[name] = self.now
        self.incidents.pop(name, None)
        self.tell(ev.RegistrationCompleted(host_id=name, boot_id=str(self.boots[name])))

    def do_advance(self, name: str, state: EvacuationState) -> None:
        incident = self.incidents.get(name, "foreign")
        self.tell(ev.EvacuationAdvanced(host_id=name, incident_id=incident, state=state, proof=ProofKind.FENCE))

    def do_operator(self, name: str) -> None:
        self.tell(ev.OperatorConfirmedOff(host_id=name, operator="op"))

    def do_draw(self, k: int, order: tuple[str, ...]) -> None:
        assignment = {w: tuple(order[(i + s) % len(order)] for s in range(1, k + 1)) for i, w in enumerate(order)}
        self.watchers = {name: [w for w, peers in assignment.items() if name in peers] for name in HOSTS}
        self.tell(ev.WatchersDrawn(assignment=assignment))

    def do_session(self, name: str, anew: bool) -> None:
        self.tell(ev.SessionOpened(host_id=name, boot_id="other" if anew else str(self.boots[name])))

    def answer(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.RecordSuspect):
            self.confirm_at.setdefault(effect.host_id, self.now + effect.cooldown_s)
            left = self.confirm_at[effect.host_id] - self.now
            self.tell(ev.SuspectRecorded(host_id=effect.host_id, confirm_in_s=left))
        elif isinstance(effect, fx.ClearSuspect):
            self.confirm_at.pop(effect.host_id, None)
        elif isinstance(effect, fx.ConfirmDown):
            self.confirm_at.pop(effect.host_id, None)
            incident = f"i{len(self.log)}" if self.intact else None
            if incident is not None:
                self.incidents[effect.host_id] = incident
            self.tell(ev.ConfirmEnded(host_id=effect.host_id, incident_id=incident, fence_epoch=1))
        elif isinstance(effect, fx.CloseIncident) and self.incidents.get(effect.host_id) == effect.incident_id:
            del self.incidents[effect.host_id]

    # Checking

    def take(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            self.log.append((self.now, effect))
            match effect:
                case fx.ChangeState():
                    self.check_change(effect)
                case fx.ConfirmDown():
                    self.check_confirm(effect)
                    self.pending.append(effect)
                case fx.RecordSuspect() | fx.ClearSuspect() | fx.CloseIncident():
                    self.pending.append(effect)
                case fx.SendScouts():
                    self.scouts.append(effect)
                    self.scouted[effect.host_id] = {}
                case fx.OrderEvacuation():
                    assert self.incidents.get(effect.host_id) == effect.incident_id

    def check_change(self, change: fx.ChangeState) -> None:
        assert change.old is self.state[change.host_id]
        assert change.new in TRANSITIONS[change.old]
        if change.new is HostState.FENCED:
            self.was_fenced[change.host_id] = True
            assert change.reason == ProofKind.FENCE.value, "FENCED names the rung"
        if change.new in {HostState.EVACUATING, HostState.EVACUATED}:
            assert self.was_fenced.get(change.host_id), "FENCED precedes every start elsewhere"
        if change.new is HostState.DOWN:
            self.was_fenced[change.host_id] = False
        self.state[change.host_id] = change.new

    def check_confirm(self, confirm: fx.ConfirmDown) -> None:
        name = confirm.host_id
        assert self.enabled
        assert self.now - self.life.get(name, -1e9) >= TIMERS.stream_stale_s, "confirmed a host that beats"
        if confirm.operator:
            return
        assert self.reachable and self.now >= self.learning_until
        at, met = self.probes[name]
        assert met is V.TIMEOUT and self.now - at <= 2 * TIMERS.probe_interval_s + TIMERS.probe_timeout_s
        assert self.now >= self.confirm_at[name], "confirmed before the cooldown was over"
        fresh = {r for r in HOSTS if r != name and self.now - self.own.get(r, -1e9) < TIMERS.stream_stale_s}
        said = {r: self.reports[r][1][name] for r in fresh if r in self.reports and name in self.reports[r][1]}
        silent = {r for r, v in said.items() if v is V.TIMEOUT}
        scouts = {r for r, v in self.scouted.get(name, {}).items() if v is V.TIMEOUT}
        members = [h for h in HOSTS if self.state[h] is not HostState.EVACUATED]
        watching = [w for w in self.watchers[name] if w in members]
        assert max(len(silent), len(scouts)) >= max(len(watching) // 2 + 1, 2 if len(members) > 2 else 1)
        met_life = [r for r, v in said.items() if v in ALIVE and r in self.watchers[name] and not self.cut_off(r, name)]
        assert not met_life, f"confirmed although {met_life} met a living kernel"
        down = [h for h in HOSTS if self.state[h] in COUNTED_DOWN]
        assert len(down) <= max(1, int(CONFIG.max_down_fraction * len(members))), "more hosts down at once than the guard allows"
        self.confirmed += 1

    def cut_off(self, reporter: str, name: str) -> bool:
        dead = {HostState.FENCED, HostState.EVACUATING, HostState.EVACUATED}
        others = {o: v for o, v in self.reports[reporter][1].items() if o != name and self.state[o] not in dead}
        return bool(others) and 2 * sum(v is V.TIMEOUT for v in others.values()) >= len(others)

    def check_state(self) -> None:
        for name in HOSTS:
            assert self.core.state(name) is self.state[name], "a state changed without saying so"
        counted = self.core._cluster
        assert counted.members() == sum(1 for s in self.state.values() if s is not HostState.EVACUATED)
        assert counted.down() == sum(1 for s in self.state.values() if s in COUNTED_DOWN)

    def is_asked(self, name: str) -> bool:
        return any(isinstance(e, fx.ConfirmDown) and e.host_id == name for e in self.pending)


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=40))
def test_no_sequence_of_events_confirms_without_evidence(commands: list[tuple[Any, ...]]) -> None:
    """Confirmed is only who is silent, by a quorum of fresh reporters and our own fresh probe, no kernel seen alive, after its
    cooldown, while enabled, not learning, with the store there, within the guard's limit; states move along the table and say so;
    FENCED comes before each start elsewhere; what is refused changes nothing."""
    book = Book()
    for command in commands:
        book.do(command)


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=30))
def test_the_same_events_have_the_same_effects(commands: list[tuple[Any, ...]]) -> None:
    """The core is deterministic: a replay of an incident's events shows what happened."""
    first, second = Book(), Book()
    for command in commands:
        first.do(command)
        second.do(command)

    assert first.log == second.log


def test_the_oracle_sees_confirmations() -> None:
    """The property is not empty: a plain death is confirmed under the oracle's eyes, and evacuated in its order."""
    book = Book()
    book.do(("rounds", frozenset(), 10))
    book.do(("rounds", frozenset({"c"}), 12))

    assert (book.confirmed, book.core.state("c")) == (1, HostState.DOWN)
    for state in (EvacuationState.VERIFYING, *PROVEN):
        book.do(("advance", "c", state))
    assert book.core.state("c").value == "EVACUATED"
