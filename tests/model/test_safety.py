"""The lease protocol is safe: no run of the model, however long, ends with two copies; and the model is not empty."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tests.model.mutants import FOUR_HOSTS, LONG_WINDOW, SHORT_LEASE, TIGHT, TWO_COMMITTEES, find
from tests.model.protocol import EMPTY, LATCHED, Model, Rules, State, initial
from tests.model.search import search

STATED = Rules()
"""Constants as the inequalities ask for them: T_attest = W + T_f + drift, T_wait = T_self + T_kill + drift."""
THREE_HOSTS = replace(STATED, voters=2)
SOUND = {
    "two hosts, every message late, clocks that fail": STATED,
    "three hosts, clocks that fail": replace(THREE_HOSTS, slow_contact=False, slow_attests=False),
    "three hosts, late nonces and echoes": replace(THREE_HOSTS, drift=False, wait=3, slow_attests=False),
    "three hosts, late requests and attests": replace(THREE_HOSTS, drift=False, wait=3, slow_contact=False),
    "four hosts": FOUR_HOSTS,
    "a committee that was replaced": TWO_COMMITTEES,
    "two hosts, tight": TIGHT,
    "two hosts, W = T_self": LONG_WINDOW,
    "two hosts, W > T_self": SHORT_LEASE,
}


@pytest.mark.parametrize("name", SOUND)
def test_no_run_ends_with_two_copies(name: str) -> None:
    """Every state that the adversary can reach is safe."""
    found = find(SOUND[name])

    assert found.trace is None
    assert found.states > 1000, "a model that small proves nothing"


def sets_of_constants() -> list[Rules]:
    """Sets that satisfy I1 and I2 exactly, with clocks that fail."""
    return [
        Rules(
            contact_ttl=ttl,
            window=window,
            lease=lease,
            kill=kill,
            attest_after=window + ttl + 1,
            # The manager waits for more than T_wait: a tick of I2 is in that.
            wait=max(lease, window) + kill,
            slow_contact=False,
            slow_attests=False,
        )
        for ttl, window, lease, kill in product((2, 3), (1, 2, 3), (1, 4), (0, 1))
    ]


def test_every_set_of_constants_that_the_inequalities_allow_is_safe() -> None:
    """I1 and I2 are enough: no set that satisfies them, with the least T_wait, has a run with two copies."""
    unsafe = [rules for rules in sets_of_constants() if find(rules).trace is not None]

    assert unsafe == []


def test_i2_is_not_wider_than_it_must_be() -> None:
    """One tick less of T_wait than I2 asks for, and there are two copies: in every set of constants whose lease exceeds W."""
    long = [rules for rules in sets_of_constants() if rules.lease > rules.window]
    safe = [rules for rules in long if find(replace(rules, wait=rules.wait - 1)).trace is None]

    assert safe == []


# The model is not empty


def everything(rules: Rules) -> set[State]:
    """All states."""
    reached: set[State] = set(initial(rules))

    def successors(state: State) -> list[tuple[str, State]]:
        steps = list(model.successors(state))
        reached.update(after for _, after in steps)
        return steps

    model = Model(rules)
    search(initial(rules), successors, lambda _: False)
    return reached


def test_the_model_reaches_all_that_it_is_about() -> None:
    """Hosts are evacuated, latch, live on a certificate, start VMs under new incarnations; nothing holds for want of trying."""
    states = everything(TIGHT)
    model = Model(TIGHT)

    assert any(evacuated and not vm for _, evacuated, _, vm, *_ in states)
    assert any(mode == LATCHED and vm for _, _, _, vm, mode, *_ in states), "condemned, and not yet dead"
    assert any(state[3] and state[5] >= TIGHT.lease and model.guarded(state[5], state[9]) for state in states), "certified"
    assert any(mode == EMPTY and evacuated for _, evacuated, _, _, mode, *_ in states), "evacuated before its first ack"


@pytest.mark.parametrize("voters", [1, 2])
def test_an_isolated_host_is_evacuated_as_soon_as_it_may_be(voters: int) -> None:
    """Nothing is heard of the host, the others stay in contact: it may be evacuated right after T_wait, and its VM is gone."""
    rules = replace(STATED, voters=voters, slow_contact=False)
    model = Model(rules)
    state = initial(rules)[0]
    waited = 0
    while "the manager evacuates the host" not in (steps := dict(model.successors(state))):
        for _ in range(voters):
            # Voters are kept sorted: one without contact comes last.
            state = dict(model.successors(state)).get(f"voter {voters - 1} takes and echoes an ack", state)
        state = dict(model.successors(state))["a tick"]
        waited += 1
        assert waited <= rules.wait + 1, "it is never evacuated"

    assert waited == rules.wait + 1
    assert not steps["the manager evacuates the host"][3]


def test_without_the_manager_a_certificate_keeps_the_vm_for_ever() -> None:
    """The manager is gone for good: attests that come in time keep the guard, tick after tick, and nothing latches."""
    rules = replace(TIGHT, lease=7, wait=7)
    model = Model(rules)
    state = initial(rules)[0]
    for _ in range(200):
        state = dict(model.successors(state))["a tick"]
        for step in ("the host asks voter 0", "voter 0 attests", "the host takes voter 0's attest"):
            state = dict(model.successors(state)).get(step, state)

    assert state[3]
    assert state[4] != LATCHED
    assert state[5] >= rules.lease, "it is the certificate that holds"
