"""Tests of vmha.manager.copy_votes: which copy a lost cluster is restored from."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from vmha.manager.copy_votes import KEPT_S, SETTLES_S, CopyVotes, Offer

FIVE = frozenset({"h1", "h2", "h3", "h4", "h5"})


def offer(host_id: str, version: int, members: frozenset[str] = FIVE, **more: int) -> Offer:
    numbers = {"generation": 0, "config_version": 0, **more}
    return Offer(host_id=host_id, cluster_id="c1", version=version, members=members, voters=frozenset(), **numbers)


def chosen(*offers: Offer, now: float = SETTLES_S) -> int | None:
    """The version that is chosen when these were offered at 0; None: none is."""
    votes = CopyVotes()
    for each in offers:
        votes.offered(each, 0.0)
    votes.choice("c1", 0.0)
    choice = votes.choice("c1", now)
    return None if choice is None else choice.version


def test_a_minority_restores_nothing() -> None:
    """Two of five, or half of four: nothing, however long they ask."""
    assert chosen(offer("h1", 7), offer("h2", 7)) is None
    four = frozenset({"h1", "h2", "h3", "h4"})
    assert chosen(offer("h1", 7, four), offer("h2", 7, four), now=SETTLES_S + 1) is None
    assert chosen(offer("h1", 7), offer("h2", 7), offer("h3", 7)) == 7


def test_a_majority_waits_for_those_on_their_way() -> None:
    """Not before the first majority is SETTLES_S old; what comes meanwhile counts."""
    held = [offer("h1", 7), offer("h2", 8), offer("h3", 8)]
    assert chosen(*held, now=SETTLES_S - 0.01) is None
    assert chosen(*held) == 7
    assert chosen(*held, offer("h4", 8)) == 8


@pytest.mark.parametrize("versions", list(product((6, 7, 8), repeat=5)))
def test_the_newest_that_a_majority_holds_is_restored(versions: tuple[int, ...]) -> None:
    """Whoever holds a newer one held the older one before: the answer is the median, as far as it is on offer."""
    offers = [offer(host_id, version) for host_id, version in zip(sorted(FIVE), versions, strict=True)]
    assert chosen(*offers) == sorted(versions, reverse=True)[2]


def test_each_copy_counts_its_own_members() -> None:
    """A host that was removed says nothing for a newer copy; one that was added nothing for an older one."""
    two = frozenset({"h1", "h2"})
    assert chosen(offer("h3", 7), offer("h4", 7), offer("h1", 9, two)) == 7
    assert chosen(offer("h3", 7), offer("h4", 7), offer("h1", 9, two), offer("h2", 9, two)) == 9
    assert chosen(offer("h9", 9, two), offer("h1", 9, two)) is None


def test_r16_a_quorum_of_the_voters_has_to_have_offered() -> None:
    """Above 16 hosts a committee votes: a majority of all hosts need not be one of the committee."""
    many = frozenset(f"h{n}" for n in range(1, 21))
    committee = frozenset({"h1", "h2", "h3"})
    held = [replace(offer(f"h{n}", 7, many, config_version=4), voters=committee) for n in range(4, 21)]
    assert chosen(*held) is None
    assert chosen(*held, offer("h1", 7, many)) is None
    assert chosen(*held, offer("h1", 7, many), offer("h3", 6, many)) == 7
    newer = replace(offer("h2", 7, many, config_version=5), voters=frozenset({"h2", "h4", "h5"}))
    assert chosen(*held, newer) == 7, "the newest configuration says who votes"


def test_a_word_of_long_ago_counts_no_more() -> None:
    """Offers end; and an agent's newest word replaces the one before."""
    votes = CopyVotes()
    for host_id in ("h1", "h2", "h3"):
        votes.offered(offer(host_id, 7), 0.0)
    assert votes.choice("c1", 0.0) is None and votes.choice("c1", KEPT_S) is not None
    assert votes.choice("c1", KEPT_S + 0.1) is None
    for host_id in ("h1", "h2", "h2"):
        votes.offered(offer(host_id, 7), 200.0)
    assert votes.choice("c1", 200.0) is None and votes.choice("c1", 230.0) is None


def test_what_agents_have_seen_is_carried_over() -> None:
    """The highest generation and configuration of all offers: the restored ones must be above them (R18, R20)."""
    votes = CopyVotes()
    votes.offered(offer("h1", 7, generation=5, config_version=90), 0.0)
    votes.offered(offer("h2", 7, generation=80, config_version=3), 0.0)
    votes.offered(offer("h3", 6, generation=7, config_version=4), 0.0)
    votes.choice("c1", 0.0)
    choice = votes.choice("c1", SETTLES_S)
    assert choice is not None and (choice.generation, choice.config_version, choice.holders) == (80, 90, ("h1", "h2", "h3"))
    votes.restored("c1")
    assert votes.choice("c1", SETTLES_S) is None and votes.versions("c1") == frozenset()
