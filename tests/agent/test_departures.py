"""Tests of vmha.agent.departures: what left this host, and no manager has heard of, outlives the boot (R22)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.agent.conftest import running
from tests.support.waiting import until
from vmha.agent.departures import DEPARTURES_NAME, KEPT, Departures
from vmha.agent.state_file import DiskFile, MemoryFile, StateFile
from vmha.errors import Unavailable
from vmha.model import VmState

HERE = (VmState.RUNNING, "")
LEFT = (VmState.ABSENT, "migrated")


def opened(file: StateFile) -> Departures:
    """Of a host that holds v1 under epoch 4."""
    return Departures(file, lambda vm_id: 4 if vm_id == "v1" else 0)


async def test_what_left_is_on_disk_until_a_manager_has_taken_note_of_it(tmp_path: Path) -> None:
    """The next boot's agent finds it, with the epoch under which it left; after the manager's word nobody does."""
    path = tmp_path / DEPARTURES_NAME
    before = opened(DiskFile(path))
    async with running(before.run()):
        assert [before.note("v1", "one", *LEFT), before.note("v2", "two", VmState.SHUTOFF, "migrated")] == [4, 0]
        await until(lambda: path.exists() and "v2" in path.read_text())

    again = Departures(DiskFile(path), lambda vm_id: 0)
    assert {vm_id: (left.name, left.epoch) for vm_id, left in again.untold.items()} == {"v1": ("one", 4), "v2": ("two", 0)}
    async with running(again.run()):
        again.told({"v1": again.untold["v1"].number})
        await until(lambda: "v1" not in path.read_text())
        assert opened(DiskFile(path)).untold.keys() == {"v2"}
        again.superseded("v2")
        await until(lambda: not path.exists())


async def test_a_disk_that_hangs_holds_up_nobody() -> None:
    """The record is written beside the event loop: a host whose disk stands still must be able to stop its guests."""
    asked, answers = threading.Event(), threading.Event()

    class Hung(MemoryFile):
        def write(self, content: bytes) -> None:
            asked.set()
            answers.wait(10.0)
            super().write(content)

    file = Hung()
    departures = opened(file)
    async with running(departures.run()):
        departures.note("v1", "one", *LEFT)
        await until(asked.is_set)
        assert file.content is None
        answers.set()
        await until(lambda: file.content is not None)


def test_a_word_on_an_older_departure_settles_no_newer_one() -> None:
    """It came back and left again while the word on the first time was on its way."""
    departures = opened(MemoryFile())
    departures.note("v1", "one", *LEFT)
    first = departures.untold["v1"].number
    departures.note("v1", "one", *HERE)
    departures.note("v1", "one", *LEFT)

    departures.told({"v1": first})

    assert departures.untold.keys() == {"v1"}


def test_what_was_told_is_not_put_on_record_again() -> None:
    """Its definition stays behind for a while, and says each time that it has left."""
    departures = opened(MemoryFile())
    departures.note("v1", "one", VmState.SHUTOFF, "migrated")
    departures.told({"v1": departures.untold["v1"].number})

    assert departures.note("v1", "one", VmState.SHUTOFF, "migrated") == 4
    assert departures.untold == {}


def test_what_is_this_hosts_anew_has_not_left_again() -> None:
    """Until it executes, its definition says as before that it left; that is of the epoch under which it did."""
    epochs = {"v1": 4}
    departures = Departures(MemoryFile(), lambda vm_id: epochs[vm_id])
    departures.note("v1", "one", VmState.SHUTOFF, "migrated")
    departures.superseded("v1")
    epochs["v1"] = 5

    assert departures.note("v1", "one", VmState.SHUTOFF, "migrated") == 4
    departures.note("v1", "one", *HERE)
    assert departures.note("v1", "one", VmState.SHUTOFF, "migrated") == 5


@pytest.mark.parametrize(
    ("state", "reason", "back"),
    [(VmState.PAUSED, "migration", False), (VmState.SHUTOFF, "failed", False), (VmState.PAUSED, "user", True), (*HERE, True)],
)
def test_it_is_back_when_it_executes_here(state: VmState, reason: str, back: bool) -> None:
    """Not when it is only coming in, or that has failed."""
    departures = opened(MemoryFile())
    departures.note("v1", "one", *LEFT)

    departures.note("v1", "one", state, reason)

    assert ("v1" not in departures.untold) is back


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (VmState.SHUTOFF, "unknown", "migrated"),
        (VmState.ABSENT, "undefined", "migrated"),
        (VmState.RUNNING, "", ""),
    ],
)
def test_what_became_of_a_definition_that_was_left_behind_counts_for_nothing(state: VmState, reason: str, expected: str) -> None:
    """libvirt forgets at a reboot why it is off, and a person may clean up behind it; what executes is here."""
    departures = opened(MemoryFile())
    departures.note("v1", "one", *LEFT)

    assert departures.explain("v1", state, reason) == expected
    assert departures.explain("v2", state, reason) == reason


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b'{"v1": {}}', b'{"v1": "one"}'])
def test_a_broken_record_is_none(content: bytes) -> None:
    """The agent starts without it."""
    file = MemoryFile()
    file.content = content

    assert opened(file).untold == {}


def test_the_record_is_bounded() -> None:
    """The oldest go first."""
    departures = opened(MemoryFile())
    for number in range(KEPT + 2):
        departures.note(f"v{number}", "x", *LEFT)

    assert list(departures.untold) == [f"v{number}" for number in range(2, KEPT + 2)]


async def test_a_disk_that_takes_nothing_keeps_it_from_nobody() -> None:
    """It is told from memory all the same, and what changes next is tried again."""

    refused = threading.Event()

    class Full(MemoryFile):
        def write(self, content: bytes) -> None:
            if b"v2" not in content:
                refused.set()
                raise Unavailable("STATE_UNAVAILABLE", "no space left on device")
            super().write(content)

    file = Full()
    departures = opened(file)
    async with running(departures.run()):
        departures.note("v1", "one", *LEFT)
        await until(refused.is_set)
        assert departures.untold.keys() == {"v1"}
        departures.note("v2", "two", *LEFT)
        await until(lambda: file.content is not None)

    assert opened(file).untold.keys() == {"v1", "v2"}
