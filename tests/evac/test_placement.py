"""Placement by cases and by random clusters, against what a complete search over small ones finds."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.placement import AIMS
from bench.placement_clusters import SOURCE, Cluster, as_problem, cluster, host_of, vm_of
from vmha.evac.pair_rules import PAIR_RULES, kind_of, refused, wants_of
from vmha.evac.placement import Demand, Placement, measure, place, refusal
from vmha.evac.reasons import HostRefusal, VmReason
from vmha.facts import HostFacts, VmFacts
from vmha.model import ClusterConfig, Group, GroupMode, GroupPolicy, HostConfig, HostState, VmState
from vmha.store.records import HostRecord, VmRecord

TOP = Path(__file__).resolve().parents[2]
ORACLE = TOP / ".venv-oracle" / "bin" / "python"


def host(host_id: str, memory_mib: int = 1000, vcpus: int = 8, aggregates: tuple[str, ...] = (), **facts: Any) -> HostRecord:
    return host_of(host_id, HostFacts(vcpus=vcpus, memory_mib=memory_mib, **facts), aggregates)


def vm(vm_id: str, owner: str = "h1", *, memory_mib: int = 100, vcpus: int = 1, **facts: Any) -> VmRecord:
    return vm_of(vm_id, owner, VmFacts(vcpus=vcpus, memory_mib=memory_mib, **facts))


def demand(record: VmRecord, *refused_by: str, planned: str = "") -> Demand:
    return Demand(vm_id=record.vm_id, facts=record.facts, refused_by=frozenset(refused_by), planned=planned)


def group(policy: str, mode: str, *vm_ids: str, group_id: str = "g") -> dict[str, Group]:
    made = Group(group_id=group_id, policy=GroupPolicy(policy), mode=GroupMode(mode), vm_ids=vm_ids)
    return {group_id: made}


def placed(
    hosts: list[HostRecord], vms: list[VmRecord], groups: dict[str, Group] | None = None, config: ClusterConfig | None = None
) -> dict[str, Placement]:
    """Where VMs of h1 go; others stay."""
    rooms = measure([host("h1"), *hosts], vms, config or ClusterConfig(), "h1", groups=groups or {})
    return {p.vm_id: p for p in place([demand(v) for v in vms if v.owner_host_id == "h1"], rooms)}


def targets(*args: Any) -> dict[str, str]:
    return {vm_id: placement.host_id for vm_id, placement in placed(*args).items()}


# Who may be a target.


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"host_id": "h1"}, HostRefusal.FAILED_HOST),
        ({"in_maintenance": True}, HostRefusal.IN_MAINTENANCE),
        ({"state": HostState.SUSPECT}, HostRefusal.NOT_HEALTHY),
        ({"state": HostState.AGENT_LOST}, HostRefusal.NOT_HEALTHY),
        ({"state": HostState.ISOLATED}, HostRefusal.NOT_HEALTHY),
        ({"state_reason": "FLAPPING"}, HostRefusal.FLAPPING),
        ({"incarnation": 0}, HostRefusal.NOT_REGISTERED),
        ({"incarnation_revoked": True}, HostRefusal.NOT_REGISTERED),
        (
            {"config": HostConfig(probe_target="h:1", agent_target="h:2", libvirt_uri="test:///", roles=("block-storage",))},
            HostRefusal.NOT_A_HYPERVISOR,
        ),
        ({"facts": None}, HostRefusal.NO_FACTS),
        ({}, None),
    ],
)
def test_who_is_no_target(changes: dict[str, object], why: HostRefusal | None) -> None:
    """Only a healthy, registered hypervisor that is not the failed host may get VMs."""
    assert refusal(replace(host("h2"), **changes), "h1") is why  # type: ignore[arg-type]


def test_most_free_memory_first_then_the_name() -> None:
    """Targets are taken by free memory; equal ones by host_id."""
    found = placed([host("h4"), host("h3"), host("h2", 900)], [vm(f"m{n}") for n in range(4)])

    assert [p.host_id for p in found.values()] == ["h3", "h4", "h2", "h3"]


def test_a_promised_target_is_kept() -> None:
    """What was planned before stays where nothing speaks against it, though another host has more room by now."""
    rooms = measure([host("h2", 500), host("h3")], [], ClusterConfig(), "h1")

    assert [p.host_id for p in place([demand(vm("m"), planned="h2")], rooms)] == ["h2"]


def test_large_ones_and_small_ones_change_places_until_all_fit() -> None:
    """The first try, most free memory first, strands one; another placement has room for all of them."""
    hosts = [host("h2", 10), host("h3", 8)]
    vms = [vm(f"m{n}", memory_mib=size) for n, size in enumerate((6, 4, 4, 4))]

    assert all(targets(hosts, vms).values())


def test_a_vm_of_high_priority_is_never_sacrificed() -> None:
    """One large VM of high priority goes before two small ones that would have its room."""
    vms = [vm("big", memory_mib=900, priority=1), vm("a", memory_mib=500), vm("b", memory_mib=500)]

    assert targets([host("h2")], vms) == {"big": "h2", "a": "", "b": ""}


def test_as_many_as_possible_of_equal_priority() -> None:
    """Two small ones rather than one large one."""
    vms = [vm("big", memory_mib=900), vm("a", memory_mib=500), vm("b", memory_mib=500)]

    assert targets([host("h2")], vms) == {"big": "", "a": "h2", "b": "h2"}


def test_reserve_and_overcommit() -> None:
    """A share of each host's memory stays free, and vCPUs count as often as the cluster says."""
    vms = [vm(f"m{n}", vcpus=8, memory_mib=400) for n in range(3)]
    config = ClusterConfig(reserve_fraction=0.2, cpu_overcommit=4.0)

    assert Counter(targets([host("h2")], vms, None, config).values()) == {"h2": 2, "": 1}
    assert Counter(targets([host("h2")], vms).values()) == {"h2": 1, "": 2}


def test_huge_pages_are_room_of_their_own() -> None:
    """A VM on huge pages takes those, another one what is left beside them; which pages are short is said."""
    hosts = [host("h2", 1000, hugepages={2048: 200})]  # 400 MiB of them
    huge = [vm(f"p{n}", memory_mib=300, hugepage_kib=2048) for n in range(2)]

    found = placed(hosts, [*huge, vm("m", memory_mib=500), vm("n", memory_mib=500)])

    assert Counter(bool(p.host_id) for p in found.values()) == {True: 2, False: 2}
    assert {p.reason for p in found.values() if not p.host_id} == {VmReason.HUGEPAGES_MISSING, VmReason.NO_CAPACITY}


# S16


def test_s16_aggregates_are_honoured_and_an_empty_one_is_named() -> None:
    """A VM goes only to a host in all its aggregates. No other healthy one: AGGREGATE_EMPTY; they are full: NO_CAPACITY."""
    hosts = [host("h2"), host("h3", 150, aggregates=("ssd",)), replace(host("h4", aggregates=("gold",)), state=HostState.SUSPECT)]
    vms = [vm("a", aggregates=("ssd",)), vm("b", aggregates=("ssd",)), vm("c", aggregates=("gold",)), vm("d")]
    found = placed(hosts, vms)

    assert (found["c"].host_id, found["d"].host_id) == ("", "h2")
    assert {(found[name].host_id, found[name].reason) for name in "ab"} == {("h3", None), ("", VmReason.NO_CAPACITY)}
    assert found["c"].reason is VmReason.AGGREGATE_EMPTY
    assert found["c"].refused == {
        "h1": HostRefusal.FAILED_HOST,
        "h2": HostRefusal.AGGREGATE_DIFFERS,
        "h3": HostRefusal.AGGREGATE_DIFFERS,
        "h4": HostRefusal.NOT_HEALTHY,
    }


def test_s14_the_reason_is_the_rule_that_refused_the_last_hosts() -> None:
    """One host is out of the aggregate, the one in it runs another system: it waits for the system."""
    hosts = [host("h2", operating_system="debian 12"), host("h3", aggregates=("a",), operating_system="debian 13")]
    rooms = measure(hosts, [], ClusterConfig(), "h1")
    source = HostFacts(vcpus=1, memory_mib=1, operating_system="debian 12")
    [found] = place([Demand(vm_id="m", facts=VmFacts(aggregates=("a",)), source=source)], rooms)

    assert found.reason is VmReason.OS_VERSION_DIFFERS


# S17, S18, S19


def test_s17_soft_affinity_takes_the_one_host_with_room_for_all() -> None:
    """The group goes where all of it fits, though others go there first by free memory; its VMs start one after the other."""
    hosts = [host("h2", 500), host("h3", 300)]
    vms = [vm(f"m{n}") for n in range(6)]
    found = placed(hosts, vms, group("AFFINITY", "SOFT", "m1", "m3", "m5"))

    assert len({found[name].host_id for name in ("m1", "m3", "m5")}) == 1
    assert all(p.host_id and not p.violated for p in found.values())
    order = list(found)
    assert order.index("m5") - order.index("m1") == 2


def test_s17_without_room_for_all_they_go_apart_and_it_is_said() -> None:
    """No host takes the whole group: available hosts, with the group's name in message, reason and the list for programs."""
    found = placed(
        [host("h2", 250), host("h3", 250)], [vm(f"m{n}") for n in range(3)], group("AFFINITY", "SOFT", "m0", "m1", "m2")
    )

    assert all(p.host_id for p in found.values())
    for placement in found.values():
        assert placement.reason is VmReason.SOFT_AFFINITY_BROKEN
        assert placement.violated == ("SOFT_AFFINITY:g",)
        assert "soft affinity group g" in placement.message


@pytest.mark.parametrize("mode", ["SOFT", "HARD"])
def test_s17_s19_members_that_stay_pull_the_group_there(mode: str) -> None:
    """One of the group runs on a host with less room than another: the group goes there all the same."""
    vms = [vm("m0"), vm("m1"), vm("stays", "h2")]

    assert set(targets([host("h2", 400), host("h3")], vms, group("AFFINITY", mode, "m0", "m1", "stays")).values()) == {"h2"}


def test_s18_soft_anti_affinity_spreads_and_says_when_it_cannot() -> None:
    """Separate hosts while there are such, those of members that stay left out; the one too many is named."""
    hosts, members = [host("h2", 900), host("h3", 400), host("h4", 300)], ("a", "b", "c", "stays")
    vms = [vm("a"), vm("b"), vm("stays", "h2")]
    two = placed(hosts, vms, group("ANTI_AFFINITY", "SOFT", *members))
    three = placed(hosts, [*vms, vm("c")], group("ANTI_AFFINITY", "SOFT", *members))

    assert {p.host_id for p in two.values()} == {"h3", "h4"}
    assert not any(p.violated for p in two.values())
    assert all(p.host_id for p in three.values())
    assert {v for p in three.values() for v in p.violated} == {"SOFT_ANTI_AFFINITY:g"}


def test_s18_another_vm_makes_way_for_a_soft_group() -> None:
    """Keeping the group takes a search: the host that one of its VMs needs was taken by somebody else first."""
    hosts = [host("h2", 200), host("h3", 100, aggregates=("a",))]
    vms = [vm("x"), vm("a"), vm("b")]
    found = placed(hosts, vms, group("ANTI_AFFINITY", "SOFT", "a", "b"))

    assert all(p.host_id and not p.violated for p in found.values())


@pytest.mark.parametrize(
    ("policy", "reason"), [("AFFINITY", VmReason.HARD_AFFINITY), ("ANTI_AFFINITY", VmReason.HARD_ANTI_AFFINITY)]
)
def test_s19_a_hard_group_is_kept_or_its_vm_waits_with_the_groups_name(policy: str, reason: VmReason) -> None:
    """What can be placed is, and the rest waits, though a host has room for it."""
    hosts = [host("h2", 250), host("h3", 250)]
    found = placed(hosts, [vm(f"m{n}") for n in range(3)], group(policy, "HARD", "m0", "m1", "m2", group_id="db"))

    at = [p.host_id for p in found.values() if p.host_id]
    assert len(at) == 2
    assert (len(set(at)) == 1) is (policy == "AFFINITY")
    [waits] = [p for p in found.values() if not p.host_id]
    assert waits.reason is reason
    assert "db" in waits.message


def test_s19_a_hard_group_whose_members_that_stay_are_apart_waits() -> None:
    """No host keeps it; nothing is placed against it."""
    vms = [vm("m"), vm("s", "h2"), vm("t", "h3")]
    found = placed([host("h2"), host("h3")], vms, group("AFFINITY", "HARD", "m", "s", "t"))

    assert found["m"].reason is VmReason.HARD_AFFINITY


def test_s19_a_group_member_of_low_priority_takes_no_place_of_a_higher_one() -> None:
    """Affinity holds those together that have a place; it does not lift the others to the priority of the highest of them."""
    vms = [vm("a", memory_mib=400, priority=10), vm("b", memory_mib=500), vm("c", memory_mib=500, priority=5)]

    found = targets([host("h2", 1000)], vms, group("AFFINITY", "HARD", "a", "b"))

    assert found == {"a": "h2", "b": "", "c": "h2"}


def test_s19_as_many_of_a_group_as_possible_have_a_place() -> None:
    """A large member stays behind where two others fit in its stead."""
    vms = [vm("a", memory_mib=400), vm("b", memory_mib=500), vm("c", memory_mib=300), vm("d", memory_mib=300)]

    found = targets([host("h2", 1000)], vms, group("AFFINITY", "HARD", "a", "b"))

    assert found == {"a": "h2", "b": "", "c": "h2", "d": "h2"}


def test_s19_of_two_that_exclude_each_other_the_one_that_leaves_more_room_has_a_place() -> None:
    """Both are of the same priority, so it counts only that a third one of a lower priority can run, too."""
    vms = [
        vm("x", memory_mib=800, priority=5, aggregates=("ssd",)),
        vm("y", memory_mib=800, priority=5),
        vm("z", memory_mib=800, aggregates=("ssd",)),
    ]

    found = targets([host("h2", aggregates=("ssd",)), host("h3")], vms, group("AFFINITY", "HARD", "x", "y"))

    assert found == {"x": "", "y": "h3", "z": "h2"}


def test_s17_a_member_without_a_place_ties_nobody() -> None:
    """Two VMs that a third one's groups would hold together are placed apart as a hard group says, when that one fits nowhere."""
    vms = [vm("a"), vm("b"), vm("large", memory_mib=5000)]
    groups = {
        **group("AFFINITY", "SOFT", "a", "large", group_id="g1"),
        **group("AFFINITY", "SOFT", "b", "large", group_id="g2"),
        **group("ANTI_AFFINITY", "HARD", "a", "b", group_id="g3"),
        **group("ANTI_AFFINITY", "SOFT", "a", "b", group_id="g4"),
    }

    found = placed([host("h2"), host("h3")], vms, groups)

    assert {found["a"].host_id, found["b"].host_id} == {"h2", "h3"}
    assert [p.violated for p in found.values()] == [(), (), ()]


def test_groups_that_a_vms_metadata_names_bind_it_too() -> None:
    """The group is the cluster's, the membership the VM's own; a name of no group says nothing."""
    vms = [vm("a", groups=("g", "unknown")), vm("b", groups=("g",)), vm("c", groups=("unknown",))]
    found = targets([host("h2"), host("h3", 500)], vms, group("ANTI_AFFINITY", "HARD"))

    assert found["a"] != found["b"]


def test_members_on_a_host_that_is_proven_dead_do_not_bind() -> None:
    """They move themselves; on one that is only suspected they may still run, and count."""
    vms = [vm("m"), vm("other", "h3")]
    for state, expected in ((HostState.FENCED, "h2"), (HostState.COOLDOWN, "")):
        hosts = [host("h2"), replace(host("h3"), state=state)]
        assert targets(hosts, vms, group("AFFINITY", "HARD", "m", "other")) == {"m": expected}


# Words.


def test_every_refusal_is_explained() -> None:
    """The message of a VM without a target names each host with its reason."""
    hosts = [host("h1"), host("h2", 10), host("h3", vcpus=1), replace(host("h4"), in_maintenance=True), host("h5")]
    [found] = place([demand(vm("m", memory_mib=50, vcpus=2), "h5")], measure(hosts, [], ClusterConfig(), "h1"))

    assert found.reason is VmReason.NO_CAPACITY
    for part in ("FAILED_HOST: h1", "MEMORY_FULL: h2", "VCPUS_FULL: h3", "IN_MAINTENANCE: h4", "REFUSED_BEFORE: h5", "50 MiB"):
        assert part in found.message


def test_a_vm_that_all_refused_is_told_from_one_without_room() -> None:
    """All candidates refused it: START_REFUSED; no candidate at all: NO_HOST."""
    [refusing] = place([demand(vm("m"), "h2")], measure([host("h2")], [], ClusterConfig(), "h1"))
    [alone] = place([demand(vm("m"))], measure([host("h1")], [], ClusterConfig(), "h1"))

    assert refusing.reason is VmReason.START_REFUSED
    assert alone.reason is VmReason.NO_HOST


# Random clusters.


def broken(made: Cluster, at: dict[str, str]) -> tuple[set[str], set[str]]:
    """Hard and soft groups that a plan does not keep, by the definition."""
    owners = {v.vm_id: v.owner_host_id for v in made.vms}
    hard: set[str] = set()
    soft: set[str] = set()
    for each in made.groups.values():
        here = [at.get(v) if owners[v] == SOURCE else owners[v] for v in each.vm_ids]
        hosts = [name for name in here if name]
        wrong = len(set(hosts)) > 1 if each.policy is GroupPolicy.AFFINITY else len(set(hosts)) < len(hosts)
        if wrong and any(v in at for v in each.vm_ids):
            (hard if each.mode is GroupMode.HARD else soft).add(each.group_id)
    return hard, soft


def check_plan(made: Cluster, found: list[Placement]) -> dict[str, str]:
    """Every VM has a target or a reason, no rule that is hard is broken, no host is over its room, each host is named."""
    at = {p.vm_id: p.host_id for p in found if p.host_id}
    rooms, wanted = made.rooms(), {d.vm_id: d for d in made.demands()}
    assert sorted(p.vm_id for p in found) == sorted(wanted)
    hosts = {h.host_id: h for h in made.hosts}
    used: dict[str, list[VmFacts]] = {}
    for vm_id, host_id in at.items():
        used.setdefault(host_id, []).append(wanted[vm_id].facts)
        facts = hosts[host_id].facts
        assert facts is not None
        kind = kind_of(hosts[host_id].config.aggregates, facts)
        assert refused(wants_of(wanted[vm_id].facts, wanted[vm_id].source), kind, PAIR_RULES) is None
    for host_id, held in used.items():
        assert sum(facts.memory_mib for facts in held) <= rooms.free[host_id][0]
        assert sum(facts.vcpus for facts in held) <= rooms.free[host_id][1]
    hard, soft = broken(made, at)
    assert hard == set()
    assert {v.partition(":")[2] for p in found for v in p.violated} == soft
    for placement in found:
        assert placement.message
        assert placement.host_id or (placement.reason and set(placement.refused) == set(hosts))
    return at


@pytest.mark.timeout(300)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), load=st.sampled_from([0.3, 0.6, 0.8, 1.0, 1.3]), order=st.randoms(use_true_random=False))
def test_hard_rules_hold_and_the_order_of_input_does_not_matter(seed: int, load: float, order: Any) -> None:
    """Up to 12 hosts and 40 VMs: hard rules, room, explanations, and the same plan for any order of hosts, VMs and demands."""
    made = cluster(seed, load=load)
    found = place(made.demands(), made.rooms())
    check_plan(made, found)

    hosts, vms, groups = list(made.hosts), list(made.vms), list(made.groups.items())
    for each in (hosts, vms, groups):
        order.shuffle(each)
    mixed = replace(made, hosts=tuple(hosts), vms=tuple(vms), groups=dict(groups))
    assert place(mixed.demands(), mixed.rooms()) == found


def best_of(made: Cluster) -> tuple[tuple[int, ...], int]:
    """By looking at every placement: VMs placed by priority, and the fewest soft groups broken with that."""
    problem, demands = as_problem(made), made.demands()
    priorities = sorted({d.facts.priority for d in demands}, reverse=True)
    names = [h.host_id for h in made.hosts if h.host_id != SOURCE]
    best: tuple[tuple[int, ...], int] = ((-1,), 0)
    for choice in itertools.product(*([-1, *v["hosts"]] for v in problem["vms"])):
        count = Counter(d.facts.priority for d, h in zip(demands, choice, strict=True) if h >= 0)
        worth = tuple(count[p] for p in priorities)
        if worth < best[0]:
            continue
        mib, vcpus = Counter[int](), Counter[int]()
        for v, h in zip(problem["vms"], choice, strict=True):
            mib[h] += v["mib"]
            vcpus[h] += v["vcpus"]
        if any(mib[h] > room[0] or vcpus[h] > room[1] for h, room in enumerate(problem["hosts"]) if mib[h]):
            continue
        hard, soft = broken(made, {d.vm_id: names[h] for d, h in zip(demands, choice, strict=True) if h >= 0})
        if not hard:
            best = max(best, (worth, -len(soft)))
    return best


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_small_clusters_get_the_best_plan_there_is(first: int) -> None:
    """Up to 3 hosts and 6 VMs: as many VMs by priority, and as few soft groups broken, as any placement allows."""
    for seed in range(first, first + 20):
        made = cluster(seed, hosts=3, vms=6)
        at = check_plan(made, place(made.demands(), made.rooms()))
        demands = made.demands()
        count = Counter(d.facts.priority for d in demands if d.vm_id in at)
        worth = tuple(count[p] for p in sorted({d.facts.priority for d in demands}, reverse=True))
        assert (worth, -len(broken(made, at)[1])) == best_of(made), f"seed {seed}"


@pytest.mark.slow
def test_plans_are_as_good_as_the_oracles() -> None:
    """Against CP-SAT's best plans for 1,000 tight clusters every aim of issue 4 holds; `make oracle` makes its environment.

    So many that a share of 99 % is told from one of 98 %: in some 650 the oracle keeps all soft groups, in some 250 it places
    every VM. Takes 20 minutes on an idle box, thrice that on a busy one.
    """
    assert ORACLE.exists(), "run `make oracle`"
    run = [".venv/bin/python", "-m", "bench.placement", "--oracle", "1000", "--first", "10000"]
    done = subprocess.run(run, cwd=TOP, check=False, capture_output=True, text=True, timeout=7000)
    assert done.stdout, done.stderr
    said = json.loads(done.stdout)

    assert said["clusters"] >= 900
    assert {name: said[name] for name, aim in AIMS.items() if said[name] < aim} == {}
    assert done.returncode == 0


def test_a_vm_that_holds_room_is_counted_where_it_is_owned() -> None:
    """Running, paused, awaiting admission, or crashed and to be started again: its host has less room."""
    for state, desired, free in (
        (VmState.PAUSED, VmState.PAUSED, 900),
        (VmState.CRASHED, VmState.RUNNING, 900),
        (VmState.SHUTOFF, VmState.SHUTOFF, 1000),
    ):
        held = replace(vm("s", "h2"), state=state, desired_state=desired)
        assert measure([host("h2")], [held], ClusterConfig(), "h1").free["h2"][0] == free
