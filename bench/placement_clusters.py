"""Random clusters for placement: tight, with groups, aggregates, priorities and rules about hosts. One seed, one cluster."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from vmha.evac.pair_rules import PAIR_RULES, kind_of, refused, wants_of
from vmha.evac.placement import Demand, Rooms, measure
from vmha.facts import HostFacts, VmFacts
from vmha.model import ClusterConfig, Group, GroupMode, GroupPolicy, HostConfig, HostState, VmState
from vmha.store.records import HostRecord, VmRecord

SOURCE = "lost"
FLAVORS = ((1024, 1), (2048, 1), (2048, 2), (4096, 2), (4096, 4), (8192, 4), (8192, 8), (16384, 4))
SYSTEMS = ("debian-12", "debian-13")
CONFIG = HostConfig(probe_target="h:1", agent_target="h:2", libvirt_uri="test:///default")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Hosts, VMs and groups; the host `lost` has failed."""

    hosts: tuple[HostRecord, ...]
    vms: tuple[VmRecord, ...]
    groups: dict[str, Group]
    config: ClusterConfig

    def rooms(self) -> Rooms:
        """What is free."""
        return measure(self.hosts, self.vms, self.config, SOURCE, groups=self.groups)

    def demands(self) -> list[Demand]:
        """What the lost host ran."""
        source = next(host.facts for host in self.hosts if host.host_id == SOURCE)
        return [Demand(vm_id=vm.vm_id, facts=vm.facts, source=source) for vm in self.vms if vm.owner_host_id == SOURCE]


def host_of(host_id: str, facts: HostFacts, aggregates: tuple[str, ...] = ()) -> HostRecord:
    """A healthy host."""
    config = HostConfig(
        probe_target=CONFIG.probe_target,
        agent_target=CONFIG.agent_target,
        libvirt_uri=CONFIG.libvirt_uri,
        aggregates=aggregates,
    )
    return HostRecord(
        host_id=host_id, cluster_id="c", config=config, version=1, state=HostState.HEALTHY, incarnation=5, facts=facts
    )


def vm_of(vm_id: str, owner: str, facts: VmFacts) -> VmRecord:
    """A VM that runs."""
    return VmRecord(
        vm_id=vm_id,
        name=vm_id,
        owner_host_id=owner,
        owner_incarnation=5,
        epoch=1,
        desired_state=VmState.RUNNING,
        state=VmState.RUNNING,
        domain_xml="<domain/>",
        facts=facts,
    )


def cluster(seed: int, *, hosts: int = 12, vms: int = 40, load: float | None = None) -> Cluster:
    """A cluster of up to so many hosts and VMs that move; `load`: what they want of what is free."""
    rng = random.Random(seed)
    names = [f"h{n}" for n in range(1, rng.randint(2, hosts) + 1)]
    moved = [f"m{n}" for n in range(1, rng.randint(2, vms) + 1)]
    load = rng.choice((0.5, 0.8, 0.9, 0.95, 1.0, 1.1, 1.4)) if load is None else load
    facts = {name: _vm_facts(rng) for name in moved}
    targets = [_host(rng, name) for name in names]
    stays = [vm_of(f"s{n}", rng.choice(names), _vm_facts(rng)) for n in range(rng.randint(0, 2 * len(names)))]
    config = ClusterConfig(reserve_fraction=rng.choice((0.0, 0.0, 0.1)), cpu_overcommit=4.0)
    targets = [_sized(rng, host, stays, facts, load, len(names), config) for host in targets]
    lost = host_of(SOURCE, HostFacts(vcpus=64, memory_mib=1, operating_system=SYSTEMS[0], machines=("q35",)))
    gone = [vm_of(name, SOURCE, each) for name, each in facts.items()]
    groups = _groups(rng, moved, [vm.vm_id for vm in stays])
    return Cluster(hosts=(*targets, lost), vms=(*stays, *gone), groups=groups, config=config)


def _vm_facts(rng: random.Random) -> VmFacts:
    memory_mib, vcpus = rng.choice(FLAVORS)
    if rng.random() < 0.3:
        memory_mib = rng.randint(512, 16384)
    return VmFacts(
        memory_mib=memory_mib,
        vcpus=vcpus,
        priority=rng.choice((0, 0, 0, 5, 10)),
        aggregates=("ssd",) if rng.random() < 0.1 else (),
        machine="q35",
    )


def _host(rng: random.Random, name: str) -> HostRecord:
    system = SYSTEMS[rng.random() < 0.1]
    aggregates = ("ssd",) if rng.random() < 0.4 else ()
    return host_of(name, HostFacts(vcpus=1, memory_mib=1, operating_system=system, machines=("q35",)), aggregates)


def _sized(
    rng: random.Random,
    host: HostRecord,
    stays: list[VmRecord],
    facts: dict[str, VmFacts],
    load: float,
    count: int,
    config: ClusterConfig,
) -> HostRecord:
    """With the room that makes the load, unevenly."""
    held = [vm.facts for vm in stays if vm.owner_host_id == host.host_id]
    share = rng.uniform(0.5, 1.5) / count / load
    free_mib = share * sum(each.memory_mib for each in facts.values())
    free_vcpus = rng.choice((1.0, 1.3, 3.0)) * share * sum(each.vcpus for each in facts.values())
    memory = (free_mib + sum(each.memory_mib for each in held)) / (1 - config.reserve_fraction)
    vcpus = (free_vcpus + sum(each.vcpus for each in held)) / config.cpu_overcommit
    old = host.facts
    assert old is not None
    sized = HostFacts(
        vcpus=max(1, round(vcpus)),
        memory_mib=max(512, round(memory)),
        operating_system=old.operating_system,
        machines=old.machines,
    )
    return host_of(host.host_id, sized, host.config.aggregates)


def _groups(rng: random.Random, moved: list[str], stays: list[str]) -> dict[str, Group]:
    groups = {}
    for number in range(rng.randint(0, 5)):
        members = rng.sample(moved, min(len(moved), rng.randint(2, 5)))
        if stays and rng.random() < 0.3:
            members.append(rng.choice(stays))
        group_id = f"g{number}"
        groups[group_id] = Group(
            group_id=group_id,
            policy=rng.choice((GroupPolicy.AFFINITY, GroupPolicy.ANTI_AFFINITY)),
            mode=rng.choice((GroupMode.SOFT, GroupMode.SOFT, GroupMode.HARD)),
            vm_ids=tuple(members),
        )
    return groups


def as_problem(made: Cluster) -> dict[str, Any]:
    """For the oracle: its own account of room and groups, from the records; only rules of pairs are ours."""
    targets = [host for host in made.hosts if host.host_id != SOURCE]
    number = {host.host_id: n for n, host in enumerate(targets)}
    demands = made.demands()
    room = []
    for host in targets:
        held = [vm.facts for vm in made.vms if vm.owner_host_id == host.host_id]
        assert host.facts is not None
        memory = host.facts.memory_mib * (1 - made.config.reserve_fraction) - sum(each.memory_mib for each in held)
        room.append([memory, host.facts.vcpus * made.config.cpu_overcommit - sum(each.vcpus for each in held)])
    kinds = [kind_of(host.config.aggregates, host.facts) for host in targets if host.facts]
    index = {demand.vm_id: n for n, demand in enumerate(demands)}
    owners = {vm.vm_id: vm.owner_host_id for vm in made.vms}
    return {
        "hosts": room,
        "vms": [
            {
                "mib": demand.facts.memory_mib,
                "vcpus": demand.facts.vcpus,
                "priority": demand.facts.priority,
                "hosts": [
                    n for n, kind in enumerate(kinds) if not refused(wants_of(demand.facts, demand.source), kind, PAIR_RULES)
                ],
            }
            for demand in demands
        ],
        "groups": [
            {
                "affine": group.policy is GroupPolicy.AFFINITY,
                "hard": group.mode is GroupMode.HARD,
                "vms": [index[vm_id] for vm_id in group.vm_ids if vm_id in index],
                "stays": sorted({number.get(owners[vm_id], -1) for vm_id in group.vm_ids if vm_id not in index}),
            }
            for group in made.groups.values()
        ],
    }
