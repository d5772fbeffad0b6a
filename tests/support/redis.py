"""A Redis of the tests' own: a redis-server (one process, no persistence, on a free loopback port), or the simulator's double."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import Redis

from vmha.sim.redis_double import SimRedisServer
from vmha.store import Store, connect

START_S = 10.0


class RedisHome(Protocol):
    """What the tests of the store ask of either."""

    def client(self, **options: Any) -> Redis:
        """A client with such options of redis-py's."""
        ...

    def store(self) -> Store:
        """A store on connections of its own."""
        ...

    def restart_empty(self) -> None:
        """A crash that loses everything."""
        ...


class RedisDouble:
    """The simulator's Redis.

    Args:
        server: Where the data is.
    """

    def __init__(self, server: SimRedisServer) -> None:
        self.server = server

    def client(self, *, decode_responses: bool = False, **_: Any) -> Redis:
        """A client; it speaks no RESP, whatever is asked."""
        return self.server.client(decode_responses=decode_responses)

    def store(self) -> Store:
        """A store."""
        return Store(self.server.client())

    def restart_empty(self) -> None:
        """A crash that loses everything."""
        self.server.start(empty=True)


class RedisServer:
    """Starts, stops and restarts a redis-server; a restarted one is empty and has the same address.

    Args:
        directory: For its working directory; nothing is written there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Where it listens, for vmha.store.connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process, for signals (SIGSTOP makes a Redis that hangs)."""
        assert self._process is not None, "not started"
        return self._process.pid

    def client(self, **options: Any) -> Redis:
        """A client."""
        return Redis.from_url(self.url, **options)

    def store(self) -> Store:
        """A store, as the services connect theirs."""
        return connect(self.url)

    def start(self) -> None:
        """Starts it and waits until it answers; a server that runs is left alone."""
        if self._process is not None:
            return
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed: apt-get install redis-server"
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        self._process = subprocess.Popen(
            [program, *options, "--dir", str(self._directory)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, f"redis-server exited with {self._process.returncode}"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """Kills it at once, as a crash would; what it held is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(timeout=10)
        self._process = None

    def restart_empty(self) -> None:
        """A crash that loses everything."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
