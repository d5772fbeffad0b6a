"""What every StoragePort promises, tried on real files, on the double of other tests and on the simulated one."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.support.storage import MemoryStorage
from vmha.agent import shared_files
from vmha.agent.shared_files import Unfit
from vmha.agent.storage import Mount, mount_of
from vmha.agent.storage_port import HostStorage, StoragePort
from vmha.sim.storage import SHARED, SimExports, SimStorage

Rig = tuple[StoragePort, StoragePort, str]


@pytest.fixture(params=["memory", "disk", "simulated"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """Two hosts' views of one storage, and a directory on it."""
    if request.param == "memory":
        one, two = MemoryStorage(), MemoryStorage()
        one.shared["/srv/shared"] = two.shared["/srv/shared"] = {}
        return one, two, "/srv/shared"
    if request.param == "simulated":
        exports = SimExports(tpm=False)
        return SimStorage(exports), SimStorage(exports), SHARED
    return HostStorage(), HostStorage(), str(tmp_path)


async def test_two_hosts_read_one_token_and_each_others_stamps(rig: Rig) -> None:
    """What one writes the other reads; only its own stamp where no others are asked for."""
    one, two, directory = rig
    token = (await one.read(directory, "h1", others=True)).token
    await one.write(directory, "h1", "1 -")
    await two.write(directory, "h2", "1 -")

    found = await two.read(directory, "h2", others=True)

    assert found.token == token
    assert found.stamps == {"h1": "1 -", "h2": "1 -"}
    assert (await one.read(directory, "h1", others=False)).stamps == {"h1": "1 -"}


async def test_a_directory_that_is_not_there_is_unfit(rig: Rig) -> None:
    """Reading and writing say so."""
    one, _, directory = rig
    for act in (one.read(f"{directory}/none", "h1", others=True), one.write(f"{directory}/none", "h1", "1 -")):
        with pytest.raises(Unfit, match="cannot be opened"):
            await act


async def test_paths_are_on_a_mount_and_resolved(rig: Rig) -> None:
    """Every path comes back, and lies on some mount."""
    one, _, directory = rig
    mounts = one.mounts()

    assert mount_of(directory, mounts) is not None
    assert await one.resolve([f"{directory}/vm1", "/vm2"]) == {f"{directory}/vm1": f"{directory}/vm1", "/vm2": "/vm2"}


async def test_links_are_followed_on_a_real_disk(tmp_path: Path) -> None:
    """A symbolic link anywhere in the path is followed."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert await HostStorage().resolve([f"{tmp_path}/link/vm1"]) == {f"{tmp_path}/link/vm1": f"{tmp_path}/real/vm1"}


async def test_whose_a_directory_is_on_a_real_disk(tmp_path: Path) -> None:
    """Owner and mode, or that there is none."""
    port = HostStorage()
    found = await port.owner(str(tmp_path))

    assert found is not None
    assert found.uid == os.geteuid()
    assert await port.owner(f"{tmp_path}/none") is None


async def test_storage_that_hangs_costs_a_bounded_wait_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dead NFS blocks for ever: the first question ends in time, the next ones at once, other mounts answer all along."""
    port, gate = HostStorage(answer_s=0.5), threading.Event()
    real = shared_files.read
    dead = (Mount("/", "ext4"), Mount("/dead", "nfs4"))
    monkeypatch.setattr(shared_files, "read", lambda path, *a, **k: gate.wait(10) if path == "/dead" else real(path, *a, **k))
    monkeypatch.setattr("vmha.agent.storage_port.parse_mounts", lambda text: dead)
    assert port.mounts() == dead

    for _ in range(3):
        with pytest.raises(Unfit, match="/dead does not answer"):
            await port.read("/dead", "h1", others=True)
    assert await port.resolve(["/dead/vm1", "/vm2"]) == {"/vm2": "/vm2"}
    assert (await port.read(str(tmp_path), "h1", others=True)).token
    assert port._bulkheads["/dead"].lost_calls == 1
    gate.set()


async def test_the_hosts_mounts_are_the_agents_own_where_it_may_not_see_them(tmp_path: Path) -> None:
    """Without access to process 1, the agent's own mounts and root count."""
    port = HostStorage(process=tmp_path / "none")

    assert mount_of("/", port.mounts()) is not None
    assert await port.resolve(["/vm1"]) == {"/vm1": "/vm1"}
