"""R12, R14, R15, R17 and R22: a VM has one owner, whatever arrives late or twice; and each clause is needed for it."""

from __future__ import annotations

import pytest

from tests.model.ownership import MUTANTS, Clauses, Owned, Ownership, broken
from tests.model.search import Found, search


def find(clauses: Clauses) -> Found[Owned]:
    return search([Owned()], Ownership(clauses).successors, broken)


def test_no_run_ends_with_two_copies() -> None:
    """Boots, registrations, starts, stops, evacuations and migrations in every order, every message late and repeated."""
    found = find(Clauses())

    assert found.trace is None
    assert found.states > 1000


@pytest.mark.parametrize("clauses", [clauses for _, _, clauses in MUTANTS], ids=[f"{rule}: {what}" for rule, what, _ in MUTANTS])
def test_without_a_clause_a_vm_runs_twice(clauses: Clauses) -> None:
    """The shortest run to two copies is found."""
    assert find(clauses).trace is not None
