"""Who leads a cluster: a lease that runs out by itself, under a term that only grows (docs/safety.md, R19)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmha.store import codec
from vmha.store.scripts import Scripts, pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A manager that leads or would.

    Attributes:
        holder: Names this run of it: a restarted one is another.
        address: Where agents reach it, host:port.
    """

    holder: str
    manager_id: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderView:
    """What only the leader knows, shown by every replica."""

    learning: bool = False
    hosts_without_agent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderRecord:
    """Who leads. Without a leader `manager_id` and `address` are empty; `term` is the newest on record even so."""

    term: int = 0
    manager_id: str = ""
    address: str = ""
    view: LeaderView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAnswer:
    """The store's answer to a claim or a renewal.

    Attributes:
        won: The claimant holds the lease, under `term`.
        term: Of the lease; where it is refused, the newest on record.
        leader: Who holds it.
        ttl_s: How long the lease lasts, counted from some moment while the request was on its way.
    """

    won: bool
    term: int
    leader: LeaderRecord
    ttl_s: float


class Leaders:
    """What the store keeps of leadership. All methods may raise Unavailable("STORE_UNAVAILABLE")."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def claim(
        self, cluster_id: str, candidate: Candidate, lease_s: float, *, above_term: int = 0, lost_too: bool = True
    ) -> LeaseAnswer:
        """Takes the lead when nobody else holds it, under a term above `above_term` and all that were ever given.

        Args:
            lost_too: Also of a cluster that the store has lost; the leader will restore it from memory.

        Raises:
            NotFound: CLUSTER_UNKNOWN when it was deleted on purpose.
        """
        return _answer(
            await self._scripts.run("leader_claim", cluster_id, *_who(candidate, lease_s), above_term, codec.flag(lost_too))
        )

    async def renew(
        self, cluster_id: str, candidate: Candidate, lease_s: float, term: int, view: LeaderView | None = None
    ) -> LeaseAnswer:
        """Holds the lease for lease_s from now, unless somebody else has it or a newer term is on record.

        Raises:
            NotFound: CLUSTER_UNKNOWN when it was deleted on purpose.
        """
        return _answer(await self._scripts.run("leader_renew", cluster_id, *_who(candidate, lease_s), term, _view_text(view)))

    async def release(self, cluster_id: str, candidate: Candidate, term: int) -> None:
        """Lets the lease go, when it is this candidate's under this term."""
        await self._scripts.run("leader_release", cluster_id, candidate.holder, term)

    async def get(self, cluster_id: str) -> LeaderRecord:
        """Who leads now."""
        term, row = await self._scripts.run("leader_get", cluster_id)
        return _record(int(term), row)

    async def check(self, cluster_id: str, term: int) -> None:
        """Returns when no newer leader than that of `term` was seen; 0 is an operator's, and always in order.

        Raises:
            Aborted: STALE_LEADER_TERM.
        """
        await self._scripts.under(term).run("leader_get", cluster_id)


def _who(candidate: Candidate, lease_s: float) -> tuple[str | int, ...]:
    return candidate.holder, candidate.manager_id, candidate.address, max(1, math.floor(lease_s * 1000))


def _answer(reply: Sequence[Any]) -> LeaseAnswer:
    won, term, row, ttl_ms = reply
    return LeaseAnswer(won=int(won) == 1, term=int(term), leader=_record(int(term), row), ttl_s=max(0, int(ttl_ms)) / 1000)


def _record(newest_term: int, row: list[Any]) -> LeaderRecord:
    stored = pairs(row)
    return LeaderRecord(
        term=max(newest_term, int(stored.get("term") or 0)),
        manager_id=stored.get("manager_id", ""),
        address=stored.get("address", ""),
        view=_view(stored),
    )


def _view_text(view: LeaderView | None) -> str:
    return "" if view is None else json.dumps([codec.flag(view.learning), view.hosts_without_agent], separators=(",", ":"))


def _view(stored: Mapping[str, str]) -> LeaderView | None:
    if not stored.get("view"):
        return None
    learning, missing = json.loads(stored["view"])
    return LeaderView(learning=learning == "1", hosts_without_agent=tuple(missing))
