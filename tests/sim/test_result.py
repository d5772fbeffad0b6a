"""RESULT: its bytes, and what is told in it."""

from __future__ import annotations

import json
from typing import Any

from tests.sim.scenes import START, line, raw
from vmha.sim import result, scenario
from vmha.sim.history import Fact
from vmha.sim.result import Interval, Logged, Result


def small(**changes: Any) -> scenario.Scenario:
    return scenario.parse(raw(**changes))


def test_the_bytes_are_stable() -> None:
    """Keys are sorted, times are rounded to the millisecond, there is no minus zero, and a newline ends the file."""
    made = Result(
        events=[{"t": 1.23456, "type": "alarm", "b": 1, "a": -0.0001}],
        occupancy={"vm1": [Interval(host="h1", start=0.0, end=None)]},
        final={"vms": {}},
    )
    text = result.render(made)

    assert text == result.render(made)
    assert text.endswith("}\n")
    assert json.loads(text)["events"] == [{"t": 1.235, "type": "alarm", "b": 1, "a": 0.0}]
    assert "-0.0" not in text
    assert list(json.loads(text)) == ["events", "final", "occupancy", "violations"]


def test_a_change_of_a_host_is_told_as_the_design_shows_it() -> None:
    """{"t", "type": "host_state", "host", "from", "to", "reason"} with the states' short names."""
    detail = {
        "host_id": "h1", "old_state": "HOST_STATE_COOLDOWN", "new_state": "HOST_STATE_DOWN", "reason": "QUORUM", "message": "m",
    }  # fmt: skip
    [event] = result.events(small(), [Logged(t=281.4, kind="host_state_change", detail=detail)])

    assert event == {
        "t": 281.4, "type": "host_state", "host": "h1", "from": "COOLDOWN", "to": "DOWN", "reason": "QUORUM", "message": "m",
    }  # fmt: skip


def test_vms_go_by_their_ids_of_the_scenario() -> None:
    """The contract knows UUIDs; RESULT names the scenario's VMs."""
    vm = small().vm("vm1").uuid
    told = result.events(
        small(),
        [
            Logged(t=1.0, kind="alarm", detail={"reason": "DUPLICATE_VM", "host_id": "", "vm_id": vm, "cleared": False}),
            Logged(
                t=2.0,
                kind="vm_evacuation_change",
                detail={
                    "evacuation_id": "e",
                    "source_host_id": "h1",
                    "vm": {"vm_id": vm, "target_host_id": "h2", "step": "VM_STEP_SETTLED", "outcome": "VM_OUTCOME_MOVED"},
                },
            ),
        ],
    )

    assert [(event["type"], event["vm"]) for event in told] == [("alarm", "vm1"), ("vm", "vm1")]
    assert (told[1]["outcome"], told[1]["step"], told[1]["target"]) == ("MOVED", "SETTLED", "h2")


def test_every_kind_of_the_contract_has_a_type() -> None:
    """No event of the contract is left out of RESULT."""
    from vmha.v1 import event_service_pb2  # noqa: PLC0415

    cases = {each.name for each in event_service_pb2.Event.DESCRIPTOR.oneofs_by_name["detail"].fields}
    assert cases == set(result.TYPES)


def test_an_open_outcome_is_empty() -> None:
    """UNSPECIFIED is no outcome."""
    detail = {"evacuation_id": "e", "vm": {"vm_id": "x", "outcome": "VM_OUTCOME_UNSPECIFIED"}}
    [event] = result.events(small(), [Logged(t=1.0, kind="vm_evacuation_change", detail=detail)])

    assert event["outcome"] == ""


def test_refused_acts_stand_among_the_events() -> None:
    """An act that was refused is an event of type `refused`, in the order of time."""
    logged = [Logged(t=5.0, kind="alarm", detail={"reason": "FLAPPING"})]
    told = result.events(small(), logged, [{"t": 2.0, "do": "drain", "reason": "HOST_BUSY", "message": ""}])

    assert [event["type"] for event in told] == ["refused", "alarm"]


def test_occupancy_is_what_the_hypervisors_did() -> None:
    """Intervals come from the ground truth, half open, the last one open to the end; instants of no length are not shown."""
    lines = [
        *START,
        line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"),
        line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
        line(7.0, Fact.GUEST_ENDS, "h2", "vm1", "power"),
        line(9.0, Fact.GUEST_RUNS, "h3", "vm1", "start"),
        line(9.0, Fact.GUEST_ENDS, "h3", "vm1", "power"),
    ]
    made = Result(events=[], occupancy=result.occupancy(lines), final={})

    assert json.loads(result.render(made))["occupancy"] == {
        "vm1": [{"host": "h1", "from": 0.0, "to": 5.0}, {"host": "h2", "from": 5.0, "to": 7.0}],
        "vm2": [{"host": "h1", "from": 0.0, "to": None}],
    }
