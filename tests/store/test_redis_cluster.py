"""The store's tests again, on a real Redis Cluster of three primaries: all keys of a cluster of hosts are in one slot."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from tests.store import (
    test_clusters,
    test_evacuations,
    test_events,
    test_hosts,
    test_incidents,
    test_keys,
    test_leaders,
    test_ownership,
    test_vms,
    test_withheld,
)
from tests.support.failures import cluster_of
from vmha.errors import PreconditionFailed, Unavailable
from vmha.model import ClusterConfig
from vmha.store import Store, connect

pytestmark = pytest.mark.asyncio(loop_factories=["redis"])

SLOTS = 16384
OF_ONE_SERVER = {"test_steps_stay_cheap_in_a_long_journal"}
"""Reads the statistics of one server."""


@dataclass
class ClusterHome:
    """Three redis-servers that share the slots among them, without replicas."""

    directory: Path
    ports: list[int] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        assert shutil.which("redis-server"), "redis-server is not installed: apt-get install redis-server"
        self.ports = [_free_port() for _ in range(3)]
        for port in self.ports:
            place = self.directory / str(port)
            place.mkdir()
            options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(place)]
            cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-config-file", "nodes.conf"]
            self.processes.append(
                subprocess.Popen(["redis-server", *options, *cluster], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        _until(lambda: all(_answers(port) for port in self.ports), "all nodes answer")
        self._join()
        _until(lambda: all(self._sees_all(port) for port in self.ports), "the nodes agree")

    def _join(self) -> None:
        for number, port in enumerate(self.ports):
            with redis.Redis(port=port) as node:
                first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
                node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for other in self.ports[:number]:
                    node.execute_command("CLUSTER", "MEET", "127.0.0.1", other)

    def _sees_all(self, port: int) -> bool:
        with redis.Redis(port=port, decode_responses=True) as node:
            facts = str(node.execute_command("CLUSTER", "INFO"))
            return "cluster_state:ok" in facts and "cluster_known_nodes:3" in facts

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(timeout=10)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    # RedisHome

    def client(self, **options: Any) -> Redis:
        return cast(Redis, RedisCluster(host="127.0.0.1", port=self.ports[0], **options))

    def store(self) -> Store:
        return connect(self.url)

    def restart_empty(self) -> None:
        for port in self.ports:
            with redis.Redis(port=port) as node:
                node.flushall()


def _free_port() -> int:
    # The bus listens 10,000 above.
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + 10_000))
                return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def _until(fact: Any, what: str) -> None:
    deadline = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < deadline, f"not within 20 s: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterHome]:
    home = ClusterHome(tmp_path_factory.mktemp("redis-cluster"))
    try:
        home.start()
        yield home
    finally:
        home.stop()


@pytest.fixture
def redis_home(nodes: ClusterHome) -> ClusterHome:
    """Empty."""
    nodes.restart_empty()
    return nodes


@pytest.fixture
async def store(redis_home: ClusterHome) -> AsyncIterator[Store]:
    """On the Redis Cluster; the tests below are those of the other modules, on this store."""
    store = redis_home.store()
    yield store
    await store.close()


def _take(module: ModuleType) -> None:
    for name, thing in list(vars(module).items()):
        if (
            name.startswith("test_")
            and name not in OF_ONE_SERVER
            and asyncio.iscoroutinefunction(thing)
            and thing.__module__ == module.__name__
        ):
            globals()[f"test_{module.__name__.rpartition('.test_')[2]}__{name.removeprefix('test_')}"] = thing


for _module in (
    test_clusters,
    test_evacuations,
    test_events,
    test_hosts,
    test_incidents,
    test_keys,
    test_leaders,
    test_ownership,
    test_vms,
    test_withheld,
):
    _take(_module)


@pytest.fixture(autouse=True)
async def cluster(store: Store, request: pytest.FixtureRequest) -> None:
    """What those of test_leaders stand on."""
    if request.node.name.startswith("test_leaders__"):
        await store.clusters.create("c1", ClusterConfig())


async def test_clusters_lie_on_different_nodes(store: Store, nodes: ClusterHome) -> None:
    """Each cluster of hosts is on one node, whole; several are spread; lists over all clusters see every node."""
    names = [f"c{number}" for number in range(12)]
    for name in names:
        await cluster_of(store, name, [f"{name}-h1", f"{name}-h2"])
    homes = set()
    for port in nodes.ports:
        with redis.Redis(port=port, decode_responses=True) as node:
            homes |= {(key.split("{")[1].split("}")[0], port) for key in node.keys("vmha:{*")}

    assert await store.clusters.list_ids() == sorted(names)
    assert len({name for name, _ in homes}) == len(homes) == 12
    assert {port for _, port in homes} == set(nodes.ports)
    assert await store.hosts.find_cluster("c7-h2") == "c7"


async def test_a_node_that_may_evict_is_refused(store: Store, nodes: ClusterHome) -> None:
    """Every node's policy counts."""
    await store.check_policy()
    with redis.Redis(port=nodes.ports[2]) as node:
        node.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(PreconditionFailed) as refused:
                await store.check_policy()
        finally:
            node.config_set("maxmemory-policy", "noeviction")

    assert refused.value.reason == "STORE_EVICTS"
    await store.ping()


async def test_a_cluster_without_a_node_is_unavailable(tmp_path: Path) -> None:
    """One node of three dies: UNAVAILABLE within bounded time, never another error."""
    home = ClusterHome(tmp_path)
    try:
        home.start()
        store = home.store()
        await cluster_of(store, "c1", ["h1"])
        home.processes[0].kill()
        home.processes[1].kill()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            for name in ("c1", "c2", "c3", "c4"):
                await store.clusters.list_ids()
                await store.clusters.get(name)
        assert time.monotonic() - began < 10
        await store.close()
    finally:
        home.stop()
