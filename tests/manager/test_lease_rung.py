"""The lease rung: when a silent host's lease has run out, and everything that stands against believing it."""

from __future__ import annotations

import pytest

from tests.manager.detector_world import MANY
from tests.manager.lease_world import LeaseWorld
from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.model import FAST_TIMERS, STANDARD_TIMERS, ClusterConfig, EvacuationState, HostState, PeerVerdict, Timers

V = PeerVerdict
DEAD = "h00"
FAST = FAST_TIMERS


def world(count: int = 4, *, timers: Timers = FAST, fenced: bool = False, max_down_fraction: float = 1 / 3) -> LeaseWorld:
    """A cluster that has been in contact for a while."""
    made = LeaseWorld(count, timers=timers, fenced=fenced, max_down_fraction=max_down_fraction)
    made.run(2 * timers.wait_duration_s)
    return made


@pytest.mark.parametrize("timers", [FAST_TIMERS, STANDARD_TIMERS], ids=["fast", "standard"])
def test_after_t_wait_of_silence_the_evacuator_is_told_once(timers: Timers) -> None:
    """The proof comes with the first look after T_wait, not before, and only once; it carries its figures."""
    w = world(timers=timers)
    last = w.confirm(DEAD)
    w.run(3 * timers.wait_duration_s)

    [(at, proof)] = w.proofs(DEAD)
    due = last + timers.wait_duration_s
    if timers is FAST_TIMERS:
        assert due < at <= due + 2 * timers.tick_s
    else:
        # The cooldown lasted longer: the first order says it already.
        [(ordered, _)] = [(at, e) for at, e in w.log if isinstance(e, fx.OrderEvacuation)]
        assert due < ordered == at
    assert proof.silent_s > timers.wait_duration_s == proof.wait_s < proof.in_contact_s
    assert (proof.hosts_in_contact, proof.evacuation_quorum) == (3, 2)


def test_a_fence_has_the_first_word() -> None:
    """The ladder's first rung: the lease is only asked once the fence proved nothing."""
    w = world(fenced=True)
    w.kill(DEAD)
    w.run_until(DEAD, HostState.DOWN, 100.0)
    w.advance(DEAD, EvacuationState.VERIFYING)
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs(DEAD) == []
    w.advance(DEAD, EvacuationState.FENCE_PENDING)
    w.run(1)

    assert len(w.proofs(DEAD)) == 1


def test_two_hosts_evacuate_one_another() -> None:
    """In a two-host cluster the survivor is half of it: its contact is enough."""
    w = world(2)
    w.confirm(DEAD)
    w.run(FAST.wait_duration_s + 1)

    assert len(w.proofs(DEAD)) == 1


def test_without_contact_nothing_is_even_confirmed() -> None:
    """Where the lease is the only proof, a manager that reaches fewer than E voters holds the confirmation back (design 5.5)."""
    w = world(4, max_down_fraction=1.0)
    w.kill("h00", "h01", "h02")
    w.sees = dict.fromkeys(("h00", "h01", "h02"), V.TIMEOUT)
    w.tell(ev.WatchersDrawn(assignment={host: tuple(h for h in w.hosts if h != host) for host in w.hosts}))
    w.run(60)

    assert w.of(fx.ConfirmDown) == [] and w.proofs(DEAD) == []


def test_three_of_six_lost_at_once_are_proven_while_half_is_in_contact() -> None:
    """|F| = E = 3 of 6 is just enough; one more silent host, and the window is bad from there on."""
    w = world(6, max_down_fraction=1.0)
    w.confirm("h00")
    w.kill("h01", "h02")
    w.run(FAST.wait_duration_s + 1)
    assert len(w.proofs("h00")) == 1

    w = world(6, max_down_fraction=1.0)
    w.confirm("h00")
    w.kill("h01", "h02", "h03")
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs("h00") == [] and w.held_by("h00") == "NOT_IN_CONTACT"


def test_hosts_that_fall_silent_together_are_held_together() -> None:
    """Design 5.5: half of six lose power; without a cooldown the first to be judged is not taken for the only one."""
    for fenced in (False, True):
        w = world(6, fenced=fenced)
        w.kill("h00", "h01", "h02")
        w.run(60)

        assert w.of(fx.ConfirmDown) == []
        w.revive("h01", "h02")
        w.run(10)
        assert [confirm.host_id for confirm in w.of(fx.ConfirmDown)] == ["h00"]


def test_a_gap_of_contact_begins_the_window_anew() -> None:
    """Contact that was lost for a moment proves nothing for T_wait more."""
    w = world(4, max_down_fraction=1.0)
    w.confirm(DEAD)
    w.run(5)
    for host in ("h01", "h02", "h03"):
        w.beating.discard(host)
        w.relayed.discard(host)
    w.run(FAST.contact_ttl_s + 0.6)
    w.beating |= {"h01", "h02", "h03"}
    back = w.now
    w.run(FAST.wait_duration_s - 1)
    assert w.proofs(DEAD) == []
    w.run(3)

    [(at, _)] = w.proofs(DEAD)
    assert at > back + FAST.wait_duration_s


def test_a_manager_that_stood_still_begins_anew() -> None:
    """R21: after a stall neither silence nor contact from before counts."""
    w = world()
    w.confirm(DEAD)
    w.run(5)
    w.tell(ev.LoopLagged(lag_s=2.0))
    stalled = w.now
    w.run(2 * FAST.wait_duration_s)

    [(at, _)] = w.proofs(DEAD)
    assert at > stalled + FAST.wait_duration_s


# What no time heals


def test_an_agent_that_ended_before_its_host_proves_nothing() -> None:
    """Its session ended at once, not after seconds without an answer: nobody is left there to stop the VMs."""
    w = world()
    w.tell(ev.SessionClosed(host_id=DEAD))
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "AGENT_DIED_FIRST"
    assert [e.gone for e in w.of(fx.RecordAgent, DEAD)] == [False, True]


def test_a_session_that_ends_long_after_the_last_heartbeat_was_cut() -> None:
    """A host without power misses its heartbeats first; its connection is given up later."""
    w = world()
    w.confirm(DEAD)
    w.tell(ev.SessionClosed(host_id=DEAD))
    w.run(FAST.wait_duration_s + 1)

    assert len(w.proofs(DEAD)) == 1


def test_an_agent_that_is_back_counts_again() -> None:
    """A restarted agent's heartbeat makes good what its end said, also for a later run of the manager."""
    w = world()
    w.tell(ev.SessionClosed(host_id=DEAD))
    w.run(2)
    w.confirm(DEAD)
    w.run(FAST.wait_duration_s + 1)

    assert len(w.proofs(DEAD)) == 1
    assert [e.gone for e in w.of(fx.RecordAgent, DEAD)] == [False, True, False]


def test_with_a_watchdog_a_dead_agent_is_a_dead_host() -> None:
    """R10: the watchdog resets a host whose agent ended, so the rung holds."""
    w = world()
    w.tell(ev.SessionOpened(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=True, watchdog=True))
    w.tell(ev.SessionClosed(host_id=DEAD))
    w.confirm(DEAD)
    w.run(FAST.wait_duration_s + 1)

    assert len(w.proofs(DEAD)) == 1


@pytest.mark.parametrize(("reached_for_s", "proofs"), [(11.0, 1), (13.5, 0)])
def test_a_watchdog_has_until_t_kill_after_the_lease(reached_for_s: float, proofs: int) -> None:
    """R10, I6: a frozen agent's host is reached until its reset; one that is reached later has no watchdog that works."""
    w = world()
    w.tell(ev.SessionOpened(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=True, watchdog=True))
    w.beating.discard(DEAD)
    w.run(reached_for_s)
    w.report("h01", **{DEAD: V.OK})
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert len(w.proofs(DEAD)) == proofs


@pytest.mark.parametrize("verdict", [V.OK, V.REFUSED, V.DEGRADED])
def test_a_host_that_was_reached_after_its_last_heartbeat_lost_its_agent_first(verdict: PeerVerdict) -> None:
    """Whoever says it, credible or not; and it is on record for a later run of the manager."""
    w = world()
    w.lose_agent(DEAD)
    w.run(1.0)
    w.report("h01", **{DEAD: verdict})
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == []
    assert w.held_by(DEAD) in {"REACHED_AFTER_LAST_HEARTBEAT", "AGENT_DIED_FIRST"}


def test_a_host_that_was_reached_too_late_is_on_record_for_the_next_leader() -> None:
    """Only this run heard who reached it: the next one would know of nothing but silence, and prove it by that."""
    w = world()
    last = w.confirm(DEAD)
    w.report("h01", **{DEAD: V.OK})
    w.run(1)
    assert w.now > last and w.held_by(DEAD) in {"REACHED_AFTER_LAST_HEARTBEAT", "AGENT_DIED_FIRST"}
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == []
    assert w.of(fx.RecordAgent, DEAD)[-1].gone


def test_a_watchdog_that_did_not_work_is_on_record_for_the_next_leader() -> None:
    """R10: who was reached later than a watchdog allows has none, also before an incident; a heartbeat gives it back."""
    w = world()
    w.tell(ev.SessionOpened(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=True, watchdog=True))
    w.run(1)
    assert w.of(fx.RecordAgent, DEAD)[-1].watchdog
    w.lose_agent(DEAD)
    w.run(FAST.lease_duration_s + FAST.kill_timeout_s + 3)
    w.report("h01", **{DEAD: V.OK})
    last = w.of(fx.RecordAgent, DEAD)[-1]
    assert (last.gone, last.watchdog) == (True, False)
    w.revive(DEAD)
    w.run(2)

    last = w.of(fx.RecordAgent, DEAD)[-1]
    assert (last.gone, last.watchdog) == (False, True)


def test_a_host_that_is_reached_before_its_stream_is_stale_costs_no_record() -> None:
    """A heartbeat that comes late is no agent that is gone."""
    w = world()
    w.beating.discard(DEAD)
    w.run(FAST.stream_stale_s / 2)
    w.report("h01", **{DEAD: V.OK})

    assert [e.gone for e in w.of(fx.RecordAgent, DEAD)] == [False]


def test_what_a_former_run_saw_of_the_agent_still_counts() -> None:
    """A host whose agent ended under another manager, and that this one never heard, proves nothing either."""
    w = LeaseWorld(4, timers=FAST)
    w.beating.discard(DEAD)
    w.tell(ev.HostRemoved(host_id=DEAD))
    gone = ev.HostConfigured(
        host_id=DEAD, boot_id="b", state=HostState.DOWN, incident_id="i1", agent_gone=True, self_fencing=True
    )
    w.tell(gone)
    w.configure({1: tuple(w.hosts)})
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "AGENT_DIED_FIRST"


def test_a_host_that_only_a_former_run_heard_is_proven_after_t_wait_of_this_run() -> None:
    """Its silence counts from the beginning of this run: an earlier manager may have heard it until then."""
    w = LeaseWorld(4, timers=FAST)
    began = w.now
    w.kill(DEAD)
    w.tell(ev.HostRemoved(host_id=DEAD))
    w.tell(ev.HostConfigured(host_id=DEAD, boot_id="b", state=HostState.DOWN, incident_id="i1", self_fencing=True))
    w.configure({1: tuple(w.hosts)})
    w.run(3 * FAST.wait_duration_s)

    [(at, _)] = w.proofs(DEAD)
    assert at > began + FAST.wait_duration_s


def test_an_agent_without_a_guard_proves_nothing() -> None:
    """Its newest heartbeat did not say that it stops its VMs by itself."""
    w = world()
    w.unfenced.add(DEAD)
    w.run(2)
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "SELF_FENCING_OFF"


def test_the_newest_word_on_the_guard_counts_whether_hello_or_heartbeat() -> None:
    """An agent that came back after its guard's end says in its hello that it holds none any more, and dies again."""
    w = world()
    w.tell(ev.SessionOpened(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=False))
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "SELF_FENCING_OFF"
    assert [(told.reason, told.host_id) for told in w.of(fx.TellNoProof)] == [("SELF_FENCING_OFF", DEAD)]


@pytest.mark.parametrize("state", [HostState.AGENT_LOST, HostState.FENCE_PENDING])
def test_what_a_hello_promises_after_the_silence_proves_nothing_of_it(state: HostState) -> None:
    """An agent that comes back to VMs that ran without it, now with guard and watchdog, has only begun to stop them (R16)."""
    w = world()
    w.unfenced.add(DEAD)
    w.run(2)
    w.tell(ev.SessionClosed(host_id=DEAD))
    back = ev.SessionOpened(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=True, watchdog=True)
    if state is HostState.AGENT_LOST:
        w.lose_agent(DEAD)
        w.run(FAST.stream_stale_s)
        w.tell(back)
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)
    w.tell(back)
    w.run(1)

    assert w.proofs(DEAD) == []


def test_a_watchdog_that_a_hello_tells_of_counts_with_the_next_heartbeat() -> None:
    """Also where the host had been silent for long; one that is taken back is gone at once."""
    w = world()
    w.lose_agent(DEAD)
    w.run(2 * FAST.stream_stale_s)
    w.tell(ev.SessionOpened(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=True, watchdog=True))
    w.revive(DEAD)
    w.run(2)
    assert w.core._cluster.hosts[DEAD].watchdog
    w.lose_agent(DEAD)
    w.run(2 * FAST.stream_stale_s)
    w.tell(ev.SessionOpened(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=True, watchdog=False))
    assert not w.core._cluster.hosts[DEAD].watchdog


def test_every_configuration_that_it_may_hold_counts() -> None:
    """R18: one of them without self-fencing, or with voters that are not in contact, and there is no proof."""
    w = world()
    w.configure({1: tuple(w.hosts), 2: tuple(w.hosts)}, off=frozenset({2}), held={DEAD: (1, 2)})
    w.run(2 * FAST.wait_duration_s)
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "SELF_FENCING_OFF"

    w = world()
    w.configure({1: tuple(w.hosts), 2: ("x1", "x2", "x3")}, held={DEAD: (1, 2)})
    w.run(2 * FAST.wait_duration_s)
    w.kill(DEAD)
    w.run(3 * FAST.wait_duration_s)
    assert w.of(fx.ConfirmDown) == [] and w.held_by(DEAD) == "NOT_IN_CONTACT"
    w.configure({1: tuple(w.hosts), 2: ("x1", "x2", "x3")}, held={DEAD: (1, 1)})
    w.run(3)
    assert len(w.of(fx.ConfirmDown)) == 1 and len(w.proofs(DEAD)) == 1


@pytest.mark.parametrize("held", [(0, 0), (0, 1), (3, 4)])
def test_what_it_holds_must_be_known(held: tuple[int, int]) -> None:
    """A host that confirmed nothing, or something that is not on record, is not believed to be bound by anything."""
    w = world()
    w.core._cluster.held.clear()
    w.configure({1: tuple(w.hosts)}, held={DEAD: held})
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "CONFIG_UNKNOWN"


@pytest.mark.parametrize("rate", [0.9, 0.97, 1.05])
def test_a_clock_that_runs_otherwise_is_not_believed(rate: float) -> None:
    """A slow clock's lease lasts longer than T_wait may allow for; a fast one is as wrong."""
    w = world()
    w.run(60)
    w.rates[DEAD] = rate
    w.run(40)
    w.rates.pop(DEAD)
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "CLOCK_SUSPECT"
    assert w.of(fx.RecordClock, DEAD)[-1].suspect


def test_a_clock_that_goes_wrong_with_the_last_heartbeats_is_on_record() -> None:
    """Found when the proof is sought: the next leader has heard none of them."""
    w = world()
    w.run(60)
    w.rates[DEAD] = 0.5
    w.run(6)
    assert w.of(fx.RecordClock, DEAD) == []
    w.confirm(DEAD)
    w.run(3 * FAST.wait_duration_s)

    assert w.held_by(DEAD) == "CLOCK_SUSPECT"
    assert [e.suspect for e in w.of(fx.RecordClock, DEAD)] == [True]


@pytest.mark.parametrize(("age_s", "proofs"), [(10.0, 0), (3600.0, 1)])
def test_a_clock_that_a_former_run_found_wrong_is_not_believed(age_s: float, proofs: int) -> None:
    """R21: for an hour, under whichever leader; this one has not heard it at all."""
    w = LeaseWorld(4, timers=FAST)
    w.kill(DEAD)
    w.tell(ev.HostRemoved(host_id=DEAD))
    left = ev.HostConfigured(
        host_id=DEAD, boot_id="b", state=HostState.DOWN, incident_id="i1", self_fencing=True, clock_suspect_age_s=age_s
    )
    w.tell(left)
    w.configure({1: tuple(w.hosts)})
    w.run(3 * FAST.wait_duration_s)

    assert len(w.proofs(DEAD)) == proofs and (proofs or w.held_by(DEAD) == "CLOCK_SUSPECT")
    assert w.of(fx.RecordClock, DEAD) == []


def test_a_heartbeat_that_was_held_up_is_no_slow_clock() -> None:
    """The last words of a host on a loaded network come late; its lease counts from when it sent them."""
    w = world()
    w.run(60)
    for late_s in (0.8, 2.0, 1.5):
        held_up = ev.HeartbeatReceived(host_id=DEAD, boot_id=w.boots[DEAD], self_fencing=True, boot_time_s=w.clock(DEAD) - late_s)
        w.tell(held_up)
    w.confirm(DEAD)
    w.run(FAST.wait_duration_s + 1)

    assert len(w.proofs(DEAD)) == 1


def test_clocks_within_rho_are_believed() -> None:
    """A drift that the constants allow for costs nothing."""
    w = world()
    w.rates |= {DEAD: 0.9995, "h01": 1.0005}
    w.run(3600)
    w.confirm(DEAD)
    w.run(FAST.wait_duration_s + 1)

    assert len(w.proofs(DEAD)) == 1


def test_when_most_clocks_seem_fast_ours_is_slow() -> None:
    """R21: it is as if this manager had just started."""
    w = world()
    w.run(30)
    w.rates |= dict.fromkeys(w.hosts, 1.1)
    w.run(20)

    assert w.core.learning(w.now)
    assert not any(w.of(fx.RecordClock, host)[-1].suspect for host in w.hosts if w.of(fx.RecordClock, host))


def test_safe_mode_gives_no_proof() -> None:
    """R20: nothing is evacuated until everybody has said what runs; then it goes on by itself."""
    w = world()
    w.confirm(DEAD)
    w.tell(ev.ClusterConfigured(config=ClusterConfig(timers=FAST), enabled=True, safe_mode=True))
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs(DEAD) == [] and w.held_by(DEAD) == "SAFE_MODE"
    w.tell(ev.ClusterConfigured(config=ClusterConfig(timers=FAST), enabled=True))
    w.run(1)

    assert len(w.proofs(DEAD)) == 1


def test_safe_mode_confirms_nothing() -> None:
    """Nor is a host confirmed down meanwhile."""
    w = world()
    w.tell(ev.ClusterConfigured(config=ClusterConfig(timers=FAST), enabled=True, safe_mode=True))
    w.kill(DEAD)
    w.run(60)

    assert w.of(fx.ConfirmDown) == [] and w.held_by(DEAD) == "SAFE_MODE"


def test_a_host_that_returns_or_is_proven_otherwise_gets_no_lease_proof() -> None:
    """What a fence proved, and what was cancelled because the host spoke, needs none."""
    w = world()
    w.confirm(DEAD)
    w.advance(DEAD, EvacuationState.PLANNING)
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs(DEAD) == []

    w = world()
    w.confirm(DEAD)
    w.request(DEAD)
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs(DEAD) == []


# Too few reporters


def alone(*, fenced: bool) -> LeaseWorld:
    """Nobody but the manager watches the dead host: its votes cannot make a quorum."""
    w = world(6, fenced=fenced)
    w.assignment = dict.fromkeys(w.hosts, ())
    w.tell(ev.WatchersDrawn(assignment=w.assignment))
    w.run(5)
    w.kill(DEAD)
    w.run(60)
    return w


def test_an_unconfirmable_host_without_a_fence_waits() -> None:
    """Held, with an alarm: nobody could prove anything."""
    w = alone(fenced=False)

    assert w.alarms(DEAD) == {"UNCONFIRMABLE"} and w.of(fx.ConfirmDown) == []


def test_an_unconfirmable_host_is_left_to_its_fence() -> None:
    """With a fence device it is confirmed after its cooldown, by a fence's word alone: the lease gives none (design 4)."""
    w = alone(fenced=True)

    [confirm] = w.of(fx.ConfirmDown)
    assert "the fence decides" in confirm.evidence
    assert [change.reason for change in w.of(fx.ChangeState, DEAD)][-2:] == ["UNCONFIRMABLE", "CONFIRMED"]
    w.advance(DEAD, EvacuationState.VERIFYING)
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs(DEAD) == []


def test_a_suspicion_of_a_former_run_that_has_lost_its_quorum_is_left_to_the_fence() -> None:
    """Its cooldown is over at the first look that finds no quorum: nobody would have seen that its agent was gone first."""
    w = world(6, fenced=True)
    w.kill(DEAD)
    w.tell(ev.WatchersDrawn(assignment=dict.fromkeys(w.hosts, ())))
    w.assignment = dict.fromkeys(w.hosts, ())
    w.tell(ev.HostRemoved(host_id=DEAD))
    suspicion = ev.RestoredSuspicion(boot_id="b", since_age_s=99.0, confirm_in_s=0.0)
    w.tell(
        ev.HostConfigured(
            host_id=DEAD, boot_id="b", state=HostState.COOLDOWN, suspicion=suspicion, has_fence=True, self_fencing=True
        )
    )
    w.configure({1: tuple(w.hosts)})
    w.run_until(DEAD, HostState.DOWN, 60)
    [confirm] = w.of(fx.ConfirmDown)
    assert "the fence decides" in confirm.evidence
    w.advance(DEAD, EvacuationState.VERIFYING)
    w.advance(DEAD, EvacuationState.FENCE_PENDING)
    w.run(3 * FAST.wait_duration_s)
    assert w.proofs(DEAD) == []


def test_what_a_former_run_left_to_the_fence_gets_no_lease_proof() -> None:
    """Design 4: the incident says that it has no quorum, and every later run of the manager holds itself to that."""
    w = alone(fenced=True)
    [confirm] = w.of(fx.ConfirmDown)
    assert confirm.fence_decides

    w = LeaseWorld(4, timers=FAST, fenced=True)
    w.kill(DEAD)
    w.tell(ev.HostRemoved(host_id=DEAD))
    left = ev.HostConfigured(
        host_id=DEAD,
        boot_id="b",
        state=HostState.FENCE_PENDING,
        incident_id="i1",
        fence_decides=True,
        has_fence=True,
        self_fencing=True,
    )
    w.tell(left)
    w.configure({1: tuple(w.hosts)})
    w.run(3 * FAST.wait_duration_s)

    assert w.proofs(DEAD) == []


def test_a_quorum_that_is_there_at_the_confirmation_is_said_to_be() -> None:
    """Only what is confirmed without one is left to its fence."""
    w = world(fenced=True)
    w.confirm(DEAD)

    [confirm] = w.of(fx.ConfirmDown)
    assert not confirm.fence_decides and len(w.proofs(DEAD)) <= 1


def test_a_manager_that_reaches_nobody_leaves_nobody_to_a_fence() -> None:
    """All silent at once is a mass failure, or our own: held, whatever the fence could do."""
    w = world(6, fenced=True)
    w.kill(*w.hosts)
    w.run(120)

    assert w.of(fx.ConfirmDown) == []


# Flapping


def test_flapping_outlives_the_manager_and_is_no_target() -> None:
    """Vain suspicions are restored with their age; the reason of its state says that it flaps, until an hour has passed."""
    w = LeaseWorld(4, timers=FAST)
    w.tell(ev.HostRemoved(host_id=DEAD))
    w.tell(ev.HostConfigured(host_id=DEAD, boot_id=w.boots[DEAD], flaps_age_s=(600.0, 30.0)))
    w.configure({1: tuple(w.hosts)})
    w.run(5)
    w.kill(DEAD)
    w.run(6)
    w.revive(DEAD)
    w.run(2)
    [suspect] = w.of(fx.RecordSuspect, DEAD)
    [healthy] = [change for change in w.of(fx.ChangeState, DEAD) if change.new is HostState.HEALTHY][-1:]

    assert suspect.cooldown_s > FAST.cooldown_s
    assert healthy.reason == "FLAPPING" and len(w.of(fx.RecordFlap, DEAD)) == 1
    w.run(3700)
    assert len(w.of(fx.RecordCalm, DEAD)) == 1 and w.now < MANY
