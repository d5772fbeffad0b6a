"""Connecting, and what a Redis that is away, frozen, full or evicting looks like."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from pathlib import Path

import pytest

from tests.support.failures import cluster_of
from tests.support.redis import RedisHome, RedisServer
from vmha.errors import InvalidField, PreconditionFailed, Unavailable
from vmha.model import ClusterConfig
from vmha.store import Store, connect

needs_a_process = pytest.mark.asyncio(loop_factories=["redis"])


async def test_an_evicting_redis_is_refused_by_name(store: Store, redis_home: RedisHome) -> None:
    """check_policy names the policy that it found and what to set; noeviction passes."""
    client = redis_home.client()
    await store.check_policy()
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(
            PreconditionFailed, match=r"maxmemory-policy is allkeys-lru\. Set maxmemory-policy noeviction"
        ) as caught:
            await store.check_policy()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.aclose()

    assert caught.value.reason == "STORE_EVICTS"


@needs_a_process
async def test_a_dead_redis_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    """Reads, scripts and pipelines all say STORE_UNAVAILABLE; after a restart the same store works again, scripts included."""
    server = RedisServer(tmp_path)
    server.start()
    store = connect(server.url)
    await cluster_of(store, "c1", ["h1"])
    server.stop()
    for call in (
        store.ping,
        store.clusters.list_ids,
        lambda: store.clusters.get("c1"),
        lambda: store.vms.list("c1"),
        store.check_policy,
    ):
        with pytest.raises(Unavailable) as caught:
            await call()
        assert caught.value.reason == "STORE_UNAVAILABLE"
    server.start()

    assert (await store.clusters.create("c1", ClusterConfig())).ha_enabled is False
    await store.close()
    server.stop()


@needs_a_process
async def test_a_frozen_redis_costs_one_timeout(tmp_path: Path) -> None:
    """A Redis that hangs is given up after one timeout, not after many; nobody waits behind the pool for longer."""
    server = RedisServer(tmp_path)
    server.start()
    store = connect(server.url, timeout_s=0.3)
    await store.clusters.create("c1", ClusterConfig())
    os.kill(server.pid, signal.SIGSTOP)
    try:
        before = time.monotonic()
        outcomes = await asyncio.gather(*(store.clusters.get("c1") for _ in range(20)), return_exceptions=True)
        took = time.monotonic() - before
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert took < 1.2
    assert (await store.clusters.get("c1")).cluster_id == "c1"
    await store.close()
    server.stop()


async def test_a_full_redis_is_unavailable(store: Store, redis_home: RedisHome) -> None:
    """A write that Redis refuses for want of memory is STORE_UNAVAILABLE, and leaves nothing half done."""
    client = redis_home.client()
    await client.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable):
            await store.clusters.create("c1", ClusterConfig())
    finally:
        await client.config_set("maxmemory", "0")
        await client.aclose()

    assert await store.clusters.list_ids() == []


@needs_a_process
@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:x/0", "nonsense://:hunter2@h", "redis://:hunter2@127.0.0.1:1/0"])
async def test_no_error_shows_the_password(url: str) -> None:
    """Neither a bad URL nor a Redis that is away puts the password into a message, a traceback or a repr."""
    shown = ""
    try:
        store = connect(url, timeout_s=0.2)
        shown += repr(store) + repr(vars(store))
        await store.ping()
    except (InvalidField, Unavailable) as error:
        shown += "".join(traceback.format_exception(error))

    assert shown and "hunter2" not in shown.replace(f"'{url}'", "")


async def test_any_client_will_do(redis_home: RedisHome, store: Store) -> None:
    """Store works on a client that does not decode, and on RESP2."""
    plain = Store(redis_home.client(protocol=2))
    await cluster_of(plain, "c1", ["h1", "h2"])

    assert await plain.clusters.snapshot("c1") == await store.clusters.snapshot("c1")
    assert await plain.hosts.list("c1") == await store.hosts.list("c1")
    assert await plain.clusters.list_ids() == ["c1"]
    await plain.close()
