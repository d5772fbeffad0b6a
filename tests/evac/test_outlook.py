"""Where a VM could go now and why not elsewhere, what a host's death would do: pure, and the same plan as a real one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.placement_clusters import Cluster, cluster, host_of
from tests.evac.test_placement import broken, check_plan
from tests.evac.test_planner import EVACUATION, FACTS, pair, situation, vm
from vmha.evac import outlook, planner
from vmha.evac.outlook import UnderWay, View, VmOutlook
from vmha.evac.outlook_messages import LISTED, host_loss, vm_placement
from vmha.evac.pair_rules import PAIR_RULES, kind_of, refused, wants_of
from vmha.evac.placement import place
from vmha.evac.placement_explain import SHOWN
from vmha.evac.reasons import HostRefusal
from vmha.evac.rules import LIVE_RULES, REASON_OF, RULES
from vmha.model import EvacuationKind, EvacuationState, HostState, VmOutcome, VmState, VmStep
from vmha.store.records import EvacuationRecord, VmEntry, VmRecord
from vmha.v1 import evacuation_service_pb2 as pb

ALIVE = host_of("h1", FACTS)
DEAD = replace(ALIVE, state=HostState.EVACUATING)
RUNNING = replace(EVACUATION, state=EvacuationState.RUNNING)


def view(around: planner.Situation, *under_way: UnderWay) -> View:
    journaled = [entry for case in under_way for entry in case.entries]
    return View(cluster_id="c", situation=replace(around, journaled=journaled), under_way=under_way)


def case(record: EvacuationRecord, *entries: VmEntry) -> UnderWay:
    return UnderWay(record=record, entries=entries)


def pending(vm_id: str = "a", **more: Any) -> VmEntry:
    parts: dict[str, Any] = {"step": VmStep.PLANNED, "outcome": VmOutcome.PENDING, "reason": "NO_CAPACITY", **more}
    return VmEntry(vm_id=vm_id, vm_name=vm_id, source_epoch=1, **parts)


def planned(found: VmOutlook) -> tuple[VmOutcome, str, str]:
    assert found.planned is not None
    return found.planned.outcome, found.planned.target_host_id, found.planned.reason


# A VM whose host lives.


def test_b05_a_running_vm_has_its_target_and_each_other_host_its_rule() -> None:
    """If its host died now: the target of that plan, who else would have it, who would not and by which rule, with figures."""
    hosts = [
        ALIVE,
        host_of("h2", FACTS),
        host_of("h3", replace(FACTS, memory_mib=500)),
        host_of("h4", replace(FACTS, memory_mib=50)),
        replace(host_of("h5", FACTS), in_maintenance=True),
        replace(host_of("h6", FACTS), state=HostState.SUSPECT),
    ]
    around = situation(hosts, [vm("a"), vm("b", "h3")])

    found = outlook.of_vm(view(around), around.vms[0])

    assert planned(found) == (VmOutcome.OPEN, "h2", "")
    assert found.others == ("h3",)
    assert found.refused == {
        "h1": HostRefusal.FAILED_HOST,
        "h4": HostRefusal.MEMORY_FULL,
        "h5": HostRefusal.IN_MAINTENANCE,
        "h6": HostRefusal.NOT_HEALTHY,
    }
    assert (found.figures["h4"], found.figures["h6"]) == ("50 MiB left", "SUSPECT")
    assert (found.record.evacuation_id, found.journaled) == ("", None)
    assert [verdict for _, verdict in found.rules] == [None] * len(RULES)


def test_b05_the_others_of_its_host_take_their_room_first() -> None:
    """The plan is that of the whole host: a VM of higher priority takes the only room, and the other one would wait."""
    around = situation([ALIVE, host_of("h2", replace(FACTS, memory_mib=150))], [vm("a"), vm("b", priority=5)])

    found = outlook.of_vm(view(around), around.vms[0])

    assert planned(found) == (VmOutcome.PENDING, "", "NO_CAPACITY")
    assert found.figures["h2"] == "50 MiB left"


def test_b05_a_rule_against_the_vm_itself_tries_no_host() -> None:
    """What a device keeps is said by its rule, after those that let it go; no host was asked."""
    around = situation([ALIVE, host_of("h2", FACTS)], [vm("a", has_passthrough=True)])

    found = outlook.of_vm(view(around), around.vms[0])

    assert planned(found) == (VmOutcome.FAILED, "", "PASSTHROUGH_DEVICE")
    assert found.refused is None and found.others == ()
    assert [reason for reason, verdict in found.rules if verdict is None] == [
        "HA_OFF", "VM_PAUSED", "VM_SHUTOFF", "NO_DEFINITION", "RESIZE_UNCONFIRMED",
    ]  # fmt: skip
    assert found.rules[-1][0] == "PASSTHROUGH_DEVICE" and found.rules[-1][1] is not None


def test_b05_a_group_that_keeps_a_host_away_is_named() -> None:
    """Hard affinity with a VM that stays: only its host will do, the others are refused with the group's name."""
    hosts = [ALIVE, host_of("h2", FACTS), host_of("h3", FACTS)]
    around = situation(hosts, [vm("a"), vm("b", "h3")], (pair(),))

    found = outlook.of_vm(view(around), around.vms[0])

    assert planned(found)[1] == "h3"
    assert (found.refused or {})["h2"] is HostRefusal.HARD_AFFINITY
    assert found.figures["h2"] == "g"


def test_b05_aggregates_and_systems_are_named() -> None:
    """A host of another aggregate or system: what it has instead."""
    source = replace(ALIVE, facts=replace(FACTS, operating_system="debian 12"))
    other = host_of("h2", replace(FACTS, operating_system="debian 12"), ("hdd", "lab"))
    upgraded = host_of("h3", replace(FACTS, operating_system="debian 13"), ("ssd",))
    around = situation([source, other, upgraded], [vm("a", aggregates=("ssd",))])

    found = outlook.of_vm(view(around), around.vms[0])

    assert found.figures == {"h1": "", "h2": "in hdd, lab", "h3": "debian 13"}


# A VM that waits, or is on its way.


def test_b05_a_waiting_vm_is_planned_as_at_the_next_try() -> None:
    """What the next plan of its evacuation gives it, with the hosts that refused it before, and how the journal has it."""
    hosts = [DEAD, host_of("h2", FACTS), host_of("h3", FACTS)]
    around = situation(hosts, [vm("a")])
    entry = pending(attempts=("h2",))

    found = outlook.of_vm(view(around, case(RUNNING, entry)), around.vms[0])

    assert (found.record.evacuation_id, found.journaled) == ("e", entry)
    assert planned(found) == (VmOutcome.OPEN, "h3", "")
    assert (found.refused or {})["h2"] is HostRefusal.REFUSED_BEFORE


def test_b05_room_that_others_were_promised_is_not_free() -> None:
    """Two evacuations: what the other one planned and has not started yet is not room for this VM."""
    other = replace(RUNNING, evacuation_id="e2", host_id="h3")
    hosts = [DEAD, host_of("h2", replace(FACTS, memory_mib=150)), replace(host_of("h3", FACTS), state=HostState.EVACUATING)]
    around = situation(hosts, [vm("a"), vm("b", "h3")])
    promise = VmEntry(vm_id="b", vm_name="b", step=VmStep.PLANNED, target_host_id="h2", source_epoch=1)

    found = outlook.of_vm(view(around, case(RUNNING, pending()), case(other, promise)), around.vms[0])

    assert planned(found) == (VmOutcome.PENDING, "", "NO_CAPACITY")
    assert found.figures["h2"] == "50 MiB left"


def test_b05_a_promise_is_not_taken_back_for_what_waits() -> None:
    """As at the next try: the other VM keeps the host that it was promised, though moving it would make room."""
    hosts = [DEAD, host_of("h2", replace(FACTS, memory_mib=500)), host_of("h3", replace(FACTS, memory_mib=200))]
    around = situation(hosts, [vm("a", memory_mib=450), vm("b", memory_mib=150)])
    promise = VmEntry(vm_id="b", vm_name="b", step=VmStep.PLANNED, target_host_id="h2", source_epoch=1)
    evacuation = case(RUNNING, pending("a"), promise)

    waits = outlook.of_vm(view(around, evacuation), around.vms[0])
    kept = outlook.of_vm(view(around, evacuation), around.vms[1])
    host = outlook.of_host(view(around, evacuation), "h1")
    lost = case(RUNNING, pending("a"), replace(promise, attempts=("h2",)))
    again = outlook.of_vm(view(around, lost), around.vms[0])

    assert planned(waits) == (VmOutcome.PENDING, "", "NO_CAPACITY")
    assert (kept.planned, kept.journaled) == (None, promise)
    assert [(e.vm_id, e.target_host_id) for e in host.entries] == [("a", ""), ("b", "h2")]
    assert planned(again) == (VmOutcome.OPEN, "h2", "")


@pytest.mark.parametrize(
    "entry",
    [
        VmEntry(vm_id="a", vm_name="a", step=VmStep.STARTED, target_host_id="h2", epoch=2),
        pending(reason="SOURCE_STILL_RUNNING"),
        VmEntry(vm_id="a", vm_name="a", step=VmStep.SETTLED, outcome=VmOutcome.FAILED, reason="START_REFUSED"),
    ],
)
def test_b05_what_no_plan_would_touch_is_shown_as_the_journal_has_it(entry: VmEntry) -> None:
    """A start under way, a locked disk, an outcome: no new plan, no host is tried."""
    around = situation([DEAD, host_of("h2", FACTS)], [vm("a")])

    found = outlook.of_vm(view(around, case(RUNNING, entry)), around.vms[0])

    assert (found.journaled, found.planned, found.refused) == (entry, None, None)


def test_b05_before_the_proof_the_plan_is_that_of_the_evacuation() -> None:
    """FENCE_PENDING: nothing is planned yet; the outlook names the evacuation and what its first plan would be."""
    waits = replace(EVACUATION, state=EvacuationState.FENCE_PENDING)
    around = situation([DEAD, host_of("h2", FACTS)], [vm("a")])

    found = outlook.of_vm(view(around, case(waits)), around.vms[0])

    assert (found.record, found.journaled) == (waits, None)
    assert planned(found) == (VmOutcome.OPEN, "h2", "")


def test_b05_a_moved_vm_is_its_new_hosts() -> None:
    """Its evacuation goes on for others: the question is what happens if its new host died."""
    moved = VmEntry(vm_id="a", vm_name="a", step=VmStep.SETTLED, outcome=VmOutcome.MOVED, target_host_id="h2", epoch=2)
    around = situation([DEAD, host_of("h2", FACTS), host_of("h3", FACTS)], [vm("a", "h2")])

    found = outlook.of_vm(view(around, case(RUNNING, moved, pending("b"))), around.vms[0])

    assert (found.record.evacuation_id, found.record.host_id, planned(found)[1]) == ("", "h2", "h3")


def test_b05_a_claimed_vm_that_wants_another_target_shows_that_one() -> None:
    """Its entry keeps its present owner until the next claim; the outlook has the target it would get."""
    entry = VmEntry(vm_id="a", vm_name="a", step=VmStep.PLANNED, target_host_id="h2", epoch=2, source_epoch=1, attempts=("h2",))
    record = replace(vm("a", "h2"), epoch=2)
    around = situation([DEAD, host_of("h2", FACTS), host_of("h3", FACTS)], [record])

    found = outlook.of_vm(view(around, case(RUNNING, entry)), record)

    assert planned(found)[1] == "h3"


def test_b05_a_vm_that_a_drain_holds_is_judged_by_the_rules_of_a_live_migration() -> None:
    """Another CPU refuses a host for a drain only; the drain and its rules are named."""
    drain = replace(EVACUATION, kind=EvacuationKind.DRAIN, evacuation_id="d", state=EvacuationState.RUNNING)
    source = replace(ALIVE, in_maintenance=True)
    hosts = [source, host_of("h2", replace(FACTS, cpu_model="Xeon"))]
    record = replace(vm("a"), state=VmState.RUNNING)
    around = situation(hosts, [record])

    live = outlook.of_vm(view(around, case(drain, pending())), record)
    dead = outlook.of_vm(view(around), record)

    assert (planned(live), (live.refused or {})["h2"]) == ((VmOutcome.PENDING, "", "CPU_INCOMPATIBLE"), "CPU_INCOMPATIBLE")
    assert [reason for reason, _ in live.rules] == [REASON_OF[rule] for rule in LIVE_RULES]
    assert planned(dead)[1] == "h2"


def test_b05_what_is_being_cancelled_gets_no_new_plan() -> None:
    """A cancel was asked for: the VM is as the journal has it."""
    around = situation([DEAD, host_of("h2", FACTS)], [vm("a")])

    found = outlook.of_vm(view(around, case(replace(RUNNING, cancel_requested=True), pending())), around.vms[0])

    assert found.planned is None


# A host.


def test_b05_what_a_hosts_death_would_do_is_that_plan() -> None:
    """Each VM with its outcome, those that would not run first; fates count all, targets what each would get."""
    vms = [
        vm("a"),
        vm("b"),
        vm("c", has_passthrough=True),
        vm("d", aggregates=("dongle",)),
        vm("e", ha_enabled=False),
        vm("f", "h2"),
    ]
    around = situation([ALIVE, host_of("h2", FACTS)], vms)

    found = outlook.of_host(view(around), "h1")

    made = planner.plan(found.record, planner.first_entries(found.record, vms), around)
    assert {e.vm_id: (e.outcome, e.target_host_id, e.reason) for e in found.entries} == {
        e.vm_id: (e.outcome, e.target_host_id, e.reason) for e in made.entries
    }
    assert [entry.vm_id for entry in found.entries] == ["c", "d", "a", "b", "e"]
    assert found.fates() == [
        (VmOutcome.FAILED, "PASSTHROUGH_DEVICE", 1),
        (VmOutcome.PENDING, "AGGREGATE_EMPTY", 1),
        (VmOutcome.OPEN, "", 2),
        (VmOutcome.SKIPPED, "HA_OFF", 1),
    ]
    assert found.targets() == [("h2", 2, 200)]


@pytest.mark.parametrize("enabled", [True, False])
def test_b05_without_protection_it_is_said_that_nobody_would_act(enabled: bool) -> None:
    """HA is disabled in the cluster: the plan stands, and nobody would carry it out."""
    around = situation([ALIVE, host_of("h2", FACTS)], [vm("a")])
    cluster_ = replace(around.snapshot.cluster, ha_enabled=enabled)
    around = replace(around, snapshot=replace(around.snapshot, cluster=cluster_))

    assert vm_placement(outlook.of_vm(view(around), around.vms[0])).ha_disabled is not enabled
    assert host_loss(outlook.of_host(view(around), "h1")).ha_disabled is not enabled


def test_b05_of_an_evacuated_host_what_its_evacuation_does_next() -> None:
    """What has its outcome keeps it, what waits is planned anew."""
    moved = VmEntry(vm_id="a", vm_name="a", step=VmStep.SETTLED, outcome=VmOutcome.MOVED, target_host_id="h2", epoch=2)
    around = situation([DEAD, host_of("h2", FACTS)], [vm("a", "h2"), vm("b")])

    found = outlook.of_host(view(around, case(RUNNING, moved, pending("b"))), "h1")

    assert found.record is RUNNING
    assert [(e.vm_id, e.outcome, e.target_host_id) for e in found.entries] == [
        ("b", VmOutcome.OPEN, "h2"),
        ("a", VmOutcome.MOVED, "h2"),
    ]


# Rules.


def test_every_rule_has_the_reason_that_it_gives() -> None:
    """REASON_OF has every rule, each with another reason."""
    assert set(REASON_OF) == {*RULES, *LIVE_RULES}
    assert Counter(REASON_OF.values()).most_common(1)[0][1] == 1


def _lets(made: Cluster, at: dict[str, str], vm_id: str, host_id: str) -> bool:
    """Whether one VM may be on a host, everybody else where a plan has put them: by the definition of the rules."""
    demands = {d.vm_id: d for d in made.demands()}
    host = next(h for h in made.hosts if h.host_id == host_id)
    rooms = made.rooms()
    assert host.facts is not None
    if host_id not in rooms.free:
        return False
    for other, there in at.items():
        if other != vm_id:
            rooms.take(there, demands[other].facts)
    memory_mib, vcpus = rooms.free[host_id]
    wanted = demands[vm_id]
    fits = wanted.facts.memory_mib <= memory_mib and wanted.facts.vcpus <= vcpus
    kind = kind_of(host.config.aggregates, host.facts)
    hard, _ = broken(made, {**at, vm_id: host_id})
    able = refused(wants_of(wanted.facts, wanted.source), kind, PAIR_RULES) is None
    return fits and able and not any(vm_id in made.groups[g].vm_ids for g in hard)


@pytest.mark.timeout(300)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), load=st.sampled_from([0.4, 0.7, 0.9]), which=st.integers(0, 11))
def test_b05_an_explanation_is_the_plan_and_its_refusals_are_true(seed: int, load: float, which: int) -> None:
    """Random clusters: asking changes no target; each host is the target, would do as well, or is refused, and truly so."""
    made = cluster(seed, hosts=6, vms=12, load=load)
    demands = made.demands()
    asked = demands[which % len(demands)].vm_id

    plain = place(made.demands(), made.rooms())
    told = place(made.demands(), made.rooms(), asked=asked)

    assert [(p.vm_id, p.host_id, p.reason, p.message) for p in told] == [(p.vm_id, p.host_id, p.reason, p.message) for p in plain]
    at = check_plan(made, plain)
    [mine] = [p for p in told if p.vm_id == asked]
    for host in made.hosts:
        if host.host_id != mine.host_id:
            assert (host.host_id not in mine.refused) == _lets(made, at, asked, host.host_id), host.host_id


# The size of an answer.


def test_b05_an_answer_on_a_thousand_hosts_and_vms_stays_small() -> None:
    """At most 16 hosts of each reason and 100 VMs by name; the rest is counted."""
    small = replace(FACTS, memory_mib=50)
    full = [host_of(f"s{n:03}", small) for n in range(500)]
    good = [host_of(f"t{n:03}", FACTS) for n in range(500)]
    vms: list[VmRecord] = [vm(f"v{n:03}", aggregates=() if n % 2 else ("dongle",)) for n in range(1000)]
    around = situation([ALIVE, *full, *good], vms)

    placement = vm_placement(outlook.of_vm(view(around), vms[1]))
    loss = host_loss(outlook.of_host(view(around), "h1"))

    counted = {rule.reason: (rule.refused_count, len(rule.hosts)) for rule in placement.host_rules if rule.refused_count}
    assert counted == {"FAILED_HOST": (1, 1), "MEMORY_FULL": (500, SHOWN)}
    assert (placement.other_count, len(placement.other_host_ids)) == (499, SHOWN)
    assert (loss.vm_count, len(loss.vms), loss.target_count, len(loss.targets)) == (1000, LISTED, 500, LISTED)
    assert [(fate.outcome, fate.vm_count) for fate in loss.fates] == [
        (pb.VM_OUTCOME_PENDING, 500),
        (pb.VM_OUTCOME_UNSPECIFIED, 500),
    ]
    assert placement.ByteSize() < 8192 and loss.ByteSize() < 65536


def test_b05_rules_that_refused_nobody_are_told_as_well() -> None:
    """Every rule that a host was tried by is in the answer, in that order; what only a runner knows is not."""
    around = situation([ALIVE, host_of("h2", FACTS)], [vm("a")])

    placement = vm_placement(outlook.of_vm(view(around), around.vms[0]))

    assert [rule.reason for rule in placement.host_rules] == [why for why in HostRefusal if why != "NOT_ANSWERING"]
    assert all(rule.message for rule in placement.host_rules)
