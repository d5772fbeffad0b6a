"""What must hold whatever happens, in any order: random histories of a small cluster."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.manager.detector_world import World, names
from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.guard import COUNTED_DOWN
from vmha.manager.hostview import TRANSITIONS, IllegalInput
from vmha.model import FAST_TIMERS, EvacuationState, GoodbyeReason, HostState, Observation, PeerVerdict, ProofKind

TIMERS = replace(FAST_TIMERS, cooldown_s=1.0, learning_s=4.0, planned_grace_s=6.0)
HOSTS = names(5)


class Watched(World):
    """Checks each confirmation at the moment at which it is asked for, and each change of state."""

    def __init__(self) -> None:
        self.enabled = self.reachable = True
        super().__init__(len(HOSTS), timers=TIMERS)

    def _answer(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.ConfirmDown) and not effect.operator:
            self.check(effect)
        super()._answer(effect)

    def check(self, confirm: fx.ConfirmDown) -> None:
        """All that must hold when a host is to be confirmed down."""
        cluster = self.core._cluster
        host = cluster.hosts[confirm.host_id]
        evidence = self.core.explain(host.host_id, self.now)
        tally = evidence.tally
        assert evidence.silent_s is not None and evidence.silent_s >= TIMERS.stream_stale_s - 1e-6
        assert cluster.is_silent(host, self.now), "heartbeats arrive, by relay at least"
        assert tally.alive == 0, "a credible reporter meets its kernel"
        assert tally.ups <= 1
        assert tally.timeouts >= evidence.quorum or (tally.ups and len(host.scouts) >= evidence.quorum)
        assert evidence.probe is PeerVerdict.TIMEOUT
        assert not self.core.learning(self.now)
        assert self.enabled and self.reachable
        # As things stood when it was decided: others may have fallen silent in the same tick, after it.
        states = [self.path(other)[-1:] for other in HOSTS]
        members = len(HOSTS) - states.count([HostState.EVACUATED])
        assert sum(1 for state in states if set(state) & COUNTED_DOWN) <= cluster.guard.limit(members)
        assert host.incident is None
        assert host.state in {HostState.SUSPECT, HostState.COOLDOWN}

    def act(self, kind: str, host: str, other: str, verdict: PeerVerdict, seconds: float) -> None:
        """One thing that happens. What cannot be is refused."""
        try:
            self._act(kind, host, other, verdict, seconds)
        except IllegalInput:
            self.log.append((self.now, fx.ClearAlarm(reason="ILLEGAL", host_id=host)))

    def _act(self, kind: str, host: str, other: str, verdict: PeerVerdict, seconds: float) -> None:
        match kind:
            case "run":
                self.run(seconds)
            case "kill":
                self.kill(host)
            case "revive":
                self.revive(host)
            case "lose agent":
                self.lose_agent(host)
            case "relay":
                self.beating.discard(host)
                self.relayed.add(host)
            case "see":
                self.sees[other, host] = verdict
            case "own":
                self.own_probe[host] = verdict
            case "goodbye":
                self.goodbye(host, GoodbyeReason.HOST_SHUTTING_DOWN)
            case "request":
                self.request(host)
            case "register" if self.core.may_register(host):
                self.register(host)
            case "store":
                self.reachable = verdict is PeerVerdict.OK
                self.tell(ev.StoreReachable(reachable=self.reachable))
            case "lost":
                self.tell(ev.StoreLost())
            case "lag":
                self.tell(ev.LoopLagged(lag_s=seconds))
            case "enable":
                self.enabled = verdict is PeerVerdict.OK
                self.tell(ev.ClusterConfigured(config=self.config, enabled=self.enabled))
            case "confirms":
                self.confirms = {PeerVerdict.OK: True, PeerVerdict.TIMEOUT: False}.get(verdict)
            case "confirmed":
                self.tell(ev.ConfirmEnded(host_id=host, incident_id="late" if verdict is PeerVerdict.OK else None))
            case "operator":
                self.tell(ev.OperatorConfirmedOff(host_id=host, operator="ann"))
            case "maintenance":
                self.tell(ev.HostConfigured(host_id=host, in_maintenance=verdict is PeerVerdict.OK))
            case "advance":
                state = list(EvacuationState)[int(seconds * 10) % len(EvacuationState)]
                self.advance(host, state, proof=ProofKind.FENCE)
            case "scout":
                seen = (Observation(host_id=host, verdict=verdict),)
                self.tell(ev.ReportReceived(reporter_id=other, observations=seen, scout_id=f"{host}/1"))
            case "draw":
                self.draw(1 + int(seconds))


KINDS = (
    ["run"] * 6 + ["kill"] * 3 + ["revive", "lose agent", "relay", "see", "see", "own", "goodbye", "request", "register"]
    + ["store", "lost", "lag", "enable", "confirms", "confirmed", "operator", "maintenance", "advance", "scout", "draw"]
)  # fmt: skip
HISTORIES = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(HOSTS),
        st.sampled_from(HOSTS),
        st.sampled_from(list(PeerVerdict)),
        st.floats(0.05, 5.0, allow_nan=False),
    ),
    min_size=4,
    max_size=25,
)
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def play(history: list[tuple[str, str, str, PeerVerdict, float]]) -> Watched:
    w = Watched()
    for kind, host, other, verdict, seconds in history:
        w.act(kind, host, other, verdict, seconds)
    w.run(8.0)
    return w


@QUICK
@given(HISTORIES)
def test_nobody_is_confirmed_down_without_the_evidence(history: list[tuple[str, str, str, PeerVerdict, float]]) -> None:
    """No history confirms down a host that is heard, whose kernel answered, without quorum, or while something holds it."""
    play(history)


@QUICK
@given(HISTORIES)
def test_states_only_move_along_the_table(history: list[tuple[str, str, str, PeerVerdict, float]]) -> None:
    """Every change of state is in the table and starts where the last one ended; what is said is what is."""
    w = play(history)

    for host in HOSTS:
        state = HostState.UNKNOWN
        for change in w.of(fx.ChangeState, host):
            assert change.old is state and change.new in TRANSITIONS[state]
            state = change.new
        assert w.state(host) is state


@QUICK
@given(HISTORIES)
def test_no_evacuation_state_without_fenced(history: list[tuple[str, str, str, PeerVerdict, float]]) -> None:
    """Every EVACUATING follows FENCED, and every FENCED names its rung."""
    w = play(history)

    for change in w.of(fx.ChangeState):
        assert change.new is not HostState.EVACUATING or change.old is HostState.FENCED
        assert change.new is not HostState.FENCED or change.reason == "FENCE"


@settings(QUICK, max_examples=20)
@given(HISTORIES)
def test_the_same_history_has_the_same_effects(history: list[tuple[str, str, str, PeerVerdict, float]]) -> None:
    """No chance, no clock, no order of a set: a history can be replayed."""
    assert play(history).log == play(history).log


def test_these_histories_do_reach_confirmations() -> None:
    """The properties above are not empty: a plain power cut in this world is confirmed and evacuated."""
    w = play([("kill", "h01", "h01", PeerVerdict.OK, 1.0), ("run", "h01", "h01", PeerVerdict.OK, 5.0)])

    assert w.of(fx.ConfirmDown, "h01")
    assert w.of(fx.OrderEvacuation, "h01")
