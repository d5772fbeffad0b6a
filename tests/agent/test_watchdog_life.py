"""Tests of vmha.agent.watchdog_life: what the agent takes for a watchdog that runs (R10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmha.agent.state_file import DiskFile, MemoryFile
from vmha.agent.watchdog import Device
from vmha.agent.watchdog_life import WatchdogLife

DEVICE = Device(timeout_s=2.0, reset_s=0.5)


def test_r10_a_proof_lasts_for_the_devices_timeout(tmp_path: Path) -> None:
    """Then the host was reset, or there is no watchdog; the next look proves it again."""
    feeder, agent = (WatchdogLife(DiskFile(tmp_path / "watchdog.json"), "boot-1") for _ in range(2))
    assert agent.armed(100.0) is None
    feeder.prove(DEVICE, 100.0)
    assert agent.armed(100.0) == agent.armed(101.9) == DEVICE
    assert agent.armed(102.0) is None
    feeder.prove(DEVICE, 102.5)
    assert agent.armed(103.0) == DEVICE


def test_r10_what_is_withdrawn_ends_at_once() -> None:
    """A device that is disarmed in order is none from there on."""
    life = WatchdogLife(MemoryFile(), "boot-1")
    life.prove(DEVICE, 100.0)
    life.withdraw()
    assert life.armed(100.0) is None


def test_r10_another_boots_word_and_a_clock_that_is_ahead_prove_nothing() -> None:
    """BOOTTIME begins anew with each boot: an old proof would look fresh, or be of the future."""
    file = MemoryFile()
    WatchdogLife(file, "boot-1").prove(DEVICE, 100.0)
    assert WatchdogLife(file, "boot-2").armed(100.5) is None
    assert WatchdogLife(file, "boot-1").armed(99.9) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"boot_id": "boot-1", "at": null, "timeout_s": 2, "reset_s": 1}', b"\xff"]
)
def test_a_broken_proof_is_none(content: bytes) -> None:
    """Whatever is in the file, the agent goes on."""
    file = MemoryFile()
    file.write(content)
    assert WatchdogLife(file, "boot-1").armed(100.0) is None


def test_a_proof_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """So is a folder in its place."""
    (tmp_path / "watchdog.json").mkdir()
    assert WatchdogLife(DiskFile(tmp_path / "watchdog.json"), "boot-1").armed(100.0) is None
