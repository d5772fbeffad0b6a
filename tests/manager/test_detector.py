"""The detector: the design's table row by row, cooldown, restarts, mass failures, flapping, planned shutdowns."""

from __future__ import annotations

import contextlib
import cProfile
import pstats
from dataclasses import replace

import pytest

from tests.manager.detector_world import World, quick
from vmha.manager import detector
from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.clusterview import ClusterView
from vmha.manager.detector import Detector
from vmha.manager.evidence import SUMMARIES
from vmha.manager.hostview import TRANSITIONS, HostView, IllegalInput
from vmha.manager.looking import look
from vmha.model import FAST_TIMERS, EvacuationState, GoodbyeReason, HostState, Observation, PeerVerdict

H = HostState
DEAD = "h00"
STALE_S = 15.0
COOLDOWN_S = 150.0


def test_a_look_that_fails_costs_nothing_of_other_hosts_and_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in judging h01: what the same tick decides of the others is carried out, and h01 is not forgotten."""
    w = World()
    faults: list[float] = []

    def broken(cluster: ClusterView, host: HostView, now: float) -> list[fx.Effect]:
        if host.host_id == "h01":
            faults.append(now)
            raise KeyError("a fault")
        return look(cluster, host, now)

    monkeypatch.setattr(detector, "look", broken)
    done: list[fx.Effect] = []
    late = w.now + STALE_S - 2 * w.timers.probe_timeout_s
    for step in range(30):
        with contextlib.suppress(KeyError):
            done += w.core.tick(late + step * 0.1)
    assert {effect.host_id for effect in done if isinstance(effect, fx.ProbeHost)} == set(w.hosts) - {"h01"}
    assert 2 <= len(faults) <= 10


# The table of design section 4


@pytest.mark.parametrize("verdict", list(PeerVerdict))
@pytest.mark.parametrize("own", list(PeerVerdict))
def test_row_stream_fresh(verdict: PeerVerdict, own: PeerVerdict) -> None:
    """Own stream fresh: HEALTHY, whatever the peers and the manager's probe meet; never evacuated."""
    w = World()
    w.sees[DEAD], w.own_probe[DEAD] = verdict, own

    w.run(600)

    assert w.state(DEAD) is H.HEALTHY
    assert not w.of(fx.RecordSuspect) and not w.of(fx.ConfirmDown)


def test_row_stream_fresh_by_relay_only() -> None:
    """Only relayed heartbeats arrive: ISOLATED, though all others meet silence; never evacuated; own heartbeats end it."""
    w = World()
    w.beating.discard(DEAD)
    w.relayed.add(DEAD)
    w.sees[DEAD] = w.own_probe[DEAD] = PeerVerdict.TIMEOUT

    w.run(600)

    assert w.state(DEAD) is H.ISOLATED
    assert not w.of(fx.RecordSuspect)
    w.beating.add(DEAD)
    w.run(5)
    assert w.state(DEAD) is H.HEALTHY


def test_row_stale_two_ups() -> None:
    """Stream stale, two credible ups against three timeouts: AGENT_LOST; not evacuated."""
    w = World()
    w.kill(DEAD)
    w.sees["h04", DEAD] = w.sees["h05", DEAD] = PeerVerdict.OK

    w.run(600)

    assert w.state(DEAD) is H.AGENT_LOST
    assert not w.of(fx.RecordSuspect) and not w.of(fx.SendScouts)


@pytest.mark.parametrize("verdict", [PeerVerdict.REFUSED, PeerVerdict.DEGRADED])
def test_row_stale_any_refused(verdict: PeerVerdict) -> None:
    """Stream stale, one credible REFUSED (or DEGRADED: a kernel answered, decision 001) against four timeouts: AGENT_LOST."""
    w = World()
    w.kill(DEAD)
    w.sees["h05", DEAD] = verdict

    w.run(600)

    assert w.state(DEAD) is H.AGENT_LOST
    assert not w.of(fx.RecordSuspect) and not w.of(fx.SendScouts)


def test_row_stale_one_up_scouts_meet_silence() -> None:
    """One credible up against a quorum of timeouts: five more are asked; 80 % silence is SUSPECT: one liar keeps no dead host."""
    w = World(12)
    w.kill(DEAD)
    liar = w.hosts[-1]
    w.sees[liar, DEAD] = PeerVerdict.OK

    w.run(60)

    scouts = w.of(fx.SendScouts, DEAD)[0]
    assert len(set(scouts.reporters)) == 5 and not set(scouts.reporters) & {DEAD, *w.hosts[-5:]}
    assert w.state(DEAD) is H.COOLDOWN
    w.run(COOLDOWN_S + 60)
    assert w.state(DEAD) is H.DOWN


def test_row_stale_one_up_scouts_meet_life() -> None:
    """One credible up against a quorum of timeouts, and two of five scouts reach the host, too: AGENT_LOST."""
    w = World(12)
    w.kill(DEAD)
    for reaches in (w.hosts[-1], "h01", "h02"):
        w.sees[reaches, DEAD] = PeerVerdict.OK

    w.run(600)

    assert w.of(fx.SendScouts, DEAD)
    assert w.state(DEAD) is H.AGENT_LOST
    assert not w.of(fx.RecordSuspect)


def test_row_stale_one_up_a_scout_is_refused() -> None:
    """A scout that meets a living kernel is worth more than four that meet silence: AGENT_LOST."""
    w = World(12)
    w.kill(DEAD)
    w.sees[w.hosts[-1], DEAD] = PeerVerdict.OK
    w.sees["h01", DEAD] = PeerVerdict.REFUSED

    w.run(600)

    assert w.state(DEAD) is H.AGENT_LOST
    assert not w.of(fx.RecordSuspect)


def test_row_stale_one_up_scouts_do_not_answer() -> None:
    """Scouts that do not answer are no witnesses of silence: not evacuated."""
    w = World(12)
    w.scouts_answer = False
    w.kill(DEAD)
    w.sees[w.hosts[-1], DEAD] = PeerVerdict.OK

    w.run(600)

    assert w.state(DEAD) is H.AGENT_LOST
    assert not w.of(fx.RecordSuspect)


def test_row_stale_scouts_that_are_cut_off_do_not_count() -> None:
    """A scout whose own peers are all silent for it is not asked: its silence is its own."""
    w = World(12)
    w.kill(DEAD)
    w.sees[w.hosts[-1], DEAD] = PeerVerdict.OK
    for host in w.hosts:
        w.sees["h01", host] = PeerVerdict.TIMEOUT

    w.run(60)

    assert w.of(fx.SendScouts, DEAD)
    assert all("h01" not in scouts.reporters for scouts in w.of(fx.SendScouts, DEAD))


@pytest.mark.parametrize("own", [PeerVerdict.OK, PeerVerdict.REFUSED, PeerVerdict.DEGRADED])
def test_row_stale_own_probe_meets_life(own: PeerVerdict) -> None:
    """All peers meet silence, but the manager's own probe meets a kernel: AGENT_LOST; never evacuated."""
    w = World()
    w.kill(DEAD)
    w.own_probe[DEAD] = own

    w.run(600)

    assert w.state(DEAD) is H.AGENT_LOST
    assert not w.of(fx.RecordSuspect)


def test_row_stale_split() -> None:
    """One up against one timeout (fewer than the quorum): scouts are asked, and while they are undecided nothing is decided."""
    w = World(8)
    w.draw(2)
    w.run(120)
    w.kill(DEAD)
    w.sees[w.hosts[-1], DEAD] = PeerVerdict.OK
    w.sees["h01", DEAD] = w.sees["h02", DEAD] = PeerVerdict.OK

    w.run(600)

    assert len(w.of(fx.SendScouts, DEAD)) > 1
    assert w.state(DEAD) is H.HEALTHY
    assert not w.of(fx.RecordSuspect)


def test_row_stale_quorum_timeout() -> None:
    """Stream stale, quorum of timeouts, own probe silent: SUSPECT, COOLDOWN, and after 150 s DOWN; then the evacuation."""
    w = World()
    w.kill(DEAD)

    suspected = w.run_until(DEAD, H.COOLDOWN, 30)
    confirmed = w.run_until(DEAD, H.DOWN, 200)

    assert STALE_S - 5 <= suspected <= STALE_S + 6
    assert COOLDOWN_S - 1 <= confirmed <= COOLDOWN_S + 2
    assert w.path(DEAD)[-3:] == [H.SUSPECT, H.COOLDOWN, H.DOWN]
    assert [order.incident_id for order in w.of(fx.OrderEvacuation)] == ["incident-1"]
    [confirm] = w.of(fx.ConfirmDown)
    assert confirm.boot_id == w.boots[DEAD] and "timeout" in confirm.evidence and "quorum 3" in confirm.evidence


def test_row_stale_fewer_credible_reporters_than_the_quorum() -> None:
    """Too few credible reporters: nothing is decided, alarm UNCONFIRMABLE; it ends with the first sign of life."""
    w = World()
    w.kill(DEAD)
    w.watching = {"h01", "h02"}

    w.run(600)

    assert w.state(DEAD) not in {H.SUSPECT, H.COOLDOWN, H.DOWN}
    assert w.alarms(DEAD) == {"UNCONFIRMABLE"}
    assert not w.of(fx.RecordSuspect)
    w.revive(DEAD)
    w.run(10)
    assert w.alarms(DEAD) == set()


def test_row_goodbye_shutdown() -> None:
    """A planned shutdown is excused for planned_grace (300 s); then the ordinary way begins."""
    w = World()
    w.goodbye(DEAD)
    w.kill(DEAD)

    w.run(299)
    assert w.state(DEAD) is H.HEALTHY and not w.of(fx.ProbeHost, DEAD)

    w.run_until(DEAD, H.COOLDOWN, 30)
    w.run_until(DEAD, H.DOWN, 160)


def test_goodbye_of_an_agent_that_restarts_excuses_nothing() -> None:
    """Only the host's own shutdown is a plan: an agent that restarts is back in seconds, or its host is gone."""
    w = World()
    w.goodbye(DEAD, GoodbyeReason.AGENT_RESTARTING)
    w.kill(DEAD)

    w.run_until(DEAD, H.COOLDOWN, 30)


def test_goodbye_clears_a_suspicion() -> None:
    """Whoever says goodbye lived a moment ago."""
    w = World()
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)

    w.goodbye(DEAD)

    assert w.of(fx.ClearSuspect, DEAD)
    w.run(290)
    assert not w.of(fx.ConfirmDown)


# S5, S6 and the cooldown


def test_s05_one_report_of_a_host_down_starts_nothing() -> None:
    """One reporter's word is checked against the others' and the manager's own view: alone it starts nothing."""
    w = World()
    w.sees["h05", DEAD] = PeerVerdict.TIMEOUT
    w.run(600)
    assert w.state(DEAD) is H.HEALTHY and not w.of(fx.RecordSuspect)

    w.lose_agent(DEAD)
    w.run(600)
    assert w.state(DEAD) is H.AGENT_LOST and not w.of(fx.RecordSuspect)


def test_s05_the_peers_alone_start_nothing() -> None:
    """All peers call a host down whose stream is fresh: nothing starts."""
    w = World()
    w.sees[DEAD] = PeerVerdict.TIMEOUT

    w.run(600)

    assert w.state(DEAD) is H.HEALTHY and not w.of(fx.RecordSuspect)


@pytest.mark.parametrize("back_after_s", [1.0, 60.0, 140.0])
def test_s06_a_host_that_is_back_before_the_cooldown_ends_clears_it(back_after_s: float) -> None:
    """Back before the 150 s end: the suspicion is cleared, it is said why, and nothing is done."""
    w = World()
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)
    w.run(back_after_s)

    w.revive(DEAD)
    w.run(300)

    assert w.state(DEAD) is H.HEALTHY
    assert len(w.of(fx.ClearSuspect, DEAD)) == 1
    assert not w.of(fx.ConfirmDown)


def test_s06_the_cooldown_is_150_s() -> None:
    """The reference's 150 s are what is written into the suspicion."""
    w = World()
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)

    assert [record.cooldown_s for record in w.of(fx.RecordSuspect)] == [150.0]


@pytest.mark.parametrize("sign", ["heartbeat", "relayed", "registration", "request", "up", "refused", "own probe"])
def test_any_sign_of_life_clears_the_cooldown(sign: str) -> None:
    """A heartbeat, a relayed one, a registration or the wish for one, two ups, a REFUSED, our own probe: each clears it."""
    w = World()
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)
    w.run(50)

    match sign:
        case "heartbeat":
            w.tell(ev.HeartbeatReceived(host_id=DEAD, boot_id=w.boots[DEAD]))
        case "relayed":
            w.tell(ev.HeartbeatReceived(host_id=DEAD, boot_id=w.boots[DEAD], relayed=True))
        case "registration":
            w.register(DEAD)
        case "request":
            assert fx.PermitRegistration(host_id=DEAD) in w.request(DEAD)
        case "up":
            w.sees["h01", DEAD] = w.sees["h02", DEAD] = PeerVerdict.OK
            w.run(5)
        case "refused":
            w.sees["h01", DEAD] = PeerVerdict.REFUSED
            w.run(5)
        case "own probe":
            w.own_probe[DEAD] = PeerVerdict.DEGRADED
            w.run(5)

    assert w.state(DEAD) not in {H.SUSPECT, H.COOLDOWN, H.DOWN}
    assert len(w.of(fx.ClearSuspect, DEAD)) == 1
    assert not w.of(fx.ConfirmDown)


def test_a_cooldown_that_ends_while_the_evidence_is_gone_confirms_nothing() -> None:
    """The time has come, but the votes do not hold any more: wait. When they hold again: confirm."""
    w = World()
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)
    w.watching = {"h01"}
    w.beating -= {"h02", "h03", "h04", "h05"}
    w.run(300)
    assert not w.of(fx.ConfirmDown, DEAD)

    w.watching = {*w.hosts[1:]}
    w.beating |= {*w.hosts[1:]}
    w.run(20)
    assert w.of(fx.ConfirmDown, DEAD)


def test_a_missing_record_only_cancels() -> None:
    """The store says that the suspicion is gone: nothing is confirmed, the state says why, and suspicion begins anew."""
    w = World()
    w.confirms = False
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)
    w.run_until(DEAD, H.AGENT_LOST, 160)

    assert w.of(fx.ChangeState, DEAD)[-1].reason == "SUSPICION_LOST"
    assert not w.of(fx.OrderEvacuation) and w.core.may_register(DEAD)
    w.run(10)
    assert len(w.of(fx.RecordSuspect)) == 1
    w.run(10)
    assert len(w.of(fx.RecordSuspect)) == 2


def test_an_unrecorded_suspicion_is_recorded_again_and_not_confirmed() -> None:
    """Without the store's word there is no cooldown: the record is asked for again, and nothing is confirmed meanwhile."""
    w = World()
    w.records = False
    w.kill(DEAD)
    w.run(400)
    assert w.state(DEAD) is H.SUSPECT
    assert len(w.of(fx.RecordSuspect)) > 100 and not w.of(fx.ConfirmDown)

    w.records = True
    w.run(5)
    assert w.state(DEAD) is H.COOLDOWN


def test_fast_profile_confirms_without_cooldown() -> None:
    """With a cooldown of 0 s the way is SUSPECT -> DOWN, within 3 s of the power cut."""
    w = World(4, timers=FAST_TIMERS)
    w.kill(DEAD)

    assert w.run_until(DEAD, H.DOWN, 3) <= 3
    assert w.path(DEAD)[-2:] == [H.SUSPECT, H.DOWN]


# Restart, learning, store


def restored(state: HostState, **more: object) -> World:
    """A manager that has just started: h00 dead, with what a former run left in the store."""
    w = World(learned=False, start=False)
    w.kill(DEAD)
    for host in w.hosts[1:]:
        w.tell(ev.HostConfigured(host_id=host, state=H.HEALTHY, boot_id=w.boots[host]))
    w.tell(ev.HostConfigured(host_id=DEAD, state=state, boot_id=w.boots[DEAD], **more))  # type: ignore[arg-type]
    w.draw()
    w.run(0)
    return w


def suspicion(confirm_in_s: float, boot_id: str = f"boot-of-{DEAD}") -> ev.RestoredSuspicion:
    return ev.RestoredSuspicion(boot_id=boot_id, since_age_s=150 - confirm_in_s, confirm_in_s=confirm_in_s)


def test_a_restart_in_the_cooldown_goes_on_and_learns_first() -> None:
    """The suspicion outlives the manager, but the new one confirms nothing before it has learnt for 150 s."""
    w = restored(H.COOLDOWN, suspicion=suspicion(100))

    w.run(149)
    assert w.state(DEAD) is H.COOLDOWN and w.core.learning(w.now)
    assert w.core.explain(DEAD, w.now).held == "LEARNING"
    w.run(3)
    assert w.of(fx.ConfirmDown, DEAD) and not w.of(fx.RecordSuspect)


def test_a_host_that_this_run_has_not_heard_is_probed_just_in_time() -> None:
    """After a take-over all are silent: the probes of a new leader begin 2 x probe_timeout before the streams are stale."""
    w = restored(H.HEALTHY)

    w.run(STALE_S - 2 * w.timers.probe_timeout_s - 0.1)
    assert not w.of(fx.ProbeHost)
    w.run(0.2)
    assert w.of(fx.ProbeHost, DEAD)


def test_a_restart_after_which_the_record_is_gone_begins_anew() -> None:
    """COOLDOWN in the store without its record: the suspicion is cancelled, not confirmed."""
    w = restored(H.COOLDOWN)

    assert w.path(DEAD) == [H.AGENT_LOST]
    w.run(160)
    assert len(w.of(fx.RecordSuspect)) == 1 and not w.of(fx.ConfirmDown)


def test_a_restored_suspicion_of_another_boot_is_cleared() -> None:
    """The host has booted since: the suspicion was of a host that is no more, and its record goes, so that none inherits it."""
    w = restored(H.COOLDOWN, suspicion=suspicion(1, boot_id="an-older-boot"))

    assert w.state(DEAD) is H.AGENT_LOST
    assert w.of(fx.ClearSuspect, DEAD)


def test_a_left_over_record_is_cleared() -> None:
    """A record whose host is not suspected any more would shorten the next cooldown: it goes."""
    w = restored(H.HEALTHY, suspicion=suspicion(1))

    assert w.of(fx.ClearSuspect, DEAD)


def test_a_restart_in_an_incident_joins_its_evacuation() -> None:
    """An open incident's evacuation is ordered again: at least once, by the same id."""
    w = restored(H.FENCING, incident_id="old-incident")

    assert [order.incident_id for order in w.of(fx.OrderEvacuation)] == ["old-incident"]
    w.advance(DEAD, EvacuationState.RUNNING, "old-incident")
    assert w.path(DEAD) == [H.FENCED, H.EVACUATING]


def test_a_restart_after_an_incident_was_closed_watches_the_host_again() -> None:
    """DOWN in the store without an incident: its manager died before it wrote the rest. The host is watched again."""
    w = restored(H.DOWN)

    assert w.path(DEAD) == [H.UNKNOWN]
    w.run(40)
    assert w.state(DEAD) is H.COOLDOWN


def test_a_host_that_was_never_there_is_never_suspected() -> None:
    """A configured host without an agent so far has no VMs of ours: nothing is judged."""
    w = World(start=False)
    for host in w.hosts[1:]:
        w.tell(ev.HostConfigured(host_id=host, boot_id=w.boots[host]))
    w.kill(DEAD)
    w.tell(ev.HostConfigured(host_id=DEAD))
    w.draw()

    w.run(600)

    assert w.state(DEAD) is H.UNKNOWN and not w.of(fx.ProbeHost, DEAD)


def test_learning_takes_evidence_in_and_confirms_nothing() -> None:
    """A young manager lets the cooldown run, and confirms when it has learnt."""
    w = World(timers=quick(cooldown_s=20.0), learned=False)
    w.kill(DEAD)
    w.run(149)
    assert w.state(DEAD) is H.COOLDOWN and not w.of(fx.ConfirmDown)

    w.run(3)
    assert w.state(DEAD) is H.DOWN


def test_a_store_that_was_lost_cancels_suspicions_and_teaches_anew() -> None:
    """The store came back empty: suspicions are gone with it, and nothing is confirmed for learning_s."""
    w = World(timers=quick(cooldown_s=20.0))
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)

    w.tell(ev.StoreLost())

    assert w.of(fx.ClearSuspect, DEAD) and w.core.learning(w.now)
    w.run(149)
    assert not w.of(fx.ConfirmDown)
    w.run(5)
    assert w.of(fx.ConfirmDown)


def test_a_loop_that_stood_still_learns_anew() -> None:
    """More than 1 s of standstill: what was not heard proves nothing; a shorter one changes nothing."""
    w = World(timers=quick(cooldown_s=20.0))
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)

    w.tell(ev.LoopLagged(lag_s=0.9))
    assert not w.core.learning(w.now)
    w.tell(ev.LoopLagged(lag_s=1.1))

    w.run(149)
    assert not w.of(fx.ConfirmDown)
    w.run(5)
    assert w.of(fx.ConfirmDown)


def test_nothing_is_confirmed_while_the_store_is_away() -> None:
    """The store does not answer: decisions are held, and go on by themselves when it does."""
    w = World(timers=quick(cooldown_s=20.0))
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)
    w.tell(ev.StoreReachable(reachable=False))
    w.run(300)
    assert not w.of(fx.ConfirmDown) and w.core.explain(DEAD, w.now).held == "STORE_UNAVAILABLE"

    w.tell(ev.StoreReachable(reachable=True))
    w.run(2)
    assert w.of(fx.ConfirmDown)


def test_nothing_is_confirmed_while_protection_is_off() -> None:
    """A disabled cluster is watched, and nothing is confirmed, ordered or alarmed."""
    w = World(enabled=False)
    w.kill(DEAD)
    w.watching.discard("h01")
    w.run(600)
    assert not w.of(fx.ConfirmDown) and not w.of(fx.RaiseAlarm)
    assert w.core.explain(DEAD, w.now).held == "PROTECTION_OFF"
    w.tell(ev.OperatorConfirmedOff(host_id=DEAD, operator="ann"))
    assert not w.of(fx.ConfirmDown)

    w.tell(ev.ClusterConfigured(config=w.config, enabled=True))
    w.run(2)
    assert w.of(fx.ConfirmDown)


# Mass failure


def test_a_mass_failure_is_held_and_goes_on_by_itself() -> None:
    """More silent at once than may be down: all held, with an alarm each. Back within the limit, the rest goes on by itself."""
    w = World(12, timers=quick(cooldown_s=20.0), max_down_fraction=1 / 6)
    dead = ["h00", "h04", "h08"]
    w.kill(*dead)
    w.run(300)
    assert not w.of(fx.ConfirmDown)
    assert all(w.alarms(host) == {"MASS_FAILURE_HELD"} for host in dead)
    assert w.core.explain("h04", w.now).held == "MASS_FAILURE_HELD"

    w.revive("h00")
    w.run(30)

    assert {confirm.host_id for confirm in w.of(fx.ConfirmDown)} == {"h04", "h08"}
    assert all(w.alarms(host) == set() for host in dead)


def test_hosts_that_return_one_after_the_other_are_not_confirmed_on_the_way() -> None:
    """A switch comes back, and the first host that is heard brings the rest below the limit: they have time to be heard, too."""
    w = World(12, timers=quick(cooldown_s=20.0), max_down_fraction=1 / 6)
    dead = ["h00", "h04", "h08"]
    w.kill(*dead)
    w.run(300)

    for host in dead:
        w.revive(host)
        w.run(w.config.timers.stream_stale_s / 4)
    w.run(60)

    assert not w.of(fx.ConfirmDown)
    assert all((w.state(host), w.alarms(host)) == (H.HEALTHY, set()) for host in dead)


def test_in_a_small_cluster_the_second_loss_waits_for_the_first_to_be_settled() -> None:
    """Three hosts: one at a time. The evacuated one leaves N and the watchers, so the second can be confirmed after it."""
    w = World(3, timers=quick(cooldown_s=20.0))
    w.kill("h00")
    w.run_until("h00", H.DOWN, 60)
    w.kill("h01")
    w.run(300)
    assert w.state("h01") not in {H.DOWN}

    w.advance("h00", EvacuationState.RUNNING)
    w.advance("h00", EvacuationState.SUCCEEDED)
    w.run(60)

    assert w.state("h00") is H.EVACUATED
    assert w.state("h01") is H.DOWN


def test_two_hosts_need_one_reporter() -> None:
    """In a two-host cluster the other host's word and the manager's probe are enough."""
    w = World(2)
    w.kill(DEAD)

    w.run_until(DEAD, H.DOWN, 200)


def test_an_operator_frees_a_held_host() -> None:
    """Whoever says that a host is off makes its incident at once, over cooldown, mass failure and learning."""
    w = World(9, learned=False)
    w.kill("h00", "h02", "h04", "h06")
    w.run(60)

    w.tell(ev.OperatorConfirmedOff(host_id="h00", operator="ann"))

    [confirm] = w.of(fx.ConfirmDown)
    assert confirm.operator and confirm.evidence == "ann states that it is off"
    assert w.state("h00") is H.DOWN and w.of(fx.OrderEvacuation, "h00")


# Flapping


def test_flapping_doubles_the_cooldown_up_to_600_s() -> None:
    """From the third suspicion within an hour on the cooldown doubles each time, up to 600 s; the alarm ends with the hour."""
    w = World()
    for _ in range(5):
        w.kill(DEAD)
        w.run_until(DEAD, H.COOLDOWN, 60)
        w.revive(DEAD)
        w.run(30)

    assert [record.cooldown_s for record in w.of(fx.RecordSuspect)] == [150, 150, 300, 600, 600]
    assert w.core.is_flapping(DEAD, w.now) and w.alarms(DEAD) == {"FLAPPING"}
    w.run(3700)
    assert not w.core.is_flapping(DEAD, w.now) and w.alarms(DEAD) == set()


def test_flapping_doubles_also_where_there_is_no_cooldown() -> None:
    """With a cooldown of 0 s doubling begins at 10 s."""
    host = HostView("h", H.HEALTHY, 0.0)
    host.note_cleared(1.0, 2.0)

    assert host.cooldown_s(0.0, 10.0) == 20.0
    assert host.cooldown_s(0.0, 4000.0) == 0.0


# Maintenance, membership


def test_maintenance_is_a_state_and_no_shield() -> None:
    """IN_MAINTENANCE comes and goes by the operator's word; a host that dies in it is recovered like any other."""
    w = World()
    w.tell(ev.HostConfigured(host_id=DEAD, in_maintenance=True))
    assert w.state(DEAD) is H.IN_MAINTENANCE
    w.tell(ev.HostConfigured(host_id=DEAD))
    assert w.state(DEAD) is H.HEALTHY
    w.tell(ev.HostConfigured(host_id=DEAD, in_maintenance=True))

    w.kill(DEAD)
    w.run_until(DEAD, H.DOWN, 200)


def test_maintenance_of_a_silent_host_shows_when_it_is_back() -> None:
    """The operator's word on a host that is suspected changes no state; when it is back it is in maintenance."""
    w = World()
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 30)
    w.tell(ev.HostConfigured(host_id=DEAD, in_maintenance=True))
    assert w.state(DEAD) is H.COOLDOWN

    w.revive(DEAD)
    w.run(5)
    assert w.state(DEAD) is H.IN_MAINTENANCE


def test_a_host_that_left_is_forgotten() -> None:
    """After HostRemoved nothing of it is left: no timer, no vote, no word."""
    w = World(4)
    w.kill(DEAD)
    w.run_until(DEAD, H.COOLDOWN, 60)

    w.tell(ev.HostRemoved(host_id=DEAD))
    w.hosts.remove(DEAD)
    w.draw()
    mark = len(w.log)
    w.run(600)

    assert not [effect for _, effect in w.log[mark:] if effect.host_id == DEAD]
    with pytest.raises(KeyError):
        w.core.state(DEAD)


def test_words_on_unknown_hosts_are_let_go_by() -> None:
    """Whatever is said of a host that is not of the cluster changes nothing."""
    w = World()
    for event in (
        ev.HostRemoved(host_id="x"),
        ev.SessionOpened(host_id="x", boot_id="b"),
        ev.HeartbeatReceived(host_id="x", boot_id="b"),
        ev.GoodbyeReceived(host_id="x", reason=GoodbyeReason.HOST_SHUTTING_DOWN),
        ev.RegistrationRequested(host_id="x", boot_id="b"),
        ev.RegistrationCompleted(host_id="x", boot_id="b"),
        ev.ProbeEnded(host_id="x", verdict=PeerVerdict.TIMEOUT),
        ev.SuspectRecorded(host_id="x", confirm_in_s=0),
        ev.ConfirmEnded(host_id="x", incident_id="i"),
        ev.EvacuationAdvanced(host_id="x", incident_id="i", state=EvacuationState.RUNNING),
        ev.OperatorConfirmedOff(host_id="x", operator="ann"),
        ev.ReportReceived(reporter_id="x", observations=(Observation(host_id=DEAD, verdict=PeerVerdict.TIMEOUT),)),
        ev.ReportReceived(reporter_id="h01", observations=(Observation(host_id="x", verdict=PeerVerdict.TIMEOUT),)),
    ):
        assert w.tell(event) == []


# The machine


@pytest.mark.parametrize("old", list(HostState))
@pytest.mark.parametrize("new", list(HostState))
def test_what_is_not_in_the_table_raises_and_changes_nothing(old: HostState, new: HostState) -> None:
    """Each pair of states: allowed by the table, or IllegalInput and the state stays."""
    host = HostView("h", old, 0.0)
    before = replace(host)

    if new in TRANSITIONS[old]:
        host.enter(new)
        assert host.state is new
    else:
        with pytest.raises(IllegalInput):
            host.enter(new)
        assert host == before


def test_the_table_is_complete() -> None:
    """Each state has its row and its words, and none is followed by itself."""
    assert set(TRANSITIONS) == set(SUMMARIES) == set(HostState)
    assert all(state not in following for state, following in TRANSITIONS.items())


def illegal(w: World, event: object) -> None:
    before = w.core.explain(DEAD, w.now)
    with pytest.raises(IllegalInput):
        w.core.event(event, w.now)  # type: ignore[arg-type]
    assert w.core.explain(DEAD, w.now) == before


def test_events_that_cannot_be_raise_and_change_nothing() -> None:
    """An answer that nobody asked for, an operator's word on a host that beats, a heartbeat under a revoked incarnation."""
    w = World()
    illegal(w, "nonsense")
    illegal(w, ev.ConfirmEnded(host_id=DEAD, incident_id="i"))
    illegal(w, ev.OperatorConfirmedOff(host_id=DEAD, operator="ann"))
    w.kill(DEAD)
    w.run_until(DEAD, H.DOWN, 200)
    w.advance(DEAD, EvacuationState.SUCCEEDED)
    illegal(w, ev.HeartbeatReceived(host_id=DEAD, boot_id="b"))
    illegal(w, ev.HeartbeatReceived(host_id=DEAD, boot_id="b", relayed=True))
    assert w.tell(ev.OperatorConfirmedOff(host_id=DEAD, operator="ann")) == []


@pytest.mark.parametrize("relayed", [False, True])
def test_a_late_heartbeat_does_not_undo_an_incident(relayed: bool) -> None:
    """A heartbeat under the revoked incarnation changes nothing and makes no witness: only a registration is a return."""
    w = World()
    w.kill(DEAD)
    w.run_until(DEAD, H.DOWN, 200)

    assert w.tell(ev.HeartbeatReceived(host_id=DEAD, boot_id="b", relayed=relayed)) == []

    assert w.state(DEAD) is H.DOWN and not w.core.is_fresh(DEAD, w.now)


@pytest.mark.parametrize("now", [0.1, 1000.1, 86400.7, 123456.789, 9_999_999.9])
def test_a_timer_never_spins(now: float) -> None:
    """A tick at the very moment that deadline() named always moves the deadline on, whatever rounding does to the sums."""
    for timers in (FAST_TIMERS, quick(stream_stale_s=1.7, probe_interval_s=0.3)):
        for share in range(40):
            core = Detector("c1", now - 1e6)
            core.event(ev.ClusterConfigured(config=replace(World(0).config, timers=timers), enabled=True), now)
            core.event(ev.HostConfigured(host_id="a", boot_id="b"), now + share * 0.1)
            core.event(ev.HeartbeatReceived(host_id="a", boot_id="b"), now + share * 0.1)
            for _ in range(40):
                due = core.deadline()
                assert due is not None
                core.tick(due)
                following = core.deadline()
                assert following is not None and following > due


# Work


def operations(hosts: int) -> int:
    """Function calls that one heartbeat of one of `hosts` healthy hosts costs."""
    w = World(0)
    for number in range(hosts):
        w.core.event(ev.HostConfigured(host_id=f"h{number}", boot_id="b"), w.now)
        w.core.event(ev.HeartbeatReceived(host_id=f"h{number}", boot_id="b"), w.now)
    profile = cProfile.Profile()
    beat = ev.HeartbeatReceived(host_id="h0", boot_id="b")
    profile.enable()
    w.core.event(beat, w.now + 1)
    profile.disable()
    calls: int = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
    return calls


def test_a_heartbeat_costs_the_same_in_a_large_cluster() -> None:
    """One heartbeat among 1,000 hosts makes as many calls as among 10."""
    assert operations(1000) == operations(10) < 30


def test_heartbeats_leave_nothing_behind() -> None:
    """An hour of heartbeats of healthy hosts: no effect, and the timers stay as many as hosts."""
    w = World(3)
    mark = len(w.log)

    w.run(3600)

    assert len(w.log) == mark
    assert len(w.core._cluster.agenda) <= 6
