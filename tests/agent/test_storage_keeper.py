"""Tests of vmha.agent.storage_keeper: what hosts learn of the storage that they share, and keep when it hangs."""

from __future__ import annotations

import pytest

from tests.agent.conftest import running
from tests.support.hypervisor import FACTS
from tests.support.storage import TOKEN, MemoryStorage
from tests.support.waiting import until
from vmha.agent.shared_proof import NOT_SEEN, Owner
from vmha.agent.storage import Mount
from vmha.agent.storage_keeper import StorageKeeper
from vmha.facts import DiskStorage, SharedDirectory, VmDisk, VmFacts

SHARED, TPM = "/srv/shared", "/srv/shared/swtpm"
FILE = VmFacts(disks=(VmDisk(target="vda", source=f"{SHARED}/vm1", root=True),))


class Cluster:
    """Two hosts that mount one export at /srv/shared."""

    def __init__(self, *, tpm: str = TPM) -> None:
        self.ports = [MemoryStorage(Mount("/", "ext4"), Mount(SHARED, "nfs4")) for _ in range(2)]
        self.ports[0].shared[SHARED] = self.ports[1].shared[SHARED] = {}
        self.one, self.two = (
            StorageKeeper(port, name, (SHARED,), tpm) for port, name in zip(self.ports, ("h1", "h2"), strict=True)
        )

    async def prove(self) -> None:
        for keeper in (self.one, self.two, self.one):
            await keeper.look()


async def placed(keeper: StorageKeeper, facts: VmFacts = FILE) -> tuple[DiskStorage, str]:
    await keeper.locate([(facts, {})])
    disk = keeper.place(facts, {}).disks[0]
    return disk.storage, disk.storage_id


async def test_s13_a_directory_is_shared_when_another_host_writes_there() -> None:
    """Before: no storage id, and the reason. Then: the id, in the host's facts and in those of the VMs."""
    cluster = Cluster()
    await cluster.one.look()
    assert cluster.one.host(FACTS).shared_directories == (SharedDirectory(path=SHARED, problem=NOT_SEEN),)
    assert await placed(cluster.one) == (DiskStorage.SHARED, "")

    await cluster.prove()

    facts = cluster.one.host(FACTS)
    assert facts.shared_directories == (SharedDirectory(path=SHARED, storage_id=TOKEN),)
    assert facts.storage_id(f"{SHARED}/vm1") == TOKEN
    assert await placed(cluster.one) == (DiskStorage.SHARED, TOKEN)


async def test_what_was_known_is_kept_while_storage_hangs() -> None:
    """The directory has a problem and names no storage, so that nothing is started from it; disks lie where they lay."""
    cluster = Cluster()
    await cluster.prove()
    await cluster.one.locate([(FILE, {})])
    cluster.ports[0].hung.add(SHARED)
    for _ in range(3):
        await cluster.one.look()

    assert cluster.one.host(FACTS).shared_directories == (SharedDirectory(path=SHARED, problem=f"{SHARED} does not answer"),)
    assert cluster.one.host(FACTS).tpm_storage_id == ""
    assert await placed(cluster.one) == (DiskStorage.SHARED, TOKEN)
    cluster.ports[0].hung.clear()
    await cluster.one.look()
    assert cluster.one.host(FACTS).storage_id(f"{SHARED}/vm1") == TOKEN


async def test_a_link_that_cannot_be_followed_is_no_local_disk() -> None:
    """An agent that starts while storage hangs calls nothing local: it would be made anew from its image."""
    port = MemoryStorage(Mount("/", "ext4"), Mount("/mnt", "xfs"))
    port.hung.add("/mnt")
    keeper = StorageKeeper(port, "h1")
    await keeper.look()
    disk = VmFacts(disks=(VmDisk(target="vda", source="/mnt/vm1"),))

    assert await placed(keeper, disk) == (DiskStorage.UNSPECIFIED, "")
    port.hung.clear()
    await keeper.look()
    assert await placed(keeper, disk) == (DiskStorage.LOCAL, "")


async def test_links_are_followed_anew_with_each_look() -> None:
    """An image folder that is moved to shared storage, with a link left behind, is not taken for a local one for ever."""
    port = MemoryStorage(Mount("/", "ext4"), Mount("/mnt", "ceph"))
    keeper = StorageKeeper(port, "h1")
    disk = VmFacts(disks=(VmDisk(target="vda", source="/images/vm1"),))
    await keeper.look()
    assert await placed(keeper, disk) == (DiskStorage.LOCAL, "")

    port.links["/images"] = "/mnt/images"
    await keeper.look()

    assert await placed(keeper, disk) == (DiskStorage.SHARED, "")


@pytest.mark.parametrize("tpm", [TPM, SHARED])
@pytest.mark.parametrize(("owner", "problem"), [(Owner(0, 0o711), ""), (Owner(65534, 0o711), "belongs to user 65534")])
async def test_s13_s21_tpm_states_on_shared_storage_with_the_right_owner(tpm: str, owner: Owner, problem: str) -> None:
    """The host says on which storage they lie; with a wrong owner it says what is wrong, and no storage."""
    cluster = Cluster(tpm=tpm)
    cluster.ports[0].owners[tpm] = owner
    await cluster.prove()
    facts = cluster.one.host(FACTS)

    assert facts.tpm_storage_id == ("" if problem else TOKEN)
    problems = {shared.path: shared.problem for shared in facts.shared_directories}
    assert problem in problems.get(tpm, "")
    assert bool(problems.get(tpm)) == bool(problem)


async def test_tpm_states_on_a_hosts_own_disk_are_no_problem() -> None:
    """libvirt does there as it likes; nothing is said."""
    cluster = Cluster(tpm="/var/lib/libvirt/swtpm")
    cluster.ports[0].owners["/var/lib/libvirt/swtpm"] = Owner(107, 0o700)
    await cluster.prove()
    facts = cluster.one.host(FACTS)

    assert facts.tpm_storage_id == ""
    assert [shared.problem for shared in facts.shared_directories] == [""]


async def test_hosts_that_start_together_prove_it_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """They look again without waiting for the slow round, and say when something is news; where nothing is shared they do not."""
    monkeypatch.setattr("vmha.agent.storage_keeper.EARLY_S", (0.01, 0.01, 0.01))
    cluster, news = Cluster(), list[str]()
    await cluster.one.look()
    await cluster.two.look()
    alone = StorageKeeper(MemoryStorage(), "h3")
    async with (
        running(cluster.one.run(lambda: news.append("h1"))),
        running(cluster.two.run(lambda: news.append("h2"))),
        running(alone.run(lambda: news.append("h3"))),
    ):
        await until(lambda: sorted(news) == ["h1", "h2"])

    assert cluster.two.host(FACTS).storage_id(f"{SHARED}/vm1") == TOKEN
