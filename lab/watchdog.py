"""A lab host's watchdog: whoever runs it must write to it in time, or the host loses power.

The device is a pipe in the host's directory. Outside, `Watchdog` listens; inside, this module's command runs the product's own
`vmha agent-watchdog`, only with the pipe in place of /dev/watchdog, whose ioctl a pipe does not know.
"""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lab.host import Host
from vmha import config, log
from vmha.agent import watchdog_app

FEED, DISARM = b"\0", b"V"
LOOK_S = 0.05


class Watchdog:
    """One host's, from `start` to `stop`. It is armed by its first feeding."""

    def __init__(self, host: Host, timeout_s: float) -> None:
        self._host = host
        self.host_id = host.name
        self._timeout_s = timeout_s
        self.path = pipe_of(host.directory)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"watchdog of {host.name}", daemon=True)
        self._feeder: subprocess.Popen[bytes] | None = None

    def start(self, settings: Path) -> None:
        """Listen, and start the process that feeds it inside the host, with the agent's settings."""
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path)
        self._thread.start()
        command = self._host.enter(sys.executable, "-m", "lab.watchdog", str(settings))
        with (self._host.directory / "watchdog.out").open("ab") as out:
            here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
            self._feeder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=here)

    def stop(self) -> None:
        """Listen no more, and end the process; the host stays as it is."""
        self._ended.set()
        self._thread.join(5)
        if self._feeder is not None:
            self._feeder.kill()
            self._feeder.wait(5)

    def _listen(self) -> None:
        pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        try:
            fed_at: float | None = None
            while not self._ended.is_set():
                readable, _, _ = select.select([pipe], [], [], LOOK_S)
                if readable:
                    fed_at = None if DISARM in os.read(pipe, 4096) else time.monotonic()
                elif fed_at is not None and time.monotonic() - fed_at > self._timeout_s:
                    self._host.kill()
                    return
        finally:
            os.close(pipe)


def watch_all(hosts: Sequence[object], timeout_s: float, settings: Path) -> list[Watchdog]:
    """Start the watchdogs of hosts that have power, with the agents' settings of that directory."""
    watchdogs = [Watchdog(host, timeout_s) for host in hosts if isinstance(host, Host)]
    for watchdog in watchdogs:
        watchdog.start(settings / f"agent-{watchdog.host_id}.yaml")
    return watchdogs


def pipe_of(directory: Path) -> Path:
    """Where a host's watchdog is."""
    return directory / "watchdog"


class _Pipe:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY)

    def feed(self) -> None:
        os.write(self._file, FEED)

    def close(self, *, disarm: bool) -> None:
        if disarm:
            os.write(self._file, DISARM)
        os.close(self._file)


def main() -> None:
    """Feed a lab host's watchdog, as `vmha agent-watchdog` feeds a real one."""
    settings = config.load(config.AgentSettings, Path(sys.argv[1]))
    log.configure(settings.log_level, settings.log_format, "agent-watchdog")
    assert settings.watchdog_device is not None
    asyncio.run(watchdog_app.run(settings, watchdog=_Pipe(settings.watchdog_device)))


if __name__ == "__main__":
    main()
