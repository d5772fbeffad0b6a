"""What the guests say of themselves, with the time at which they said it.

A guest writes `BOOT generation last-beat` once and `HB generation beat` then, to a log that all hosts share, and keeps both
numbers on its disk. So the log of a guest that ran twice at a time betrays it: a beat that goes backwards, a generation that
comes again.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.system import LabError

LINE = re.compile(rb"(BOOT|HB) ([0-9A-F]{8}) ([0-9A-F]{8})")
IN_MODIFY, IN_CREATE = 0x2, 0x100
SETTLE_S = 0.004
"""QEMU's serial port writes byte by byte; this gathers the rest of a line. It is the resolution of the times."""
STOP_CHECK_S = 0.2


class BeatError(LabError):
    """A guest ran twice, or lost what it had written; the text has the facts."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One line of a guest.

    Attributes:
        gen: How often the guest has booted.
        beat: Beats since that boot, from 1 on, about one a second. In a boot record: the last beat of the boot before.
        at: time.monotonic() of this machine when the line was seen; 0 when it was read from a log afterwards.
        boot: Whether this is the boot record and no beat.
    """

    gen: int
    beat: int
    at: float = 0.0
    boot: bool = False


@dataclass(slots=True)
class _Log:
    offset: int = 0
    rest: bytes = b""
    lines: list[Beat] = field(default_factory=list)


class Beats:
    """Watches the logs of all guests of a lab from `start` on; what was seen stays readable after `stop`."""

    def __init__(self, log_directory: Path) -> None:
        self._directory = log_directory
        self._logs: dict[str, _Log] = {}
        self._made_anew: dict[str, float] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        if self._thread is None:
            self._ended.clear()
            self._directory.mkdir(parents=True, exist_ok=True)
            self._thread = threading.Thread(target=self._watch, args=(_inotify(self._directory),), name="lab-beats", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End watching."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join(5)
            self._thread = None

    # Questions

    def names(self) -> list[str]:
        """Guests that have written something."""
        with self._lock:
            return sorted(self._logs)

    def records(self, name: str) -> list[Beat]:
        """Boot records and beats of a guest, in the order of the log."""
        with self._lock:
            log = self._logs.get(name)
            return list(log.lines) if log else []

    def of(self, name: str) -> list[Beat]:
        """A guest's beats."""
        return [record for record in self.records(name) if not record.boot]

    def before(self, name: str, at: float) -> Beat | None:
        """A guest's last beat before an instant."""
        return next((beat for beat in reversed(self.of(name)) if beat.at <= at), None)

    def after(self, name: str, at: float) -> Beat | None:
        """The first beat of the next boot: of a later generation than the one that ran at that instant.

        Not simply the next beat: the old run may still say something in the milliseconds that a power cut takes.
        """
        last = self.before(name, at)
        return next((beat for beat in self.of(name) if beat.at > at and beat.gen > (last.gen if last else 0)), None)

    def wait_after(self, names: Iterable[str], at: float, timeout_s: float) -> dict[str, Beat]:
        """Wait until each guest has beaten in a new boot after an instant.

        Raises:
            LabError: Some have not within timeout_s; they are named.
        """
        wanted = list(names)
        until = time.monotonic() + timeout_s
        while True:
            found = {name: self.after(name, at) for name in wanted}
            if all(found.values()):
                return {name: beat for name, beat in found.items() if beat}
            with self._changed:
                left = until - time.monotonic()
                if left <= 0:
                    silent = ", ".join(name for name, beat in found.items() if beat is None)
                    raise LabError(f"no beat of a new boot within {timeout_s:g} s: {silent}")
                self._changed.wait(min(left, 0.05))

    def made_anew(self, name: str, at: float) -> None:
        """A guest's disk was lost at an instant, and is made anew from an image: its generations begin again."""
        self._made_anew[name] = at

    def check(self, names: Iterable[str] | None = None) -> None:
        """Prove that no guest ran twice.

        Raises:
            BeatError: A beat went backwards, came twice, or two generations interleave.
        """
        for name in self.names() if names is None else names:
            records, lost = self.records(name), self._made_anew.get(name)
            # The old run may still say something in the milliseconds that a power cut takes; its disk is new from a boot on.
            anew = (n for n, record in enumerate(records) if lost is not None and record.boot and record.at > lost)
            first = next(anew, len(records))
            check(name, records[:first])
            check(name, records[first:])

    # Watching

    def _watch(self, notify: int) -> None:
        try:
            self._read(path.name for path in self._directory.glob("*.log"))
            while not self._ended.is_set():
                if select.select([notify], [], [], STOP_CHECK_S)[0]:
                    time.sleep(SETTLE_S)
                    self._read(_changed_files(os.read(notify, 65536)))
        finally:
            os.close(notify)

    def _read(self, files: Iterable[str]) -> None:
        now = time.monotonic()
        for file in files:
            name = file.removesuffix(".log")
            with self._lock:
                log = self._logs.setdefault(name, _Log())
                try:
                    with (self._directory / file).open("rb") as stream:
                        if os.fstat(stream.fileno()).st_size < log.offset:
                            log.offset, log.rest = 0, b""  # another file: the lab was purged and is up again
                        stream.seek(log.offset)
                        new = stream.read()
                except OSError:
                    continue
                log.offset += len(new)
                text, newline, rest = (log.rest + new).rpartition(b"\n")
                log.rest = rest
                log.lines += parse(text + newline, now)
                self._changed.notify_all()


def parse(text: bytes, at: float = 0.0) -> list[Beat]:
    """The records in a piece of log. A line that a power cut tore is no record; the boot that follows on the same line is one."""
    return [Beat(int(m[2], 16), int(m[3], 16), at, m[1] == b"BOOT") for m in LINE.finditer(text)]


def check(name: str, records: list[Beat]) -> None:
    """Prove by its records that a guest never ran twice at a time.

    The guest writes its disk before it speaks, so each boot is a new generation.

    Raises:
        BeatError: With the two records that contradict one another.
    """
    previous: Beat | None = None
    for record in records:
        if previous is not None and (wrong := _contradiction(previous, record)):
            raise BeatError(f"guest {name}: {wrong} ({_say(previous)}, then {_say(record)})")
        previous = record


def _contradiction(previous: Beat, record: Beat) -> str:
    if record.gen < previous.gen:
        return "an older generation spoke again: two copies ran at the same time"
    return _within(previous, record) if record.gen == previous.gen else _next(previous, record)


def _within(previous: Beat, record: Beat) -> str:
    if record.boot:
        return "a generation booted twice: two copies ran, or the disk lost a write"
    if not previous.boot and record.beat <= previous.beat:
        return "a beat went backwards: two copies ran at the same time"
    return ""


def _next(previous: Beat, record: Beat) -> str:
    if not record.boot:
        return "a new generation beats without having booted: two copies ran at the same time"
    if not previous.boot and record.gen == previous.gen + 1 and record.beat < previous.beat:
        return "a boot found an older beat on its disk than the one that was said: the disk lost a write"
    return ""


def _say(record: Beat) -> str:
    return f"{'BOOT' if record.boot else 'HB'} {record.gen} {record.beat} at {record.at:.3f}"


def _inotify(directory: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    notify: int = libc.inotify_init1(os.O_CLOEXEC)
    if notify < 0 or libc.inotify_add_watch(notify, bytes(directory), IN_MODIFY | IN_CREATE) < 0:
        raise LabError(f"inotify on {directory}: {os.strerror(ctypes.get_errno())}")
    return notify


def _changed_files(events: bytes) -> set[str]:
    found, offset = set(), 0
    while offset < len(events):
        _, _, _, length = struct.unpack_from("iIII", events, offset)
        found.add(events[offset + 16 : offset + 16 + length].rstrip(b"\0").decode())
        offset += 16 + length
    return {name for name in found if name.endswith(".log")}
