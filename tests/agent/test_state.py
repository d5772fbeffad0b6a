"""Tests of vmha.agent.state: what survives the agent, and what does not survive the boot (R9)."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_state import FAST, leased, open_state
from vmha.agent.lease_events import NEVER, Kept
from vmha.agent.state import FILE_NAME, State, read_boot_id
from vmha.agent.state_file import DiskFile, MemoryFile
from vmha.errors import InvalidField, Unavailable

VM = "11111111-1111-4111-8111-111111111111"
RECORD = leased(17, lasts_s=7.0, now=100.0)


def filled(folder: Path, boot_id: str = "boot-1") -> State:
    state = open_state(folder, boot_id=boot_id)
    state.joined("c1")
    state.configured(b"\x00config\xff")
    state.keep(RECORD)
    state.saw_generation(3)
    state.told({VM: 4}, {"other": 9})
    state.to_start({VM})
    state.fence({"fenced"})
    return state


def test_an_agent_that_restarts_in_the_same_boot_remembers(tmp_path: Path) -> None:
    """Lease, configuration, generation, epochs, tombstones, and starts and stops under way are read back."""
    filled(tmp_path)
    again = open_state(tmp_path)

    assert (again.cluster_id, again.incarnation, again.epoch(VM), again.newest_epoch("other")) == ("c1", 17, 4, 9)
    assert (again.kept, again.config, again.store_generation) == (RECORD, b"\x00config\xff", 3)
    assert (set(again.starting), set(again.fenced)) == ({VM}, {"fenced"})


@pytest.mark.parametrize(
    "kept",
    [
        Kept(),
        replace(RECORD, latched=True, vms_gone=True, lease_until=NEVER, cert_until=math.inf, carried_until=12.5),
        Kept(config=replace(FAST, enforced=False, voters=())),
    ],
)
def test_a_lease_is_read_as_it_was_written(tmp_path: Path, kept: Kept) -> None:
    """Infinite times and empty records included."""
    open_state(tmp_path).keep(kept)

    assert open_state(tmp_path).kept == kept


@pytest.mark.parametrize(("host_id", "boot_id"), [("h1", "boot-2"), ("h2", "boot-1")])
def test_nothing_survives_the_boot(tmp_path: Path, host_id: str, boot_id: str) -> None:
    """A file of another boot or another host is as good as none: the host registers anew."""
    filled(tmp_path)
    again = open_state(tmp_path, host_id, boot_id)

    assert (again.incarnation, again.epoch(VM), again.newest_epoch("other"), again.starting) == (0, 0, 0, frozenset())
    assert again.kept == Kept()


def broken_records() -> list[str]:
    good: dict[str, Any] = {}
    file = MemoryFile()
    State(file, MemoryFile(), "h1", "boot-1").keep(RECORD)
    good = json.loads(file.content or b"")
    broken = [good | {"lease": good["lease"] | {name: value}} for name, value in
              (("latched", 1), ("lease_until", None), ("lease_until", "nan"))]  # fmt: skip
    broken += [
        good | {"terms": {"version": 1}},
        good | {"epochs": [1]},
        good | {"config": "#"},
        {k: v for k, v in good.items() if k != "fenced"},
    ]
    return ["", "{", "[]", '{"version": 1}', '{"version": 99}', "\x00", *(json.dumps(record) for record in broken)]


@pytest.mark.parametrize("text", broken_records())
@pytest.mark.parametrize("marked", [False, True])
def test_a_broken_file_is_as_good_as_none(tmp_path: Path, text: str, marked: bool) -> None:
    """Cut off, empty, of another release: it does not stop the agent. A host with its marker has lost its lease then."""
    open_state(tmp_path).mark(marked)
    (tmp_path / FILE_NAME).write_text(text)

    assert open_state(tmp_path).kept == Kept(latched=marked)


def test_r9_a_host_with_its_marker_and_no_record_keeps_no_vm(tmp_path: Path) -> None:
    """Without a record a first installation keeps what runs. The marker outlives the boot and says that this is none."""
    assert open_state(tmp_path).kept == Kept()
    state = filled(tmp_path)
    state.mark(True)
    assert open_state(tmp_path).kept == RECORD

    (tmp_path / FILE_NAME).unlink()
    assert open_state(tmp_path).kept == Kept(latched=True)
    assert open_state(tmp_path, boot_id="boot-2").kept == Kept(latched=True)
    open_state(tmp_path).mark(False)
    assert open_state(tmp_path).kept == Kept()


def test_a_marker_that_cannot_be_read_counts_as_there(tmp_path: Path) -> None:
    """Whether VMs may be kept is not known: they are not."""

    class Unreadable(MemoryFile):
        def read(self) -> bytes | None:
            raise PermissionError

    assert State(MemoryFile(), Unreadable(), "h1", "boot-1").kept.latched


def test_epochs_only_grow(tmp_path: Path) -> None:
    """An older word on a VM changes nothing; a release ends what is held, a newer ownership ends the release."""
    state = filled(tmp_path)
    state.told({VM: 2}, {VM: 3})
    assert state.epoch(VM) == 4

    state.told({}, {VM: 5})
    assert (state.epoch(VM), state.owns(VM), state.newest_epoch(VM), state.owned) == (0, False, 5, frozenset())

    state.told({VM: 6}, {})
    assert (state.epoch(VM), set(state.owned)) == (6, {VM})


def test_a_state_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Without a durable state nothing that depends on it is done."""
    (tmp_path / "file").write_text("")
    state = State(DiskFile(tmp_path / "file" / "below"), MemoryFile(), "h1", "boot-1")
    with pytest.raises(Unavailable) as caught:
        state.keep(RECORD)

    assert caught.value.reason == "STATE_UNAVAILABLE"


def test_the_boot_id_must_be_readable(tmp_path: Path) -> None:
    """A missing or empty file is a configuration error that names it."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "good").write_text("b-1\n")

    assert read_boot_id(tmp_path / "good") == "b-1"
    for name in ("empty", "missing"):
        with pytest.raises(InvalidField, match=name):
            read_boot_id(tmp_path / name)
