"""The model decides as the real cores do: random runs of the model, step by step on vmha.agent.lease and vmha.manager.contact."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from tests.model.protocol import LATCHED, Model, Rules, State, initial
from vmha.agent.lease import Lease
from vmha.agent.lease_events import (
    AckReceived,
    AttestReceived,
    ConfigTaken,
    Event,
    GuardState,
    HeartbeatSent,
    Kept,
    LeaseConfig,
    PeerAsked,
    Registered,
)
from vmha.manager.contact import Contact, LeaseProof, VoterSet

HOST, CLUSTER = "host", "c1"
STEPS = 120
ISOLATION = {"nonce": 1.0, "takes an ack": 10.0, "echo": 50.0, "a tick": 1.0, "evacuates": 5.0}
RULES = {
    "two hosts": Rules(),
    "three hosts": Rules(voters=2, wait=4),
    "four hosts": Rules(voters=3, wait=4),
    "two hosts, short lease": Rules(lease=1, window=3, attest_after=6, wait=5),
    "three hosts, no drift": Rules(voters=2, drift=False, wait=3),
}


class Cores:
    """The real cores, one for each host and one for the manager, each with a clock of its own; messages lie in slots."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.names = [f"voter-{place}" for place in range(rules.voters)]
        self.clocks: dict[str, float] = dict.fromkeys([HOST, "manager", *self.names], 1000.0)
        self.numbers = Counter[str]()
        self.slots: dict[tuple[str, str], tuple[object, ...]] = {}
        self.lease = self._boot(HOST)
        self.voters = {name: self._boot(name) for name in self.names}
        self.contact = self._manager()

    def _boot(self, name: str) -> Lease:
        r = self.rules
        config = LeaseConfig(
            version=1,
            # A voter goes on for ever: what its own guard would forbid it, the model does not know.
            enforced=name == HOST,
            voters=(HOST, *self.names),
            certificate_quorum=r.needed + 1,
            relay_after_s=1.0,
            certificate_window_s=r.window,
            attest_after_s=r.attest_after,
            ack_max_age_s=r.ack_max_age,
            lease_duration_s=r.lease,
            request_interval_s=1.0,
            kill_timeout_s=r.kill,
        )
        lease = Lease(name, CLUSTER, None, self.clocks[name])
        lease.event(ConfigTaken(config=config), self.clocks[name])
        lease.event(Registered(incarnation=self.next(f"incarnation of {name}")), self.clocks[name])
        return lease

    def _manager(self) -> Contact:
        r = self.rules
        contact = Contact(self.clocks["manager"])
        voters = frozenset((HOST, *self.names))
        rules = VoterSet(voters=voters, evacuation_quorum=r.quorum, contact_ttl_s=r.contact_ttl, wait_s=r.wait)
        contact.configure({1: rules}, self.clocks["manager"])
        return contact

    def next(self, what: str) -> int:
        self.numbers[what] += 1
        return self.numbers[what]

    def tell(self, event: Event) -> None:
        self.lease.event(event, self.clocks[HOST])

    def proven(self) -> bool:
        return isinstance(self.contact.prove(HOST, [1], self.clocks["manager"]), LeaseProof)

    # Steps, by the model's words for them

    def follow(self, step: str) -> None:
        """Do what the model did."""
        number = re.search(r"voter (\d)", step)
        name = self.names[int(number[1])] if number else ""
        action = re.sub(r"voter \d('s)?", "voter", step).replace("the ", "").replace("'s", "s").replace(" ", "_")
        getattr(self, f"_{action}")(*[name] if name else [])
        self.lease.tick(self.clocks[HOST])

    def _tick(self, odd: str = "", ticks: int = 1) -> None:
        for clock in self.clocks:
            self.clocks[clock] += ticks if clock == odd else 1

    def _a_tick(self) -> None:
        self._tick()

    def _hosts_clock_misses_a_tick(self) -> None:
        self._tick(HOST, 0)

    def _hosts_clock_ticks_twice(self) -> None:
        self._tick(HOST, 2)

    def _managers_clock_misses_a_tick(self) -> None:
        self._tick("manager", 0)

    def _managers_clock_ticks_twice(self) -> None:
        self._tick("manager", 2)

    def _voter_clock_misses_a_tick(self, name: str) -> None:
        self._tick(name, 0)

    def _voter_clock_ticks_twice(self, name: str) -> None:
        self._tick(name, 2)

    def _host_sends_a_heartbeat(self) -> None:
        sequence = self.next("heartbeat")
        self.tell(HeartbeatSent(sequence=sequence))
        self.slots[HOST, "heartbeat"] = (self.lease.incarnation, sequence)

    def _manager_acks_hosts_heartbeat(self) -> None:
        self.contact.heard(HOST, self.clocks["manager"])
        self.slots[HOST, "ack"] = (*self.slots[HOST, "heartbeat"], f"run-{self.next('nonce')}")

    def _host_takes_an_ack(self) -> None:
        incarnation, sequence, nonce = self.slots[HOST, "ack"]
        self.tell(AckReceived(incarnation=incarnation, sequence=sequence, nonce=nonce))  # type: ignore[arg-type]

    def _host_starts_VM(self) -> None:  # noqa: N802
        assert self.lease.may_start(self.clocks[HOST])

    def _manager_evacuates_host(self) -> None:
        assert self.proven()

    def _manager_sends_voter_a_nonce(self, name: str) -> None:
        number, lease = self.next("nonce"), self.voters[name]
        self.contact.issued(name, lease.incarnation, number, self.clocks["manager"])
        self.slots[name, "nonce"] = (number,)

    def _voter_takes_an_ack(self, name: str) -> None:
        (number,) = self.slots[name, "nonce"]
        lease, sequence = self.voters[name], self.next("heartbeat")
        lease.event(HeartbeatSent(sequence=sequence), self.clocks[name])
        ack = AckReceived(incarnation=lease.incarnation, sequence=sequence, nonce=str(number))
        lease.event(ack, self.clocks[name])
        assert lease.echo == str(number)
        self.slots[name, "echo"] = (number, lease.incarnation)

    def _manager_gets_voter_echo(self, name: str) -> None:
        number, incarnation = self.slots[name, "echo"]
        self.contact.echoed(name, incarnation, number, self.clocks["manager"])  # type: ignore[arg-type]

    def _host_asks_voter(self, name: str) -> None:
        nonce = f"request-{self.next('request')}"
        self.tell(PeerAsked(host_id=name, request_nonce=nonce))
        self.slots[name, "request"] = (nonce, self.lease.incarnation)

    def _voter_attests(self, name: str) -> None:
        self.slots[name, "attest"] = (*self.slots[name, "request"], self.voters[name].no_ack_age(self.clocks[name]))

    def _host_takes_voter_attest(self, name: str) -> None:
        nonce, incarnation, age = self.slots[name, "attest"]
        attest = AttestReceived(
            host_id=name,
            cluster_id=CLUSTER,
            incarnation=incarnation,  # type: ignore[arg-type]
            request_nonce=nonce,  # type: ignore[arg-type]
            no_ack_age_s=age,  # type: ignore[arg-type]
        )
        self.tell(attest)

    def _host_reboots_and_registers(self) -> None:
        self.lease = self._boot(HOST)
        self.contact.heard(HOST, self.clocks["manager"])

    def _manager_restarts(self) -> None:
        self.contact = self._manager()

    def _voter_reboots(self, name: str) -> None:
        # Under its old registration: nonces to it are still under way, and the model forgets none of them.
        before = self.voters[name]
        kept = Kept(incarnation=before.incarnation, config=before.config)
        self.voters[name] = Lease(name, CLUSTER, kept, self.clocks[name])


def fancy(step: str, chance: random.Random, isolated: bool) -> float:
    """How much this run likes a step: runs differ, or all of them would be a mixture in which nothing lasts."""
    if "restarts" in step or "reboots" in step:
        return 0.02
    if isolated and ("host's heartbeat" in step or "host sends" in step):
        return 0.02
    if isolated:
        # The others stay in contact, time goes by, and the decision comes.
        return next((weight for words, weight in ISOLATION.items() if words in step), 0.05)
    return chance.choice((0.1, 0.3, 1.0, 3.0))


def run(rules: Rules, seed: int) -> Counter[str]:
    """One random run; what it exercised."""
    chance = random.Random(seed)
    model, cores = Model(rules, named=True), Cores(rules)
    state = initial(rules)[1]
    liking: dict[str, float] = {}
    isolated = chance.random() < 0.4
    done = Counter[str]()
    for _ in range(STEPS):
        steps = list(model.successors(state))
        for step, _ in steps:
            if step not in liking:
                liking[step] = fancy(step, chance, isolated)
        step, state = chance.choices(steps, [liking[step] for step, _ in steps])[0]
        cores.follow(step)
        done[re.sub(r"voter \d", "voter", step)] += 1
        compare(model, state, cores)
        done["certified"] += cores.lease.state(cores.clocks[HOST]) is GuardState.CERTIFIED
        done["latched"] += cores.lease.latched
    return done


def compare(model: Model, state: State, cores: Cores) -> None:
    """The model and the cores agree on the guard, on starts and on the proof."""
    r, now = model.rules, cores.clocks[HOST]
    proof, evacuated, _, _, mode, lease, _, _, own, voters = state
    guarded = mode != LATCHED and model.guarded(lease, voters)
    assert cores.lease.latched == (mode == LATCHED)
    assert (cores.lease.state(now) in {GuardState.LEASED, GuardState.CERTIFIED}) == guarded
    assert cores.lease.may_start(now) == (mode != LATCHED and lease < r.lease)
    if guarded:
        left = max(r.lease - lease, r.window - model.certificate_age(voters))
        assert cores.lease.guard_until - now == left
    if not evacuated:
        assert cores.proven() == (proof > r.wait and model.in_contact(voters, own))


@pytest.mark.parametrize("name", RULES)
def test_the_real_cores_decide_as_the_model_does(name: str) -> None:
    """Guard, its end, latch, permission to start and lease proof are the same after every step of 150 random runs."""
    done = sum((run(RULES[name], seed) for seed in range(150)), Counter[str]())

    for what in ("certified", "latched", "the manager evacuates the host", "the host starts the VM", "the manager restarts"):
        assert done[what] > 0, f"no run had: {what}"
