"""Redis as it fails over: a primary, a replica and three Sentinels."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis

DOWN_AFTER_MS = 1000


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
