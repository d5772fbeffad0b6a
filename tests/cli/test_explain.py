"""`vm explain` and `host explain`: what the evacuator adds, in the words that an operator reads."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Vmha
from tests.cli.plane import EVACUATION, VM
from vmha.v1 import evacuation_service_pb2 as ev

RULES = [ev.VmRule(reason="HA_OFF"), ev.VmRule(reason="VM_PAUSED")]
FULL = ev.HostRule(
    reason="MEMORY_FULL",
    message="not enough memory left",
    refused_count=18,
    hosts=[ev.RefusedHost(host_id=f"h{n}", message=f"{n} MiB left") for n in (4, 5)],
)
HOST_RULES = [
    ev.HostRule(
        reason="FAILED_HOST", message="it is the one that is evacuated", refused_count=1, hosts=[ev.RefusedHost(host_id="h1")]
    ),
    ev.HostRule(reason="AGGREGATE_DIFFERS", message="it is not in every aggregate that the VM names"),
    FULL,
]


def section(text: str, heading: str) -> dict[str, str]:
    """The named lines under a heading."""
    block = text[text.index(heading) :].split("\n\n", maxsplit=1)[0].splitlines()[1:]
    return dict(line.split("  ", 1) for line in block)


def words(found: dict[str, str]) -> dict[str, str]:
    return {name: text.strip() for name, text in found.items()}


async def test_s28_b05_vm_explain_says_where_it_could_go_and_why_not_elsewhere(vmha: Vmha) -> None:
    """A running VM: the target, who else, each refusing host under its rule with what it has, and rules that refused nobody."""
    vmha.plane.settle()
    planned = ev.VmEvacuation(
        vm_id=f"{VM}1", target_host_id="h2", message="most free memory of 20 hosts; leaves 9 MiB and 1 vCPUs"
    )
    vmha.plane.placements[f"{VM}1"] = ev.VmPlacement(
        host_id="h1", planned=planned, vm_rules=RULES, host_rules=HOST_RULES, host_count=21, other_host_ids=["h3"], other_count=1
    )

    done = await vmha("vm", "explain", "web-1")

    assert done.code == 0
    assert words(section(done.out, "where it could go if h1 died now")) == {
        "now": "to h2: most free memory of 20 hosts; leaves 9 MiB and 1 vCPUs",
        "would do as well": "h3",
        "rules of the VM": "nothing against it: HA_OFF, VM_PAUSED",
    }
    assert words(section(done.out, "hosts refused: 19 of 21")) == {
        "FAILED_HOST": "h1: it is the one that is evacuated",
        "MEMORY_FULL": "h4 (4 MiB left), h5 (5 MiB left) and 16 more: not enough memory left",
        "(refused none)": "AGGREGATE_DIFFERS",
    }


async def test_s28_b05_vm_explain_of_one_that_waits(vmha: Vmha) -> None:
    """The evacuation that has it, with its state; the journal's word, and what the next try would find."""
    vmha.plane.settle()
    waits = ev.VmEvacuation(
        outcome=ev.VM_OUTCOME_PENDING, reason="AGGREGATE_EMPTY", message="no other healthy host is in ssd; needs 1 MiB"
    )
    full = ev.VmEvacuation(
        outcome=ev.VM_OUTCOME_PENDING, reason="NO_CAPACITY", message="no room; needs 1 MiB and 1 vCPUs; MEMORY_FULL: h4"
    )
    vmha.plane.placements[f"{VM}1"] = ev.VmPlacement(
        host_id="h1",
        evacuation=ev.Evacuation(evacuation_id=EVACUATION, state=ev.EVACUATION_STATE_PENDING, reason="NO_CAPACITY"),
        journaled=waits,
        planned=full,
        vm_rules=RULES,
        host_rules=HOST_RULES,
        host_count=19,
    )

    done = await vmha("vm", "explain", "web-1")

    assert words(section(done.out, "where it could go by the evacuation of h1, which is PENDING (NO_CAPACITY)")) == {
        "journal": "PENDING AGGREGATE_EMPTY: no other healthy host is in ssd",
        "now": "PENDING NO_CAPACITY: no room",
        "would do as well": "no other host",
        "rules of the VM": "nothing against it: HA_OFF, VM_PAUSED",
    }


async def test_b05_vm_explain_of_one_that_its_own_rule_keeps(vmha: Vmha) -> None:
    """No host was tried, and the rule that is against comes first; so does a start under way without a plan."""
    vmha.plane.settle()
    against = ev.VmRule(reason="PASSTHROUGH_DEVICE", against=True, message="it has a device")
    failed = ev.VmEvacuation(outcome=ev.VM_OUTCOME_FAILED, reason="PASSTHROUGH_DEVICE", message="it has a device")
    vmha.plane.placements[f"{VM}1"] = ev.VmPlacement(host_id="h1", planned=failed, vm_rules=[*RULES, against])
    started = ev.VmEvacuation(target_host_id="h2", step=ev.VM_STEP_STARTED)
    drain = ev.Evacuation(evacuation_id=EVACUATION, state=ev.EVACUATION_STATE_RUNNING, kind=ev.EVACUATION_KIND_DRAIN)
    vmha.plane.placements[f"{VM}2"] = ev.VmPlacement(host_id="h1", evacuation=drain, journaled=started)

    kept = await vmha("vm", "explain", "web-1")
    going = await vmha("vm", "explain", "web-2")

    assert words(section(kept.out, "where it could go if h1 died now")) == {
        "now": "FAILED PASSTHROUGH_DEVICE: it has a device",
        "rules of the VM": "PASSTHROUGH_DEVICE is against it: it has a device; nothing against it: HA_OFF, VM_PAUSED",
    }
    assert "hosts refused" not in kept.out
    assert words(section(going.out, "where it could go by the drain of h1, which is RUNNING")) == {
        "journal": "to h2",
        "now": "no new plan is made for it",
    }


async def test_s28_b05_host_explain_says_what_its_death_would_do(vmha: Vmha) -> None:
    """How many would have which fate, each VM with its target or reason, the rest counted, and who would get them."""
    vmha.plane.settle()
    vmha.plane.losses["h1"] = ev.HostLoss(
        host_id="h1",
        vm_count=5,
        fates=[
            ev.VmFate(outcome=ev.VM_OUTCOME_PENDING, reason="NO_CAPACITY", vm_count=1),
            ev.VmFate(vm_count=3),
            ev.VmFate(outcome=ev.VM_OUTCOME_SKIPPED, reason="HA_OFF", vm_count=1),
        ],
        vms=[
            ev.VmEvacuation(
                vm_name="web-3",
                outcome=ev.VM_OUTCOME_PENDING,
                reason="NO_CAPACITY",
                message="no room; needs 1 MiB; MEMORY_FULL: h4",
            ),
            ev.VmEvacuation(vm_name="web-1", target_host_id="h2"),
        ],
        targets=[
            ev.TargetShare(host_id="h2", vm_count=2, memory_mib=640),
            ev.TargetShare(host_id="h3", vm_count=1, memory_mib=64),
        ],
        target_count=2,
    )

    done = await vmha("host", "explain", "h1")

    assert done.code == 0
    assert done.out.startswith("h1 is HEALTHY: its stream is fresh")
    told = done.out[done.out.index("what would become") :].splitlines()
    assert [" ".join(line.split()) for line in told] == [
        "what would become of its 5 VMs if h1 died now",
        "1 would wait (NO_CAPACITY); 3 would start elsewhere; 1 would be left alone (HA_OFF)",
        "web-3 PENDING NO_CAPACITY: no room",
        "web-1 to h2",
        "and 3 more VMs",
        "",
        "who would get them: 2 hosts",
        "h2 2 VMs, 640 MiB",
        "h3 1 VM, 64 MiB",
    ]


async def test_b05_host_explain_of_an_empty_host(vmha: Vmha) -> None:
    """It has nothing to lose, and that is said."""
    vmha.plane.settle()
    vmha.plane.losses["h1"] = ev.HostLoss(host_id="h1")

    assert (await vmha("host", "explain", "h1")).out.endswith("\nwhat would become of its 0 VMs if h1 died now\n")


async def test_b05_explanations_for_programs(vmha: Vmha) -> None:
    """One document: the manager's fields where they were, and the evacuator's answer under its own name."""
    vmha.plane.settle()
    vmha.plane.placements[f"{VM}1"] = ev.VmPlacement(host_id="h1", host_rules=HOST_RULES)
    vmha.plane.losses["h1"] = ev.HostLoss(host_id="h1", vm_count=2)

    vm = json.loads((await vmha("vm", "explain", "web-1", "-o", "json")).out)
    host = json.loads((await vmha("host", "explain", "h1", "-o", "json")).out)

    assert vm["summary"] == "it runs where it belongs"
    assert vm["placement"]["host_rules"][2]["hosts"][0] == {"host_id": "h4", "message": "4 MiB left"}
    assert (host["summary"], host["loss"]["vm_count"]) == ("its stream is fresh", 2)


@pytest.mark.parametrize(("evac", "why"), [("", "STORE_UNAVAILABLE: Redis does not answer"), ("127.0.0.1:1", "PEER_UNREACHABLE")])
async def test_b05_without_the_evacuator_the_rest_is_told(vmha: Vmha, evac: str, why: str) -> None:
    """One line says that it did not answer; the rest stands, exit code 0; programs find the error beside null."""
    vmha.plane.settle()
    more = {"VMHA_EVAC": evac} if evac else {}

    vm = await vmha("vm", "explain", "web-1", **more)
    host = await vmha("host", "explain", "h1", **more)
    program = await vmha("vm", "explain", "web-1", "-o", "json", **more)

    assert (vm.code, host.code, program.code, vm.err) == (0, 0, 0, "")
    assert "it runs where it belongs" in vm.out and "VOTE_STALE" in host.out
    [line] = [line for line in vm.out.splitlines() if "evacuator" in line]
    assert line.startswith(f"the evacuator did not answer ({why}") and line.endswith("where the VM could go is not known")
    assert host.out.endswith("what would become of its VMs is not known\n")
    assert json.loads(program.out)["placement"] is None
    assert json.loads(program.out)["placement_error"].startswith(why)


async def test_s28_what_its_lost_host_said_last_is_not_shown_as_its_state(vmha: Vmha) -> None:
    """A VM that does not run, and whose record still says RUNNING: not running, in the list and in the explanation."""
    vmha.plane.settle()
    vmha.plane.vms[0].reason = "NO_CAPACITY"

    listed = await vmha("vm", "list")
    told = await vmha("vm", "explain", "web-1")

    assert [row.split()[:4] for row in listed.out.splitlines()[1:3]] == [
        ["web-1", "h1", "not", "running"],
        ["web-2", "h2", "RUNNING", "RUNNING"],
    ]
    assert words(section(told.out, "web-1:"))["state"] == "not running; RUNNING when its host was heard last"


async def test_b05_where_protection_is_off_the_plan_is_nobodys(vmha: Vmha) -> None:
    """HA is disabled: it is said above the plan, of a VM and of a host; a drain needs none."""
    vmha.plane.settle()
    drain = ev.Evacuation(evacuation_id=EVACUATION, state=ev.EVACUATION_STATE_RUNNING, kind=ev.EVACUATION_KIND_DRAIN)
    vmha.plane.placements[f"{VM}1"] = ev.VmPlacement(host_id="h1", ha_disabled=True)
    vmha.plane.placements[f"{VM}2"] = ev.VmPlacement(host_id="h1", ha_disabled=True, evacuation=drain)
    vmha.plane.losses["h1"] = ev.HostLoss(host_id="h1", ha_disabled=True)

    vm, drained, host = [
        (await vmha(*asked)).out for asked in (("vm", "explain", "web-1"), ("vm", "explain", "web-2"), ("host", "explain", "h1"))
    ]

    said = "if h1 died now\nprotection is DISABLED: nobody would do it\n"
    assert said in vm and said in host and "DISABLED" not in drained
