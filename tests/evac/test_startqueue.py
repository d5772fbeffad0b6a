"""Slots by priority, under both limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmha.evac.startqueue import StartQueue


@given(
    vms=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=20),
    parallel=st.integers(1, 4),
    per_target=st.integers(1, 3),
    ends=st.lists(st.integers(0, 19), max_size=40),
)
def test_limits_hold_and_nobody_waits_for_a_lower_priority(
    vms: list[tuple[str, int]], parallel: int, per_target: int, ends: list[int]
) -> None:
    """At no time more slots than the limits; who gets one has the highest priority among those whose target has room; everyone
    gets one in the end."""
    queue = StartQueue(parallel, per_target)
    waiting = {str(n): vm for n, vm in enumerate(vms)}
    for vm_id, (target, priority) in waiting.items():
        queue.put(vm_id, target, priority)
    running: list[str] = []
    targets = {str(n): target for n, (target, _) in enumerate(vms)}
    turns = iter([*ends, *[0] * 100])
    while True:
        for vm_id in queue.take():
            here = [targets[r] for r in running]
            could = [p for v, (t, p) in waiting.items() if here.count(t) < per_target]
            assert waiting[vm_id][1] == max(could)
            del waiting[vm_id]
            running.append(vm_id)
            assert len(running) <= parallel
            assert [targets[r] for r in running].count(targets[vm_id]) <= per_target
        if not running:
            break
        queue.give_back(running.pop(next(turns) % len(running)))

    assert waiting == {}


def test_dropped_vms_get_no_slot() -> None:
    """Those that wait for a target can be taken out, in order."""
    queue = StartQueue(1, 1)
    queue.put("1", "a", 0)
    queue.put("2", "a", 5)
    queue.put("3", "b", 0)

    assert queue.drop("a") == ["2", "1"]
    assert queue.take() == ["3"]
    assert queue.drop_all() == []
