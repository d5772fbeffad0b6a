"""What explanations say of events, in words (B5)."""

from __future__ import annotations

import pytest

from vmha.manager import explain
from vmha.model import HostState, VmState
from vmha.store.records import EventRecord, VmRecord


def test_b05_a_vms_history_tells_which_hosts_refused_it_and_why() -> None:
    """The words of its evacuation's step are there, with step, outcome and reason before them."""
    why = "no other healthy host is in ssd; needs 16 MiB and 1 vCPUs; AGGREGATE_DIFFERS: h2"
    entry = {"vm_name": "vm1", "step": "VM_STEP_PLANNED", "outcome": "VM_OUTCOME_PENDING", "reason": "AGGREGATE_EMPTY"}
    event = EventRecord(revision=1, time_s=0.0, kind="vm_evacuation_change", detail={"vm": entry | {"message": why}})

    assert explain._line(event) == f"1970-01-01T00:00:00.000Z vm1 PLANNED PENDING AGGREGATE_EMPTY: {why}"


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (HostState.HEALTHY, "it is running, as it should be."),
        (HostState.ISOLATED, "it is running, as it should be."),
        (HostState.SUSPECT, "it was running when h1 was heard last, which is SUSPECT now."),
        (HostState.FENCE_PENDING, "it was running when h1 was heard last, which is FENCE_PENDING now."),
        (HostState.FENCED, "it does not run there: h1 is FENCED."),
    ],
)
def test_s28_a_vm_whose_host_is_not_heard_is_not_called_running(host: HostState, said: str) -> None:
    """What a silent host's libvirt said last is told as such; on a host that is proven dead nothing runs."""
    record = VmRecord(
        vm_id="a",
        name="a",
        owner_host_id="h1",
        owner_incarnation=1,
        epoch=3,
        state=VmState.RUNNING,
        desired_state=VmState.RUNNING,
    )

    assert explain._vm_summary(record, host) == f"h1 owns it under epoch 3; {said}"
