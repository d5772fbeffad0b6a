"""`vmha agent-watchdog`: feeds the host's watchdog while `vmha.agent.watchdog` lets it.

A process of its own, for the agent may stall; it believes the agent's record and the kernel's list of processes, nobody's word.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import structlog

from vmha.agent import kept as kept_record
from vmha.agent.lease_events import Kept
from vmha.agent.qemu_processes import QemuProcesses
from vmha.agent.state import FILE_NAME, MARKER_NAME, read_boot_id
from vmha.agent.state_file import DiskFile
from vmha.agent.watchdog import Device, is_quick_enough, is_unguarded, may_feed
from vmha.agent.watchdog_life import LIFE_NAME, WatchdogLife
from vmha.clock import Clock, SystemClock
from vmha.config import AgentSettings
from vmha.errors import FieldViolation, InvalidField, Unavailable

WDIOC_SETTIMEOUT: Final = 0xC0045706
NEVER_FOUND: Final = float("inf")
LOOKS: Final = 5
"""Looks in each of the device's timeouts."""
MAGIC_CLOSE: Final = b"V"

_log = structlog.get_logger("vmha.agent.watchdog")


class Watchdog(Protocol):
    """A watchdog that runs: it resets the host unless it is fed in time."""

    def feed(self) -> None:
        """Not now."""
        ...

    def close(self, *, disarm: bool) -> None:
        """Let go of it. Not disarmed, it resets the host when its time is up."""
        ...


class Processes(Protocol):
    """The VMs of this host, by the kernel's word."""

    def alive(self) -> frozenset[str]:
        """Those that have a process. Raises OSError."""
        ...


class LinuxWatchdog:
    """A device of the kernel's watchdog API, soft or hard."""

    def __init__(self, path: Path, timeout_s: int) -> None:
        """Opens it; it runs from here on.

        Raises:
            InvalidField: It is no watchdog, is another's, or does not take the timeout.
        """
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _wrong("watchdog_device", f"{path} cannot be opened: {error.strerror}") from None
        try:
            answer = fcntl.ioctl(self._file, WDIOC_SETTIMEOUT, struct.pack("i", timeout_s))
        except OSError as error:
            self.close(disarm=True)
            raise _wrong("watchdog_device", f"{path} does not take a timeout: {error.strerror}") from None
        if struct.unpack("i", answer)[0] != timeout_s:
            self.close(disarm=True)
            raise _wrong("watchdog_timeout_s", f"{path} would wait {struct.unpack('i', answer)[0]} s instead of {timeout_s} s")

    def feed(self) -> None:
        """See `Watchdog`."""
        os.write(self._file, b"\0")

    def close(self, *, disarm: bool) -> None:
        """See `Watchdog`."""
        if disarm:
            with suppress(OSError):
                os.write(self._file, MAGIC_CLOSE)
        os.close(self._file)


class Feeder:
    """Looks, and feeds or does not; and shows the agent that it is there."""

    def __init__(self, settings: AgentSettings, watchdog: Watchdog, processes: Processes, clock: Clock) -> None:
        self._settings = settings
        self._boot_id = read_boot_id(settings.boot_id_file)
        self._watchdog = watchdog
        self._processes = processes
        self._clock = clock
        self._device = Device(timeout_s=settings.watchdog_timeout_s, reset_s=settings.watchdog_reset_s)
        self._life = WatchdogLife(DiskFile(settings.state_dir / LIFE_NAME), self._boot_id)
        self._found_at = NEVER_FOUND
        self._fed = True
        self._shown = True
        self._warned = False

    def look(self) -> bool:
        """Feed it if that is right. Returns whether it was."""
        now, kept, alive = self._clock.now(), self._kept(), self._vms_alive()
        self._found_at = min(self._found_at, now) if alive and is_unguarded(kept) else NEVER_FOUND
        feed = may_feed(kept, vms_alive=alive, found_at=self._found_at, device=self._device, now=now)
        if feed:
            self._watchdog.feed()
        self._show(now)
        if feed is not self._fed:
            self._fed = feed
            say = _log.warning if feed else _log.critical
            say("watchdog_fed_again" if feed else "watchdog_not_fed", latched=kept is not None and kept.latched)
        if kept is not None and kept.config is not None and not is_quick_enough(self._device, kept.config.kill_timeout_s):
            self._warn(kept.config.kill_timeout_s)
        return feed

    def close(self) -> None:
        """An orderly stop. While VMs run whose guard has ended, the host is reset nevertheless."""
        disarm = self.look()
        if disarm:
            with suppress(Unavailable):  # it is too old in a moment anyhow
                self._life.withdraw()
        self._watchdog.close(disarm=disarm)

    def _show(self, now: float) -> None:
        try:
            self._life.prove(self._device, now)
        except Unavailable as error:
            if self._shown:
                _log.error("watchdog_not_shown", error=error.message)  # the agent announces none
            self._shown = False
        else:
            self._shown = True

    def _vms_alive(self) -> bool:
        try:
            return bool(self._processes.alive())
        except OSError:
            return True

    def _kept(self) -> Kept | None:
        """The agent's record, as the agent itself would take it (R9)."""
        try:
            found = json.loads((self._settings.state_dir / FILE_NAME).read_bytes())
            if (found["boot_id"], found["host_id"]) == (self._boot_id, self._settings.host_id):
                return kept_record.from_json(found["lease"], found["terms"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # as good as none
        return Kept(latched=True) if (self._settings.marker_dir / MARKER_NAME).exists() else None

    def _warn(self, kill_timeout_s: float) -> None:
        if not self._warned:
            self._warned = True
            _log.error(
                "watchdog_too_slow",
                timeout_s=self._device.timeout_s,
                reset_s=self._device.reset_s,
                kill_timeout_s=kill_timeout_s,
            )


async def run(
    settings: AgentSettings,
    *,
    clock: Clock | None = None,
    watchdog: Watchdog | None = None,
    processes: Processes | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Feed until `stop` is set (without one: until SIGTERM or SIGINT).

    Raises:
        InvalidField: There is no watchdog_device, or it is none; the boot id can't be read.
    """
    if settings.watchdog_device is None:
        raise _wrong("watchdog_device", "is required")
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    device = watchdog or LinuxWatchdog(settings.watchdog_device, settings.watchdog_timeout_s)
    try:
        feeder = Feeder(settings, device, processes or QemuProcesses(), clock or SystemClock())
    except InvalidField:
        device.close(disarm=True)
        raise
    _log.info("feeding", device=str(settings.watchdog_device), timeout_s=settings.watchdog_timeout_s)
    while not stop.is_set():
        feeder.look()
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.watchdog_timeout_s / LOOKS):
                await stop.wait()
    feeder.close()
    _log.info("stopped")


def _wrong(field: str, text: str) -> InvalidField:
    return InvalidField([FieldViolation(field, text)])
