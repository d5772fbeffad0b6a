"""From suspicion to incident."""

from __future__ import annotations

import asyncio

import pytest

from tests.store.ways import C
from tests.support.failures import cluster_of, confirm_down, register
from vmha.errors import NotFound
from vmha.model import HostState
from vmha.store import Store

BOOT = "boot-h1-1"


async def suspect(store: Store, *, cooldown_s: float = 0.0, ttl_s: float = 30.0, boot_id: str = BOOT) -> None:
    await store.incidents.suspect(C, "h1", boot_id, cooldown_s, ttl_s, "SILENT", "evidence")


async def test_confirming_makes_one_incident(store: Store) -> None:
    """Fence epoch grows, the incarnation is revoked, the host is DOWN; a repeat returns the same incident."""
    incarnations = await cluster_of(store, C, ["h1"])
    await suspect(store)
    incident = await store.incidents.confirm(C, "h1", BOOT, "three peers")
    host = await store.hosts.get(C, "h1")

    assert incident is not None and incident.incarnation == incarnations["h1"] and incident.evidence == "three peers"
    assert (host.state, host.incarnation_revoked, host.incident_id) == (HostState.DOWN, True, incident.incident_id)
    assert host.fence_epoch == incident.fence_epoch > 0
    assert await store.incidents.confirm(C, "h1", BOOT, "again") == incident
    assert await store.incidents.get_open(C, "h1") == incident
    assert await store.incidents.open(C) == [incident]
    assert await store.incidents.suspects(C) == []


async def test_an_incident_says_that_only_a_fence_may_prove_it(store: Store) -> None:
    """As it was confirmed, for whoever reads it; a repeat does not change it."""
    await cluster_of(store, C, ["h1"])
    await suspect(store)
    incident = await store.incidents.confirm(C, "h1", BOOT, "nobody", fence_decides=True)

    assert incident is not None and incident.fence_decides
    assert await store.incidents.confirm(C, "h1", BOOT, "again") == incident
    assert await store.incidents.open(C) == [incident]


@pytest.mark.parametrize("operator", [False, True])
async def test_a_confirmation_that_was_refused_is_never_made(store: Store, operator: bool) -> None:
    """R17: what a leader was told is no incident is none, however late its question is read; a later question counts."""
    await cluster_of(store, C, ["h1"])
    await suspect(store)
    leader = store.under(7)
    assert await leader.incidents.refuse(C, "h1", 2) is None
    assert await store.incidents.suspects(C) == []
    await suspect(store)
    for ask in (1, 2):
        assert await leader.incidents.confirm(C, "h1", BOOT, "late", operator=operator, ask=ask) is None

    incident = await leader.incidents.confirm(C, "h1", BOOT, "in time", operator=operator, ask=3)
    assert incident is not None and await leader.incidents.refuse(C, "h1", 3) == incident


async def test_the_next_leader_counts_anew(store: Store) -> None:
    """What was refused to one term says nothing of the next one's questions."""
    await cluster_of(store, C, ["h1"])
    first = store.under(7)
    assert await first.incidents.refuse(C, "h1", 9) is None
    await suspect(store)

    assert await store.under(8).incidents.confirm(C, "h1", BOOT, "", ask=1) is not None


async def test_a_missing_or_other_record_only_cancels(store: Store) -> None:
    """No record, an expired one, one of another boot, a cooldown that runs, a host that booted since: nothing is confirmed."""
    await cluster_of(store, C, ["h1"])
    before = await store.hosts.get(C, "h1")
    assert await store.incidents.confirm(C, "h1", BOOT, "") is None
    await suspect(store)
    await store.incidents.clear_suspect(C, "h1")
    assert await store.incidents.confirm(C, "h1", BOOT, "") is None
    await suspect(store, cooldown_s=60.0, ttl_s=120.0)
    assert await store.incidents.confirm(C, "h1", BOOT, "") is None
    assert await store.incidents.confirm(C, "h1", "boot-h1-0", "") is None
    assert await store.hosts.get(C, "h1") == before
    await store.incidents.clear_suspect(C, "h1")
    await suspect(store)
    await store.hosts.hello(C, "h1", "boot-h1-2", True)
    assert await store.incidents.confirm(C, "h1", BOOT, "") is None
    assert await store.incidents.open(C) == []


async def test_a_suspicion_of_the_same_boot_keeps_its_cooldown(store: Store) -> None:
    """A manager that starts again does not start the cooldown again; another boot does."""
    await cluster_of(store, C, ["h1"])
    first = await store.incidents.suspect(C, "h1", BOOT, 60.0, 120.0, "SILENT", "first")
    again = await store.incidents.suspect(C, "h1", BOOT, 600.0, 900.0, "SILENT", "second")
    assert again.evidence == "first" and first.confirm_in_s - 5 < again.confirm_in_s <= first.confirm_in_s
    [listed] = await store.incidents.suspects(C)
    assert (listed.host_id, listed.boot_id, listed.since_age_s >= 0) == ("h1", BOOT, True)
    other = await store.incidents.suspect(C, "h1", "boot-h1-2", 600.0, 900.0, "SILENT", "third")
    assert other.confirm_in_s > 590


async def test_a_suspicion_is_forgotten(store: Store) -> None:
    """It expires after its TTL, which always outlasts the cooldown by a second."""
    await cluster_of(store, C, ["h1"])
    await suspect(store, cooldown_s=0.0, ttl_s=0.0)
    async with asyncio.timeout(5):
        while await store.incidents.suspects(C):
            await asyncio.sleep(0.05)

    assert await store.incidents.confirm(C, "h1", BOOT, "") is None


async def test_the_next_failure_has_a_higher_epoch(store: Store) -> None:
    """Closing is idempotent and only for the incident it names; fence epochs of one host only grow."""
    await cluster_of(store, C, ["h1"])
    first = await confirm_down(store, C, "h1")
    await store.incidents.close(C, "h1", "another")
    assert await store.incidents.get_open(C, "h1") == first
    for _ in range(2):
        await store.incidents.close(C, "h1", first.incident_id)
    host = await store.hosts.get(C, "h1")
    assert (host.incident_id, host.incarnation_revoked) == ("", True)
    await register(store, C, "h1", "boot-h1-2")
    second = await confirm_down(store, C, "h1")

    assert second.fence_epoch > first.fence_epoch and second.incident_id != first.incident_id


async def test_unknown_hosts_are_named(store: Store) -> None:
    """HOST_UNKNOWN, never a record of a host that is not there."""
    await cluster_of(store, C, ["h1"])
    with pytest.raises(NotFound):
        await store.incidents.suspect(C, "h9", BOOT, 0.0, 30.0, "", "")
    with pytest.raises(NotFound):
        await store.incidents.confirm(C, "h9", BOOT, "")
