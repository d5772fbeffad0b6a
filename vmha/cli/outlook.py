"""What the evacuator adds to an explanation: where a VM could go now, what would become of a host's VMs.

An explanation does not need it: where the evacuator does not answer, one line says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

from vmha.cli import output
from vmha.cli.session import Connection
from vmha.errors import VmhaError
from vmha.v1 import evacuation_service_pb2 as ev

M = TypeVar("M", bound=Message)
_FATES: Final = {
    ev.VM_OUTCOME_UNSPECIFIED: "would start elsewhere",
    ev.VM_OUTCOME_PENDING: "would wait",
    ev.VM_OUTCOME_FAILED: "could not be started",
    ev.VM_OUTCOME_SKIPPED: "would be left alone",
    ev.VM_OUTCOME_MOVED: "moved",
    ev.VM_OUTCOME_REBUILT: "rebuilt",
    ev.VM_OUTCOME_RESTARTED: "restarted where they were",
}
_NEEDS: Final = "; needs "
"""Where the message of a VM without a target begins to name the hosts."""


@dataclass(frozen=True, slots=True)
class Outlook(Generic[M]):
    """The evacuator's answer, or why there is none. `name`: its field in JSON; `unknown`: what nobody knows without it."""

    name: str
    unknown: str
    answer: M | None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For programs: the answer, or null with NAME_error."""
        if self.answer is None:
            return {self.name: None, f"{self.name}_error": self.error}
        return {self.name: output.as_dict(self.answer)}

    def show(self, show: Callable[[M], None]) -> None:
        """For people."""
        if self.answer is None:
            output.line("")
            output.line(f"the evacuator did not answer ({self.error}): {self.unknown} is not known")
        else:
            show(self.answer)


async def of_vm(connection: Connection, cluster_id: str, vm_id: str) -> Outlook[ev.VmPlacement]:
    """Where a VM could go now."""

    async def ask() -> ev.VmPlacement:
        request = ev.ExplainVmPlacementRequest(cluster_id=cluster_id, vm_id=vm_id)
        return (await connection.ask(connection.evacuations.ExplainVmPlacement, request)).placement

    return await _outlook("placement", "where the VM could go", ask)


async def of_host(connection: Connection, cluster_id: str, host_id: str) -> Outlook[ev.HostLoss]:
    """What would become of a host's VMs."""

    async def ask() -> ev.HostLoss:
        request = ev.ExplainHostLossRequest(cluster_id=cluster_id, host_id=host_id)
        return (await connection.ask(connection.evacuations.ExplainHostLoss, request)).loss

    return await _outlook("loss", "what would become of its VMs", ask)


async def _outlook(name: str, unknown: str, ask: Callable[[], Awaitable[M]]) -> Outlook[M]:
    try:
        return Outlook(name, unknown, await ask())
    except VmhaError as error:
        return Outlook(name, unknown, None, f"{error.reason}: {error.message}")


def show_vm(placement: ev.VmPlacement) -> None:
    """Where a VM could go now, the rules that were tried, and the hosts that each refused."""
    output.heading(f"where it could go {_occasion(placement.evacuation, placement.host_id)}")
    _warn(placement.evacuation, disabled=placement.ha_disabled)
    rows = [("journal", _entry(placement.journaled))] if placement.HasField("journaled") else []
    rows.append(("now", _entry(placement.planned) if placement.HasField("planned") else "no new plan is made for it"))
    if placement.host_rules:
        rows.append(("would do as well", _some(placement.other_host_ids, placement.other_count) or "no other host"))
    if placement.vm_rules:
        rows.append(("rules of the VM", _vm_rules(placement.vm_rules)))
    output.facts(rows)
    refusing = [rule for rule in placement.host_rules if rule.refused_count]
    if placement.host_rules:
        output.heading(f"hosts refused: {sum(rule.refused_count for rule in refusing)} of {placement.host_count}")
        silent = ", ".join(rule.reason for rule in placement.host_rules if not rule.refused_count)
        output.facts([*((rule.reason, _refused(rule)) for rule in refusing), ("(refused none)", silent)])


def show_host(loss: ev.HostLoss) -> None:
    """What would become of a host's VMs, one by one."""
    becomes = "becomes" if loss.HasField("evacuation") else "would become"
    output.heading(f"what {becomes} of its {_count(loss.vm_count, 'VM')} {_occasion(loss.evacuation, loss.host_id)}")
    _warn(loss.evacuation, disabled=loss.ha_disabled)
    if not loss.vms:
        return
    output.line("; ".join(_fate(fate) for fate in loss.fates))
    output.facts((vm.vm_name or vm.vm_id, _entry(vm)) for vm in loss.vms)
    if loss.vm_count > len(loss.vms):
        output.line(f"and {_count(loss.vm_count - len(loss.vms), 'more VM')}")
    if loss.targets:
        output.heading(f"who would get them: {_count(loss.target_count, 'host')}")
        output.facts((share.host_id, f"{_count(share.vm_count, 'VM')}, {share.memory_mib} MiB") for share in loss.targets)


def _occasion(evacuation: ev.Evacuation, host_id: str) -> str:
    if not evacuation.evacuation_id:
        return f"if {host_id} died now"
    kind = "drain" if evacuation.kind == ev.EVACUATION_KIND_DRAIN else "evacuation"
    reason = f" ({evacuation.reason})" if evacuation.reason else ""
    return f"by the {kind} of {host_id}, which is {output.name_of(ev.EvacuationState, evacuation.state)}{reason}"


def _warn(evacuation: ev.Evacuation, *, disabled: bool) -> None:
    if disabled and not evacuation.evacuation_id:
        output.line("protection is DISABLED: nobody would do it")


def _entry(vm: ev.VmEvacuation) -> str:
    outcome = output.name_of(ev.VmOutcome, vm.outcome) if vm.outcome else ""
    to = f"to {vm.target_host_id}" if vm.target_host_id else ""
    said = " ".join(word for word in (outcome, to, vm.reason) if word) or "no target yet"
    message = vm.message.partition(_NEEDS)[0]
    return f"{said}: {message}" if message else said


def _fate(fate: ev.VmFate) -> str:
    what = _FATES.get(fate.outcome, output.name_of(ev.VmOutcome, fate.outcome))
    return f"{fate.vm_count} {what}" + (f" ({fate.reason})" if fate.reason else "")


def _vm_rules(rules: Sequence[ev.VmRule]) -> str:
    let_go = ", ".join(rule.reason for rule in rules if not rule.against)
    against = [f"{rule.reason} is against it: {rule.message}" for rule in rules if rule.against]
    if let_go:
        against.append(f"nothing against it: {let_go}")
    return "; ".join(against)


def _refused(rule: ev.HostRule) -> str:
    named = [f"{host.host_id} ({host.message})" if host.message else host.host_id for host in rule.hosts]
    return f"{_some(named, rule.refused_count)}: {rule.message}"


def _some(named: Iterable[str], count: int) -> str:
    shown = list(named)
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")


def _count(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
