"""A confirmed failure: proof, evacuation, return (docs/decisions/002)."""

from __future__ import annotations

import pytest

from tests.manager.detector_world import World, quick
from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.incidents import STEPS
from vmha.model import EvacuationState, HostState, PeerVerdict, ProofKind

H, E = HostState, EvacuationState
DEAD = "h00"
INCIDENT = "incident-1"
UNPROVEN = [None, E.VERIFYING, E.FENCE_PENDING]


def down(state: EvacuationState | None = None) -> World:
    """A world in which h00 is confirmed down, and how far its evacuation has come."""
    w = World(timers=quick(cooldown_s=20.0))
    w.kill(DEAD)
    w.run_until(DEAD, H.DOWN, 60)
    if state is not None:
        w.advance(DEAD, state, proof=ProofKind.FENCE if state.is_proven else ProofKind.UNPROVEN)
    return w


# The way down


def test_the_whole_way() -> None:
    """DOWN, FENCING, FENCED, EVACUATING, EVACUATED; then the incident is closed, once."""
    w = down()
    for state in (E.VERIFYING, E.PLANNING, E.RUNNING, E.PENDING, E.RUNNING, E.SUCCEEDED):
        w.advance(DEAD, state, proof=ProofKind.FENCE)

    assert w.path(DEAD)[-5:] == [H.DOWN, H.FENCING, H.FENCED, H.EVACUATING, H.EVACUATED]
    assert [close.incident_id for close in w.of(fx.CloseIncident)] == [INCIDENT]
    assert all(change.incident_id == INCIDENT for change in w.of(fx.ChangeState, DEAD)[-5:])


@pytest.mark.parametrize("proof", [ProofKind.FENCE, ProofKind.OPERATOR, ProofKind.NONE, ProofKind.LEASE])
@pytest.mark.parametrize("first", [E.PLANNING, E.RUNNING, E.PENDING, E.SUCCEEDED, E.PARTIALLY_FAILED, E.FAILED])
@pytest.mark.parametrize("before", UNPROVEN)
def test_no_start_without_fenced_and_its_rung(before: EvacuationState | None, first: EvacuationState, proof: ProofKind) -> None:
    """Whatever word of the evacuator is heard first: FENCED comes before EVACUATING and EVACUATED, its reason is the rung."""
    w = down(before)

    w.advance(DEAD, first, proof=proof)

    fenced = next(change for change in w.of(fx.ChangeState, DEAD) if change.new is H.FENCED)
    assert fenced.reason == proof.value
    assert H.EVACUATING not in w.path(DEAD)[: w.path(DEAD).index(H.FENCED)]


def test_fence_pending_raises_an_alarm_until_there_is_proof() -> None:
    """No proof: FENCE_PENDING and an alarm, once; it ends with the proof."""
    w = down(E.VERIFYING)
    w.advance(DEAD, E.FENCE_PENDING)
    w.advance(DEAD, E.FENCE_PENDING)
    assert w.state(DEAD) is H.FENCE_PENDING
    assert len(w.of(fx.RaiseAlarm, DEAD)) == 1 and w.alarms(DEAD) == {"FENCE_PENDING"}

    w.advance(DEAD, E.RUNNING, proof=ProofKind.OPERATOR)

    assert w.state(DEAD) is H.EVACUATING and w.alarms(DEAD) == set()


def test_the_way_never_leads_back() -> None:
    """Words of the evacuator that come late or twice never lead a host back to an earlier state."""
    w = down(E.RUNNING)
    for state in (E.VERIFYING, E.PLANNING, E.FENCE_PENDING, E.RUNNING):
        w.advance(DEAD, state)
        assert w.state(DEAD) is H.EVACUATING


def test_words_of_an_old_incident_are_let_go_by() -> None:
    """Late words of another incident, or of one that is closed, change nothing."""
    w = down(E.VERIFYING)
    assert w.advance(DEAD, E.SUCCEEDED, "an-older-incident") == []
    assert w.state(DEAD) is H.FENCING

    w.advance(DEAD, E.SUCCEEDED)
    assert w.advance(DEAD, E.RUNNING) == []
    assert w.advance("h01", E.RUNNING, INCIDENT) == []
    assert w.state(DEAD) is H.EVACUATED


def test_an_evacuated_host_stays_evacuated() -> None:
    """Nothing is judged of a host that was evacuated, for as long as it does not come back."""
    w = down(E.SUCCEEDED)
    mark = len(w.log)

    w.run(3600)

    assert w.state(DEAD) is H.EVACUATED and len(w.log) == mark


def test_each_word_of_the_evacuator_has_its_meaning() -> None:
    """Every evacuation state but CANCELLED, which closes, says what its host is."""
    assert set(STEPS) == set(EvacuationState) - {E.CANCELLED}


# Return


@pytest.mark.parametrize("state", UNPROVEN)
def test_return_before_the_proof_cancels(state: EvacuationState | None) -> None:
    """DOWN, FENCING, FENCE_PENDING: a registration is a sign of life. Cancel once, wait for it, then permit; nothing moves."""
    w = down(state)
    before = w.state(DEAD)

    assert w.request(DEAD) == [fx.CancelEvacuation(host_id=DEAD, incident_id=INCIDENT, reason="HOST_RETURNED")]
    assert w.request(DEAD) == []
    assert not w.core.may_register(DEAD) and w.state(DEAD) is before

    effects = w.advance(DEAD, E.CANCELLED)
    assert fx.CloseIncident(host_id=DEAD, incident_id=INCIDENT) in effects and fx.PermitRegistration(host_id=DEAD) in effects
    assert w.core.may_register(DEAD) and w.alarms(DEAD) == set()
    w.revive(DEAD)
    w.register(DEAD)
    assert w.state(DEAD) is H.HEALTHY
    assert not {H.FENCED, H.EVACUATING, H.EVACUATED} & set(w.path(DEAD))


@pytest.mark.parametrize("state", [E.PLANNING, E.RUNNING])
@pytest.mark.parametrize("end", [E.PENDING, E.SUCCEEDED, E.PARTIALLY_FAILED, E.FAILED])
def test_return_after_the_proof_waits(state: EvacuationState, end: EvacuationState) -> None:
    """Proven dead: the registration waits until the evacuation has ended or only waits for room; nothing is cancelled."""
    w = down(state)

    assert w.request(DEAD) == []
    assert not w.core.may_register(DEAD)

    assert fx.PermitRegistration(host_id=DEAD) in w.advance(DEAD, end)
    assert w.core.may_register(DEAD) and not w.of(fx.CancelEvacuation)


def test_return_while_the_evacuation_waits_for_room_is_permitted() -> None:
    """PENDING: permitted at once; the host is HEALTHY while its old evacuation still ends, and then the incident is closed."""
    w = down(E.PENDING)

    assert w.request(DEAD) == [fx.PermitRegistration(host_id=DEAD)]
    w.revive(DEAD)
    w.register(DEAD)
    assert w.state(DEAD) is H.HEALTHY
    w.advance(DEAD, E.RUNNING)
    w.run(10)
    w.advance(DEAD, E.SUCCEEDED)

    assert w.state(DEAD) is H.HEALTHY
    assert [close.incident_id for close in w.of(fx.CloseIncident)] == [INCIDENT]


def test_a_second_death_beside_an_open_incident_waits_for_it() -> None:
    """Back while the old evacuation waits for room, and gone again: confirmed anew only when the old incident is closed."""
    w = down(E.PENDING)
    w.revive(DEAD)
    w.register(DEAD)
    w.run(60)
    w.kill(DEAD)
    w.run(200)
    assert len(w.of(fx.ConfirmDown, DEAD)) == 1
    assert w.core.explain(DEAD, w.now).held == "INCIDENT_OPEN"

    w.advance(DEAD, E.SUCCEEDED)
    w.run(5)

    assert len(w.of(fx.ConfirmDown, DEAD)) == 2 and w.state(DEAD) is H.DOWN


def test_return_after_the_evacuation() -> None:
    """EVACUATED: a registration is permitted at once, completing it makes the host HEALTHY."""
    w = down(E.SUCCEEDED)

    assert w.request(DEAD) == [fx.PermitRegistration(host_id=DEAD)]
    w.register(DEAD)

    assert w.state(DEAD) is H.HEALTHY and w.path(DEAD)[-2:] == [H.EVACUATED, H.HEALTHY]


def test_a_cancel_that_came_too_late_waits_like_any_other() -> None:
    """The proof was made while the cancel was on its way: the registration waits for the evacuation's end."""
    w = down(E.VERIFYING)
    w.request(DEAD)

    assert fx.PermitRegistration(host_id=DEAD) not in w.advance(DEAD, E.RUNNING, proof=ProofKind.FENCE)
    assert not w.core.may_register(DEAD)
    assert fx.PermitRegistration(host_id=DEAD) in w.advance(DEAD, E.SUCCEEDED)


def test_a_returned_host_has_time_to_register() -> None:
    """After CANCELLED the host's silence counts anew: until then its incarnation was revoked and nothing of it could be heard."""
    w = down(E.VERIFYING)
    w.run(300)
    w.request(DEAD)
    w.advance(DEAD, E.CANCELLED)
    assert w.state(DEAD) is H.UNKNOWN

    w.run(14)
    assert w.state(DEAD) is H.UNKNOWN


def test_a_restarted_manager_cancels_no_proven_evacuation() -> None:
    """EVACUATING in the store: the death is proven although this run has not heard it from the evacuator yet."""
    for state, cancels in ((H.FENCED, False), (H.EVACUATING, False), (H.DOWN, True), (H.FENCE_PENDING, True)):
        w = World(start=False)
        w.tell(ev.HostConfigured(host_id=DEAD, state=state, boot_id="b", incident_id=INCIDENT))

        assert bool([e for e in w.request(DEAD) if isinstance(e, fx.CancelEvacuation)]) is cancels


def test_a_restarted_manager_leaves_a_returned_host_healthy() -> None:
    """A host that came back while its evacuation waits for room stays HEALTHY through a restart of the manager."""
    w = World(start=False)
    w.tell(ev.HostConfigured(host_id=DEAD, state=H.HEALTHY, boot_id="b", incident_id=INCIDENT))

    for state in (E.PENDING, E.RUNNING, E.SUCCEEDED):
        w.advance(DEAD, state, INCIDENT)

    assert w.state(DEAD) is H.HEALTHY and w.of(fx.CloseIncident)


def test_an_evacuation_that_somebody_else_cancelled() -> None:
    """Cancelled, but the host is as dead as before: it is watched, suspected and confirmed again under a new incident."""
    w = down(E.VERIFYING)

    w.advance(DEAD, E.CANCELLED)
    w.run(60)

    assert w.state(DEAD) is H.DOWN and w.incidents == 2


# A confirmation that races a sign of life


def asked() -> World:
    """A world in which the store is being asked to confirm h00 down, and has not answered."""
    w = World(timers=quick(cooldown_s=20.0))
    w.confirms = None
    w.kill(DEAD)
    w.run(60)
    assert len(w.of(fx.ConfirmDown, DEAD)) == 1
    return w


@pytest.mark.parametrize("sign", ["heartbeat", "relayed", "request", "registered"])
def test_life_while_the_store_confirms_orders_nothing(sign: str) -> None:
    """It spoke while the store wrote the incident: nothing is ordered, the incident is closed, the host may register."""
    w = asked()
    match sign:
        case "heartbeat":
            w.tell(ev.HeartbeatReceived(host_id=DEAD, boot_id="b"))
        case "relayed":
            w.tell(ev.HeartbeatReceived(host_id=DEAD, boot_id="b", relayed=True))
        case "request":
            assert w.request(DEAD) == []
        case "registered":
            assert w.register(DEAD) == []
    assert not w.core.may_register(DEAD)

    effects = w.tell(ev.ConfirmEnded(host_id=DEAD, incident_id=INCIDENT))

    assert not w.of(fx.OrderEvacuation)
    assert fx.CloseIncident(host_id=DEAD, incident_id=INCIDENT) in effects
    assert (fx.PermitRegistration(host_id=DEAD) in effects) is (sign == "request")
    assert w.state(DEAD) is H.UNKNOWN and w.core.may_register(DEAD)


@pytest.mark.parametrize(("beats", "state"), [(True, H.HEALTHY), (False, H.AGENT_LOST)])
def test_life_while_the_store_refuses_to_confirm(beats: bool, state: HostState) -> None:
    """The store confirmed nothing: a host that beats is HEALTHY, one that only wants to register may."""
    w = asked()
    if beats:
        w.tell(ev.HeartbeatReceived(host_id=DEAD, boot_id="b"))
    else:
        w.request(DEAD)

    effects = w.tell(ev.ConfirmEnded(host_id=DEAD, incident_id=None))

    assert w.state(DEAD) is state
    assert (fx.PermitRegistration(host_id=DEAD) in effects) is not beats


def test_a_wish_of_long_ago_is_no_sign_of_life() -> None:
    """A host that asked to register, was never heard again and died is confirmed and evacuated like any other."""
    w = World(timers=quick(cooldown_s=20.0))
    w.request(DEAD)
    w.kill(DEAD)

    w.run_until(DEAD, H.DOWN, 60)

    assert w.of(fx.OrderEvacuation, DEAD)


def test_nothing_is_decided_twice_while_the_store_is_asked() -> None:
    """While the answer is awaited nothing else is asked or cleared, whatever the peers say; that they reach it is on record."""
    w = asked()
    mark = len(w.log)
    w.sees[DEAD] = w.own_probe[DEAD] = PeerVerdict.OK

    w.tell(ev.OperatorConfirmedOff(host_id=DEAD, operator="ann"))
    w.goodbye(DEAD)
    w.tell(ev.StoreLost())
    w.run(120)

    assert {type(effect) for _, effect in w.log[mark:]} <= {fx.ProbeHost, fx.RecordAgent}
    assert [effect.gone for effect in w.of(fx.RecordAgent, DEAD)][-1:] == [True]


# The operator


def test_an_operators_word_makes_an_incident_at_once() -> None:
    """A silent host that an operator calls off is confirmed without quorum, cooldown or learning; it is said who said so."""
    w = World(learned=False)
    w.kill(DEAD)
    w.watching.clear()
    w.run(20)

    w.tell(ev.OperatorConfirmedOff(host_id=DEAD, operator="ann"))

    assert w.state(DEAD) is H.DOWN and w.of(fx.OrderEvacuation)
    assert "ann" in w.of(fx.ChangeState, DEAD)[-1].message


def test_an_operators_word_in_an_incident_is_the_evacuators() -> None:
    """There is an incident already: the evacuator reads the word from the store, nothing is asked twice."""
    w = down(E.FENCE_PENDING)

    assert w.tell(ev.OperatorConfirmedOff(host_id=DEAD, operator="ann")) == []


def test_an_operators_word_that_the_store_does_not_take() -> None:
    """The store confirmed nothing: the host is watched on, and the wish is not repeated by itself."""
    w = World()
    w.confirms = False
    w.kill(DEAD)
    w.run(20)

    w.tell(ev.OperatorConfirmedOff(host_id=DEAD, operator="ann"))

    assert w.state(DEAD) is H.AGENT_LOST and not w.of(fx.OrderEvacuation)
