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
    window = dict.fromkeys("abc", 1)
    targets = {str(n): target for n, (target, _) in enumerate(vms)}
    turns = iter([*ends, *[0] * 100])
    while True:
        for vm_id in queue.take():
            here = [targets[r] for r in running]
            could = [p for v, (t, p) in waiting.items() if here.count(t) < window[t]]
            assert waiting[vm_id][1] == max(could)
            del waiting[vm_id]
            running.append(vm_id)
            assert len(running) <= parallel
            assert [targets[r] for r in running].count(targets[vm_id]) <= per_target
        if not running:
            break
        ended = running.pop(next(turns) % len(running))
        queue.give_back(ended)
        window[targets[ended]] = min(per_target, 2 * window[targets[ended]])

    assert waiting == {}


def test_the_first_start_on_a_target_is_alone() -> None:
    """The most important VM of each target shares it with nobody; then two may start, then four, up to the limit."""
    queue = StartQueue(16, 4)
    for number in range(12):
        queue.put(str(number), "ab"[number % 2], 0)

    assert queue.take() == ["0", "1"]
    queue.give_back("0")
    assert queue.take() == ["2", "4"]
    queue.give_back("2")
    assert queue.take() == ["6", "8", "10"]


def test_dropped_vms_get_no_slot() -> None:
    """Those that wait for a target can be taken out, in order."""
    queue = StartQueue(1, 1)
    queue.put("1", "a", 0)
    queue.put("2", "a", 5)
    queue.put("3", "b", 0)

    assert queue.drop("a") == ["2", "1"]
    assert queue.take() == ["3"]
    assert queue.drop_all() == []


def test_what_has_begun_already_holds_a_slot() -> None:
    """Beside the limits: it is not asked whether one is free, and nobody else gets it before it is given back."""
    queue = StartQueue(2, 2)
    for vm_id in "abc":
        queue.hold(vm_id, "h2")
    queue.hold("a", "h2")
    queue.put("d", "h3", 0)
    assert queue.take() == []

    queue.give_back("a")
    assert queue.take() == []
    queue.give_back("b")

    assert queue.take() == ["d"]
