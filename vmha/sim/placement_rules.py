"""Invariants about where VMs may be started: capacity, hard rules, soft rules. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from vmha.sim.history import Fact, Line
from vmha.sim.scenario import GroupSpec, HostSpec, VmSpec
from vmha.sim.truth import Truth, Violation

_TIGHT: Final = 1e-9
_PRODUCT: Final = frozenset({"start"})
"""What the evacuator asked for; operators and returned hosts may do as they like."""


class _Rooms:
    """Which VM holds capacity where, as domains come and go."""

    def __init__(self) -> None:
        self.on: dict[str, set[str]] = {}

    def take(self, line: Line) -> None:
        """Follows the history."""
        vms = self.on.setdefault(line.host, set())
        if line.fact in {Fact.GUEST_CREATED, Fact.GUEST_RUNS}:
            vms.add(line.vm)
        else:
            vms.discard(line.vm)


_MOVES: Final = (Fact.GUEST_CREATED, Fact.GUEST_RUNS, Fact.GUEST_ENDS, Fact.GUEST_DROPPED)


def no_target_overloaded(truth: Truth) -> Iterator[Violation]:
    """A start elsewhere never takes a target over its memory less the reserve, nor over its vCPUs times the overcommit."""
    config, rooms = truth.scenario.cluster.config, _Rooms()
    vms, hosts = _vms(truth), _hosts(truth)
    for line in truth.facts(*_MOVES):
        known = line.vm in rooms.on.get(line.host, ())
        rooms.take(line)
        if known or line.cause not in _PRODUCT or line.fact in {Fact.GUEST_ENDS, Fact.GUEST_DROPPED}:
            continue
        host, held = hosts[line.host], [vms[name] for name in rooms.on[line.host]]
        memory, vcpus = sum(vm.memory_mib for vm in held), sum(vm.vcpus for vm in held)
        memory_limit, vcpu_limit = host.memory_mib * (1 - config.reserve_fraction), host.vcpus * config.cpu_overcommit
        if memory > memory_limit + _TIGHT or vcpus > vcpu_limit + _TIGHT:
            text = f"{line.vm} takes {line.host} to {memory} of {memory_limit:g} MiB and {vcpus} of {vcpu_limit:g} vCPUs"
            facts = {"vm": line.vm, "host": line.host, "memory_mib": memory, "vcpus": vcpus}
            yield Violation(t=line.t, invariant="no_target_overloaded", message=text, facts=facts)


def hard_rules_kept(truth: Truth) -> Iterator[Violation]:
    """Roles, aggregates, devices, hard groups: a start elsewhere never breaks one."""
    rooms, vms, hosts = _Rooms(), _vms(truth), _hosts(truth)
    last = {vm.id: vm.host for vm in vms.values()}
    for line in truth.facts(*_MOVES):
        rooms.take(line)
        if line.fact is not Fact.GUEST_RUNS:
            continue
        was, last[line.vm] = last[line.vm], line.host
        if line.cause not in _PRODUCT:
            continue
        vm, host = vms[line.vm], hosts[line.host]
        broken = [*_own_rules(truth, vm, host, hosts[was]), *_hard_groups(truth, vm, host, rooms)]
        for rule, text in broken:
            facts = {"vm": vm.id, "host": host.id, "rule": rule}
            yield Violation(t=line.t, invariant="hard_rules_kept", message=f"{vm.id} starts on {host.id}: {text}", facts=facts)


def _own_rules(truth: Truth, vm: VmSpec, host: HostSpec, was: HostSpec) -> Iterator[tuple[str, str]]:
    if "hypervisor" not in host.roles:
        yield "role", "that host is no hypervisor"
    if missing := [name for name in vm.aggregates if name not in host.aggregates]:
        yield "aggregate", f"that host is not in the aggregate {', '.join(missing)}"
    if host.id == vm.host:
        return  # it was there before
    if host.os != was.os:
        yield "os", f"that host runs {host.os}, its old one {was.os}"
    if vm.gpu:
        yield "gpu", "its passed-through device is on another host"
    if vm.vtpm and not truth.scenario.cluster.vtpm_state_shared:
        yield "vtpm", "its TPM's state is on another host"
    if vm.resize_unconfirmed:
        yield "resize", "its resize is not confirmed"


def _hard_groups(truth: Truth, vm: VmSpec, host: HostSpec, rooms: _Rooms) -> Iterator[tuple[str, str]]:
    for group in truth.scenario.groups:
        if vm.id not in group.vms or group.mode != "hard":
            continue
        here, away = _members(group, vm, host, rooms)
        if group.policy == "anti-affinity" and here:
            yield group.id, f"{here[0]} of the anti-affinity group {group.id} is there"
        if group.policy == "affinity" and away:
            yield group.id, f"{away[0]} of the affinity group {group.id} is elsewhere"


def _members(group: GroupSpec, vm: VmSpec, host: HostSpec, rooms: _Rooms) -> tuple[list[str], list[str]]:
    others = [name for name in group.vms if name != vm.id]
    here = [name for name in others if name in rooms.on.get(host.id, ())]
    away = [name for name in others if any(name in held for at, held in rooms.on.items() if at != host.id)]
    return here, [name for name in away if name not in here]


def soft_rules_kept_where_possible(truth: Truth) -> Iterator[Violation]:
    """A start elsewhere breaks a soft rule only when no healthy host with room would keep it."""
    rooms, vms, hosts = _Rooms(), _vms(truth), _hosts(truth)
    states = {host.id: "HEALTHY" for host in truth.scenario.hosts}
    changes = [event for event in truth.events if event["type"] == "host_state"]
    for line in truth.facts(*_MOVES):
        while changes and changes[0]["t"] <= line.t:
            states[changes[0]["host"]] = changes[0]["to"]
            changes.pop(0)
        rooms.take(line)
        if line.fact is not Fact.GUEST_RUNS or line.cause not in _PRODUCT:
            continue
        for group in truth.scenario.groups:
            if line.vm not in group.vms or group.mode != "soft" or not _broken(group, vms[line.vm], hosts[line.host], rooms):
                continue
            better = [h.id for h in hosts.values() if _would_do(truth, group, vms, line, h, rooms, states)]
            if better:
                text = f"{line.vm} starts on {line.host} against {group.id}, which {', '.join(better)} would have kept"
                facts = {"vm": line.vm, "host": line.host, "rule": group.id, "better": better}
                yield Violation(t=line.t, invariant="soft_rules_kept_where_possible", message=text, facts=facts)


def _broken(group: GroupSpec, vm: VmSpec, host: HostSpec, rooms: _Rooms) -> bool:
    here, away = _members(group, vm, host, rooms)
    return bool(here) if group.policy == "anti-affinity" else bool(away)


def _would_do(
    truth: Truth,
    group: GroupSpec,
    vms: Mapping[str, VmSpec],
    line: Line,
    host: HostSpec,
    rooms: _Rooms,
    states: Mapping[str, str],
) -> bool:
    """Whether a host would beyond doubt have kept the group: it was healthy, undisturbed, and had room to spare."""
    vm, config = vms[line.vm], truth.scenario.cluster.config
    if host.id == line.host or states[host.id] != "HEALTHY" or _broken(group, vm, host, rooms):
        return False
    if not truth.contact[host.id].undisturbed(max(0.0, line.t - config.timers.wait_duration_s), line.t):
        return False
    if any(_own_rules(truth, vm, host, truth.scenario.host(line.host))) or any(_hard_groups(truth, vm, host, rooms)):
        return False
    # Its group's other members may have been planned for it: room for all of them.
    wanted = [vms[name] for name in {*rooms.on.get(host.id, ()), *group.vms}]
    memory, vcpus = sum(each.memory_mib for each in wanted), sum(each.vcpus for each in wanted)
    return memory <= host.memory_mib * (1 - config.reserve_fraction) and vcpus <= host.vcpus * config.cpu_overcommit


def _vms(truth: Truth) -> dict[str, VmSpec]:
    return {vm.id: vm for vm in truth.scenario.vms}


def _hosts(truth: Truth) -> dict[str, HostSpec]:
    return {host.id: host for host in truth.scenario.hosts}
