"""The process: start without Redis, refusal of an evicting one, health, drain."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import redis.asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.manager.world import CLUSTER, World, until
from tests.support.redis import RedisServer
from tests.support.refusals import refused
from vmha.clock import SystemClock
from vmha.errors import VmhaError
from vmha.manager.cluster_loop import ClusterLoop
from vmha.manager.discovery import Discovery
from vmha.manager.lag import LIMIT_S, LagGuard
from vmha.model import ClusterConfig, HostConfig
from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.v1 import cluster_service_pb2 as cs

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _health(channel: grpc.aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return int(answer.status)


async def test_health_tells_liveness_from_readiness(world: World, redis_server: RedisServer) -> None:
    """The process lives whatever Redis does; each service says whether it can work."""
    await world.create(["h1"], enable=False)

    async def not_serving() -> bool:
        return await _health(world.channel, "vmha.v1.ClusterService") == NOT_SERVING

    async def serving() -> bool:
        return await _health(world.channel, "vmha.v1.ClusterService") == SERVING

    assert await serving()
    redis_server.stop()
    await until(not_serving)
    assert await _health(world.channel, "") == SERVING
    redis_server.start()
    await until(serving)


async def test_manager_starts_before_redis(world: World, redis_server: RedisServer) -> None:
    """It answers liveness, waits for Redis with one line, and serves when it comes."""
    await world.stop_manager()
    redis_server.stop()
    await world.start_manager(wait=False)
    async with open_channel(f"127.0.0.1:{world.port}") as channel:

        async def lives() -> bool:
            try:
                return await _health(channel, "") == SERVING
            except grpc.aio.AioRpcError:
                return False

        async def serves() -> bool:
            return await _health(channel, "vmha.v1.ManagerService") == SERVING

        await until(lives)
        assert not await serves()
        redis_server.start()
        await until(serves)


async def test_evicting_redis_is_refused(world: World, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """STORE_EVICTS: exit code 1, one line that says what to set."""
    await world.stop_manager()
    client = redis.asyncio.Redis.from_url(redis_server.url)
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        await world.start_manager(wait=False)
        code = await world.exit_code()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.aclose()
        world._run = None

    assert code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "STORE_EVICTS" in line]
    assert len(lines) == 1
    assert "CONFIG SET maxmemory-policy noeviction" in lines[0]


async def test_drain_tells_agents_and_waits_for_them(world: World) -> None:
    """SIGTERM: agents get drain first, their half-close ends their session, and the process ends with 0."""
    await world.create(["h1"], enable=False)
    agent = world.agent("h1")
    await agent.connect()
    stopping = asyncio.create_task(world.stop_manager())
    drain = (await agent.next("drain")).drain
    await agent.half_close()

    assert drain.grace_duration.seconds == 1
    assert await stopping == 0
    assert agent.error is None


async def test_drain_does_not_wait_for_ever(world: World) -> None:
    """An agent that stays is cut after the grace; so is a watcher, with DRAINING."""
    await world.create(["h1"], enable=False)
    agent = world.agent("h1")
    await agent.connect()
    call = world.watch()
    await call.read()
    assert await world.stop_manager() == 0

    with pytest.raises(grpc.aio.AioRpcError):
        while True:
            assert await call.read() is not grpc.aio.EOF
    assert isinstance(await agent.ended(), VmhaError)


async def test_clusters_of_the_store_are_found_by_itself(world: World) -> None:
    """S1: what another client wrote into the store is found within the discovery interval, and is gone again when deleted."""
    config = HostConfig(probe_target="x:1", agent_target="x:2", libvirt_uri="test:///default")
    await world.store.clusters.create(CLUSTER, ClusterConfig())
    await world.store.hosts.create(CLUSTER, "h1", config)
    agent = world.agent("h1")
    welcome = await agent.connect()
    assert welcome.cluster_id == CLUSTER
    await world.store.hosts.delete(CLUSTER, "h1", None)

    assert (await agent.ended()).reason == "HOST_UNKNOWN"


async def test_a_stall_is_told_once_and_before_anything_is_decided() -> None:
    """R21: the first who asks after a stall hears of it, and nobody twice."""

    class Clock(SystemClock):
        ahead_s = 0.0

        def now(self) -> float:
            return super().now() + self.ahead_s

    clock = Clock()
    guard = LagGuard(clock)
    heard: list[float] = []
    guard.listen(heard.append)
    guard.start()
    guard.check()
    clock.ahead_s = LIMIT_S + 1.0
    guard.check()
    guard.check()
    await guard.close()

    assert len(heard) == 1
    assert heard[0] > LIMIT_S


async def test_store_away_is_unavailable_for_operators(world: World, redis_server: RedisServer) -> None:
    """UNAVAILABLE (STORE_UNAVAILABLE), never INTERNAL."""
    await world.create(["h1"], enable=False)
    redis_server.stop()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.operator.GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER))
    redis_server.start()

    error = from_rpc_error(refused.value)
    assert (error.code, error.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")


async def test_a_clock_that_jumps_is_told_like_a_stall() -> None:
    """R21: wall time and CLOCK_BOOTTIME part by more than a second within a beat; a slow slew is nothing."""

    class Clock(SystemClock):
        jump_s = 0.0

        def wall(self) -> float:
            return super().wall() + self.jump_s

    clock = Clock()
    guard = LagGuard(clock)
    heard: list[float] = []
    guard.listen(heard.append)
    guard.start()
    clock.jump_s = 0.5
    guard.check()
    clock.jump_s = -3.0
    guard.check()
    guard.check()
    await guard.close()

    assert len(heard) == 1 and heard[0] == pytest.approx(3.0, abs=0.1)


async def test_clusters_that_are_not_there_leave_no_trace(world: World) -> None:
    """Whoever may ask may ask for any name: nothing grows with it."""
    await world.create(["h1"], enable=False)
    seen: list[Discovery] = []
    led = Discovery.led

    async def noted(self: Discovery, cluster_id: str) -> ClusterLoop:
        seen.append(self)
        return await led(self, cluster_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Discovery, "led", noted)
        for number in range(5):
            request = cs.ExplainHostRequest(cluster_id=f"nowhere-{number}", host_id="h1")
            assert (await refused(world.operator.ExplainHost(request))).reason == "CLUSTER_UNKNOWN"
    [discovery] = set(seen)
    assert set(discovery._locks) == {CLUSTER}


async def test_discovery_looks_at_no_lead_that_has_just_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop whose lease ran out takes nothing in: what it does not know of its hosts must not end the discovery."""
    await world.create(["h1", "h2"], enable=False)
    looked: list[str] = []

    async def has_looked() -> bool:
        return bool(looked)

    monkeypatch.setattr(Discovery, "_look_for_agents", lambda _self, loop: looked.append(loop.cluster_id))
    await until(has_looked)
    monkeypatch.setattr(ClusterLoop, "leading", lambda _self: False)
    looked.clear()
    await asyncio.sleep(0.35)
    assert looked == []
