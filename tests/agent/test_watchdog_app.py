"""Tests of vmha.agent.watchdog_app: the process that feeds the watchdog, on a stand-in device."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.agent.conftest import VM1
from tests.support.agent_state import leased, open_state
from tests.support.waiting import until
from vmha.agent.state_file import DiskFile
from vmha.agent.watchdog import Device
from vmha.agent.watchdog_app import Feeder, LinuxWatchdog, run
from vmha.agent.watchdog_life import LIFE_NAME, WatchdogLife
from vmha.config import AgentSettings
from vmha.errors import InvalidField


class Bowl:
    """A watchdog that notes what it gets."""

    def __init__(self) -> None:
        self.fed = 0
        self.closed: list[bool] = []

    def feed(self) -> None:
        self.fed += 1

    def close(self, *, disarm: bool) -> None:
        self.closed.append(disarm)


class Vms:
    """The kernel's list; None: it can't be read."""

    def __init__(self, *alive: str) -> None:
        self.now: frozenset[str] | None = frozenset(alive)

    def alive(self) -> frozenset[str]:
        if self.now is None:
            raise PermissionError
        return self.now


class Time:
    """A clock that stands."""

    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


@pytest.fixture
def settings(tmp_path: Path) -> AgentSettings:
    """Of h1, with a watchdog of two seconds."""
    (tmp_path / "boot_id").write_text("boot-1")
    return AgentSettings(
        host_id="h1",
        managers=("m:1",),
        state_dir=tmp_path,
        marker_dir=tmp_path / "disk",
        boot_id_file=tmp_path / "boot_id",
        watchdog_device=tmp_path / "watchdog",
        watchdog_timeout_s=2,
        watchdog_reset_s=0.5,
    )


def test_an_agent_that_stalls_with_vms_has_its_host_reset(tmp_path: Path, settings: AgentSettings) -> None:
    """The record's guard is not renewed any more: fed until its time is up, then left alone; without VMs fed on."""
    open_state(tmp_path).keep(leased(17, lasts_s=7.6, now=100.0))
    bowl, vms, time = Bowl(), Vms(VM1), Time(105.0)
    feeder = Feeder(settings, bowl, vms, time)
    assert feeder.look()
    time.time = 120.0
    assert not feeder.look()
    assert bowl.fed == 1
    vms.now = None
    assert not feeder.look(), "who can't see the VMs must take them for alive"
    vms.now = frozenset()
    assert feeder.look()


def test_an_orderly_stop_disarms_it_only_when_nothing_runs_unguarded(tmp_path: Path, settings: AgentSettings) -> None:
    """Guard holds: disarmed. Guard over and VMs alive: the host is reset."""
    open_state(tmp_path).keep(leased(17, lasts_s=7.6, now=100.0))
    for now, disarmed in ((105.0, True), (120.0, False)):
        bowl = Bowl()
        Feeder(settings, bowl, Vms(VM1), Time(now)).close()
        assert bowl.closed == [disarmed]


def test_r10_each_look_shows_the_agent_that_a_watchdog_runs(tmp_path: Path, settings: AgentSettings) -> None:
    """Fed or not: a host that is about to be reset has one. An orderly stop withdraws it before the device is disarmed."""
    open_state(tmp_path).keep(leased(17, lasts_s=7.6, now=100.0))
    life = WatchdogLife(DiskFile(tmp_path / LIFE_NAME), "boot-1")

    class Last(Bowl):
        def close(self, *, disarm: bool) -> None:
            super().close(disarm=disarm)
            assert (life.armed(time.time) is None) is disarm

    time = Time(105.0)
    for now, fed in ((105.0, True), (120.0, False)):
        time.time = now
        bowl = Last()
        feeder = Feeder(settings, bowl, Vms(VM1), time)
        assert life.armed(now) is None
        assert feeder.look() is fed
        assert life.armed(now) == Device(timeout_s=2.0, reset_s=0.5)
        feeder.close()
        assert bowl.closed == [fed]


def test_a_proof_that_cannot_be_written_stops_no_feeding(tmp_path: Path, settings: AgentSettings) -> None:
    """The host would be reset for a full disk; the agent announces no watchdog instead."""
    (tmp_path / LIFE_NAME).mkdir()
    bowl = Bowl()
    feeder = Feeder(settings, bowl, Vms(), Time(105.0))
    assert feeder.look()
    feeder.close()
    assert (bowl.fed, bowl.closed) == (2, [True])


@pytest.mark.parametrize(("content", "boot_id"), [(None, "boot-1"), ("{", "boot-1"), ("good", "boot-2")])
def test_r9_a_lost_record_on_a_leased_host_starts_the_time(
    tmp_path: Path, settings: AgentSettings, content: str | None, boot_id: str
) -> None:
    """With the marker VMs without a record have T_kill, the standard profile's for want of a better one; without it none."""
    (tmp_path / "boot_id").write_text(boot_id)
    if content == "good":
        open_state(tmp_path, boot_id="boot-1").keep(replace(leased(17), latched=False))
    elif content is not None:
        (tmp_path / "agent.json").write_text(content)
    time = Time(1000.0)
    feeder = Feeder(settings, Bowl(), Vms(VM1), time)
    assert feeder.look()
    time.time = 5000.0
    assert feeder.look()

    open_state(tmp_path, boot_id=boot_id).mark(True)
    assert feeder.look()
    time.time += 30.0
    assert feeder.look()
    time.time += 10.0
    assert not feeder.look()


async def test_it_feeds_until_it_is_stopped(settings: AgentSettings) -> None:
    """Several times within one timeout; an orderly stop disarms it."""
    bowl, stop = Bowl(), asyncio.Event()
    task = asyncio.create_task(run(settings, watchdog=bowl, processes=Vms(), stop=stop))
    await until(lambda: bowl.fed >= 2)
    stop.set()
    await task

    assert bowl.closed == [True]


async def test_what_is_no_watchdog_is_refused(tmp_path: Path, settings: AgentSettings) -> None:
    """A missing device, a plain file and no setting at all are said by name."""
    with pytest.raises(InvalidField, match="cannot be opened"):
        await run(settings)
    (tmp_path / "watchdog").write_text("")
    with pytest.raises(InvalidField, match="does not take a timeout"):
        LinuxWatchdog(tmp_path / "watchdog", 2)
    with pytest.raises(InvalidField, match="is required"):
        await run(settings.model_copy(update={"watchdog_device": None}))
