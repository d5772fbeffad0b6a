"""A real manager on loopback with a real Redis, scripted agents, a scripted evacuator and a scripted exporter probe."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

from tests.support.agent_client import Agent
from tests.support.evacuator import ScriptedEvacuator
from vmha.config import ManagerSettings
from vmha.manager.app import run
from vmha.model import HostState, PeerVerdict
from vmha.probe import ProbeResult
from vmha.rpc.channel import open_channel
from vmha.rpc.convert import timer_overrides
from vmha.rpc.scalars import duration
from vmha.store import Store
from vmha.v1 import cluster_pb2, host_pb2
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc
from vmha.v1 import event_service_pb2 as es
from vmha.v1 import event_service_pb2_grpc as es_grpc
from vmha.v1 import manager_service_pb2_grpc as ms_grpc

CLUSTER = "c1"
TIMERS = {
    "peer_refresh": 3600.0,
    "report_interval": 5.0,
    "cooldown": 0.2,
    "probe_interval": 0.05,
    "probe_timeout": 0.2,
    "heartbeat_interval": 0.05,
    "stream_stale": 0.4,
    "learning": 0.0,
    "planned_grace": 5.0,
}


class ScriptedProbe:
    """The manager's own probe: says of each target what the test says."""

    def __init__(self) -> None:
        self.verdicts: dict[str, PeerVerdict] = {}

    async def probe(self, target: str, timeout_s: float) -> ProbeResult:
        return ProbeResult(verdict=self.verdicts.get(target.partition(":")[0], PeerVerdict.OK))


class World:
    """Everything round one manager."""

    def __init__(self, redis_url: str, store: Store) -> None:
        self.redis_url = redis_url
        self.store = store
        self.evacuator = ScriptedEvacuator()
        self.probe = ScriptedProbe()
        self.silent: set[str] = set()
        self.agents: list[Agent] = []
        self.port = 0
        self.runs = 0
        self._run: asyncio.Task[int] | None = None
        self._stop = asyncio.Event()
        self._channel: grpc.aio.Channel | None = None

    # Life

    async def start(self) -> None:
        await self.evacuator.start()
        await self.start_manager()

    async def start_manager(self, *, wait: bool = True) -> None:
        """The next run of the manager; waits until it leads: a killed one's lease runs out first."""
        self.runs += 1
        listen = f"127.0.0.1:{self.port}"
        settings = ManagerSettings(
            listen=listen,
            redis_url=self.redis_url,
            evac_target=self.evacuator.target,
            discovery_interval_s=0.1,
            manager_id=f"m{self.runs}",
            drain_grace_s=1.0,
        )
        self._stop = asyncio.Event()
        started = asyncio.get_running_loop().create_future()
        self._run = asyncio.create_task(run(settings, probe=self.probe, started=started.set_result, stop=self._stop))
        if wait:
            done, _ = await asyncio.wait({started, self._run}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert started in done, "the manager did not start"
            self.port = started.result()
            self._channel = open_channel(f"127.0.0.1:{self.port}")
            await until(self._leads)

    async def _leads(self) -> bool:
        leaders = [await self.store.leaders.get(cluster_id) for cluster_id in await self.store.clusters.list_ids()]
        return all(leader.manager_id == f"m{self.runs}" for leader in leaders)

    async def kill_manager(self) -> None:
        """As kill -9: nothing is said, nothing is drained."""
        assert self._run is not None
        self._run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._run
        self._run = None

    async def stop_manager(self) -> int:
        assert self._run is not None
        self._stop.set()
        code = await self._run
        self._run = None
        return code

    async def exit_code(self) -> int:
        assert self._run is not None
        async with asyncio.timeout(10):
            return await self._run

    async def close(self) -> None:
        async with asyncio.timeout(10):
            for agent in self.agents:
                await agent.vanish()
            if self._channel is not None:
                await self._channel.close()
            if self._run is not None:
                await self.stop_manager()
            await self.evacuator.stop()

    # Clients

    @property
    def channel(self) -> grpc.aio.Channel:
        assert self._channel is not None
        return self._channel

    @property
    def operator(self) -> Any:
        return cs_grpc.ClusterServiceStub(self.channel)

    @property
    def manager(self) -> Any:
        return ms_grpc.ManagerServiceStub(self.channel)

    def watch(self, after_revision: int = 0) -> Any:
        request = es.WatchEventsRequest(cluster_id=CLUSTER, after_revision=after_revision)
        return es_grpc.EventServiceStub(self.channel).WatchEvents(request)

    # The cluster

    async def create(
        self, host_ids: list[str], *, enable: bool = True, timers: Mapping[str, float] | None = None, cluster_id: str = CLUSTER
    ) -> None:
        config = cluster_pb2.ClusterConfig(max_down_fraction=0.5)
        for name, value in (TIMERS | dict(timers or {})).items():
            getattr(config.timers, name).CopyFrom(duration(value))
        assert timer_overrides(config.timers)
        await self.operator.CreateCluster(cs.CreateClusterRequest(cluster_id=cluster_id, config=config))
        for host_id in host_ids:
            await self.operator.CreateHost(
                cs.CreateHostRequest(cluster_id=cluster_id, host_id=host_id, config=host_config(host_id))
            )
        if enable:
            await self.operator.EnableCluster(cs.EnableClusterRequest(cluster_id=cluster_id))

    async def configured(self) -> None:
        """Waits until the newest numbered configuration says what the cluster is set to: it follows a moment later."""

        async def said() -> bool:
            snapshot = await self.store.clusters.snapshot(CLUSTER)
            newest = snapshot.configs.get(snapshot.cluster.config_version)
            return newest is not None and newest.protected is snapshot.cluster.ha_enabled

        await until(said)

    def agent(self, host_id: str, **more: Any) -> Agent:
        agent = Agent(self.channel, host_id, **more)
        self.agents.append(agent)
        return agent

    async def live(self, host_id: str, vms: list[Any] | None = None, **more: Any) -> Agent:
        """An agent that is registered, beats, and reports what `silent` says of its peers."""
        agent = self.agent(host_id, **more)
        await agent.connect()
        await agent.register(vms or [])
        self.settle(agent)
        return agent

    def settle(self, agent: Agent) -> None:
        agent.keep_beating(verdicts=lambda: self._seen_by(agent.host_id))

    def _seen_by(self, host_id: str) -> dict[str, PeerVerdict]:
        others = {agent.host_id for agent in self.agents} - {host_id}
        return {other: PeerVerdict.TIMEOUT if other in self.silent else PeerVerdict.OK for other in others}

    async def cut_power(self, agent: Agent) -> None:
        """The host is gone for everybody."""
        self.silent.add(agent.host_id)
        self.probe.verdicts[agent.host_id] = PeerVerdict.TIMEOUT
        await agent.vanish()

    def give_power(self, host_id: str) -> None:
        self.silent.discard(host_id)
        self.probe.verdicts.pop(host_id, None)

    async def host(self, host_id: str) -> host_pb2.Host:
        answer = await self.operator.GetHost(cs.GetHostRequest(cluster_id=CLUSTER, host_id=host_id))
        host: host_pb2.Host = answer.host
        return host

    async def state(self, host_id: str, *wanted: HostState) -> None:
        """Waits until a host is in one of the states."""
        numbers = {getattr(host_pb2, f"HOST_STATE_{state.value}") for state in wanted}

        async def reached() -> bool:
            return (await self.host(host_id)).state in numbers

        await until(reached)

    async def states_of(self, host_id: str) -> list[str]:
        """All states that a host went through, by the event log."""
        events = await self.store.events.read(CLUSTER, 0)
        return [
            str(event.detail["new_state"]).removeprefix("HOST_STATE_")
            for event in events
            if event.kind == "host_state_change" and event.detail["host_id"] == host_id
        ]

    async def alarms(self) -> list[tuple[str, str, bool]]:
        events = await self.store.events.read(CLUSTER, 0)
        return [
            (str(e.detail["reason"]), str(e.detail["host_id"]), bool(e.detail["cleared"])) for e in events if e.kind == "alarm"
        ]


def host_config(host_id: str, *, aggregates: list[str] | None = None) -> host_pb2.HostConfig:
    return host_pb2.HostConfig(
        probe_target=f"{host_id}:9177",
        agent_target=f"{host_id}:7401",
        libvirt_uri="test:///default",
        aggregates=aggregates or [],
    )


async def until(fact: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Waits for a fact."""
    async with asyncio.timeout(timeout_s):
        while not await fact():
            await asyncio.sleep(0.02)
