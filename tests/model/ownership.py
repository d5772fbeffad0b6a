"""Who may run a VM, as a finite state machine: registration in two steps, starts, stops, evacuation and migration of one VM.

Host a has a past: it reboots, registers, is leased, loses its guard. b and c only take the VM. Messages are never lost for good
and never gone: each may arrive late, and again. What the lease protocol proves (test_safety.py) is taken from it: a host is
evacuated only when its guard ended and its VM is dead.

Switches of Rules take single clauses of R12, R14, R15 and R22 away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

MOST = 3
"""Boots, registrations and epochs that a run may have."""
Message = tuple[str, int, int]


@dataclass(frozen=True, kw_only=True)
class Clauses:
    """Clauses switched off."""

    any_incarnation: bool = False
    any_epoch: bool = False
    no_tombstone: bool = False
    any_token: bool = False
    completed_again: bool = False
    register_is_enough: bool = False
    start_before_record: bool = False
    unconfirmed_start: bool = False
    any_stopped: bool = False
    revoked_acked: bool = False
    migration_forgotten: bool = False


class Owned(NamedTuple):
    """The cluster.

    Attributes:
        owner: a, b, c, or - while the VM is known to run nowhere.
        epoch: Of the ownership; durable, like owner, in_force and given.
        in_force: a's incarnation that is acked; 0 after its revocation.
        given: The newest incarnation offered to a; completed: the newest that was in force.
        boot: a's current boot token.
        incarnation: What a took; leased, latched and seen are its guard and the highest epoch that it saw.
        runs: Where the VM executes.
        migrating: a's VM is on its way to b.
        under_way: Messages.
    """

    owner: str = "a"
    epoch: int = 1
    in_force: int = 1
    given: int = 1
    completed: int = 1
    boot: int = 1
    token_used: bool = True
    incarnation: int = 1
    leased: bool = True
    latched: bool = False
    seen: int = 0
    runs: frozenset[str] = frozenset()
    migrating: bool = False
    under_way: frozenset[Message] = frozenset({("START a", 1, 1)})


Step = tuple[str, Owned]


def broken(state: Owned) -> bool:
    """Two copies."""
    return len(state.runs) > 1


class Ownership:
    """Successors under given clauses."""

    def __init__(self, clauses: Clauses) -> None:
        self.clauses = clauses

    def successors(self, state: Owned) -> Iterator[Step]:
        """Every next step."""
        yield from self._host(state)
        yield from self._manager(state)
        yield from self._migration(state)
        for message in state.under_way:
            kind, number, epoch = message
            yield from getattr(self, "_on_" + kind.lower().replace(" ", "_"))(state, number, epoch)

    def _host(self, s: Owned) -> Iterator[Step]:
        c = self.clauses
        if s.boot < MOST:
            sent = s.under_way | {("REGISTER", s.boot + 1, 0)}
            anew = s._replace(
                boot=s.boot + 1, token_used=False, incarnation=0, leased=False, latched=False, runs=s.runs - {"a"}, under_way=sent
            )
            yield "a reboots and asks for a registration", anew._replace(seen=0)
            if s.latched:
                yield "a, latched and empty, asks for a registration", anew
        if s.leased:
            yield "a's guard ends, its VM is destroyed", s._replace(leased=False, latched=True, runs=s.runs - {"a"})
        acked = s.in_force or (s.incarnation if c.revoked_acked else 0)
        if not s.leased and not s.latched and 0 < s.incarnation == acked:
            yield "a is leased", s._replace(leased=True)

    def _manager(self, s: Owned) -> Iterator[Step]:
        c = self.clauses
        dead = not s.leased and "a" not in s.runs
        if s.in_force and dead and s.incarnation in {0, s.in_force}:
            freed = "-" if s.owner == "a" and (not s.migrating or c.migration_forgotten) else s.owner
            yield "the manager evacuates a", s._replace(in_force=0, owner=freed)
        if s.owner == "a" and not s.migrating:
            yield "the manager stops the VM", s._replace(under_way=s.under_way | {("STOP", s.epoch, 0)})
        if s.owner == "a" and c.unconfirmed_start and "a" not in s.runs:
            yield "the manager gives up a start that nobody confirmed", s._replace(owner="-")
        if s.owner == "-" and s.epoch < MOST:
            following = s.epoch + 1
            if s.in_force:
                sent = s.under_way | {("START a", s.in_force, following)}
                yield "the manager starts the VM on a", s._replace(owner="a", epoch=following, under_way=sent)
                if c.start_before_record:
                    yield "the manager sends a START, and crashes before it is on record", s._replace(under_way=sent)
            for target in "bc":
                placed = s._replace(owner=target, epoch=following, runs=s.runs | {target})
                yield f"the manager starts the VM on {target}", placed

    def _migration(self, s: Owned) -> Iterator[Step]:
        if s.owner == "a" and "a" in s.runs and not s.migrating:
            yield "a's VM migrates to b", s._replace(migrating=True)
        if s.migrating and "a" in s.runs:
            yield "b takes over", s._replace(runs=frozenset({"b"}))
        if s.migrating and s.owner == "a":
            if "b" in s.runs:
                yield "b says that it runs the VM", s._replace(migrating=False, owner="b")
            elif "a" not in s.runs:
                # b gave up what came in, and left a tombstone; a is what it is.
                freed = "-" if not s.in_force else "a"
                yield "b says that it does not run the VM", s._replace(migrating=False, owner=freed)

    # Messages

    def _on_start_a(self, s: Owned, incarnation: int, epoch: int) -> Iterator[Step]:
        c = self.clauses
        fits = incarnation == s.incarnation or c.any_incarnation
        if fits and s.leased and (epoch > s.seen or c.any_epoch):
            yield f"a takes START epoch {epoch}", s._replace(seen=max(epoch, s.seen), runs=s.runs | {"a"})

    def _on_stop(self, s: Owned, epoch: int, _: int) -> Iterator[Step]:
        if s.incarnation and not s.latched and epoch >= s.seen and not s.migrating:
            seen = s.seen if self.clauses.no_tombstone else epoch
            sent = s.under_way | {("STOPPED", s.incarnation, epoch)}
            yield f"a takes STOP epoch {epoch}", s._replace(seen=seen, runs=s.runs - {"a"}, under_way=sent)

    def _on_stopped(self, s: Owned, incarnation: int, epoch: int) -> Iterator[Step]:
        fits = (incarnation, epoch) == (s.in_force, s.epoch)
        if s.owner == "a" and (fits or self.clauses.any_stopped):
            yield f"the manager hears that a stopped epoch {epoch}", s._replace(owner="-")

    def _on_register(self, s: Owned, token: int, _: int) -> Iterator[Step]:
        if s.given <= MOST:
            given = s.given + 1
            sent = s.under_way | {("OFFER", token, given)}
            freed = "-" if s.owner == "a" and self.clauses.register_is_enough else s.owner
            yield f"the manager offers incarnation {given}", s._replace(given=given, under_way=sent, owner=freed)

    def _on_offer(self, s: Owned, token: int, incarnation: int) -> Iterator[Step]:
        if incarnation <= s.incarnation:
            return
        if (token == s.boot and not s.token_used) or self.clauses.any_token:
            sent = s.under_way | {("COMPLETE", incarnation, 0)}
            taken = s._replace(incarnation=incarnation, token_used=True, leased=False, latched=False, under_way=sent)
            yield f"a takes incarnation {incarnation}", taken

    def _on_complete(self, s: Owned, incarnation: int, _: int) -> Iterator[Step]:
        if incarnation == s.given and (incarnation > s.completed or self.clauses.completed_again):
            freed = "-" if s.owner == "a" and not s.migrating else s.owner
            in_force = s._replace(in_force=incarnation, completed=incarnation, owner=freed)
            yield f"incarnation {incarnation} is in force", in_force


MUTANTS = [
    ("R12", "a START of another incarnation is taken", Clauses(any_incarnation=True)),
    ("R12", "a START of an epoch that was seen is taken", Clauses(any_epoch=True)),
    ("R12", "STOP leaves no tombstone", Clauses(no_tombstone=True)),
    ("R14", "an offer for any token is taken, and more than once", Clauses(any_token=True)),
    ("R14", "a registration is completed again, after its revocation", Clauses(completed_again=True)),
    ("R14", "asking for a registration frees the VM", Clauses(register_is_enough=True)),
    ("R15", "START is sent before the intent is on record", Clauses(start_before_record=True)),
    ("R15", "an unconfirmed START justifies another host", Clauses(unconfirmed_start=True)),
    ("R15", "STOPPED of an older epoch or incarnation frees the VM", Clauses(any_stopped=True)),
    ("R17", "a revoked incarnation is acked", Clauses(revoked_acked=True)),
    ("R22", "an evacuation forgets that the VM was migrating", Clauses(migration_forgotten=True)),
]
"""Rule, what is taken from it, and the clauses without it."""
