"""Whether a cluster comes to rest: what must run runs again, once nothing has disturbed anything for long enough.

Safety alone is kept by doing nothing. `healed` ends every fault of a scenario and leaves the cluster alone; `recovered` is the
invariant that speaks then, and in every other run whose end is as quiet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vmha.model import HostState, VmOutcome
from vmha.sim.truth import Truth, Violation

Raw = dict[str, Any]
AT_REST: Final = 4
"""So many times the longest way of one recovery without a fence (T_wait, a lease, learning) have to be quiet."""
REST_S: Final = 250.0
"""That and a little more, under the fast profile, which chaos runs under."""
_ENDS: Final = ("heal_all", "store_up", "manager_start", "evac_start")
_ENDS_OF_HOST: Final = ("boot", "agent_start", "exporter_start", "hypervisor_resume", "fence_heal", "maintenance_off")
_SETTLED: Final = frozenset({"SELF_FENCED", "VM_SHUTOFF", "VM_PAUSED", "VM_NOT_PROTECTED", "TAKEN_OVER"})
"""Reasons that stand until somebody acts, other than those of a FAILED VM."""

_UNDONE_BY: Final = {
    "evac_crash": "evac_start", "exporter_stop": "exporter_start", "fence_fail": "fence_heal", "ha_disable": "ha_enable",
    "goodbye": "boot",
}  # fmt: skip
"""Acts that no host's contact shows, each with the one that ends it."""


def healed(raw: Mapping[str, Any]) -> Raw:
    """The scenario with everything mended at its end, and time to recover."""
    at = raw["until"]
    ends: list[Raw] = [{"at": at, "do": do} for do in _ENDS]
    for host in raw["hosts"]:
        ends += [{"at": at, "do": do, "host": host["id"]} for do in _ENDS_OF_HOST]
        ends += [{"at": at, "do": do, "host": host["id"], "count": 0} for do in ("fail_starts", "fail_migrations")]
        ends.append({"at": at, "do": "liar", "host": host["id"], "says": "truth"})
        ends.append({"at": at, "do": "clock_rate", "host": host["id"], "rate": 1.0})
    return {**raw, "timeline": [*raw["timeline"], *ends], "until": at + REST_S}


def recovered(truth: Truth) -> Iterator[Violation]:
    """In the end of a run that was quiet for long every host is in service, and every VM that should run does."""
    timers, until = truth.scenario.cluster.config.timers, truth.scenario.until
    quiet_s = AT_REST * (timers.wait_duration_s + timers.lease_duration_s + timers.learning_s)
    if not all(contact.undisturbed(until - quiet_s, until) for contact in truth.contact.values()) or _unwell(truth):
        return
    for host, state in truth.final.get("hosts", {}).items():
        if state not in {HostState.HEALTHY.value, HostState.IN_MAINTENANCE.value if _kept_out(truth, host) else ""}:
            text = f"{host} is {state} in the end, and nothing has disturbed anything for {quiet_s:.0f} s"
            yield Violation(t=until, invariant="recovered", message=text, facts={"host": host, "state": state})
    for vm in truth.scenario.vms:
        final = truth.final.get("vms", {}).get(vm.id, {})
        if final.get("state") == "running" or vm.state != "running" or truth.is_left_to_people(vm.id):
            continue
        if final.get("outcome") != VmOutcome.FAILED.value and final.get("reason") not in _SETTLED:
            text = (
                f"{vm.id} does not run in the end ({final.get('reason')}), and nothing has disturbed anything for {quiet_s:.0f} s"
            )
            yield Violation(t=until, invariant="recovered", message=text, facts={"vm": vm.id, "final": dict(final)})


def _kept_out(truth: Truth, host: str) -> bool:
    """Whether the operator's last word keeps it out of service."""
    words = [line.cause for line in truth.acts("maintenance_on", "maintenance_off", "drain") if line.host == host]
    return bool(words) and words[-1] != "maintenance_off"


def _unwell(truth: Truth) -> bool:
    """Whether something stands that no host's contact shows, or the store has lost what was running: then people decide."""
    standing: set[tuple[str, str]] = set()
    for line in truth.acts(*_UNDONE_BY, *_UNDONE_BY.values(), "fail_starts", "fail_migrations", "store_flush"):
        stands = line.cause in _UNDONE_BY or line.cause == "store_flush" or bool(line.detail.get("count"))
        (standing.add if stands else standing.discard)((_UNDONE_BY.get(line.cause, line.cause), line.host))
    return bool(standing)
