"""R12, R14, R15, R17 and R22: a VM has one owner, whatever arrives late or twice; and each clause is needed for it."""

from __future__ import annotations

import pytest

from tests.model.ownership import Clauses, Owned, Ownership, broken
from tests.model.search import Found, search

MUTANTS = {
    "R12: a START of another incarnation is taken": Clauses(any_incarnation=True),
    "R12: a START of an epoch that was seen is taken": Clauses(any_epoch=True),
    "R12: STOP leaves no tombstone": Clauses(no_tombstone=True),
    "R14: an offer for any token is taken, and more than once": Clauses(any_token=True),
    "R14: a registration is completed again, after its revocation": Clauses(completed_again=True),
    "R14: asking for a registration frees the VM": Clauses(register_is_enough=True),
    "R15: START is sent before the intent is on record": Clauses(start_before_record=True),
    "R15: an unconfirmed START justifies another host": Clauses(unconfirmed_start=True),
    "R15: STOPPED of an older epoch or incarnation frees the VM": Clauses(any_stopped=True),
    "R17: a revoked incarnation is acked": Clauses(revoked_acked=True),
    "R22: an evacuation forgets that the VM was migrating": Clauses(migration_forgotten=True),
}


def find(clauses: Clauses) -> Found[Owned]:
    return search([Owned()], Ownership(clauses).successors, broken)


def test_no_run_ends_with_two_copies() -> None:
    """Boots, registrations, starts, stops, evacuations and migrations in every order, every message late and repeated."""
    found = find(Clauses())

    assert found.trace is None
    assert found.states > 1000


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_clause_a_vm_runs_twice(name: str) -> None:
    """The shortest run to two copies is found."""
    assert find(MUTANTS[name]).trace is not None
