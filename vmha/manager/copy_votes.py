"""Core: which of the copies that agents hold a lost cluster is restored from (design section 5.5).

Only the newest that a majority of its own members hold, or a newer one: a minority may have been cut off long before the loss,
and of a cluster that was deleted no majority holds a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SETTLES_S: Final = 15.0
"""From the first majority on: agents that hold a newer copy may be on their way, and so may a manager that remembers more."""
KEPT_S: Final = 120.0
"""An offer that was not repeated for this long counts no more."""
MOST_HOSTS: Final = 100_000
"""Offers that are kept at a time; agents offer again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an agent holds.

    Attributes:
        members: The hosts of the cluster, as the copy says.
        voters: Of the safety configuration that the agent holds; empty when it holds none, as after a boot.
        generation: The highest store generation that the agent has seen.
        config_version: The newest safety configuration that it holds.
    """

    host_id: str
    cluster_id: str
    version: int
    members: frozenset[str]
    voters: frozenset[str]
    generation: int
    config_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The copy to restore from.

    Attributes:
        holders: Members that hold it, or a newer one.
        generation: The highest store generation that any agent has seen.
        config_version: The highest number of a safety configuration that any agent holds.
    """

    version: int
    holders: tuple[str, ...]
    generation: int
    config_version: int


@dataclass(slots=True)
class CopyVotes:
    """Counts the offers of agents, of any number of clusters."""

    _offers: dict[str, tuple[float, Offer]] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)

    def offered(self, offer: Offer, now: float) -> None:
        """An agent's newest word; one that is not a member of its own copy has none."""
        if offer.host_id not in offer.members or (offer.host_id not in self._offers and len(self._offers) >= MOST_HOSTS):
            return
        self._offers[offer.host_id] = (now, offer)

    def choice(self, cluster_id: str, now: float) -> Choice | None:
        """What is to be restored; None while no majority has held a copy for SETTLES_S."""
        self._offers = {host_id: (at, offer) for host_id, (at, offer) in self._offers.items() if now - at <= KEPT_S}
        offers = {offer.host_id: offer for _, offer in self._offers.values() if offer.cluster_id == cluster_id}
        found = _newest(offers)
        if found is None:
            self._since.pop(cluster_id, None)
            return None
        return found if now - self._since.setdefault(cluster_id, now) >= SETTLES_S else None

    def versions(self, cluster_id: str) -> frozenset[int]:
        """The versions that are on offer."""
        return frozenset(offer.version for _, offer in self._offers.values() if offer.cluster_id == cluster_id)

    def restored(self, cluster_id: str) -> None:
        """The cluster is back: nothing of it is kept."""
        self._offers = {host_id: kept for host_id, kept in self._offers.items() if kept[1].cluster_id != cluster_id}
        self._since.pop(cluster_id, None)


def _newest(offers: Mapping[str, Offer]) -> Choice | None:
    newest = max((offer for offer in offers.values() if offer.voters), key=lambda offer: offer.config_version, default=None)
    voters = frozenset[str]() if newest is None else newest.voters
    if voters and len(voters & offers.keys()) <= len(voters) // 2:
        # A certificate quorum has to have said that its store is lost: no lease is proven by its old manager then (decision 021).
        return None
    versions = {offer.version: offer.members for offer in offers.values()}
    for version in sorted(versions, reverse=True):
        members = versions[version]
        holders = sorted(h for h, offer in offers.items() if h in members and offer.version >= version)
        if len(holders) > len(members) // 2:
            return Choice(
                version=version,
                holders=tuple(holders),
                generation=max(offer.generation for offer in offers.values()),
                config_version=max(offer.config_version for offer in offers.values()),
            )
    return None
