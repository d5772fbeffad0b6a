"""The QEMU processes of this host, by the kernel's word. Blocking and quick; libvirt is not asked, for it may hang.

Only processes of the agent's own PID namespace are looked at: what another namespace runs belongs to another host (a lab's), or
can't be seen at all (a container without the host's processes).
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_EMULATORS: Final = (b"qemu", b"kvm")


class QemuProcesses:
    """Whom a signal reaches when libvirt does not answer. Used by one thread at a time.

    A process is held by a descriptor from when it was first seen: its number can't be taken for another's, and one that was
    killed counts until its last thread has ended. Its command line would be gone earlier, while it may still write.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._held: dict[int, tuple[str, int]] = {}

    def alive(self) -> frozenset[str]:
        """The UUIDs of VMs that have a process.

        Raises:
            OSError: The list of processes can't be read.
        """
        self._look()
        return frozenset(vm_id for vm_id, _ in self._held.values())

    def kill(self, vm_id: str) -> None:
        """SIGKILL to the VM's process, if there is one.

        Raises:
            OSError: The list of processes can't be read.
        """
        if not any(held == vm_id for held, _ in self._held.values()):
            self._look()
        for held, descriptor in list(self._held.values()):
            if held == vm_id:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def close(self) -> None:
        """Let go of all processes."""
        for _, descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _look(self) -> None:
        for pid, vm_id in self._running():
            if pid not in self._held:
                with suppress(ProcessLookupError):
                    self._held[pid] = (vm_id, os.pidfd_open(pid))
        poll = select.poll()
        pids = {descriptor: pid for pid, (_, descriptor) in self._held.items()}
        for descriptor in pids:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0) if pids else []:
            os.close(descriptor)
            del self._held[pids[descriptor]]

    def _running(self) -> Iterator[tuple[int, str]]:
        own = (self._proc / "self/ns/pid").readlink()
        for entry in self._proc.iterdir():
            if not entry.name.isdigit():
                continue
            vm_id = _vm_of(entry)
            # A process that is gone meanwhile has no namespace to read.
            with suppress(OSError):
                if vm_id and (entry / "ns/pid").readlink() == own:
                    yield int(entry.name), vm_id


def _vm_of(entry: Path) -> str:
    """The UUID that libvirt gave a QEMU on its command line; empty for any other process."""
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    program = words[0].rpartition(b"/")[2]
    if not any(name in program for name in _EMULATORS) or b"-uuid" not in words[:-1]:
        return ""
    return words[words.index(b"-uuid") + 1].decode("ascii", "replace").lower()
