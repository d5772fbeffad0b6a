"""Tests of vmha.agent.qemu_processes, on real processes with a QEMU's command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.agent.conftest import VM1, VM2
from tests.support.waiting import until
from vmha.agent.qemu_processes import QemuProcesses


@pytest.fixture
def guest() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like the QEMU of VM1; it ignores SIGTERM, as one that hangs does."""
    # Not a shell: what it forks has its command line for a moment.
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    command = ["qemu-system-x86_64", "-c", script, "-name", "guest=one", "-uuid", VM1]
    process = subprocess.Popen(command, executable=sys.executable)
    yield process
    process.kill()
    process.wait()


async def test_a_vm_is_known_by_its_process_and_ended_by_a_signal(guest: subprocess.Popen[bytes]) -> None:
    """It is alive until its process has ended; killing another VM does not touch it."""
    processes = QemuProcesses()
    await until(lambda: VM1 in processes.alive())
    processes.kill(VM2)
    assert guest.poll() is None

    processes.kill(VM1)

    assert guest.wait(5) == -9
    assert VM1 not in processes.alive()
    processes.close()


async def test_what_is_no_qemu_is_left_alone() -> None:
    """A process that merely names the UUID is none of ours."""
    other = subprocess.Popen(["sh", "-c", "sleep 30; :", "-uuid", VM2], executable="/bin/sh")
    processes = QemuProcesses()
    try:
        assert VM2 not in processes.alive()
        processes.kill(VM2)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        processes.close()
