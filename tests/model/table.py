"""The mutants of the models as rows of docs/safety.md; `python -m tests.model` prints their runs."""

from __future__ import annotations

from tests.model import mutants, ownership
from tests.model.ownership import Owned, Ownership
from tests.model.search import search

AVAILABILITY = [
    ("I3", "a lease that ends before a certificate can be had"),
    ("I5", "a certificate that ends before the next one can be had"),
    ("R4", "acks of any age count"),
    ("R7", "a relayed heartbeat is a message of its own"),
    ("R9", "an agent's restart takes its last ack for just now"),
]
"""Without these VMs are destroyed for nothing: test_availability.py."""


def rows() -> list[tuple[str, str, str]]:
    """Rule, what is taken from it, and what comes of it."""
    found = [(mutant.rule, mutant.change, "two copies") for mutant in mutants.MUTANTS]
    found += [(rule, what, "two copies") for rule, what, _ in ownership.MUTANTS]
    found.append(("R9", "a host is taken for self-fencing before its first ack", "two copies"))
    found += [(rule, what, "availability") for rule, what in AVAILABILITY]
    return sorted(found, key=lambda row: (row[0][0], int(row[0][1:])))


def traces() -> list[tuple[str, str, list[str]]]:
    """Each mutant's shortest run to two copies."""
    found = [(mutant.rule, mutant.change, mutants.find(mutant.rules).trace or []) for mutant in mutants.MUTANTS]
    for rule, what, clauses in ownership.MUTANTS:
        run = search([Owned()], Ownership(clauses).successors, ownership.broken)
        found.append((rule, what, run.trace or []))
    return found
