"""Clusters and groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.store.ways import C
from tests.support.failures import cluster_of, confirm_down, register
from tests.support.redis import RedisHome
from vmha.errors import Aborted, AlreadyExists, NotFound, PreconditionFailed
from vmha.model import FAST_TIMERS, ClusterConfig, Group, GroupMode, GroupPolicy, HostState, Profile
from vmha.store import Store, keys

FAST = ClusterConfig(profile=Profile.FAST, timers=FAST_TIMERS, timer_overrides={"cooldown_s": 0.5}, max_down_fraction=0.5)


async def test_settings_survive_the_store(store: Store) -> None:
    """Every setting comes back as it was written, thirds and overrides included."""
    for config in (ClusterConfig(), FAST):
        await store.clusters.create(f"c-{config.profile.value.lower()}", config)
        assert (await store.clusters.get(f"c-{config.profile.value.lower()}")).config == config


async def test_create_again_is_ok_and_other_settings_are_refused(store: Store) -> None:
    """CreateCluster is idempotent by content."""
    first = await store.clusters.create(C, FAST)

    assert await store.clusters.create(C, FAST) == first
    assert (first.ha_enabled, first.config_version, first.store_generation) == (False, 1, 1)
    with pytest.raises(AlreadyExists) as caught:
        await store.clusters.create(C, ClusterConfig())
    assert caught.value.reason == "CLUSTER_EXISTS"


async def test_updates_compare_the_version(store: Store) -> None:
    """An old version is refused and changes nothing; the repeat of an update that was made is OK."""
    first = await store.clusters.create(C, ClusterConfig())
    second = await store.clusters.update(C, FAST, first.version)

    assert second.version > first.version and second.config_version == 1
    assert await store.clusters.update(C, FAST, first.version) == second
    with pytest.raises(Aborted) as caught:
        await store.clusters.update(C, ClusterConfig(), first.version)
    assert caught.value.reason == "ETAG_MISMATCH"
    assert await store.clusters.get(C) == second


async def test_versions_grow_with_hosts_and_groups(store: Store) -> None:
    """The cluster's etag changes with each change of its hosts' configuration and groups; R18's number only with `put_config`."""
    await cluster_of(store, C, ["h1"])
    seen = [await store.clusters.get(C)]
    host = await store.hosts.get(C, "h1")
    rule = Group(group_id="g1", policy=GroupPolicy.AFFINITY, mode=GroupMode.HARD, vm_ids=("a",))
    await store.hosts.update(C, "h1", replace(host.config, rack="r2"), host.version)
    seen.append(await store.clusters.get(C))
    await store.hosts.set_maintenance(C, "h1", True, None)
    seen.append(await store.clusters.get(C))
    await store.groups.create(C, rule)
    seen.append(await store.clusters.get(C))
    await store.hosts.delete(C, "h1", None)
    seen.append(await store.clusters.get(C))

    assert [r.version for r in seen] == sorted({r.version for r in seen})
    assert [r.config_version - seen[0].config_version for r in seen] == [0, 0, 0, 0, 0]


async def test_delete_needs_an_empty_disabled_cluster(store: Store) -> None:
    """CLUSTER_ENABLED, CLUSTER_NOT_EMPTY; then everything of it is gone, and a second delete finds nothing."""
    await cluster_of(store, C, ["h1"])
    for reason, repair in (
        ("CLUSTER_ENABLED", store.clusters.set_ha(C, False, None)),
        ("CLUSTER_NOT_EMPTY", store.hosts.delete(C, "h1", None)),
    ):
        with pytest.raises(PreconditionFailed) as caught:
            await store.clusters.delete(C, None)
        assert caught.value.reason == reason
        await repair
    await store.clusters.delete(C, None)

    assert await store.clusters.list_ids() == []
    with pytest.raises(NotFound):
        await store.clusters.delete(C, None)


async def test_a_lost_store_is_restored_under_the_next_generation(store: Store, redis_home: RedisHome) -> None:
    """After a Redis that came back empty: configuration, groups, incarnations, fence epochs open incidents are there again."""
    await cluster_of(store, C, ["h1", "h2"])
    rule = await store.groups.create(C, Group(group_id="g1", policy=GroupPolicy.AFFINITY, mode=GroupMode.SOFT, vm_ids=("a", "b")))
    incident = await confirm_down(store, C, "h2")
    before = await store.clusters.snapshot(C)
    redis_home.restart_empty()
    hosts = list(before.hosts.values())
    restored = await store.clusters.restore(before.cluster, hosts, [rule])

    assert restored.store_generation == before.cluster.store_generation + 1
    assert await store.clusters.restore(before.cluster, hosts, [rule]) == restored and restored.awaited == ("h1", "h2")
    after = await store.clusters.snapshot(C)
    assert (after.hosts, after.groups) == (before.hosts, before.groups)
    assert await store.clusters.list_ids() == [C]
    assert await store.hosts.find_cluster("h2") == C
    [again] = await store.incidents.open(C)
    assert (again.incident_id, again.fence_epoch) == (incident.incident_id, incident.fence_epoch)


async def test_a_restored_incident_is_what_its_leader_remembers(store: Store, redis_home: RedisHome) -> None:
    """Also that only a fence may prove it; one that the host's record does not name is not brought back."""
    await cluster_of(store, C, ["h1", "h2"])
    for host_id in ("h1", "h2"):
        await store.incidents.suspect(C, host_id, f"boot-{host_id}-1", 0.0, 30.0, "UNCONFIRMABLE", "")
    alone = await store.incidents.confirm(C, "h1", "boot-h1-1", "nobody sees it", fence_decides=True)
    other = await store.incidents.confirm(C, "h2", "boot-h2-1", "nobody sees it", fence_decides=True)
    assert alone is not None and other is not None
    before = await store.clusters.snapshot(C)
    redis_home.restart_empty()
    remembered = [alone, replace(other, incident_id="an-older-one")]
    await store.clusters.restore(before.cluster, list(before.hosts.values()), [], incidents=remembered)

    first, second = await store.incidents.open(C)
    assert first == alone
    assert (second.incident_id, second.fence_decides) == (other.incident_id, False)


@pytest.mark.parametrize("state", [HostState.DOWN, HostState.FENCED, HostState.EVACUATING, HostState.EVACUATED])
async def test_a_restored_cluster_does_not_wait_for_the_dead(store: Store, redis_home: RedisHome, state: HostState) -> None:
    """R20: a host whose death was proven, and that has not registered since, runs nothing; an unproven one may."""
    await cluster_of(store, C, ["h1", "h2"])
    await confirm_down(store, C, "h2")
    await store.hosts.set_state(C, "h2", state, "", "")
    before = await store.clusters.snapshot(C)
    redis_home.restart_empty()
    restored = await store.clusters.restore(before.cluster, list(before.hosts.values()), [])

    assert restored.awaited == (("h1", "h2") if state is HostState.DOWN else ("h1",))
    assert len(await store.incidents.open(C)) == (state is not HostState.EVACUATED)


async def test_a_restored_cluster_waits_for_who_has_come_back(store: Store, redis_home: RedisHome) -> None:
    """A host that has registered after its death was proven may run what it owns, whatever its state still says."""
    await cluster_of(store, C, ["h1", "h2"])
    await confirm_down(store, C, "h2")
    await store.hosts.set_state(C, "h2", HostState.EVACUATING, "", "")
    await register(store, C, "h2", "boot-h2-2")
    before = await store.clusters.snapshot(C)
    redis_home.restart_empty()
    restored = await store.clusters.restore(before.cluster, list(before.hosts.values()), [])

    assert restored.awaited == ("h1", "h2")


async def test_a_cluster_deleted_on_purpose_is_not_restored(store: Store) -> None:
    """A manager that still remembers a deleted cluster cannot bring it back; creating it anew is allowed."""
    record = await store.clusters.create(C, ClusterConfig())
    # As one that was changed often, or deleted and created within a millisecond.
    await store._client.hset(keys.CLUSTER(C), "version", ahead := record.version + 60_000)
    await store.clusters.delete(C, ahead)
    with pytest.raises(NotFound):
        await store.clusters.restore(record, [], [])

    assert (await store.clusters.create(C, ClusterConfig())).version > ahead


async def test_groups_are_kept_under_their_etag(store: Store) -> None:
    """A group's etag is its content's; GROUP_EXISTS, ETAG_MISMATCH and GROUP_UNKNOWN where they belong."""
    await store.clusters.create(C, ClusterConfig())
    rule = Group(group_id="g1", policy=GroupPolicy.ANTI_AFFINITY, mode=GroupMode.HARD, vm_ids=("a", "b"))
    first = await store.groups.create(C, rule)
    assert await store.groups.create(C, rule) == first == await store.groups.get(C, "g1")
    with pytest.raises(AlreadyExists):
        await store.groups.create(C, replace(rule, mode=GroupMode.SOFT))
    second = await store.groups.update(C, replace(rule, mode=GroupMode.SOFT), first.etag)
    assert second.etag != first.etag
    with pytest.raises(Aborted):
        await store.groups.delete(C, "g1", first.etag)
    await store.groups.delete(C, "g1", second.etag)
    with pytest.raises(NotFound):
        await store.groups.get(C, "g1")
    assert await store.groups.list(C) == []
