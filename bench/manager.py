"""What a manager can bear: real gRPC sessions with heartbeats and leases on loopback, 1,000 to 15,000 simulated agents.

    python -m bench.manager [--agents 1000,10000] [--seconds 30] [--storm]

A real `vmha manager` process on a real redis-server; the agents (bench.manager_clients) hold one connection each and the real
lease core. Beside it, in the same run, the floor: a bare grpc.aio server that answers the same messages (bench.manager_floor).
With --storm a second manager stands by, the first is killed, and all agents go to the other one.

Aims: 10,000 hosts at one heartbeat in 2 s below 0.8 core, below 50 KiB a session, the storm over 15 s after the take-over with
nobody self-fenced. Exit code 0: they hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.orchestration import Redis
from vmha.model import STANDARD_TIMERS, ClusterConfig, HostConfig
from vmha.rpc.options import EXPERIMENTS
from vmha.store import Store, connect

CLUSTER_SIZE = 100
CLIENTS = 2
HEARTBEAT_S = 2.0
LEADER_LEASE_S = 3.0
UP_WITHIN_S = 300.0
STORM_WITHIN_S = 90.0
AIM_AGENTS, AIM_CORES, AIM_KIB, AIM_STORM_S = 10_000, 0.8, 50.0, 15.0
"""The aims are for so many agents: fewer share no wake-ups, and cost more a message; more are told, and not judged."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Load:
    """One server under load."""

    name: str
    agents: int
    messages: int
    seconds: float
    core_s: float
    clients_core_s: float
    kib_a_session: float
    latencies_s: list[float]

    @property
    def cores(self) -> float:
        """Those that the server kept busy."""
        return self.core_s / self.seconds

    @property
    def core_s_for_10_000(self) -> float:
        """Processor seconds for 10,000 heartbeats and their acks."""
        return self.core_s / max(1, self.messages) * 10_000

    @property
    def p99_s(self) -> float:
        """Of the time from a heartbeat's sending to its ack."""
        return percentile(self.latencies_s, 0.99)


@dataclass(frozen=True, kw_only=True)
class Storm:
    """A take-over. Times are seconds from the kill."""

    agents: int
    first_s: float
    last_s: float
    latched: int
    sessions: int
    core_s: float
    failures: dict[str, int]

    @property
    def lasted_s(self) -> float:
        """From the first ack of the new leader to the last agent's."""
        return self.last_s - self.first_s


def percentile(values: Sequence[float], share: float) -> float:
    """NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


class Process:
    """A child process: what it costs, and its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, *arguments: str, environment: dict[str, str] | None = None, talk: bool = False) -> Process:
        """Run a Python module."""
        pipe = asyncio.subprocess.PIPE if talk else asyncio.subprocess.DEVNULL
        command = [sys.executable, "-m", *arguments]
        merged = {**os.environ, **(environment or {})}
        limit = 64 * 1024 * 1024
        return cls(await asyncio.create_subprocess_exec(*command, env=merged, stdin=pipe, stdout=pipe, limit=limit))

    def core_s(self) -> float:
        """Processor time that it has used."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS

    def rss_kib(self) -> float:
        """Resident memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))

    async def ask(self, **command: object) -> dict[str, Any]:
        """One command, one answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(command).encode() + b"\n")
        line = await stdout.readline()
        if not line:
            raise RuntimeError("a process of simulated agents ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def kill(self) -> None:
        """SIGKILL, and wait."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Fleet:
    """All simulated agents, in some processes."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes

    @classmethod
    async def start(cls, stack: AsyncExitStack, agents: int, targets: Sequence[str]) -> Fleet:
        """Start them; they connect at once."""
        share, processes = -(-agents // CLIENTS), []
        for first in range(0, agents, share):
            count = min(share, agents - first)
            numbers = [str(number) for number in (first, count, CLUSTER_SIZE)]
            process = await Process.start("bench.manager_clients", *numbers, ",".join(targets), talk=True)
            stack.push_async_callback(process.kill)
            processes.append(process)
        return cls(processes)

    async def reset(self) -> None:
        """Begin a measurement."""
        await asyncio.gather(*(process.ask(do="reset") for process in self._processes))

    async def report(self) -> list[dict[str, Any]]:
        """What each process saw since the reset, with all single times."""
        return await self._ask("report")

    async def progress(self) -> list[dict[str, Any]]:
        """What each process counted since the reset."""
        return await self._ask("progress")

    async def _ask(self, what: str) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(process.ask(do=what) for process in self._processes)))

    def core_s(self) -> float:
        """Processor time that they have used."""
        return sum(process.core_s() for process in self._processes)

    async def all_acked(self, within_s: float) -> bool:
        """Wait until every agent had an ack since the reset."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if all(seen["heard"] == seen["agents"] for seen in await self.progress()):
                return True
            await asyncio.sleep(0.25)
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def prepare(store: Store, agents: int) -> None:
    """Protected clusters of CLUSTER_SIZE hosts."""
    timers = replace(STANDARD_TIMERS, heartbeat_interval_s=HEARTBEAT_S)
    config = ClusterConfig(timers=timers, timer_overrides={"heartbeat_interval_s": HEARTBEAT_S})
    # Nobody answers there: the bench measures sessions, not probes.
    host = HostConfig(probe_target="127.0.0.1:9", agent_target="127.0.0.1:9", libvirt_uri="test:///default")
    for number in range(agents):
        cluster_id = f"c{number // CLUSTER_SIZE}"
        if number % CLUSTER_SIZE == 0:
            await store.clusters.create(cluster_id, config)
        await store.hosts.create(cluster_id, f"{cluster_id}-h{number % CLUSTER_SIZE}", host)
    for number in range(0, agents, CLUSTER_SIZE):
        await store.clusters.set_ha(f"c{number // CLUSTER_SIZE}", True, None)


async def start_manager(stack: AsyncExitStack, redis_url: str, name: str, port: int) -> Process:
    """A real manager."""
    environment = {
        "VMHA_MANAGER_ID": name,
        "VMHA_LISTEN": f"127.0.0.1:{port}",
        "VMHA_REDIS_URL": redis_url,
        "VMHA_EVAC_TARGET": "127.0.0.1:9",
        "VMHA_LOG_LEVEL": "error",
        "VMHA_LEADER_LEASE_S": str(LEADER_LEASE_S),
    }
    process = await Process.start("vmha.cli.main", "manager", environment=environment)
    stack.push_async_callback(process.kill)
    await serving(port)
    return process


async def serving(port: int) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)


async def load(name: str, server: Process, fleet: Fleet, agents: int, seconds: float, empty_kib: float) -> Load:
    """Measure a server that has all its agents."""
    if not await fleet.all_acked(UP_WITHIN_S):
        raise RuntimeError(f"{name}: not all agents had an ack within {UP_WITHIN_S:g} s: {await fleet.progress()}")
    await asyncio.sleep(2 * HEARTBEAT_S)
    await fleet.reset()
    began, core, clients_core = time.monotonic(), server.core_s(), fleet.core_s()
    await asyncio.sleep(seconds)
    took, core, clients_core = time.monotonic() - began, server.core_s() - core, fleet.core_s() - clients_core
    seen = await fleet.report()
    return Load(
        name=name,
        agents=agents,
        messages=sum(part["acked"] for part in seen),
        seconds=took,
        core_s=core,
        clients_core_s=clients_core,
        kib_a_session=(server.rss_kib() - empty_kib) / agents,
        latencies_s=[latency for part in seen for latency in part["latencies"]],
    )


async def floor(agents: int, seconds: float) -> Load:
    """The bare server under the same load."""
    async with AsyncExitStack() as stack:
        port = free_port()
        server = await Process.start(
            "bench.manager_floor", f"127.0.0.1:{port}", str(HEARTBEAT_S), environment=dict([EXPERIMENTS])
        )
        stack.push_async_callback(server.kill)
        await serving(port)
        await asyncio.sleep(1)
        empty = server.rss_kib()
        fleet = await Fleet.start(stack, agents, [f"127.0.0.1:{port}"])
        return await load("floor", server, fleet, agents, seconds, empty)


async def ours(agents: int, seconds: float, with_storm: bool) -> tuple[Load, Storm | None]:
    """The manager under load, and what happens when it is killed."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis())
        store = connect(redis.url)
        stack.push_async_callback(store.close)
        await prepare(store, agents)
        ports = [free_port(), free_port()]
        leader = await start_manager(stack, redis.url, "first", ports[0])
        await asyncio.sleep(5)
        empty = leader.rss_kib()
        fleet = await Fleet.start(stack, agents, [f"127.0.0.1:{port}" for port in ports[: 1 + with_storm]])
        loaded = await load("manager", leader, fleet, agents, seconds, empty)
        if not with_storm:
            return loaded, None
        other = await start_manager(stack, redis.url, "second", ports[1])
        await asyncio.sleep(5)
        return loaded, await storm(fleet, leader, other, agents)


async def storm(fleet: Fleet, leader: Process, other: Process, agents: int) -> Storm:
    """Kill the leader; wait until every agent has an ack of the other one."""
    core = other.core_s()
    await leader.kill()
    killed = time.monotonic()
    await asyncio.sleep(0.1)  # the last acks of the dead one are read
    await fleet.reset()
    complete = await fleet.all_acked(STORM_WITHIN_S)
    seen = await fleet.report()
    firsts = [at - killed for part in seen for at in part["first_acks"]]
    failures: dict[str, int] = {}
    for part in seen:
        for reason, count in part["failures"].items():
            failures[reason] = failures.get(reason, 0) + count
    return Storm(
        agents=agents,
        first_s=min(firsts, default=float("nan")),
        last_s=max(firsts) if complete else float("inf"),
        latched=sum(part["latched"] for part in seen),
        sessions=sum(part["sessions"] for part in seen),
        core_s=other.core_s() - core,
        failures=failures,
    )


def show(loads: Sequence[Load]) -> None:
    """The table of loads."""
    columns = f"{'':>8}{'agents':>8}{'msg/s':>8}{'core':>7}{'clients':>9}{'core s / 10,000':>17}"
    print(columns + f"{'KiB/session':>13}{'p50 ms':>9}{'p99 ms':>9}", flush=True)
    for row in loads:
        middle = statistics.median(row.latencies_s) * 1000 if row.latencies_s else float("nan")
        print(
            f"{row.name:>8}{row.agents:>8}{row.messages / row.seconds:>8.0f}{row.cores:>7.2f}"
            f"{row.clients_core_s / row.seconds:>9.2f}"
            f"{row.core_s_for_10_000:>17.2f}{row.kib_a_session:>13.1f}{middle:>9.1f}{row.p99_s * 1000:>9.1f}"
        )


def show_storm(storm: Storm) -> None:
    """The take-over."""
    print(
        f"kill -9 of the leader with {storm.agents} agents: the new one's first ack after {storm.first_s:.1f} s, the last agent's"
        f" after {storm.last_s:.1f} s; {storm.sessions} sessions, {storm.latched} self-fenced, {storm.core_s:.1f} core s;"
        f" sessions that ended: {storm.failures}"
    )


def held(loads: Sequence[Load], storms: Sequence[Storm]) -> bool:
    """Whether the aims hold for as many agents as they are made for, or fewer; says so."""
    verdicts = []
    for row in loads:
        if row.name == "manager" and row.agents <= AIM_AGENTS:
            verdicts.append((f"{row.agents}: {row.cores:.2f} cores, aim {AIM_CORES:g}", row.cores < AIM_CORES))
            verdicts.append(
                (f"{row.agents}: {row.kib_a_session:.1f} KiB a session, aim {AIM_KIB:g}", row.kib_a_session < AIM_KIB)
            )
    for storm_ in storms:
        if storm_.agents <= AIM_AGENTS:
            text = f"storm of {storm_.agents}: {storm_.lasted_s:.1f} s, {storm_.latched} self-fenced, aim {AIM_STORM_S:g} s and 0"
            verdicts.append((text, storm_.lasted_s < AIM_STORM_S and storm_.latched == 0))
    for text, holds in verdicts:
        print(f"{'met   ' if holds else 'MISSED'} {text}")
    return all(holds for _, holds in verdicts)


async def measure(sizes: Sequence[int], seconds: float, with_storm: bool) -> bool:
    """All sizes, the floor beside each."""
    loads, storms = [], []
    for agents in sizes:
        loads.append(await floor(agents, seconds))
        show(loads[-1:])
        mine, storm_ = await ours(agents, seconds, with_storm)
        loads.append(mine)
        show([mine])
        if storm_ is not None:
            storms.append(storm_)
            show_storm(storm_)
    print()
    show(loads)
    return held(loads, storms)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default="1000,10000", help="numbers of agents (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured time of each (default %(default)s)")
    parser.add_argument("--storm", action=argparse.BooleanOptionalAction, default=True, help="kill the leader at the end")
    chosen = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sizes = [int(number) for number in chosen.agents.split(",")]
    return 0 if asyncio.run(measure(sizes, chosen.seconds, chosen.storm)) else 1


if __name__ == "__main__":
    sys.exit(main())
