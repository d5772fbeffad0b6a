"""A process full of simulated agents for bench.manager: real sessions and leases, and nothing else of an agent.

Reads commands on standard input, one JSON object a line, and answers each with one on standard output:
{"do": "reset"} begins a measurement, {"do": "progress"} counts what was seen since then, {"do": "report"} adds the single
times (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import structlog

from bench.h2_stream import UNREACHABLE, H2Stream
from vmha.agent import messages
from vmha.agent.lease import Lease
from vmha.agent.lease_events import AckReceived, ConfigTaken, HeartbeatSent, Registered
from vmha.agent.link import LEAST_BACKOFF_S, MOST_BACKOFF_S, MOST_INTERVALS
from vmha.errors import VmhaError
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.scalars import duration, seconds
from vmha.v1 import heartbeat_pb2, host_pb2
from vmha.v1 import manager_service_pb2 as ms

SAMPLES = 20_000
RAMP = 40
"""Agents of a process that connect at the same time at the start; after a take-over all do."""
PATH = "/vmha.v1.ManagerService/ReportHealth"


@dataclass
class Seen:
    """What the agents of this process saw since the last reset."""

    sent: int = 0
    acked: int = 0
    heard: int = 0
    sessions: int = 0
    latched: int = 0
    latencies: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def note_latency(self, latency_s: float) -> None:
        """Keeps a fair sample."""
        self.acked += 1
        if len(self.latencies) < SAMPLES:
            self.latencies.append(latency_s)
        elif (place := random.randrange(self.acked)) < SAMPLES:
            self.latencies[place] = latency_s

    def note_failure(self, reason: str) -> None:
        """Counts sessions that ended."""
        self.failures[reason] = self.failures.get(reason, 0) + 1


class SimulatedAgent:
    """Keeps a session as vmha.agent.link does, and a lease with the real core."""

    def __init__(self, host_id: str, targets: list[str], seen: Seen) -> None:
        self.host_id = host_id
        self.boot_id = f"boot-{host_id}"
        self.instance_id = secrets.token_hex(16)
        self.targets = targets
        self.seen = seen
        self.lease = Lease(host_id, "", None, time.monotonic())
        self.first_ack_at = 0.0
        self._place = 0
        self._sequence = int(time.monotonic() * 1000)
        self._sent: dict[int, float] = {}
        self._interval_s = 5.0
        self._incarnation = 0
        self._copy_version = 0
        self._begun = asyncio.Event()
        self._welcomed_now = False
        self._beating: asyncio.TimerHandle | None = None

    async def run(self, ramp: asyncio.Semaphore) -> None:
        """Session after session; the first one waits for its turn."""
        failures, tried, redirect = 0, 0, ""
        while True:
            target = redirect or self.targets[self._place % len(self.targets)]
            redirect = ""
            problem = await self._session(target, None if self._incarnation else ramp)
            reason = "ENDED" if problem is None else problem.reason
            if problem is not None and reason == "NOT_LEADER":
                redirect = problem.metadata.get("leader", "")
            self.seen.note_failure(reason)
            if redirect:
                continue
            self._place += 1
            tried = 0 if self._welcomed_now else tried + 1
            if 0 < tried < len(self.targets):
                await asyncio.sleep(LEAST_BACKOFF_S)
                continue
            tried = 0
            first = self._interval_s
            cap = max(first, min(MOST_BACKOFF_S, MOST_INTERVALS * first))
            await asyncio.sleep(random.uniform(LEAST_BACKOFF_S, min(cap, first * 2 ** min(failures, 10))))
            failures = 0 if self.lease.no_ack_age(time.monotonic()) < self._interval_s else failures + 1

    async def _session(self, target: str, turn: asyncio.Semaphore | None) -> VmhaError | None:
        """One session; gives up its turn with the first heartbeat. Returns how it ended."""
        self._begun.clear()
        self._welcomed_now = False
        async with turn or nullcontext():
            stream = await H2Stream.open(target, PATH, self._take)
            if stream is None:
                return from_rpc_error(UNREACHABLE)
            self._send(stream, hello=self._hello())
            if turn is not None:
                stream.ended.add_done_callback(lambda _: self._begun.set())
                await self._begun.wait()
        problem = await stream.ended
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        stream.close()
        return None if problem is None else from_rpc_error(problem)

    def _hello(self) -> ms.AgentHello:
        return ms.AgentHello(
            host_id=self.host_id,
            boot_id=self.boot_id,
            agent_instance_id=self.instance_id,
            incarnation=self._incarnation,
            self_fencing=self.lease.enforced,
            copy_version=self._copy_version,
        )

    def _send(self, stream: H2Stream, **payload: Any) -> None:
        stream.send(ms.ReportHealthRequest(**payload).SerializeToString())

    def _take(self, stream: H2Stream, content: bytes) -> None:
        message = ms.ReportHealthResponse.FromString(content)
        kind = message.WhichOneof("payload")
        if kind == "heartbeat_acks":
            for ack in message.heartbeat_acks.acks:
                self._acked(ack)
        elif kind == "welcome":
            self._welcomed(stream, message.welcome)
        elif kind == "config":
            self._configure(message.config)
        elif kind == "cluster_copy":
            self._copy_version = message.cluster_copy.version
        elif kind == "offer":
            self._incarnation = message.offer.incarnation
            self.lease.event(Registered(incarnation=self._incarnation), time.monotonic())
            self._beat(stream)
        elif kind == "inventory_request":
            self._inventory(stream)

    def _welcomed(self, stream: H2Stream, welcome: ms.SessionWelcome) -> None:
        self.seen.sessions += 1
        self._welcomed_now = True
        self._interval_s = seconds(welcome.assignment.heartbeat_interval)
        self.lease.cluster_id = welcome.cluster_id
        self._configure(welcome.config)
        if welcome.registration_required:
            self._send(stream, registration=ms.AgentRegistration(boot_token=secrets.token_hex(16)))
        else:
            self._beat(stream)
        self._inventory(stream)

    def _configure(self, config: ms.AgentConfig) -> None:
        terms = messages.lease_config(config, may_destroy=True)
        self.lease.event(ConfigTaken(config=terms), time.monotonic())

    def _inventory(self, stream: H2Stream) -> None:
        self._sequence += 1
        facts = host_pb2.HostFacts(vcpus=16, memory_mib=65536, operating_system="debian-12")
        self._send(stream, inventory=ms.InventoryReport(sequence=self._sequence, full=True, host=facts))

    def _beat(self, stream: H2Stream) -> None:
        if self._beating is None and not stream.ended.done():
            self._begun.set()
            self._beats(stream)

    def _beats(self, stream: H2Stream) -> None:
        now = time.monotonic()
        self._look(now)
        self._sequence += 1
        self._sent[self._sequence] = now
        self.lease.event(HeartbeatSent(sequence=self._sequence), now)
        self.seen.sent += 1
        self._send(stream, heartbeat=ms.AgentHeartbeat(own=self._heartbeat(now)))
        # Spread at random: hosts do not beat in step.
        pause_s = self._interval_s * random.uniform(0.9, 1.1)
        self._beating = asyncio.get_running_loop().call_later(pause_s, self._beats, stream)

    def _heartbeat(self, now: float) -> heartbeat_pb2.Heartbeat:
        config = self.lease.config
        return heartbeat_pb2.Heartbeat(
            host_id=self.host_id,
            incarnation=self._incarnation,
            sequence=self._sequence,
            agent_instance_id=self.instance_id,
            echoed_nonce=self.lease.echo,
            config_version=0 if config is None else config.version,
            boot_time=duration(now),
            self_fencing=self.lease.enforced,
        )

    def _acked(self, ack: heartbeat_pb2.HeartbeatAck) -> None:
        now = time.monotonic()
        self._look(now)
        self.lease.event(AckReceived(incarnation=ack.incarnation, sequence=ack.sequence, nonce=ack.nonce), now)
        sent = self._sent.pop(ack.sequence, None)
        if sent is not None:
            if not self.first_ack_at:
                self.first_ack_at = now
                self.seen.heard += 1
            self.seen.note_latency(now - sent)
        if len(self._sent) > 64:
            self._sent.clear()

    def _look(self, now: float) -> None:
        before = self.lease.latched
        self.lease.tick(now)
        self.seen.latched += self.lease.latched and not before


class Agents:
    """All agents of this process."""

    def __init__(self, host_ids: list[str], targets: list[str]) -> None:
        self.seen = Seen()
        self.agents = [SimulatedAgent(host_id, targets, self.seen) for host_id in host_ids]
        ramp = asyncio.Semaphore(RAMP)
        self.tasks = [asyncio.create_task(agent.run(ramp)) for agent in self.agents]
        for task in self.tasks:
            task.add_done_callback(_died)

    def reset(self) -> dict[str, Any]:
        """Begin a measurement."""
        self.seen.__init__()  # type: ignore[misc]
        for agent in self.agents:
            agent.first_ack_at = 0.0
        return {"at": time.monotonic()}

    def progress(self) -> dict[str, Any]:
        """Counts since the reset; `heard`: agents that had an ack. Cheap: asked while the manager is measured."""
        seen = self.seen
        return {
            "agents": len(self.agents),
            "heard": seen.heard,
            "sent": seen.sent,
            "acked": seen.acked,
            "sessions": seen.sessions,
            "failures": seen.failures,
        }

    def report(self) -> dict[str, Any]:
        """Counts, and single times; `first_acks`: when each agent had its first ack since the reset."""
        now = time.monotonic()
        for agent in self.agents:
            agent._look(now)
        first_acks = sorted(agent.first_ack_at for agent in self.agents if agent.first_ack_at)
        times = {"first_acks": first_acks, "latencies": self.seen.latencies}
        return {**self.progress(), **times, "latched": self.seen.latched, "core_s": time.process_time()}


def _died(task: asyncio.Task[None]) -> None:
    """An agent that fails in silence would look like one that the manager does not answer."""
    if not task.cancelled() and task.exception() is not None:
        task.get_loop().call_exception_handler({"message": "a simulated agent died", "exception": task.exception()})
        os._exit(1)


async def commands() -> AsyncIterator[dict[str, Any]]:
    """Lines of standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def main(host_ids: list[str], targets: list[str]) -> None:
    """Serve until standard input ends."""
    agents = Agents(host_ids, targets)
    async for command in commands():
        answer = {"reset": agents.reset, "progress": agents.progress, "report": agents.report}[command["do"]]()
        print(json.dumps(answer), flush=True)
    for task in agents.tasks:
        task.cancel()
    await asyncio.gather(*agents.tasks, return_exceptions=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    first, count, size = (int(argument) for argument in sys.argv[1:4])
    names = [f"c{number // size}-h{number % size}" for number in range(first, first + count)]
    asyncio.run(main(names, sys.argv[4].split(",")))
