"""Tests of vmha.agent.state: what survives the agent, and what does not survive the boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmha.agent.state import FILE_NAME, State, read_boot_id
from vmha.errors import InvalidField, Unavailable

VM = "11111111-1111-4111-8111-111111111111"


def filled(folder: Path, boot_id: str = "boot-1") -> State:
    state = State(folder, "h1", boot_id)
    state.joined("c1")
    state.registered(17)
    state.told({VM: 4}, {"other": 9})
    state.to_start({VM})
    return state


def test_an_agent_that_restarts_in_the_same_boot_remembers(tmp_path: Path) -> None:
    """Incarnation, epochs, tombstones and starts under way are read back."""
    filled(tmp_path)
    again = State(tmp_path, "h1", "boot-1")

    assert (again.cluster_id, again.incarnation, again.epoch(VM), again.newest_epoch("other")) == ("c1", 17, 4, 9)
    assert again.starting == {VM}


@pytest.mark.parametrize(("host_id", "boot_id"), [("h1", "boot-2"), ("h2", "boot-1")])
def test_nothing_survives_the_boot(tmp_path: Path, host_id: str, boot_id: str) -> None:
    """A file of another boot or another host is as good as none: the host registers anew."""
    filled(tmp_path)
    again = State(tmp_path, host_id, boot_id)

    assert (again.incarnation, again.epoch(VM), again.newest_epoch("other"), again.starting) == (0, 0, 0, frozenset())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 99}', "\x00"])
def test_a_broken_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    """A file that is cut off, empty or of another release makes the host register anew; it does not stop the agent."""
    (tmp_path / FILE_NAME).write_text(text)

    assert State(tmp_path, "h1", "boot-1").incarnation == 0


def test_epochs_only_grow(tmp_path: Path) -> None:
    """An older word on a VM changes nothing; a release ends what is held, a newer ownership ends the release."""
    state = filled(tmp_path)
    state.told({VM: 2}, {VM: 3})
    assert state.epoch(VM) == 4

    state.told({}, {VM: 5})
    assert (state.epoch(VM), state.owns(VM), state.newest_epoch(VM)) == (0, False, 5)

    state.told({VM: 6}, {})
    assert state.epoch(VM) == 6


def test_a_state_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Without a durable state nothing that depends on it is done."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable) as caught:
        State(tmp_path / "file" / "below", "h1", "boot-1").registered(1)

    assert caught.value.reason == "STATE_UNAVAILABLE"


def test_the_boot_id_must_be_readable(tmp_path: Path) -> None:
    """A missing or empty file is a configuration error that names it."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "good").write_text("b-1\n")

    assert read_boot_id(tmp_path / "good") == "b-1"
    for name in ("empty", "missing"):
        with pytest.raises(InvalidField, match=name):
            read_boot_id(tmp_path / name)
