"""The lease core: every rule of docs/safety.md that one host keeps alone (R1 to R4, R8, R9, R12, R14)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.agent.lease import Lease
from vmha.agent.lease_events import (
    NEVER,
    AckReceived,
    AskPeers,
    AttestReceived,
    ConfigTaken,
    DestroyAll,
    Effect,
    GuardState,
    HeartbeatSent,
    Keep,
    LeaseConfig,
    PeerAsked,
    Registered,
    Unregistered,
    VmsGone,
)

FIVE = ("h1", "h2", "h3", "h4", "h5")
CONFIG = LeaseConfig(
    version=1,
    enforced=True,
    voters=FIVE,
    certificate_quorum=3,
    relay_after_s=12.0,
    certificate_window_s=15.0,
    attest_after_s=40.0,
    ack_max_age_s=10.0,
    lease_duration_s=100.0,
    request_interval_s=5.0,
    kill_timeout_s=40.0,
)


def fresh(config: LeaseConfig = CONFIG, now: float = 0.0) -> Lease:
    lease = Lease("h1", "c1", None, now)
    lease.event(ConfigTaken(config=config), now)
    lease.event(Registered(incarnation=7), now)
    return lease


def acked(lease: Lease, sequence: int, sent: float, taken: float, incarnation: int = 7) -> list[Effect]:
    lease.event(HeartbeatSent(sequence=sequence), sent)
    return lease.event(AckReceived(incarnation=incarnation, sequence=sequence, nonce=f"run-{sequence}"), taken)


def leased(now: float = 0.0) -> Lease:
    lease = fresh(now=now)
    acked(lease, 1, now, now)
    return lease


def attest(lease: Lease, peer: str, asked: float, told: float, age: float = 50.0, **wrong: Any) -> list[Effect]:
    nonce = f"{peer}@{asked}"
    lease.event(PeerAsked(host_id=peer, request_nonce=nonce), asked)
    said = AttestReceived(host_id=peer, cluster_id="c1", incarnation=7, request_nonce=nonce, no_ack_age_s=age)
    return lease.event(replace(said, **wrong), told)


def test_a_lease_counts_from_the_sending_of_the_heartbeat() -> None:
    """R1: not from the ack's arrival, however long that took."""
    lease = fresh()

    effects = acked(lease, 1, sent=3.0, taken=9.0)

    assert lease.guard_until == 103.0
    assert effects == [Keep(kept=lease.kept)]
    assert lease.kept.last_ack == 9.0


def test_a_heartbeat_sent_to_several_counts_from_the_first() -> None:
    """R1: the same sequence handed to a second peer later gives no longer lease."""
    lease = fresh()
    lease.event(HeartbeatSent(sequence=1), 3.0)
    lease.event(HeartbeatSent(sequence=1), 6.0)

    lease.event(AckReceived(incarnation=7, sequence=1, nonce="n"), 7.0)

    assert lease.guard_until == 103.0


@pytest.mark.parametrize(("incarnation", "sequence"), [(6, 1), (8, 1), (7, 2), (0, 1)])
def test_an_ack_for_anything_else_is_ignored(incarnation: int, sequence: int) -> None:
    """R1: unknown sequence, other incarnation."""
    lease = fresh()
    lease.event(HeartbeatSent(sequence=1), 0.0)

    assert lease.event(AckReceived(incarnation=incarnation, sequence=sequence, nonce="n"), 1.0) == []
    assert (lease.guard_until, lease.echo) == (NEVER, "")


def test_an_ack_counts_once() -> None:
    """A repeated ack moves neither last_ack nor the lease."""
    lease = leased()

    assert lease.event(AckReceived(incarnation=7, sequence=1, nonce="again"), 5.0) == []
    assert (lease.kept.last_ack, lease.echo) == (0.0, "run-1")


def test_an_old_ack_is_discarded_as_a_whole() -> None:
    """R4: older than D_ack, it gives no lease, no last_ack and no echo."""
    lease = fresh()

    assert acked(lease, 1, sent=0.0, taken=10.1) == []
    assert (lease.guard_until, lease.kept.last_ack, lease.echo) == (NEVER, 0.0, "")


def test_the_guard_ends_by_the_clock_whatever_event_comes_first() -> None:
    """R3: an ack that is processed after the end finds the incarnation finished, and does not revive it."""
    lease = leased()
    lease.event(HeartbeatSent(sequence=2), 95.0)

    effects = lease.event(AckReceived(incarnation=7, sequence=2, nonce="late"), 100.0)

    assert [type(effect) for effect in effects] == [Keep, DestroyAll]
    assert lease.latched
    assert lease.state(100.0) is GuardState.LATCHED
    assert acked(lease, 3, 100.5, 101.0) == []
    assert lease.latched


def test_the_latch_is_kept_before_anything_is_destroyed() -> None:
    """R9: after a crash in between the agent still knows."""
    lease = leased()

    effects = lease.tick(100.0)

    assert isinstance(effects[0], Keep)
    assert effects[0].kept.latched
    assert isinstance(effects[1], DestroyAll)


def test_a_majority_of_distinct_voters_certifies_an_outage() -> None:
    """R2: C - 1 = 2 others where the host votes itself; the end follows the older of the two requests."""
    lease = leased()

    attest(lease, "h2", 80.0, 81.0)
    attest(lease, "h2", 85.0, 86.0)
    assert lease.kept.cert_until == NEVER
    attest(lease, "h3", 90.0, 99.0)

    assert lease.kept.cert_until == 85.0 + 15.0
    attest(lease, "h2", 95.0, 99.5)
    assert lease.kept.cert_until == 90.0 + 15.0
    assert lease.state(100.0) is GuardState.CERTIFIED


def test_who_does_not_vote_needs_the_whole_majority_of_others() -> None:
    """R2: n = C where the host is no voter."""
    lease = fresh(replace(CONFIG, voters=FIVE[1:], certificate_quorum=3))
    acked(lease, 1, 0.0, 0.0)

    attest(lease, "h2", 80.0, 81.0)
    attest(lease, "h3", 80.0, 81.0)
    assert lease.kept.cert_until == NEVER
    attest(lease, "h4", 80.0, 81.0)

    assert lease.kept.cert_until == 95.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"cluster_id": "c2"},
        {"incarnation": 6},
        {"request_nonce": "made up"},
        {"host_id": "h4"},
        {"no_ack_age_s": 39.9},
    ],
)
def test_an_attest_that_is_not_the_answer_counts_for_nothing(wrong: dict[str, Any]) -> None:
    """R2, R8, R24: cluster, incarnation, nonce, sender and the requester's own T_attest."""
    lease = leased()
    attest(lease, "h2", 80.0, 81.0)

    attest(lease, "h3", 80.0, 81.0, **wrong)

    assert lease.kept.cert_until == NEVER


def test_one_request_counts_one_answer_only() -> None:
    """A repeated attest finds its request answered."""
    lease = leased()
    attest(lease, "h2", 80.0, 81.0, age=1.0)
    said = AttestReceived(host_id="h2", cluster_id="c1", incarnation=7, request_nonce="h2@80.0", no_ack_age_s=99.0)
    lease.event(said, 82.0)
    attest(lease, "h3", 80.0, 81.0)

    assert lease.kept.cert_until == NEVER


def test_the_only_voter_never_fences_itself() -> None:
    """One host is its own majority: nobody could take its VMs over."""
    lease = fresh(replace(CONFIG, voters=("h1",), certificate_quorum=1))
    acked(lease, 1, 0.0, 0.0)

    assert lease.guard_until == math.inf
    assert lease.tick(1e6) == []
    assert lease.deadline() is None


def test_a_certificate_starts_no_vm() -> None:
    """R12: while the manager is gone nothing new is started; and nothing before the first ack."""
    lease = fresh()
    assert not lease.may_start(0.0)
    acked(lease, 1, 0.0, 0.0)
    assert lease.may_start(99.9)
    attest(lease, "h2", 95.0, 96.0)
    attest(lease, "h3", 95.0, 96.0)

    assert lease.state(101.0) is GuardState.CERTIFIED
    assert not lease.may_start(101.0)


def test_peers_are_asked_after_t_relay_once_a_period() -> None:
    """All other voters, every T_req, from T_relay after the last ack on (I5)."""
    lease = leased()

    assert lease.deadline() == 12.0
    assert lease.tick(11.9) == []
    assert lease.tick(12.0) == [AskPeers(hosts=FIVE[1:])]
    assert lease.tick(16.9) == []
    assert lease.tick(17.0) == [AskPeers(hosts=FIVE[1:])]
    acked(lease, 2, 18.0, 18.5)
    assert lease.tick(22.0) == []
    assert lease.deadline() == 30.5


def test_what_was_kept_is_taken_up_again() -> None:
    """R9: lease, certificate, incarnation and the time of the last ack survive the agent; requests in flight do not."""
    before = leased()
    attest(before, "h2", 80.0, 81.0)
    attest(before, "h3", 90.0, 91.0)
    before.event(PeerAsked(host_id="h4", request_nonce="flying"), 92.0)

    after = Lease("h1", "c1", before.kept, 93.0)
    late = AttestReceived(host_id="h4", cluster_id="c1", incarnation=7, request_nonce="flying", no_ack_age_s=60.0)
    after.event(late, 94.0)

    assert after.guard_until == before.guard_until == 100.0
    assert after.no_ack_age(94.0) == 94.0
    attest(after, "h2", 96.0, 97.0)
    assert after.kept.cert_until == 95.0, "one word after the restart takes nothing away"
    assert [type(effect) for effect in after.tick(100.0)] == [Keep, DestroyAll]


def test_without_a_record_the_last_ack_is_now() -> None:
    """R9, L4: a new agent attests nothing for T_attest."""
    assert Lease("h1", "c1", None, 500.0).no_ack_age(501.0) == 1.0


def test_a_latched_agent_that_restarts_goes_on_destroying() -> None:
    """R9: until every VM was verified to be gone."""
    latched = leased()
    latched.tick(100.0)

    after = Lease("h1", "c1", latched.kept, 101.0)
    assert [type(effect) for effect in after.tick(101.0)] == [DestroyAll]
    assert not after.may_register
    after.event(VmsGone(), 102.0)
    assert after.may_register
    assert Lease("h1", "c1", after.kept, 103.0).tick(103.0) == []


def test_a_latched_host_registers_only_empty_and_starts_from_nothing() -> None:
    """R14, R23: the new incarnation has no guard before its first ack."""
    lease = leased()
    lease.tick(100.0)

    assert lease.event(Registered(incarnation=8), 101.0) == []
    lease.event(VmsGone(), 102.0)
    lease.event(Registered(incarnation=8), 103.0)

    assert (lease.latched, lease.guard_until, lease.enforced) == (False, NEVER, False)
    assert not lease.may_start(103.0)


def test_vms_that_run_through_a_registration_keep_their_guard_and_no_more() -> None:
    """The guard of the old registration goes on to its end; starts wait for an ack under the new one."""
    lease = leased()
    lease.event(Unregistered(), 20.0)
    assert lease.incarnation == 0
    lease.event(Registered(incarnation=8), 30.0)

    assert lease.guard_until == 100.0
    assert lease.state(50.0) is GuardState.LEASED
    assert not lease.may_start(50.0)
    acked(lease, 2, 50.0, 51.0, incarnation=8)
    assert lease.may_start(52.0)
    assert lease.guard_until == 150.0


@pytest.mark.parametrize("incarnation", [6, 7])
def test_an_older_registration_is_refused(incarnation: int) -> None:
    """R14: incarnations only grow."""
    lease = leased()

    assert lease.event(Registered(incarnation=incarnation), 1.0) == []
    assert lease.incarnation == 7


def test_another_majority_voids_the_certificate() -> None:
    """R18: what a majority of an older configuration said is no majority of the new one."""
    lease = leased()
    attest(lease, "h2", 80.0, 81.0)
    attest(lease, "h3", 80.0, 81.0)
    assert lease.kept.cert_until == 95.0

    lease.event(ConfigTaken(config=replace(CONFIG, version=2, voters=("h1", "h4", "h5"), certificate_quorum=2)), 82.0)

    assert lease.kept.cert_until == NEVER
    assert lease.guard_until == 100.0


def test_an_older_configuration_is_ignored() -> None:
    """Configurations are numbered, and only grow."""
    lease = leased()

    assert lease.event(ConfigTaken(config=replace(CONFIG, version=0, enforced=False)), 1.0) == []
    assert lease.enforced


def test_a_guard_that_nobody_enforced_condemns_no_vm() -> None:
    """A cluster that is protected again after an hour without: its VMs are leased anew, not destroyed for the hour."""
    lease = fresh(replace(CONFIG, enforced=False))
    acked(lease, 1, 0.0, 0.0)
    assert lease.tick(3600.0) == [AskPeers(hosts=FIVE[1:])]

    effects = lease.event(ConfigTaken(config=replace(CONFIG, version=2)), 3600.0)

    assert effects == [Keep(kept=lease.kept)]
    assert not lease.enforced, "it announces no self-fencing before a new ack"
    acked(lease, 2, 3601.0, 3601.5)
    assert lease.enforced


steps = st.lists(
    st.tuples(
        st.floats(0, 30),
        st.sampled_from(["beat", "ack", "late ack", "ask", "attest", "tick", "restart"]),
        st.sampled_from(FIVE[1:]),
    ),
    max_size=60,
)


@given(steps)
def test_the_latch_falls_exactly_when_the_guard_has_ended(history: list[tuple[float, str, str]]) -> None:
    """Over any history: latched means that at some processed event neither lease nor certificate held, and it stays so."""
    lease, now, beats, asked = leased(), 0.0, [1], list[tuple[str, str]]()
    was_latched = False
    for pause, what, peer in history:
        now += pause
        expected = was_latched or now >= lease.guard_until
        if what == "restart":
            lease = Lease("h1", "c1", lease.kept, now)
            lease.tick(now)
        elif what == "beat":
            beats.append(beats[-1] + 1)
            lease.event(HeartbeatSent(sequence=beats[-1]), now)
        elif what in {"ack", "late ack"}:
            sequence = beats[-1] if what == "ack" else beats[len(beats) // 2]
            lease.event(AckReceived(incarnation=7, sequence=sequence, nonce=f"n{sequence}"), now)
        elif what == "ask":
            asked.append((peer, f"{peer}{len(asked)}"))
            lease.event(PeerAsked(host_id=peer, request_nonce=asked[-1][1]), now)
        elif what == "attest" and asked:
            host, nonce = asked[-1]
            lease.event(AttestReceived(host_id=host, cluster_id="c1", incarnation=7, request_nonce=nonce, no_ack_age_s=45.0), now)
        else:
            lease.tick(now)
        assert lease.latched == expected
        was_latched = lease.latched
        assert lease.kept.lease_until <= now + CONFIG.lease_duration_s
        assert lease.kept.cert_until <= now + CONFIG.certificate_window_s
