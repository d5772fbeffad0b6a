"""A real primary, a real replica and real Sentinels: a failover in the middle of writes, and what it may lose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from tests.support.failures import cluster_of
from vmha.errors import Unavailable
from vmha.store import Store, connect
from vmha.store.leaders import Candidate

pytestmark = pytest.mark.asyncio(loop_factories=["redis"])
DOWN_AFTER_MS = 1000
RECOVERS_WITHIN_S = 15.0
"""Sentinel finds the primary down, agrees, promotes; the client asks anew."""


@dataclass
class Plant:
    """One primary, one replica, three Sentinels, each a process of its own on loopback."""

    directory: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        for name in ("primary", "replica", "s1", "s2", "s3"):
            self.ports[name] = _free_port()
        self._redis("primary")
        self._redis("replica", "--replicaof", "127.0.0.1", str(self.ports["primary"]))
        self._until(lambda: self._info("replica").get("master_link_status") == "up", "the replica follows")
        for name in ("s1", "s2", "s3"):
            self._sentinel(name)
        self._until(self._agreed, "the Sentinels know each other and the replica")

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(timeout=10)

    @property
    def url(self) -> str:
        sentinels = ",".join(f"127.0.0.1:{self.ports[name]}" for name in ("s1", "s2", "s3"))
        return f"redis+sentinel://{sentinels}/vmha/0"

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait(timeout=10)

    def client(self, name: str) -> redis.Redis:
        return redis.Redis(port=self.ports[name], decode_responses=True, socket_timeout=2)

    def _redis(self, name: str, *options: str) -> None:
        common = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        self._start(name, ["redis-server", "--port", str(self.ports[name]), *common, "--dir", str(self.directory), *options])

    def _sentinel(self, name: str) -> None:
        file = self.directory / f"{name}.conf"
        file.write_text(
            f"port {self.ports[name]}\nbind 127.0.0.1\n"
            f"sentinel monitor vmha 127.0.0.1 {self.ports['primary']} 2\n"
            f"sentinel down-after-milliseconds vmha {DOWN_AFTER_MS}\nsentinel failover-timeout vmha 5000\n"
        )
        self._start(name, ["redis-server", str(file), "--sentinel"])

    def _start(self, name: str, command: list[str]) -> None:
        assert shutil.which(command[0]), "redis-server is not installed: apt-get install redis-server"
        self.processes[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._until(lambda: _answers(self.ports[name]), f"{name} answers")

    def _info(self, name: str) -> dict[str, str]:
        with self.client(name) as client:
            found: dict[str, str] = client.info("replication")
            return found

    def _agreed(self) -> bool:
        for name in ("s1", "s2", "s3"):
            with self.client(name) as client:
                state = client.execute_command("SENTINEL", "MASTER", "vmha")
                facts = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
                if (int(facts["num-slaves"]), int(facts["num-other-sentinels"])) != (1, 2):
                    return False
        return True

    def _until(self, fact: object, what: str) -> None:
        deadline = time.monotonic() + 20
        while not fact():  # type: ignore[operator]
            assert time.monotonic() < deadline, f"not within 20 s: {what}"
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    try:
        plant.start()
        yield plant
    finally:
        plant.stop()


@pytest.fixture
async def redundant(plant: Plant) -> AsyncIterator[Store]:
    store = connect(plant.url)
    yield store
    await store.close()


async def _write_until(store: Store, seconds: float) -> tuple[int, float]:
    """Appends events until one succeeds after a failure: how many were acknowledged, and the longest time without one."""
    acknowledged, last, longest = 0, time.monotonic(), 0.0
    failed = False
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            await store.events.append("c1", "alarm", {"reason": "FLAPPING"})
        except Unavailable:
            failed = True
        else:
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            acknowledged += 1
            if failed:
                break
        await asyncio.sleep(0.01)
    return acknowledged, longest


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_a_failover_during_writes(plant: Plant, redundant: Store, how: str) -> None:
    """The primary dies, or stands still, in the middle of writes: UNAVAILABLE for a bounded time, then the replica answers."""
    await cluster_of(redundant, "c1", ["h1", "h2"])
    writing = asyncio.create_task(_write_until(redundant, RECOVERS_WITHIN_S))
    await asyncio.sleep(0.3)
    if how == "killed":
        plant.kill("primary")
    else:
        os.kill(plant.processes["primary"].pid, signal.SIGSTOP)
    acknowledged, longest = await writing

    assert acknowledged > 10
    assert DOWN_AFTER_MS / 1000 * 0.5 < longest < RECOVERS_WITHIN_S
    assert sorted(h.host_id for h in await redundant.hosts.list("c1")) == ["h1", "h2"]


async def test_a_primary_that_goes_on_alone_is_told(plant: Plant, redundant: Store) -> None:
    """Without min-replicas-to-write a cut-off primary takes writes beside its successor."""
    before = await redundant.may_split()
    with plant.client("primary") as primary:
        primary.config_set("min-replicas-to-write", 1)
        primary.config_set("min-replicas-max-lag", 3)

    assert (before, await redundant.may_split()) == (True, False)


async def test_a_leader_whose_claim_a_failover_lost(plant: Plant, redundant: Store) -> None:
    """A write that was acknowledged and not copied is gone; the next term is above the lost one all the same."""
    await cluster_of(redundant, "c1", ["h1"])
    os.kill(plant.processes["replica"].pid, signal.SIGSTOP)
    with plant.client("primary") as primary:
        # It goes on alone: what it takes in from here on is lost with it.
        primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
    first, second = (Candidate(holder=f"run-{i}", manager_id=f"m{i}", address=f"10.0.0.{i}:1") for i in (1, 2))
    lost = await redundant.leaders.claim("c1", first, 60.0)
    plant.kill("primary")
    os.kill(plant.processes["replica"].pid, signal.SIGCONT)
    async with asyncio.timeout(2 * RECOVERS_WITHIN_S):
        while True:
            with contextlib.suppress(Unavailable):
                won = await redundant.leaders.claim("c1", second, 60.0)
                break
            await asyncio.sleep(0.05)

    assert lost.won
    assert won.won, "the copy knows nothing of the first claim"
    assert won.term > lost.term
    assert not (await redundant.leaders.renew("c1", first, 60.0, lost.term)).won
