"""What explanations say of events, in words (B5)."""

from __future__ import annotations

from vmha.manager import explain
from vmha.store.records import EventRecord


def test_b05_a_vms_history_tells_which_hosts_refused_it_and_why() -> None:
    """The words of its evacuation's step are there, with step, outcome and reason before them."""
    why = "no other healthy host is in ssd; needs 16 MiB and 1 vCPUs; AGGREGATE_DIFFERS: h2"
    entry = {"vm_name": "vm1", "step": "VM_STEP_PLANNED", "outcome": "VM_OUTCOME_PENDING", "reason": "AGGREGATE_EMPTY"}
    event = EventRecord(revision=1, time_s=0.0, kind="vm_evacuation_change", detail={"vm": entry | {"message": why}})

    assert explain._line(event) == f"1970-01-01T00:00:00.000Z vm1 PLANNED PENDING AGGREGATE_EMPTY: {why}"
