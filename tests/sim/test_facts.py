"""What the agents of a simulated cluster report of hosts and VMs, through the product's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sim.scenes import raw
from vmha.domain_xml import parse_domain
from vmha.errors import InvalidField
from vmha.facts import DiskStorage, VmDisk
from vmha.sim.history import Refused
from vmha.sim.observer import Books
from vmha.sim.scenario import IMAGE, parse
from vmha.sim.storage import IMAGES, SHARED, TPM
from vmha.sim.timeloop import VirtualLoop
from vmha.sim.world import World


@pytest.fixture
def settle() -> Iterator[Callable[..., Books]]:
    """A function that settles a scenario and returns what the store holds then."""
    worlds: list[World] = []

    def settled(**changes: Any) -> Books:
        world = World(VirtualLoop(), parse(raw(**changes)))
        worlds.append(world)
        world.loop.run_until(world.settle())
        return world.loop.run_until(world.books())

    yield settled
    for world in worlds:
        world.loop.run_until(world.close())
        world.loop.close()


def vm(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "host": "h1", **fields}


def root_disk(books: Books, name: str) -> VmDisk:
    disk = books.vms[name].facts.root_disk
    assert disk is not None
    return disk


def test_disks_lie_where_the_scenario_says(settle: Callable[..., Books]) -> None:
    """Volume, shared and local root disks, from the XML, the mounts and the proof; every host shares one storage."""
    vms = [vm("vm1", volume_host="h3"), vm("vm2", root_disk="shared"), vm("vm3", root_disk="local"),
           vm("vm4", root_disk="local", image=""), vm("vm5", root_disk="local", image="fedora-40")]  # fmt: skip
    books = settle(vms=vms)
    hosts = [host.facts for host in books.hosts.values() if host.facts is not None]
    ids = {facts.storage_id(f"{SHARED}/vm") for facts in hosts}

    assert (root_disk(books, "vm1").storage, root_disk(books, "vm1").servers) == (DiskStorage.VOLUME, ("h3",))
    assert root_disk(books, "vm2").storage is DiskStorage.SHARED
    assert len(hosts) == 3
    assert ids == {root_disk(books, "vm2").storage_id} != {""}
    assert root_disk(books, "vm3").storage is DiskStorage.LOCAL
    images = {name: record.facts.image for name, record in books.vms.items()}
    assert images == {"vm1": "", "vm2": "", "vm3": IMAGE, "vm4": "", "vm5": "fedora-40"}
    assert {facts.storage_id(f"{IMAGES}/{IMAGE}") for facts in hosts} == ids


@pytest.mark.parametrize("shared", [True, False])
def test_s21_the_state_of_tpms_lies_where_the_scenario_says(settle: Callable[..., Books], shared: bool) -> None:
    """On one storage of all hosts, or on each host's own disk."""
    books = settle(cluster={"vtpm_state_shared": shared}, vms=[vm("vm1", vtpm=True)])
    found = {host.facts.tpm_storage_id for host in books.hosts.values() if host.facts is not None}

    assert len(found) == 1
    assert (found != {""}) is shared
    facts = [host.facts for host in books.hosts.values() if host.facts is not None]
    assert (TPM in {directory.path for each in facts for directory in each.shared_directories}) is shared


def test_s22_what_was_added_to_a_running_vm_is_there_on_the_next_host() -> None:
    """hot_add changes what runs and not its definition; the product knows it, and starts the VM elsewhere with it."""
    world = World(VirtualLoop(), parse(raw(cluster={"fencing": "always"}, vms=[vm("vm1", vcpus=2, memory_mib=1024)])))
    try:
        world.loop.run_until(world.settle())
        for _ in range(2):
            world.loop.run_until(world.hot_add(vm="vm1", vcpus=1, memory_mib=512))
        world.loop.run_for(1.0)
        before = world.loop.run_until(world.books()).vms["vm1"]
        world.loop.run_until(world.crash(host="h1"))
        world.loop.run_for(30.0)
        after = world.loop.run_until(world.books()).vms["vm1"]
        with pytest.raises(Refused, match="may have 66 vCPUs"):
            world.loop.run_until(world.hot_add(vm="vm1", vcpus=64))
    finally:
        world.loop.run_until(world.close())
        world.loop.close()

    assert (before.facts.vcpus, before.facts.memory_mib, before.owner_host_id) == (4, 2048, "h1")
    assert (after.facts.vcpus, after.facts.memory_mib) == (4, 2048)
    assert after.owner_host_id in {"h2", "h3"}
    assert parse_domain(after.domain_xml).facts.memory_mib == 2048


def test_s14_the_operating_system_is_the_scenarios(settle: Callable[..., Books]) -> None:
    """Each host's own."""
    books = settle(hosts=[{"id": "h1"}, {"id": "h2", "os": "debian-13"}])

    assert [host.facts.operating_system for host in books.hosts.values() if host.facts is not None] == ["debian-12", "debian-13"]


@pytest.mark.parametrize(
    ("fields", "place", "text"),
    [
        ({"image": "no image"}, "vms[0].image", "letters, digits"),
        ({"image": 7}, "vms[0].image", "must be a text"),
        ({"volume_host": "h9"}, "vms[0].volume_host", 'unknown host "h9"'),
        ({"volume_host": "h2", "root_disk": "local"}, "vms[0].volume_host", "only a volume"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], place: str, text: str) -> None:
    """A word that is no word, a host that is not there, a server of a disk that has none."""
    with pytest.raises(InvalidField) as caught:
        parse(raw(vms=[vm("vm1", **fields)]))

    assert [(violation.field, text in violation.description) for violation in caught.value.violations] == [(place, True)]
