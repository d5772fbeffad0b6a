"""What may not or need not be moved at all: a list of rules, each a small function with a reason (S20).

A rule looks at one VM and at nothing else. `None` means that it has nothing against moving the VM. The first verdict counts; the
order of RULES is the order in which an operator would ask. Rules about pairs of a VM and a target are placement's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmha.evac.reasons import VmReason
from vmha.model import VmOutcome, VmState
from vmha.store.records import VmRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a VM is not moved."""

    outcome: VmOutcome
    reason: VmReason
    message: str


Rule = Callable[[VmRecord], Verdict | None]


def ha_is_on(vm: VmRecord) -> Verdict | None:
    """The VM's own XML can switch its protection off."""
    if vm.facts.ha_enabled:
        return None
    return Verdict(outcome=VmOutcome.SKIPPED, reason=VmReason.HA_OFF, message="restart policy of the VM is off")


def is_not_paused(vm: VmRecord) -> Verdict | None:
    """S20: what its user paused or suspended is not evacuated: a start elsewhere would run it."""
    if vm.desired_state is not VmState.PAUSED:
        return None
    return Verdict(outcome=VmOutcome.SKIPPED, reason=VmReason.VM_PAUSED, message="its user had paused it")


def should_run(vm: VmRecord) -> Verdict | None:
    """S20: what was shut off on purpose is not started. A VM whose host was shutting down still wants to run."""
    never_seen = vm.desired_state in {VmState.UNSPECIFIED, VmState.ABSENT}
    if vm.desired_state is VmState.RUNNING or (never_seen and vm.state is VmState.RUNNING):
        return None
    return Verdict(outcome=VmOutcome.SKIPPED, reason=VmReason.VM_SHUTOFF, message="it was shut off on purpose")


def is_defined(vm: VmRecord) -> Verdict | None:
    """Without the domain's XML nothing can be started."""
    if vm.domain_xml:
        return None
    return Verdict(outcome=VmOutcome.FAILED, reason=VmReason.NO_DEFINITION, message="the inventory holds no domain XML of it")


RULES: tuple[Rule, ...] = (ha_is_on, is_not_paused, should_run, is_defined)


def judge(vm: VmRecord, rules: tuple[Rule, ...] = RULES) -> Verdict | None:
    """The first rule's word against moving the VM, None when all let it go."""
    for rule in rules:
        verdict = rule(vm)
        if verdict is not None:
            return verdict
    return None
