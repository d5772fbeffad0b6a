"""The leader's lease and its terms in the store."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.failures import cluster_of, confirm_down, own
from tests.support.redis import RedisHome
from vmha.errors import Aborted, NotFound
from vmha.model import ClusterConfig, HostState
from vmha.store import Store
from vmha.store.leaders import Candidate, LeaderView

C = "c1"
ONE = Candidate(holder="run-1", manager_id="m1", address="10.0.0.1:7400")
TWO = Candidate(holder="run-2", manager_id="m2", address="10.0.0.2:7400")


@pytest.fixture(autouse=True)
async def cluster(store: Store) -> None:
    """A cluster to lead."""
    await store.clusters.create(C, ClusterConfig())


async def test_one_holds_it_and_the_other_learns_who(store: Store) -> None:
    """R19: the lease is exclusive; whoever is refused is told the leader, its address, its term and how long to wait."""
    won = await store.leaders.claim(C, ONE, 3.0)
    refused = await store.leaders.claim(C, TWO, 3.0)
    read = await store.leaders.get(C)

    assert (won.won, won.ttl_s, refused.won) == (True, 3.0, False)
    assert (refused.leader.manager_id, refused.leader.address, refused.term) == ("m1", "10.0.0.1:7400", won.term)
    assert 2.0 < refused.ttl_s <= 3.0
    assert (read.manager_id, read.term) == ("m1", won.term)


async def test_a_lease_that_is_not_renewed_runs_out(store: Store) -> None:
    """The next leader has a greater term; the old one's renewal is refused, and says who leads."""
    first = await store.leaders.claim(C, ONE, 0.05)
    async with asyncio.timeout(5):
        while not (second := await store.leaders.claim(C, TWO, 3.0)).won:
            await asyncio.sleep(second.ttl_s)
    late = await store.leaders.renew(C, ONE, 3.0, first.term)

    assert second.term > first.term
    assert (late.won, late.leader.manager_id, late.term) == (False, "m2", second.term)


async def test_only_the_holder_of_the_term_renews(store: Store) -> None:
    """Another run under the same name, or the same run under an older term, is refused."""
    first = await store.leaders.claim(C, ONE, 3.0)
    other_run = Candidate(holder="run-9", manager_id="m1", address=ONE.address)
    again = await store.leaders.claim(C, ONE, 3.0)

    assert not (await store.leaders.renew(C, other_run, 3.0, again.term)).won
    assert not (await store.leaders.renew(C, ONE, 3.0, first.term)).won
    assert (await store.leaders.renew(C, ONE, 3.0, again.term)).won
    assert again.term > first.term


async def test_a_release_is_for_the_next_at_once(store: Store) -> None:
    """In good order nobody waits; and nobody releases another's lease."""
    first = await store.leaders.claim(C, ONE, 3.0)
    await store.leaders.release(C, TWO, first.term)
    refused = await store.leaders.claim(C, TWO, 3.0)
    await store.leaders.release(C, ONE, first.term)
    nobody = await store.leaders.get(C)
    second = await store.leaders.claim(C, TWO, 3.0)

    assert (refused.won, second.won) == (False, True)
    assert (nobody.manager_id, nobody.address, nobody.term) == ("", "", first.term)


async def test_terms_grow_across_a_lost_store(store: Store, redis_home: RedisHome) -> None:
    """Flushed, even on a store whose clock is behind: the claim names the highest term that the manager knows."""
    first = await store.leaders.claim(C, ONE, 3.0)
    client = redis_home.client()
    await client.flushall()
    await client.aclose()
    ahead = first.term + 10**9
    second = await store.leaders.claim(C, TWO, 3.0, above_term=ahead)

    assert second.term > ahead > first.term
    assert not (await store.leaders.renew(C, ONE, 3.0, first.term)).won


async def test_a_leader_survives_the_loss_of_its_record(store: Store, redis_home: RedisHome) -> None:
    """A failover or a flush that lost the lease: as long as nobody claimed, its holder goes on under its term."""
    first = await store.leaders.claim(C, ONE, 3.0)
    client = redis_home.client()
    await client.flushall()
    await client.aclose()
    renewed = await store.leaders.renew(C, ONE, 3.0, first.term)

    assert (renewed.won, renewed.term) == (True, first.term)
    assert not (await store.leaders.claim(C, TWO, 3.0)).won


async def test_decisions_of_an_old_term_change_nothing(store: Store) -> None:
    """R19: each script compares the term; suspicion, confirmation, state, registration and order are refused alike."""
    incarnations = await cluster_of(store, "c2", ["h1", "h2"])
    await own(store, "c2", "h1", ["v1"])
    old = await store.leaders.claim("c2", ONE, 3.0)
    await store.leaders.release("c2", ONE, old.term)
    new = await store.leaders.claim("c2", TWO, 3.0)
    host = await store.hosts.get("c2", "h1")
    stale = store.under(old.term)

    attempts = [
        lambda: stale.incidents.suspect("c2", "h1", host.boot_id, 0.0, 30.0, "SILENT", ""),
        lambda: stale.incidents.clear_suspect("c2", "h1"),
        lambda: stale.incidents.confirm("c2", "h1", host.boot_id, "", operator=True),
        lambda: stale.incidents.refuse("c2", "h1", 1),
        lambda: stale.incidents.close("c2", "h1", "i1"),
        lambda: stale.hosts.set_state("c2", "h1", HostState.AGENT_LOST, "", ""),
        lambda: stale.hosts.offer("c2", "h1", "token"),
        lambda: stale.hosts.complete_registration("c2", "h1", incarnations["h1"], host.boot_id),
        lambda: stale.vms.observe("c2", "h1", incarnations["h1"], [], full=False, planned_shutdown=False),
        lambda: stale.leaders.check("c2", old.term),
    ]
    for attempt in attempts:
        with pytest.raises(Aborted) as refused:
            await attempt()  # type: ignore[no-untyped-call]
        assert refused.value.reason == "STALE_LEADER_TERM"
        assert refused.value.metadata["newest_term"] == str(new.term)
    assert await store.hosts.get("c2", "h1") == host
    await store.leaders.check("c2", new.term)
    assert (await store.under(new.term).hosts.set_state("c2", "h1", HostState.AGENT_LOST, "", "")).state is HostState.AGENT_LOST


async def test_an_order_of_an_old_leader_is_refused(store: Store) -> None:
    """The evacuator refuses a term older than the newest seen, also for an evacuation that it knows; an operator has none."""
    await cluster_of(store, "c2", ["h1", "h2"])
    await own(store, "c2", "h1", ["v1"])
    incident = await confirm_down(store, "c2", "h1")
    about = ("c2", incident.incident_id, "h1", incident.fence_epoch, incident.incarnation)
    await store.evacuations.start(*about, 7)
    await store.evacuations.start(*about, 9)
    with pytest.raises(Aborted) as refused:
        await store.evacuations.start(*about, 7)

    assert refused.value.reason == "STALE_LEADER_TERM"
    assert (await store.evacuations.start(*about, 0)).host_id == "h1"
    assert (await store.leaders.claim("c2", ONE, 3.0)).term > 9


async def test_the_leaders_view_is_shown_by_all(store: Store) -> None:
    """What only the leader knows travels with its renewals."""
    won = await store.leaders.claim(C, ONE, 3.0)
    view = LeaderView(learning=True, hosts_without_agent=("h1", "h3"))
    await store.leaders.renew(C, ONE, 3.0, won.term, view)

    assert won.leader.view is None
    assert (await store.leaders.get(C)).view == view


async def test_a_deleted_cluster_has_no_leader(store: Store) -> None:
    """Nothing is left of it, and its leader's next renewal writes nothing."""
    won = await store.leaders.claim(C, ONE, 3.0)
    await store.clusters.delete(C, None)
    with pytest.raises(NotFound):
        await store.leaders.renew(C, ONE, 3.0, won.term)

    assert (await store.leaders.get(C)).term == 0


async def test_a_lost_cluster_is_first_led_by_who_led_it_last(store: Store, redis_home: RedisHome) -> None:
    """Its memory is the newest. Another one leads it only when it insists."""
    await store.leaders.claim(C, ONE, 3.0)
    redis_home.restart_empty()
    other = await store.leaders.claim(C, TWO, 3.0, lost_too=False)
    insisting = await store.leaders.claim(C, TWO, 3.0, lost_too=True)

    assert (other.won, other.leader.manager_id, other.ttl_s) == (False, "", 3.0)
    assert insisting.won
