"""The live display on a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from io import StringIO

from rich.console import Console

from tests.cli.conftest import Vmha
from tests.cli.plane import Plane
from vmha.cli.progress import LiveTable
from vmha.v1 import evacuation_service_pb2 as ev


async def test_a_terminal_gets_a_live_table(vmha: Vmha) -> None:
    """Rows that change in place; the exit code is the same."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_PARTIALLY_FAILED, failed=1)
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vmha.cli.main", "evacuation", "watch",
        stdin=slave, stdout=slave, stderr=slave, env=vmha.environment(TERM="xterm", COLUMNS="120", LINES="40"),
    )  # fmt: skip
    os.close(slave)
    shown = await asyncio.to_thread(_read_all, master)
    code = await asyncio.wait_for(process.wait(), 20)
    os.close(master)

    assert code == 5
    assert "\x1b[" in shown
    for word in ("web-1", "web-2", "h2", "MOVED", "FAILED", "h1: PARTIALLY_FAILED; 2 VMs: 1 moved, 1 failed"):
        assert word in shown


def _read_all(master: int) -> str:
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:
            # The last holder of the other side is gone.
            return shown.decode()
        shown += chunk


def test_each_vm_has_one_row_that_changes() -> None:
    """However many events it has."""
    plane = Plane()
    plane.settle()
    plane.evacuated(ev.EVACUATION_STATE_SUCCEEDED)
    text = StringIO()
    display = LiveTable(Console(file=text, width=120, force_terminal=False))
    with display:
        for event in plane.evacuation_events:
            display.event(event)

    rows = [line.split() for line in text.getvalue().splitlines() if line.startswith("web-")]
    assert rows == [["web-1", "h1", "h2", "settled", "MOVED"], ["web-2", "h1", "h2", "settled", "MOVED"]]
