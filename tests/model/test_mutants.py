"""Each rule of the lease protocol is needed: without it the model finds a run that ends with two copies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.mutants import MUTANTS, TIGHT, Mutant, find
from tests.model.protocol import Model, Rules, broken, initial
from tests.model.search import search


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule}: {mutant.change}")
def test_without_a_rule_a_vm_runs_twice(mutant: Mutant) -> None:
    """The shortest run to two copies is found; with the rule, the same constants have none."""
    found = find(mutant.rules)

    assert found.trace is not None, f"{mutant.rule} is not needed: {mutant.change}"
    assert find(mutant.sound).trace is None


def leased(rules: Rules) -> bool:
    """Whether a host that was leased once, and does not reboot, can have two copies."""
    running, _ = initial(rules)
    model = Model(rules)
    found = search([running], lambda s: (step for step in model.successors(s) if "reboots and" not in step[0]), broken)
    return found.trace is None


def test_r3_is_the_second_line_behind_r12() -> None:
    """A host that was leased once is safe with the latch (R3) or with "no start on a certificate" (R12), not without both."""
    assert leased(replace(TIGHT, no_latch=True))
    assert leased(replace(TIGHT, start_on_certificate=True))
    assert not leased(replace(TIGHT, no_latch=True, start_on_certificate=True))
