"""The lease protocol as a finite state machine: one host i with one VM, its voters, the manager, and an adversary.

Everything is an age in ticks, cut off where it stops to matter, so that the state space is finite and is searched to its end: no
bound on the length of a run. The adversary delivers, delays, repeats and loses each message as it likes, reboots hosts, restarts
the manager, and now and then lets one clock miss or double a tick, for ever, but never twice within any span that the protocol
measures: that is kappa, and every inequality has one tick of slack for it. What a voter does for its own VMs is not modelled: it
could only make it say less.

One slot per channel holds the newest message sent. Older ones cannot help the adversary: a lease, an echo and an attest each
count from a time of sending, and only the newest counts.

Rules switches single rules of docs/safety.md off; the real cores are compared with this model in test_conformance.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Voter = tuple[int, int, int, int, int, int]
"""(ack, last, echo, contact, request, attested).

ack: age of the newest nonce under way to the voter; last: since it accepted an ack; echo: age of the nonce that it sends back;
contact: age of the newest nonce that came back (F holds it below T_f); request: 0 none, 1 + age asked, 1 + W + age attested;
attested: age of the request whose attest i counts.
"""
State = tuple[int, int, int, int, int, int, int, int, int, tuple[Voter, ...]]
"""(proof, evacuated, calm, vm, mode, lease, heartbeat, ack, own, voters).

proof: for how long i was silent and enough voters were in contact; evacuated: 1 when decided; calm: ticks until a clock may fail
again; vm: i runs it; mode: EMPTY, GUARDED, LATCHED; lease: age of the heartbeat that the lease counts from; heartbeat, ack: age
of the heartbeat under way to the manager, and of the one that the ack under way answers; own: own contact, which only a mutant
counts.
"""
Step = tuple[str, State]

EMPTY, GUARDED, LATCHED = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Constants in ticks, and the rules in force. A mutant differs in one field."""

    voters: int = 1
    """Voters besides i."""
    contact_ttl: int = 2
    window: int = 2
    attest_after: int = 5
    ack_max_age: int = 1
    lease: int = 3
    kill: int = 1
    wait: int = 5
    drift: bool = True
    """Whether clocks fail."""
    slow_contact: bool = True
    """Nonces and echoes may be delayed; else they take no time or are lost."""
    slow_attests: bool = True
    """Requests to voters and their attests may be delayed; else they take no time or are lost."""

    lease_from_receipt: bool = False
    foreign_ack: bool = False
    sequences_again: bool = False
    own_attest: bool = False
    needed_less: int = 0
    attest_any_request: bool = False
    newest_request: bool = False
    no_latch: bool = False
    echo_sequence: bool = False
    contact_from_receipt: bool = False
    foreign_run: bool = False
    echo_before_record: bool = False
    record_lost_on_restart: bool = False
    record_lost_on_reboot: bool = False
    guard_lost_keeps_vm: bool = False
    start_on_certificate: bool = False
    start_unleased: bool = False
    silence_ignored: bool = False
    window_at_decision: bool = False
    window_starts_good: bool = False
    counts_itself: bool = False
    quorum_less: int = 0
    revoked_acked: bool = False
    not_serialised: bool = False
    old_leader_acks: bool = False
    newest_config_only: bool = False
    two_configs: bool = False
    """Voter 0 is the committee of the configuration that i holds, voter 1 that of the newest one."""
    never_killed: bool = False

    @property
    def needed(self) -> int:
        """Attests that a certificate takes: C - 1, i votes itself."""
        if self.two_configs:
            return 1
        return (self.voters + 1) // 2 + 1 - 1 - self.needed_less

    @property
    def quorum(self) -> int:
        """Voters in contact that an evacuation takes: E."""
        return (self.voters + 2) // 2 - self.quorum_less


def initial(rules: Rules) -> list[State]:
    """A host that was just leased and runs its VM; one that has just registered, whose START is under way."""
    r = rules
    voter: Voter = (r.contact_ttl, 0, r.contact_ttl, r.contact_ttl, 0, r.window + r.kill)
    none = r.ack_max_age + 1
    running: State = (0, 0, 0, 1, GUARDED, 0, none, none, r.contact_ttl, (voter,) * r.voters)
    fresh: State = (0, 0, 0, 0, EMPTY, r.lease + r.kill, none, none, r.contact_ttl, (voter,) * r.voters)
    return [running, fresh]


def broken(state: State) -> bool:
    """i was evacuated, and its VM runs."""
    return bool(state[1] and state[3])


class Model:
    """The successors of a state under given rules.

    Args:
        named: Voters keep their places, so that a trace can be followed; else states that differ in the places only are one.
    """

    def __init__(self, rules: Rules, *, named: bool = False) -> None:
        self.rules = rules
        self._named = named or rules.two_configs
        self._aged: dict[tuple[Voter, int, int, int], Voter] = {}
        self._none = rules.ack_max_age + 1
        self._foreign = rules.ack_max_age + 2
        # Longer than the longest span: T_wait and what leads to it.
        self._calm = max(rules.wait, rules.attest_after) + 3
        self._no_lease = rules.lease + rules.kill
        self._no_cert = rules.window + rules.kill
        self._parts: list[Callable[[State], Iterator[Step]]] = [self._time, self._host, self._manager, self._faults]
        self._parts.append(self._contact_slowly if rules.slow_contact else self._contact_at_once)
        self._parts.append(self._attests_slowly if rules.slow_attests else self._attests_at_once)
        if any((rules.own_attest, rules.guard_lost_keeps_vm, rules.counts_itself, rules.sequences_again)):
            self._parts.append(self._mutant)

    def successors(self, state: State) -> Iterator[Step]:
        """Every next step of the adversary: what it is, and the state after it."""
        for part in self._parts:
            yield from part(state)

    # What holds in a state

    def certificate_age(self, voters: tuple[Voter, ...]) -> int:
        """Age of the n-th newest request that an attest answered."""
        n = self.rules.needed
        if n <= 0:
            return 0
        if n == 1 or self.rules.newest_request:
            return min(v[5] for v in voters)
        return sorted(v[5] for v in voters)[n - 1]

    def guarded(self, lease: int, voters: tuple[Voter, ...]) -> bool:
        """R2."""
        return lease < self.rules.lease or self.certificate_age(voters) < self.rules.window

    def in_contact(self, voters: tuple[Voter, ...], own: int) -> bool:
        """R16: enough voters in F, under every configuration that i may hold."""
        r = self.rules
        if r.two_configs:
            return voters[1][3] < r.contact_ttl and (r.newest_config_only or voters[0][3] < r.contact_ttl)
        others = sum(v[3] < r.contact_ttl for v in voters)
        return others + (own < r.contact_ttl) >= r.quorum

    def _with(self, voters: tuple[Voter, ...], place: int, voter: Voter) -> tuple[Voter, ...]:
        return self._places((*voters[:place], voter, *voters[place + 1 :]))

    def _places(self, voters: tuple[Voter, ...]) -> tuple[Voter, ...]:
        return voters if self._named else tuple(sorted(voters))

    # Time

    def _time(self, state: State) -> Iterator[Step]:
        yield "a tick", self._tick(state, 1, 1, -1, 1)
        if state[2] or not self.rules.drift:
            return
        slipped: State = (*state[:2], self._calm, *state[3:])
        for ticks, how in ((0, "misses a tick"), (2, "ticks twice")):
            yield f"the host's clock {how}", self._tick(slipped, ticks, 1, -1, 1)
            yield f"the manager's clock {how}", self._tick(slipped, 1, ticks, -1, 1)
            for place in range(len(state[9])):
                yield f"voter {place}'s clock {how}", self._tick(slipped, 1, 1, place, ticks)

    def _age(self, voter: Voter, host: int, manager: int, own: int) -> Voter:
        key = (voter, host, manager, own)
        aged = self._aged.get(key)
        if aged is None:
            r = self.rules
            ack, last, echo, contact, request, attested = voter
            ttl = r.contact_ttl
            if request > r.window:
                request = request + host if request + host <= 2 * r.window else 2 * r.window if r.attest_any_request else 0
            elif request:
                request = request + host if request + host <= r.window else 0
            echo_next = echo if echo > ttl else min(echo + manager, ttl - r.contact_from_receipt)
            if echo == ttl:
                echo_next = echo
            aged = (
                min(ack + manager, ttl),
                min(last + own, r.attest_after),
                echo_next,
                min(contact + manager, ttl),
                request,
                min(attested + host, self._no_cert),
            )
            self._aged[key] = aged
        return aged

    def _tick(self, state: State, host: int, manager: int, slipping: int, own: int) -> State:
        r = self.rules
        proof, evacuated, calm, vm, mode, lease, heartbeat, ack, contact, voters = state
        aged = tuple(self._age(v, host, manager, own if place == slipping else 1) for place, v in enumerate(voters))
        aged = self._places(aged)
        contact = min(contact + manager, r.contact_ttl)
        lease = min(lease + host, self._no_lease)
        heartbeat = min(heartbeat + host, self._none)
        calm = max(0, calm - 1)
        ack = ack if ack > self._none else min(ack + host, self._none)
        good = r.window_at_decision or self.in_contact(aged, contact)
        proof = min(proof + manager, r.wait + 1) if good and not evacuated else 0
        if not self.guarded(lease, aged):
            if mode == GUARDED and not r.no_latch:
                mode = LATCHED
            over = min(lease - r.lease, self.certificate_age(aged) - r.window)
            if vm and mode != EMPTY and over >= r.kill and not r.never_killed:
                vm = 0
            if mode == LATCHED and not vm:
                lease, heartbeat, ack = self._no_lease, self._none, self._none
                aged = tuple((*v[:4], 0, self._no_cert) for v in aged)
        return (proof, evacuated, calm, vm, mode, lease, heartbeat, ack, contact, aged)

    # The host i

    def _host(self, state: State) -> Iterator[Step]:
        r = self.rules
        proof, evacuated, calm, vm, mode, lease, heartbeat, ack, own, voters = state
        if mode == LATCHED:
            return
        if heartbeat:
            yield "the host sends a heartbeat", (proof, evacuated, calm, vm, mode, lease, 0, ack, own, voters)
        since = lease
        if ack < self._none:
            since = 0 if r.lease_from_receipt else ack
        elif ack == self._foreign and heartbeat < self._none:
            since = heartbeat
        if since < lease:
            # What came so late that it ended already gives nothing, and condemns a host that had nothing.
            given = GUARDED if r.no_latch or self.guarded(since, voters) else LATCHED
            yield "the host takes an ack", (proof, evacuated, calm, vm, given, since, heartbeat, ack, own, voters)
        if not vm and (
            lease < r.lease
            or (r.start_on_certificate and self.certificate_age(voters) < r.window)
            or (r.start_unleased and mode == EMPTY)
        ):
            yield "the host starts the VM", (proof, evacuated, calm, 1, mode, lease, heartbeat, ack, own, voters)

    # The manager

    def _manager(self, state: State) -> Iterator[Step]:
        r = self.rules
        proof, evacuated, calm, vm, mode, lease, heartbeat, ack, own, voters = state
        if heartbeat < self._none and (not evacuated or r.revoked_acked):
            heard = proof if r.silence_ignored else 0
            if (heard, heartbeat) != (proof, ack):
                after: State = (heard, evacuated, calm, vm, mode, lease, heartbeat, heartbeat, own, voters)
                yield "the manager acks the host's heartbeat", after
            if heartbeat != ack and (r.not_serialised or r.old_leader_acks):
                after = (proof, evacuated, calm, vm, mode, lease, heartbeat, heartbeat, own, voters)
                yield "an ack of a manager that no longer decides, or whose decision did not wait for it", after
        if not evacuated and proof > r.wait and self.in_contact(voters, own):
            yield "the manager evacuates the host", (proof, 1, calm, vm, mode, lease, heartbeat, ack, own, voters)

    # Voters

    def _contact_slowly(self, state: State) -> Iterator[Step]:
        r = self.rules
        ttl = r.contact_ttl
        for place, (ack, last, echo, contact, request, attested) in enumerate(state[9]):
            if ack:
                yield self._voter(state, place, "the manager sends voter {} a nonce", (0, last, echo, contact, request, attested))
            if ack < ttl:
                step = "voter {} takes an ack"
                yield self._voter(state, place, step, (ttl, 0, ack, contact, request, attested))
                if r.echo_before_record:
                    yield self._voter(state, place, step + ", unrecorded", (ttl, last, ack, contact, request, attested))
            seen = 0 if r.contact_from_receipt and echo < ttl else ack if echo > ttl else echo
            if seen < contact:
                kept = echo if r.contact_from_receipt or echo > ttl else ttl
                yield self._voter(state, place, "the manager gets voter {}'s echo", (ack, last, kept, seen, request, attested))
            if r.echo_sequence and contact:
                yield self._voter(state, place, "the manager hears voter {}", (ack, last, echo, 0, request, attested))

    def _contact_at_once(self, state: State) -> Iterator[Step]:
        for place, (ack, last, echo, contact, request, attested) in enumerate(state[9]):
            if contact:
                yield self._voter(state, place, "voter {} takes and echoes an ack", (ack, 0, echo, 0, request, attested))
            if last and contact:
                yield self._voter(state, place, "voter {} takes an ack", (ack, 0, echo, contact, request, attested))

    def _attests_slowly(self, state: State) -> Iterator[Step]:
        r = self.rules
        w = r.window
        if state[4] == LATCHED:
            return
        for place, (ack, last, echo, contact, request, attested) in enumerate(state[9]):
            if request != 1 and not (r.attest_any_request and request > w):
                yield self._voter(state, place, "the host asks voter {}", (ack, last, echo, contact, 1, attested))
            if 0 < request <= w and last >= r.attest_after:
                yield self._voter(state, place, "voter {} attests", (ack, last, echo, contact, request + w, attested))
            if request > w:
                since = 0 if r.attest_any_request else request - w - 1
                kept = request if r.attest_any_request else 0
                if since < attested:
                    yield self._attested(state, place, (ack, last, echo, contact, kept, since))

    def _attests_at_once(self, state: State) -> Iterator[Step]:
        if state[4] == LATCHED:
            return
        for place, (ack, last, echo, contact, request, attested) in enumerate(state[9]):
            if attested and last >= self.rules.attest_after:
                yield self._attested(state, place, (ack, last, echo, contact, request, 0))

    def _voter(self, state: State, place: int, step: str, voter: Voter) -> Step:
        proof, evacuated, calm, vm, mode, lease, heartbeat, ack, own, voters = state
        after = self._with(voters, place, voter)
        if voter[3] != voters[place][3] and not self.rules.window_at_decision and not self.in_contact(voters, own):
            proof = 0
        return step.format(place), (proof, evacuated, calm, vm, mode, lease, heartbeat, ack, own, after)

    def _attested(self, state: State, place: int, voter: Voter) -> Step:
        r = self.rules
        proof, evacuated, calm, vm, _, lease, heartbeat, ack, own, voters = state
        # A configuration's certificate comes from its own voters.
        if r.two_configs and place != 0:
            return "an attest that does not count", state
        after = [*voters[:place], voter, *voters[place + 1 :]]
        # What is older than the n newest never counts again.
        for old in sorted(range(len(after)), key=lambda at: after[at][5])[max(r.needed, 1) :]:
            after[old] = (*after[old][:5], self._no_cert)
        made = self._places(tuple(after))
        mode = GUARDED if self.certificate_age(made) < r.window else state[4]
        return f"the host takes voter {place}'s attest", (proof, evacuated, calm, vm, mode, lease, heartbeat, ack, own, made)

    # Reboots and restarts

    def _faults(self, state: State) -> Iterator[Step]:
        r = self.rules
        proof, evacuated, calm, _, _, _, _, ack, own, voters = state
        if not evacuated:
            late = self._foreign if r.foreign_ack and ack != self._none else self._none
            empty = tuple((*v[:4], v[4] if r.attest_any_request and v[4] > r.window else 0, self._no_cert) for v in voters)
            again: State = (0, 0, calm, 0, EMPTY, self._no_lease, self._none, late, own, empty)
            yield "the host reboots and registers", again
        ttl = r.contact_ttl
        cleared = []
        for _, last, _, _, request, attested in voters:
            # Every voter goes on to echo the nonce of the earlier run: with a number that the new run gives out again.
            cleared.append((ttl, last, ttl + 1 if r.foreign_run else ttl, ttl, request, attested))
        begun = r.wait + 1 if r.window_starts_good else 0
        if r.window_starts_good and not evacuated:
            yield "the manager restarts and evacuates the host", (begun, 1, *state[2:9], tuple(voters))
        if proof or any(v[0] < ttl or v[2] < ttl or v[3] < ttl for v in voters):
            yield "the manager restarts", (0, *state[1:9], self._places(tuple(cleared)))
        for place, (ack_, last, echo, contact, request, attested) in enumerate(voters):
            if last:
                yield self._voter(state, place, "voter {} reboots", (ack_, 0, echo, contact, request, attested))
            if last < r.attest_after and (r.record_lost_on_reboot or r.record_lost_on_restart):
                step = "voter {} restarts without its record"
                yield self._voter(state, place, step, (ack_, r.attest_after, echo, contact, request, attested))

    def _mutant(self, state: State) -> Iterator[Step]:
        r = self.rules
        proof, evacuated, calm, vm, mode, _, heartbeat, ack, _, voters = state
        if r.own_attest and mode != LATCHED:
            yield self._attested(state, 0, (*voters[0][:5], 0))
        if r.sequences_again and mode != LATCHED and ack < self._none:
            after: State = (*state[:6], self._none, self._foreign, *state[8:])
            yield "the agent restarts, and counts its heartbeats from 1 again", after
        if r.guard_lost_keeps_vm and vm:
            empty = tuple((*v[:5], self._no_cert) for v in voters)
            yield "the agent restarts without its record", (proof, evacuated, calm, vm, EMPTY, self._no_lease, *state[6:9], empty)
        if r.counts_itself and mode != LATCHED and not evacuated:
            yield "the host's heartbeat, its ack and its echo pass", (0, 0, calm, vm, GUARDED, 0, heartbeat, ack, 0, voters)
