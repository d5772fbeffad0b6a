"""Kinds of VM that not every recovery brings back, on real hosts: a TPM, a disk that died with its host."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from lab import guests
from lab.host import LOCAL_DISKS
from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
MakeCluster = Callable[..., Cluster]
IMAGE = "heartbeat"


def test_s21_a_guest_with_a_tpm_on_shared_storage_keeps_it(make_cluster: MakeCluster) -> None:
    """Its state is the same file after the evacuation, and still there when the dead host is back and has forgotten the guest."""
    cluster = make_cluster(guests={"tpm1": "host1", "vm2": "host2"}, wishes={"tpm1": {"vtpm": True}})
    [state] = (cluster.lab.shared / "tpm" / cluster.lab.guest("tpm1").uuid).rglob("*.permall")
    before = hashlib.sha256(state.read_bytes()).hexdigest()

    cut = cluster.kill("host1")
    cluster.wait_beats_after(["tpm1"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 30)
    assert cluster.stack.outcomes("host1") == {"tpm1": "MOVED"}
    cluster.lab.host("host1").on()
    cluster.stack.wait_state("host1", "HEALTHY", 60)
    cluster.stack.wait(lambda: "tpm1" not in cluster.domains("host1"), 30, "host1 has forgotten tpm1")

    assert hashlib.sha256(state.read_bytes()).hexdigest() == before
    assert cluster.owners()["tpm1"] != "host1"


def test_s24_a_guest_on_a_local_disk_is_rebuilt_from_its_image(make_cluster: MakeCluster) -> None:
    """It beats elsewhere from the first beat of its first boot, under its own UUID, and is said to be REBUILT."""
    cluster = make_cluster(guests={"vm2": "host2"})
    cluster.lab.make_image(IMAGE)
    guest = cluster.lab.mkvm("local1", metadata=guests.instance(image=IMAGE), directory=LOCAL_DISKS)
    cluster.lab.host("host1").give_local_disk("local1")
    cluster.lab.host("host1").start_guest("local1")
    cluster.stack.wait(lambda: len(cluster.lab.beats.of("local1")) > 2, 30, "local1 beats")
    cluster.stack.wait_settled(2)

    cut = cluster.kill("host1")
    cluster.lab.beats.made_anew("local1", cut)
    cluster.stack.wait_state("host1", "EVACUATED", 60)

    assert cluster.stack.outcomes("host1") == {"local1": "REBUILT"}
    vm = cluster.stack.vms()["local1"]
    assert (vm.vm_id, vm.owner_host_id != "host1") == (guest.uuid, True)
    shown = cluster.stack.vmha("evacuation", "show", cluster.stack.evacuations_of("host1")[0].evacuation_id).stdout
    assert f"made from the image {IMAGE}" in shown
    assert f"made from the image {IMAGE}" in cluster.stack.vmha("vm", "explain", "local1").stdout
    cluster.stack.wait(lambda: any(beat.at > cut for beat in cluster.lab.beats.of("local1")), 30, "local1 beats again")
