"""Hosts: configuration, registration, the operator's word."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.store.ways import C
from tests.support.failures import cluster_of, confirm_down, own, register
from tests.support.redis import RedisHome
from vmha.errors import Aborted, AlreadyExists, NotFound, PreconditionFailed
from vmha.facts import HostFacts
from vmha.model import ClusterConfig, FenceConfig, HostConfig, HostState
from vmha.store import Store, keys

CONFIG = HostConfig(
    probe_target="h1:9177",
    agent_target="h1:7401",
    libvirt_uri="qemu+tcp://h1/system",
    rack="r1",
    aggregates=("gpu",),
    fence=FenceConfig(agent="fence_ipmilan", parameters={"ip": "10.0.0.1"}, secret_files={"password": "/etc/vmha/bmc"}),
)


async def test_a_host_is_in_one_cluster(store: Store) -> None:
    """The same again is OK; other settings or another cluster are HOST_EXISTS; an unknown cluster is named as that."""
    await store.clusters.create(C, ClusterConfig())
    await store.clusters.create("c2", ClusterConfig())
    first = await store.hosts.create(C, "h1", CONFIG)

    assert first.config == CONFIG and first.state is HostState.UNKNOWN
    assert await store.hosts.create(C, "h1", CONFIG) == first
    assert await store.hosts.find_cluster("h1") == C
    for cluster_id, config in ((C, replace(CONFIG, rack="r2")), ("c2", CONFIG)):
        with pytest.raises(AlreadyExists) as caught:
            await store.hosts.create(cluster_id, "h1", config)
        assert caught.value.reason == "HOST_EXISTS"
    with pytest.raises(NotFound) as unknown:
        await store.hosts.create("c3", "h9", CONFIG)
    assert unknown.value.reason == "CLUSTER_UNKNOWN"
    with pytest.raises(NotFound):
        await store.hosts.find_cluster("h9")
    await store.hosts.delete(C, "h1", first.version)
    assert (await store.hosts.create("c2", "h1", CONFIG)).cluster_id == "c2"


async def test_the_index_of_hosts_is_only_a_hint(store: Store, redis_home: RedisHome) -> None:
    """A host is found, and not made twice, when the index lacks it or names another cluster."""
    await store.clusters.create(C, ClusterConfig())
    await store.clusters.create("c2", ClusterConfig())
    await store.hosts.create(C, "h1", CONFIG)
    client = redis_home.client()
    for spoil in (client.delete(keys.HOST_INDEX()), client.execute_command("HSET", keys.HOST_INDEX(), "h1", "c2")):  # type: ignore[no-untyped-call]
        await spoil
        assert await store.hosts.find_cluster("h1") == C
        with pytest.raises(AlreadyExists):
            await store.hosts.create("c2", "h1", CONFIG)
    await client.aclose()


async def test_state_time_changes_with_the_state_only(store: Store) -> None:
    """A new reason for the same state keeps its time; facts and hello leave the etag alone."""
    await cluster_of(store, C, ["h1"])
    first = await store.hosts.set_state(C, "h1", HostState.AGENT_LOST, "STREAM_STALE", "peers reach it")
    second = await store.hosts.set_state(C, "h1", HostState.AGENT_LOST, "REFUSED", "exporter down")
    facts = HostFacts(vcpus=16, memory_mib=65536, storage_pools=("default", "images"))
    third = await store.hosts.put_facts(C, "h1", facts)

    assert second.state_time_s == first.state_time_s and second.state_reason == "REFUSED"
    assert third.facts == facts and third.version == first.version
    with pytest.raises(NotFound):
        await store.hosts.set_state(C, "h9", HostState.DOWN, "", "")


async def test_maintenance_and_settings_compare_the_version(store: Store) -> None:
    """Each change makes a new etag; an old one is refused; a repeat is OK."""
    await cluster_of(store, C, ["h1"])
    first = await store.hosts.get(C, "h1")
    second = await store.hosts.set_maintenance(C, "h1", True, first.version)

    assert second.in_maintenance and second.version > first.version
    assert await store.hosts.set_maintenance(C, "h1", True, first.version) == second
    with pytest.raises(Aborted):
        await store.hosts.update(C, "h1", CONFIG, first.version)


async def test_a_host_with_vms_or_an_incident_is_not_deleted(store: Store) -> None:
    """HOST_OWNS_VMS and HOST_BUSY are FAILED_PRECONDITION."""
    await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    await confirm_down(store, C, "h2")
    for host_id, reason in (("h1", "HOST_OWNS_VMS"), ("h2", "HOST_BUSY")):
        with pytest.raises(PreconditionFailed) as caught:
            await store.hosts.delete(C, host_id, None)
        assert caught.value.reason == reason


async def test_incarnations_are_above_all_earlier_ones(store: Store) -> None:
    """The number is at least the time in ms; the same token keeps its number on offer and in force, another gets a higher one."""
    before_ms = time.time() * 1000
    await cluster_of(store, C, ["h1"])
    host = await store.hosts.get(C, "h1")
    assert host.incarnation >= int(before_ms)
    assert await store.hosts.offer(C, "h1", "token-boot-h1-1") == host.incarnation
    first = await store.hosts.offer(C, "h1", "b")
    assert await store.hosts.offer(C, "h1", "b") == first > host.incarnation
    second = await store.hosts.offer(C, "h1", "c")
    assert second > first
    assert (await store.hosts.get(C, "h1")).incarnation == host.incarnation
    for number in (first, 0, second + 1):
        with pytest.raises(Aborted) as caught:
            await store.hosts.complete_registration(C, "h1", number, "boot-2")
        assert caught.value.reason == "STALE_INCARNATION"


async def test_a_confirmed_failure_withdraws_the_offer(store: Store) -> None:
    """An offer made before the failure never comes in force, and its token gets a new number afterwards."""
    await cluster_of(store, C, ["h1"])
    old = await store.hosts.offer(C, "h1", "t")
    await confirm_down(store, C, "h1")
    with pytest.raises(Aborted):
        await store.hosts.complete_registration(C, "h1", old, "boot-h1-1")
    new = await store.hosts.offer(C, "h1", "t")

    assert new > old
    assert await store.hosts.complete_registration(C, "h1", new, "boot-h1-1") == []
    assert (await store.hosts.get(C, "h1")).incarnation_revoked is False


async def test_a_hello_takes_back_and_gives_nothing(store: Store) -> None:
    """R16: what an agent promises after a silence says nothing of it, under whichever leader; that it has no guard counts."""
    await cluster_of(store, C, ["h1"])
    await store.hosts.note(C, "h1", self_fencing=False, watchdog=False)
    told = await store.hosts.hello(C, "h1", "boot-h1-1", True, True)
    assert (told.self_fencing, told.watchdog) == (False, False)
    given = await store.hosts.note(C, "h1", self_fencing=True, watchdog=True)
    assert (given.self_fencing, given.watchdog) == (True, True)
    kept = await store.hosts.hello(C, "h1", "boot-h1-1", True, True)
    assert (kept.self_fencing, kept.watchdog) == (True, True)
    gone = await store.hosts.hello(C, "h1", "boot-h1-2", False, False)

    assert (gone.boot_id, gone.self_fencing, gone.watchdog) == ("boot-h1-2", False, False)


async def test_a_wrong_clock_is_one_of_this_boot(store: Store) -> None:
    """When it was found wrong is on record until that is taken back, or the host boots anew."""
    await cluster_of(store, C, ["h1"])
    assert (await store.hosts.get(C, "h1")).clock_suspect_s == 0.0
    first = await store.hosts.note_clock(C, "h1", suspect=True)
    again = await store.hosts.hello(C, "h1", first.boot_id, True)
    assert again.clock_suspect_s == first.clock_suspect_s > 0.0
    assert (await store.hosts.note_clock(C, "h1", suspect=False)).clock_suspect_s == 0.0
    await store.hosts.note_clock(C, "h1", suspect=True)

    assert (await store.hosts.hello(C, "h1", "boot-h1-9", True)).clock_suspect_s == 0.0


async def test_the_operators_word_is_for_one_failure(store: Store) -> None:
    """It needs the present fence epoch, counts for the incident it makes, and ends with the next registration."""
    await cluster_of(store, C, ["h1"])
    with pytest.raises(Aborted) as caught:
        await store.hosts.confirm_off(C, "h1", 7, "ann")
    assert caught.value.reason == "STALE_FENCE_EPOCH"
    said = await store.hosts.confirm_off(C, "h1", 0, "ann")
    assert await store.hosts.confirm_off(C, "h1", 0, "ann") == said and said.confirmed_off_by == "ann"
    incident = await store.incidents.confirm(C, "h1", said.boot_id, "ann says it is off", operator=True)
    assert incident is not None
    down = await store.hosts.get(C, "h1")
    assert down.confirmed_off_epoch == down.fence_epoch == incident.fence_epoch
    await store.incidents.close(C, "h1", incident.incident_id)
    await register(store, C, "h1", "boot-h1-2")
    assert (await store.hosts.get(C, "h1")).confirmed_off_by == ""
