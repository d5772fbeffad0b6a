"""`make demo SCENARIO=rules`: a host with guests of every kind loses power; each goes where its rules let it, or says why not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from lab import Lab
from lab.guests import instance
from lab.host import LOCAL_DISKS
from lab.narrate import Narrator
from lab.stack import Stack, running
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import vm_pb2

HOSTS, VICTIM, SPARE = 4, "host1", "host4"
IMAGE = "heartbeat"
AGGREGATES = {"host1": ("lab", "ssd", "dongle"), "host2": ("lab", "ssd"), "host3": ("lab",), "host4": ("lab",)}
GROUPS = (
    {"id": "web", "policy": "anti-affinity", "mode": "hard", "vms": []},
    {"id": "app", "policy": "affinity", "mode": "soft", "vms": []},
)
SETTLED_WITHIN_S = 60.0
PLACED_WITHIN_S = 40.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One guest. `wants`: in an operator's words; `wishes`: arguments of lab.guests.make; `outcome`: what must come of it."""

    name: str
    wants: str
    wishes: Mapping[str, Any]
    outcome: str
    host: str = VICTIM


KINDS = (
    Kind(
        "db1", "a host of the aggregate ssd; the first to start", {"metadata": instance(priority=10, aggregates=["ssd"])}, "MOVED"
    ),
    Kind("web1", "never beside another of web (hard)", {"metadata": instance(groups=["web"])}, "MOVED"),
    Kind("web2", "never beside another of web (hard)", {"metadata": instance(groups=["web"])}, "MOVED"),
    Kind("app1", "with the others of app, if it can be", {"metadata": instance(groups=["app"])}, "MOVED"),
    Kind("app2", "with the others of app, if it can be", {"metadata": instance(groups=["app"])}, "MOVED"),
    Kind("tpm1", "its TPM, whose state is on shared storage", {"vtpm": True}, "MOVED"),
    Kind("local1", "its image: its disk was local", {"metadata": instance(image=IMAGE), "directory": LOCAL_DISKS}, "REBUILT"),
    Kind("paused1", "nothing: its user has paused it", {}, "SKIPPED"),
    Kind("resized1", "a resize confirmed", {"metadata": instance(resized=True)}, "FAILED"),
    Kind("lonely1", "a host of the aggregate dongle", {"metadata": instance(aggregates=["dongle"])}, "PENDING"),
    Kind("web3", "never beside another of web (hard)", {"metadata": instance(groups=["web"])}, "", host="host3"),
)


def run(console: Console, lab: Lab, profile: str) -> int:
    """The whole demo in a lab; returns the exit code."""
    console.print(
        f"[bold]vmha demo[/]: {HOSTS} hosts, {len(KINDS)} guests with rules of every kind; Redis, manager, evacuator and a fence"
    )
    with running(Stack(lab=lab, hosts=HOSTS, profile=profile, aggregates=AGGREGATES, groups=GROUPS)) as stack:
        start_guests(stack, lab, KINDS)
        console.print("waiting until the manager has learnt the cluster (it confirms nothing before) ...")
        wait_settled(stack, KINDS)
        cut_at = time.monotonic()
        with Narrator(console, stack, cut_at):
            console.print(f"[bold red]+0.00 s  power of {VICTIM} is cut[/]")
            lab.host(VICTIM).kill()
            lab.beats.made_anew("local1", time.monotonic())
            wait_outcomes(stack, KINDS)
        _show(console, stack)
        _explain(console, stack, "lonely1")
        _make_room(console, stack)
        lab.beats.check()
    console.print("none ran twice: no guest's beat went backwards, no two boots of one guest interleave")
    return 0


def start_guests(stack: Stack, lab: Lab, kinds: Sequence[Kind]) -> None:
    """Make and start guests of these kinds, with the image that local disks are made of; returns when each has beaten.

    One that is called paused1 is paused then, as its user would.
    """
    lab.make_image(IMAGE)
    for kind in kinds:
        lab.mkvm(kind.name, **kind.wishes)
        if "directory" in kind.wishes:
            lab.host(kind.host).give_local_disk(kind.name)
        lab.host(kind.host).start_guest(kind.name)
    names = [kind.name for kind in kinds]
    stack.wait(lambda: all(lab.beats.of(name) for name in names), 60, "every guest beats")
    lab.host(VICTIM).virsh("suspend", "paused1")


def wait_settled(stack: Stack, kinds: Sequence[Kind]) -> None:
    """Wait until the manager knows all guests, that paused1 is paused, and that only those would fail that have to."""
    stack.wait_settled(len(kinds) - 1, SETTLED_WITHIN_S)
    stack.wait(lambda: stack.vms()["paused1"].state == vm_pb2.VM_STATE_PAUSED, 20, "paused1 is seen to be paused")
    # That the storage of tpm1 is shared takes its host's agent a while to prove.
    lost = {kind.name for kind in kinds if kind.outcome == "FAILED"}
    stack.wait(lambda: stack.would_fail(VICTIM) == lost, SETTLED_WITHIN_S, f"only {lost} would fail if {VICTIM} died")


def wait_outcomes(stack: Stack, kinds: Sequence[Kind]) -> None:
    """Wait until every guest of the lost host has the outcome of its kind."""
    wanted = {kind.name: kind.outcome for kind in kinds if kind.outcome}
    stack.wait(lambda: _have(stack, wanted), PLACED_WITHIN_S, f"every guest has the outcome of its kind: {wanted}")


def _have(stack: Stack, wanted: Mapping[str, str]) -> bool:
    try:
        return _outcomes(stack) == wanted
    except grpc.RpcError:
        return False  # the evacuator is just starting


def _entries(stack: Stack) -> dict[str, ev.VmEvacuation]:
    for evacuation in stack.evacuations_of(VICTIM)[:1]:
        request = ev.GetEvacuationRequest(cluster_id=evacuation.cluster_id, evacuation_id=evacuation.evacuation_id)
        return {vm.vm_name: vm for vm in stack.evacuations.GetEvacuation(request, timeout=5.0).vms}
    return {}


def _outcomes(stack: Stack) -> dict[str, str]:
    return {name: ev.VmOutcome.Name(vm.outcome).removeprefix("VM_OUTCOME_") for name, vm in _entries(stack).items()}


def _show(console: Console, stack: Stack) -> None:
    entries, owners = _entries(stack), {name: vm.owner_host_id for name, vm in stack.vms().items()}
    table = Table(title=f"\nEvery guest of {VICTIM}: where it went, or why not")
    for heading in ("VM", "wants", "outcome", "where", "why"):
        table.add_column(heading, overflow="fold")
    for kind in KINDS:
        if (entry := entries.get(kind.name)) is not None:
            table.add_row(kind.name, kind.wants, _outcomes(stack)[kind.name], owners[kind.name], _why(entry))
    console.print(table)


def _why(entry: ev.VmEvacuation) -> str:
    return f"{entry.reason}: {entry.message}" if entry.reason and entry.message else entry.reason or entry.message


def _explain(console: Console, stack: Stack, name: str) -> None:
    """What an operator asks of one that waits (B5)."""
    told = stack.vmha("vm", "explain", name).stdout
    console.print(f"\n$ vmha vm explain {name}\n{told}", markup=False, highlight=False)


def _make_room(console: Console, stack: Stack) -> None:
    """What waits is placed as soon as a host appears that its rules let it have (B4)."""
    console.print(f"\n{SPARE} joins the aggregate dongle (vmha apply) ...")
    stack.aggregates = {**stack.aggregates, SPARE: ("lab", "dongle")}
    stack.apply()
    took_s = stack.wait(lambda: _outcomes(stack).get("lonely1") == "MOVED", PLACED_WITHIN_S, "lonely1 has been placed")
    console.print(
        f"lonely1 runs on {stack.vms()['lonely1'].owner_host_id} {took_s:.1f} s later; {VICTIM} is {stack.host_state(VICTIM)}"
    )
