"""The contact core: F, its window, and the lease proof (docs/safety.md, R5, R6, R16, R18)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmha.manager.contact import Contact, LeaseProof, NoLeaseProof, VoterSet

TTL_S, WAIT_S = 22.0, 150.0


def voters(*names: str, quorum: int | None = None) -> VoterSet:
    least = (len(names) + 1) // 2 if quorum is None else quorum
    return VoterSet(voters=frozenset(names), evacuation_quorum=least, contact_ttl_s=TTL_S, wait_s=WAIT_S)


class Run:
    """A manager's run with acks that come back at once."""

    def __init__(self, *names: str, now: float = 0.0) -> None:
        self.contact = Contact(now)
        self.contact.configure({1: voters(*names)}, now)
        self.number = 0

    def beat(self, host_id: str, now: float, incarnation: int = 1) -> None:
        """A heartbeat that echoes the last ack, and the next ack."""
        self.contact.heard(host_id, now)
        self.contact.echoed(host_id, incarnation, self.number, now)
        self.number += 1
        self.contact.issued(host_id, incarnation, self.number, now)
        self.contact.echoed(host_id, incarnation, self.number, now)

    def beat_all(self, names: str, since: float, until: float, every: float = 5.0) -> None:
        now = since
        while now <= until:
            for name in names:
                self.beat(name, now)
            now += every

    def reason(self, host_id: str, now: float) -> str:
        answer = self.contact.prove(host_id, [1], now)
        return "" if isinstance(answer, LeaseProof) else answer.reason


def test_silence_with_contact_proves_the_end_of_a_lease() -> None:
    """R16: after T_wait of silence in which the others stayed in contact; not at T_wait itself."""
    run = Run(*"abc")
    run.beat_all("abc", 0.0, 10.0)
    run.beat_all("bc", 15.0, 170.0)

    assert run.reason("a", 160.0) == "SILENCE_TOO_SHORT"
    proof = run.contact.prove("a", [1], 160.1)
    assert isinstance(proof, LeaseProof)
    assert (proof.hosts_in_contact, proof.evacuation_quorum) == (2, 2)
    assert proof.silent_s > WAIT_S


def test_the_host_itself_does_not_count() -> None:
    """R16: F without i; of two hosts the other must be in contact."""
    run = Run(*"ab")
    run.beat_all("a", 0.0, 200.0)

    answer = run.contact.prove("a", [1], 200.0)

    assert isinstance(answer, NoLeaseProof)
    assert answer.reason == "NOT_IN_CONTACT"


def test_a_gap_in_contact_starts_the_window_anew() -> None:
    """R16: the others were out of contact for a moment, in which a certificate may have been made."""
    run = Run(*"abc")
    run.beat_all("abc", 0.0, 10.0)
    run.beat_all("bc", 15.0, 60.0)
    run.beat_all("bc", 90.0, 300.0)  # 82 to 90 without

    assert run.reason("a", 239.0) == "CONTACT_TOO_SHORT"
    assert run.reason("a", 241.0) == ""


def test_contact_ends_by_the_clock_between_two_events() -> None:
    """F is evaluated with its expiry before the event that would heal it: half open, v < a + T_f."""
    run = Run(*"abc")
    run.beat_all("bc", 0.0, 60.0)
    run.beat_all("bc", 60.0 + TTL_S, 400.0)

    assert run.reason("a", 220.0) == "CONTACT_TOO_SHORT"
    assert run.reason("a", 60.0 + TTL_S + WAIT_S + 0.1) == ""


def test_a_run_proves_nothing_about_the_time_before_it() -> None:
    """R16: the manager's run is older than T_wait."""
    run = Run(*"abc", now=1000.0)
    run.beat_all("bc", 1000.0, 1200.0)

    assert run.reason("a", 1149.0) == "SILENCE_TOO_SHORT"
    assert run.reason("a", 1151.0) == ""


def test_a_restart_forgets_everything() -> None:
    """R21: after a stall the window begins again, and nonces from before say nothing."""
    run = Run(*"abc")
    run.beat_all("bc", 0.0, 200.0)
    assert run.reason("a", 200.0) == ""

    run.contact.restart(201.0)
    run.contact.echoed("b", 1, run.number, 202.0)

    assert run.contact.in_contact(1) == 0
    assert run.reason("a", 203.0) == "NOT_IN_CONTACT"


def test_only_nonces_of_this_run_to_this_registration_count() -> None:
    """R6: another host's, another incarnation's, an unknown one."""
    contact = Contact(0.0)
    contact.configure({1: voters(*"abc")}, 0.0)
    contact.issued("b", 2, 1, 0.0)

    contact.echoed("c", 2, 1, 0.1)
    contact.echoed("b", 1, 1, 0.1)
    contact.echoed("b", 2, 9, 0.1)
    assert contact.in_contact(1) == 0
    contact.echoed("b", 2, 1, 0.1)
    assert contact.in_contact(1) == 1


def test_contact_counts_from_the_sending_of_the_ack() -> None:
    """R6: an echo that took 20 s leaves 2 s of contact."""
    contact = Contact(0.0)
    contact.configure({1: voters("a", "b", quorum=1)}, 0.0)
    contact.issued("b", 1, 1, 0.0)

    contact.echoed("b", 1, 1, 20.0)
    contact.advance(21.9)
    assert contact.in_contact(1) == 1
    contact.advance(22.0)
    assert contact.in_contact(1) == 0


def test_every_configuration_that_it_may_hold_must_agree() -> None:
    """R18: contact with the new voters is nothing to a host that may still hold the old ones."""
    run = Run(*"abc")
    run.contact.configure({1: voters(*"abc"), 2: voters(*"abde")}, 0.0)
    run.beat_all("bc", 0.0, 200.0)

    assert isinstance(run.contact.prove("a", [1], 200.0), LeaseProof)
    answer = run.contact.prove("a", [1, 2], 200.0)
    assert isinstance(answer, NoLeaseProof)
    assert answer.reason == "NOT_IN_CONTACT"
    unknown = run.contact.prove("a", [1, 3], 200.0)
    assert isinstance(unknown, NoLeaseProof)
    assert unknown.reason == "CONFIG_UNKNOWN"


def test_a_configuration_that_changed_begins_its_window_anew() -> None:
    """R18: initially bad."""
    run = Run(*"abc")
    run.beat_all("bc", 0.0, 200.0)
    run.contact.configure({1: voters(*"abcd")}, 200.0)
    run.beat_all("bc", 200.0, 360.0)

    assert run.reason("a", 340.0) == "CONTACT_TOO_SHORT"
    assert run.reason("a", 350.1) == ""


beats = st.lists(st.tuples(st.floats(0.1, 12), st.sampled_from("abcde"), st.floats(0, 3)), max_size=150)


@given(beats, st.integers(1, 4))
def test_the_window_is_that_of_the_definition(history: list[tuple[float, str, float]], quorum: int) -> None:
    """At every instant, for every host: the proof holds exactly when the definition of R16, evaluated point by point, does."""
    ttl_s, wait_s = 5.0, 14.0
    contact = Contact(0.0)
    rules = VoterSet(voters=frozenset("abcd"), evacuation_quorum=quorum, contact_ttl_s=ttl_s, wait_s=wait_s)
    contact.configure({1: rules}, 0.0)
    echoes: list[tuple[float, str, float]] = []  # when it came, host, send time
    heard: dict[str, float] = {}
    now = 0.0
    for number, (pause, host, age) in enumerate(history, 1):
        now += pause
        sent_at = now - min(age, pause)
        contact.issued(host, 1, number, sent_at)
        contact.heard(host, now)
        contact.echoed(host, 1, number, now)
        echoes.append((now, host, sent_at))
        heard[host] = now
        for i in "abcd":
            proof = isinstance(contact.prove(i, [1], now), LeaseProof)
            assert proof == _by_definition(i, now, echoes, heard, quorum, ttl_s, wait_s)


def _by_definition(
    i: str,
    t: float,
    echoes: list[tuple[float, str, float]],
    heard: dict[str, float],
    quorum: int,
    ttl_s: float,
    wait_s: float,
) -> bool:
    if t - heard.get(i, 0.0) <= wait_s:
        return False
    edges = {t, t - wait_s}
    for came, _, sent_at in echoes:
        # Before an event is applied F is as it was: look just before each instant, too.
        edges |= {e for e in (came, came - 1e-9, sent_at + ttl_s) if t - wait_s <= e <= t}

    def in_contact(v: float) -> int:
        return len({h for came, h, sent_at in echoes if came <= v < sent_at + ttl_s and h != i and h in "abcd"})

    return all(in_contact(v) >= quorum for v in edges)
