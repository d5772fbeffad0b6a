"""What an inventory changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.store.ways import C, planned
from tests.support.failures import cluster_of, confirm_down, own, register, running
from vmha.errors import Aborted, NotFound
from vmha.facts import VmFacts
from vmha.model import EvacuationState, ProofKind, VmState
from vmha.store import Store
from vmha.store.records import MIGRATED_AWAY, ObserveResult, VmObservation

RUNNING, PAUSED, SHUTOFF, ABSENT, CRASHED = VmState.RUNNING, VmState.PAUSED, VmState.SHUTOFF, VmState.ABSENT, VmState.CRASHED


async def say(
    store: Store, host_id: str, *words: VmObservation, full: bool = False, planned: bool = False, orphans: bool = False
) -> ObserveResult:
    host = await store.hosts.get(C, host_id)
    return await store.vms.observe(C, host_id, host.incarnation, words, full=full, planned_shutdown=planned, orphans=orphans)


def waiting(vm_id: str, *, claim: int, epoch: int = 0) -> VmObservation:
    """A domain that an evacuation created under `claim`, and that was not admitted."""
    return replace(running(vm_id, state=VmState.AWAITING_ADMISSION, reason="user", epoch=epoch), claim_epoch=claim)


async def test_unknown_vms_are_adopted(store: Store) -> None:
    """The reporting host owns them under its incarnation, one epoch above what its agent holds; all facts are kept."""
    incarnations = await cluster_of(store, C, ["h1"])
    facts = VmFacts(vcpus=4, memory_mib=2048, aggregates=("gpu",), priority=7, has_vtpm=True)
    word = replace(running("v1", epoch=6), facts=facts, autostart=True)
    result = await say(store, "h1", word, running("v2", state=SHUTOFF, reason="shutdown"), full=True)

    first, second = result.adopted
    assert (first.owner_host_id, first.owner_incarnation, first.epoch) == ("h1", incarnations["h1"], 7)
    assert (first.facts, first.autostart, first.domain_xml) == (facts, True, word.domain_xml)
    assert (first.desired_state, second.desired_state, second.epoch) == (RUNNING, SHUTOFF, 1)
    assert await store.vms.list(C) == [first, second] == await store.vms.list(C, "h1")
    assert await store.vms.get(C, "v1") == first
    with pytest.raises(NotFound):
        await store.vms.get(C, "v9")


async def test_a_waiting_domain_is_not_adopted(store: Store) -> None:
    """A domain that waits for admission, or has just left, makes no record."""
    await cluster_of(store, C, ["h1"])
    words = [
        running("v1", state=VmState.AWAITING_ADMISSION),
        running("v2", state=ABSENT),
        running("v3", state=SHUTOFF, reason="migrated"),
    ]

    assert await say(store, "h1", *words) == ObserveResult()
    assert await store.vms.list(C) == []


async def test_a_domain_whose_claim_was_lost_becomes_its_hosts(store: Store) -> None:
    """R15, R20: after safe mode, under an epoch above the claim's and the agent's; until it executes it is marked unadmitted."""
    incarnations = await cluster_of(store, C, ["h1"])
    result = await say(store, "h1", waiting("v1", claim=7), waiting("v2", claim=7, epoch=9), orphans=True)

    first, second = result.adopted
    assert (first.owner_host_id, first.owner_incarnation, first.epoch) == ("h1", incarnations["h1"], 8)
    assert (first.desired_state, first.state, first.unadmitted) == (RUNNING, VmState.AWAITING_ADMISSION, True)
    assert second.epoch == 10
    await say(store, "h1", running("v1", epoch=8), orphans=True)
    assert not (await store.vms.get(C, "v1")).unadmitted


async def test_a_domain_whose_claim_was_lost_waits_for_the_end_of_safe_mode(store: Store) -> None:
    """R20: not while a host has not said what it runs, whatever the caller thinks; and never one that a person created."""
    await cluster_of(store, C, ["h1", "h2"])
    await store.clusters.enter_safe_mode(C, 50, ["h2"])
    assert await say(store, "h1", waiting("v1", claim=7), orphans=True) == ObserveResult()
    await store.clusters.safe_arrived(C, ["h2"])
    assert await say(store, "h1", waiting("v1", claim=7)) == ObserveResult()
    assert await say(store, "h1", waiting("v1", claim=0), orphans=True) == ObserveResult()
    assert len((await say(store, "h1", waiting("v1", claim=7), orphans=True)).adopted) == 1


async def test_a_domain_whose_claim_was_lost_yields_to_a_copy_that_executes(store: Store) -> None:
    """Whoever executes the VM has its record by the end of safe mode, and keeps it; of two that wait the first gets it."""
    await cluster_of(store, C, ["h1", "h2"])
    await say(store, "h2", running("v1", epoch=3))
    result = await say(store, "h1", waiting("v1", claim=7), waiting("v2", claim=7), orphans=True)
    assert [record.vm_id for record in result.foreign] == ["v1"]
    assert (await store.vms.get(C, "v1")).owner_host_id == "h2"

    result = await say(store, "h2", waiting("v2", claim=9), orphans=True)
    assert [record.vm_id for record in result.foreign] == ["v2"]
    assert (await store.vms.get(C, "v2")).owner_host_id == "h1"


@pytest.mark.parametrize("finder", ["h1", "h2"])
async def test_a_domain_found_shut_off_after_the_loss_gives_way_to_the_one_that_waits(store: Store, finder: str) -> None:
    """Its old host booted and reported it first, or its target did before the start was over: the one that waits gets it."""
    await cluster_of(store, C, ["h1", "h2"])
    await say(store, finder, running("v1", state=SHUTOFF, reason="unknown"), orphans=True)
    result = await say(store, "h2", waiting("v1", claim=7), orphans=True)

    [moved] = result.moved
    record = await store.vms.get(C, "v1")
    assert (record.owner_host_id, record.epoch, record.desired_state, record.unadmitted) == ("h2", 8, RUNNING, True)
    assert moved.vm_id == "v1" and [vm.vm_id for vm in await store.vms.list(C, "h2")] == ["v1"]


@pytest.mark.parametrize("after", [0, 1])
async def test_what_fenced_itself_before_the_loss_gives_way_to_the_one_that_waits(store: Store, after: int) -> None:
    """Its old host still holds the epoch that the claim was made from; adopted, its record says why the VM does not run."""
    await cluster_of(store, C, ["h1", "h2"])
    await say(store, "h1", running("v1", state=SHUTOFF, reason="self_fenced", epoch=6))
    adopted = await store.vms.get(C, "v1")
    assert (adopted.owner_host_id, adopted.epoch, adopted.desired_state, adopted.reason) == ("h1", 7, SHUTOFF, "SELF_FENCED")
    await say(store, "h2", waiting("v1", claim=7 + after), orphans=True)

    record = await store.vms.get(C, "v1")
    assert (record.owner_host_id, record.epoch, record.desired_state, record.unadmitted) == ("h2", 8 + after, RUNNING, True)
    assert record.reason == ""


async def test_a_vm_that_fenced_itself_before_the_loss_waits_for_a_person(store: Store) -> None:
    """Nobody knows whether it was started elsewhere: it stays off and says why until it runs, whenever its host registers."""
    await cluster_of(store, C, ["h1", "h2"])
    await say(store, "h1", running("v1", state=SHUTOFF, reason="self_fenced"), running("v2", state=SHUTOFF, reason="shutdown"))
    for boot_id in ("boot-h1-2", "boot-h1-3"):
        assert [(vm.desired_state, vm.reason) for vm in await store.vms.list(C)] == [(SHUTOFF, "SELF_FENCED"), (SHUTOFF, "")]
        await register(store, C, "h1", boot_id)
    await say(store, "h1", running("v1"))

    record = await store.vms.get(C, "v1")
    assert (record.desired_state, record.reason) == (RUNNING, "")


@pytest.mark.parametrize(
    ("reason", "epoch", "state"),
    [
        ("shutdown", 0, SHUTOFF),
        ("unknown", 7, SHUTOFF),
        ("self_fenced", 7, SHUTOFF),
        ("unknown", 0, RUNNING),
        ("", 0, PAUSED),
    ],
)
async def test_a_domain_that_waits_takes_nothing_from_its_owner(store: Store, reason: str, epoch: int, state: VmState) -> None:
    """Switched off by its user, owned under a newer epoch than the claim, or executing: its owner keeps it."""
    await cluster_of(store, C, ["h1", "h2"])
    await say(store, "h1", running("v1", state=state, reason=reason, epoch=epoch))
    before = await store.vms.get(C, "v1")
    await say(store, "h2", waiting("v1", claim=7), orphans=True)

    assert await store.vms.get(C, "v1") == before


async def test_the_same_report_again_changes_nothing(store: Store) -> None:
    """A full inventory that is repeated updates no record."""
    await cluster_of(store, C, ["h1"])
    words = [running(f"v{i}") for i in range(600)]
    assert len((await say(store, "h1", *words, full=True)).adopted) == 600
    before = await store.vms.list(C)

    assert await say(store, "h1", *words, full=True) == ObserveResult()
    assert await store.vms.list(C) == before


DESIRED = [
    (RUNNING, "booted", RUNNING),
    (PAUSED, "user", PAUSED),
    (PAUSED, "ioerror", RUNNING),
    (SHUTOFF, "shutdown", SHUTOFF),
    (SHUTOFF, "destroyed", SHUTOFF),
    (SHUTOFF, "saved", SHUTOFF),
    (SHUTOFF, "crashed", RUNNING),
    (SHUTOFF, "failed", RUNNING),
    (SHUTOFF, "migrated", RUNNING),
    (SHUTOFF, "from_snapshot", RUNNING),
    (SHUTOFF, "unknown", RUNNING),
    (CRASHED, "panicked", RUNNING),
    (ABSENT, "shutdown", SHUTOFF),
    (ABSENT, "", RUNNING),
]


@pytest.mark.parametrize(("state", "reason", "wanted"), DESIRED)
async def test_the_desired_state_follows_its_user(store: Store, state: VmState, reason: str, wanted: VmState) -> None:
    """Only what its user did changes what a VM should be; a stop during an announced shutdown changes nothing."""
    await cluster_of(store, C, ["h1"])
    await own(store, C, "h1", ["v1", "v2"])
    await say(store, "h1", running("v1", state=state, reason=reason))
    await say(store, "h1", running("v2", state=state, reason=reason), planned=True)
    first, second = await store.vms.list(C)

    assert (first.state, first.state_reason, first.desired_state) == (state, reason, wanted)
    assert second.desired_state is RUNNING


async def test_unchanged_xml_is_kept(store: Store) -> None:
    """An incremental report without XML and facts leaves both alone."""
    await cluster_of(store, C, ["h1"])
    await own(store, C, "h1", ["v1"])
    before = await store.vms.get(C, "v1")
    [after] = (await say(store, "h1", VmObservation(vm_id="v1", name="new", state=PAUSED, state_reason="user"))).updated

    assert after == replace(before, name="new", state=PAUSED, state_reason="user", desired_state=PAUSED)


async def test_undefined_by_its_owner_is_forgotten(store: Store) -> None:
    """The owner's "undefined" deletes the record; another host's changes nothing."""
    await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    gone = running("v1", state=ABSENT, reason="undefined")
    assert await say(store, "h2", gone) == ObserveResult()
    assert (await say(store, "h1", gone)).deleted == ("v1",)
    assert await say(store, "h1", gone) == ObserveResult()
    assert await store.vms.list(C) == []


@pytest.mark.parametrize("target_first", [True, False])
async def test_a_live_migration_moves_ownership(store: Store, target_first: bool) -> None:
    """Once, epoch + 1, whichever host speaks first; the desired state and the XML go along."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    before = await store.vms.get(C, "v1")
    source, target = ("h1", running("v1", state=SHUTOFF, reason="migrated")), ("h2", running("v1"))
    results = [await say(store, h, w) for h, w in ([target, source] if target_first else [source, target])]
    after = await store.vms.get(C, "v1")

    assert [len(r.moved) for r in results] == [0, 1]
    assert (after.owner_host_id, after.owner_incarnation, after.epoch) == ("h2", incarnations["h2"], before.epoch + 1)
    assert (after.state, after.desired_state, after.domain_xml, after.reason) == (RUNNING, RUNNING, before.domain_xml, "")
    assert [r.vm_id for r in (await say(store, "h1", running("v1", state=SHUTOFF, reason="migrated"))).foreign] == ["v1"]


async def test_a_vm_that_left_and_was_not_seen_is_not_started(store: Store) -> None:
    """Its owner saw it migrate to a host whose agent is silent: neither an evacuation nor the owner's return may start it."""
    incarnations = await cluster_of(store, C, ["h1", "h2", "h3"])
    await own(store, C, "h1", ["v1"])
    await say(store, "h1", running("v1", state=SHUTOFF, reason="migrated"))
    await register(store, C, "h1", "boot-h1-2")
    await say(store, "h1", running("v1", state=SHUTOFF, reason="unknown"), full=True)
    assert (await store.vms.get(C, "v1")).reason == MIGRATED_AWAY
    [moved] = (await say(store, "h2", running("v1"))).moved

    assert (moved.owner_host_id, moved.owner_incarnation, moved.reason) == ("h2", incarnations["h2"], "")


async def test_the_end_of_a_migration_is_known_though_the_source_died(store: Store) -> None:
    """R22: the owner is proven dead; the host that reports the VM running becomes its owner, and no other can claim it."""
    way = await planned(store, ["v1"])
    [moved] = (await say(store, "h2", running("v1"))).moved

    assert (moved.owner_host_id, moved.epoch) == ("h2", 2)
    with pytest.raises(Aborted) as error:
        await way.claim(way.entries[0])
    assert error.value.reason == "STALE_VM_EPOCH"


async def test_a_vm_in_migration_belongs_to_both(store: Store) -> None:
    """R22: an incoming domain on h2 keeps the VM of the dead h1 from being claimed until h2 says that it has nothing of it."""
    way = await planned(store, ["v1"])
    await say(store, "h2", running("v1", state=PAUSED, reason="migration"))
    with pytest.raises(Aborted) as error:
        await way.claim(way.entries[0])
    assert error.value.reason == "VM_MIGRATING"
    assert (await store.vms.get(C, "v1")).owner_host_id == "h1"

    await say(store, "h2", running("v1", state=ABSENT, reason="failed"))
    assert (await way.claim(way.entries[0])).epoch == 2


async def test_a_whole_inventory_ends_a_migration_that_it_does_not_name(store: Store) -> None:
    """R22: the other host came back without the VM: nobody else has it any more."""
    way = await planned(store, ["v1"])
    await say(store, "h2", running("v1", state=PAUSED, reason="migration"))
    await say(store, "h2", running("v2"), full=True)

    assert (await store.vms.get(C, "v1")).seen_on == ""
    assert (await way.claim(way.entries[0])).epoch == 2


async def test_the_other_hosts_death_frees_a_vm_in_migration(store: Store) -> None:
    """R22: "or is evacuated too": only the proof frees it, not the confirmation."""
    way = await planned(store, ["v1"])
    await say(store, "h2", running("v1", state=PAUSED, reason="migration"))
    down = await confirm_down(store, C, "h2")
    await store.evacuations.start(C, down.incident_id, "h2", down.fence_epoch, down.incarnation, 0)
    await store.evacuations.acquire(C, down.incident_id, "r2", 60.0)
    h3 = replace(way.entries[0], target_host_id="h3", target_incarnation=way.incarnations["h3"])
    with pytest.raises(Aborted) as error:
        await way.claim(h3)
    assert error.value.reason == "VM_MIGRATING"

    await store.evacuations.advance(C, down.incident_id, "r2", EvacuationState.PLANNING, proof=ProofKind.FENCE)
    assert (await way.claim(h3)).epoch == 2
    assert (await store.hosts.get(C, "h2")).dead_incarnation == down.incarnation


async def test_words_by_way_of_peers_mark_a_migration(store: Store) -> None:
    """R22: a host that can send no inventory has the VM of another: nobody claims it. Its own VMs are no news."""
    way = await planned(store, ["v1"])
    await own(store, C, "h2", ["v2"])
    await store.vms.sighted(C, "h2", way.incarnations["h2"], {"v1": RUNNING, "v2": RUNNING, "v9": RUNNING})
    with pytest.raises(Aborted) as error:
        await way.claim(way.entries[0])

    assert error.value.reason == "VM_MIGRATING"
    assert [vm.seen_on for vm in await store.vms.list(C)] == ["h2", ""]
    with pytest.raises(Aborted):
        await store.vms.sighted(C, "h2", way.incarnations["h2"] - 1, {"v1": RUNNING})


async def test_a_source_that_booted_anew_gives_up_what_runs_where_it_went(store: Store) -> None:
    """R22: shut off without a reason on a host that came back, and seen running elsewhere: the other host owns it."""
    await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    await say(store, "h2", running("v1"))
    await register(store, C, "h1", "boot-h1-2")
    [moved] = (await say(store, "h1", running("v1", state=SHUTOFF, reason="unknown"), full=True)).moved

    assert moved.owner_host_id == "h2"


async def test_two_that_run_it_are_told_apart(store: Store) -> None:
    """A second host that reports a VM running gets the owner's record as foreign, with its state; ownership stays."""
    await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    [record] = (await say(store, "h2", running("v1"))).foreign

    assert (record.owner_host_id, record.state, record.epoch) == ("h1", RUNNING, 1)


async def test_a_stop_is_no_migration(store: Store) -> None:
    """A host that once claimed to run it does not get it when its owner's user shuts it down."""
    await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    await say(store, "h2", running("v1"))
    await say(store, "h1", running("v1", state=SHUTOFF, reason="shutdown"))

    assert (await store.vms.get(C, "v1")).owner_host_id == "h1"


async def test_a_newer_epoch_wins_over_a_store_that_lost_writes(store: Store) -> None:
    """An agent that holds a newer epoch than the store: epochs only grow, and the VM is where that epoch is."""
    await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    await say(store, "h1", running("v1", epoch=5))
    assert (await store.vms.get(C, "v1")).epoch == 5
    await say(store, "h2", running("v1", epoch=9))
    record = await store.vms.get(C, "v1")

    assert (record.owner_host_id, record.epoch) == ("h2", 10)


async def test_a_full_inventory_shows_who_is_missing(store: Store) -> None:
    """`absent` names what ran and is not in it, over several script calls too; nothing is changed by absence alone."""
    await cluster_of(store, C, ["h1"])
    await own(store, C, "h1", [f"v{i:03}" for i in range(600)])
    await say(store, "h1", running("v001", state=SHUTOFF, reason="shutdown"))
    before = await store.vms.list(C)
    rest = [running(f"v{i:03}") for i in range(3, 600)]

    assert [r.vm_id for r in (await say(store, "h1", *rest, full=True)).absent] == ["v000", "v002"]
    assert len((await say(store, "h1", full=True)).absent) == 599
    assert await store.vms.list(C) == before


async def test_only_the_registration_in_force_is_heard(store: Store) -> None:
    """An older, an unknown or a revoked incarnation changes nothing."""
    incarnations = await cluster_of(store, C, ["h1"])
    await own(store, C, "h1", ["v1"])
    before = await store.vms.list(C)
    for incarnation in (0, incarnations["h1"] - 1, incarnations["h1"] + 1):
        with pytest.raises(Aborted) as caught:
            await store.vms.observe(C, "h1", incarnation, [running("v2")], full=True, planned_shutdown=False)
        assert caught.value.reason == "STALE_INCARNATION"
    await confirm_down(store, C, "h1")
    with pytest.raises(Aborted):
        await say(store, "h1", running("v1", state=ABSENT, reason="undefined"))
    assert await store.vms.list(C) == before


async def test_a_late_word_on_an_older_copy_does_not_undo_a_claim(store: Store) -> None:
    """Between claim and start the target's "undefined" or "shut off" of an older copy is ignored; under the claim's epoch, or
    after it was seen running, it counts."""
    way = await planned(store, ["v1"])
    claimed = await way.claim(way.entries[0])
    before = await store.vms.get(C, "v1")
    for word in (running("v1", state=ABSENT, reason="undefined", epoch=1), running("v1", state=SHUTOFF, reason="destroyed")):
        assert await say(store, "h2", word) == ObserveResult()
    assert await store.vms.get(C, "v1") == before
    await say(store, "h2", running("v1", epoch=claimed.epoch))
    [stopped] = (await say(store, "h2", running("v1", state=SHUTOFF, reason="shutdown"))).updated

    assert stopped.desired_state is SHUTOFF


async def test_move_compares_owner_and_epoch(store: Store) -> None:
    """A migration's compare-and-set: one winner, a repeat changes nothing, a target that is not registered gets nothing."""
    incarnations = await cluster_of(store, C, ["h1", "h2", "h3"])
    await own(store, C, "h1", ["v1"])
    moved = await store.vms.move(C, "v1", "h1", "h2", incarnations["h2"], 1)

    assert (moved.owner_host_id, moved.epoch) == ("h2", 2)
    assert await store.vms.move(C, "v1", "h1", "h2", incarnations["h2"], 1) == moved
    for to_host, incarnation, epoch, reason in (
        ("h3", incarnations["h3"], 1, "STALE_VM_EPOCH"),
        ("h3", 5, 2, "STALE_INCARNATION"),
    ):
        with pytest.raises(Aborted) as caught:
            await store.vms.move(C, "v1", "h2", to_host, incarnation, epoch)
        assert caught.value.reason == reason
    with pytest.raises(NotFound):
        await store.vms.move(C, "v9", "h2", "h3", incarnations["h3"], 2)


async def test_reasons_and_deletion(store: Store) -> None:
    """A reason stays until the VM runs; deletion compares the epoch, and may be repeated."""
    await cluster_of(store, C, ["h1"])
    await own(store, C, "h1", ["v1"])
    await store.vms.set_reason(C, "v1", "NO_CAPACITY")
    assert (await store.vms.get(C, "v1")).reason == "NO_CAPACITY"
    await own(store, C, "h1", ["v1"])
    assert (await store.vms.get(C, "v1")).reason == ""
    with pytest.raises(Aborted):
        await store.vms.delete(C, "v1", 9)
    for _ in range(2):
        await store.vms.delete(C, "v1", 1)
    with pytest.raises(NotFound):
        await store.vms.set_reason(C, "v1", "X")
