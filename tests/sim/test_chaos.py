"""Random scenarios and their shrinking."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from vmha.safety import RHO
from vmha.sim import chaos, scenario, shrink
from vmha.sim.acts import ACTS

NOT_CHAOS = {"vm_start", "hot_add"}
"""Acts that chaos leaves to scenarios written by hand: a second start by hand is no fault, nor is a VM that grows."""


def test_a_scenario_is_a_function_of_seed_and_number() -> None:
    """The same two numbers give the same file, others another."""
    first = json.dumps(chaos.generate(7, 3))

    assert json.dumps(chaos.generate(7, 3)) == first
    assert json.dumps(chaos.generate(7, 4)) != first
    assert json.dumps(chaos.generate(8, 3)) != first


def test_random_scenarios_are_valid_and_cover_every_fault() -> None:
    """All are taken by the parser; together they use every act, each size of cluster and each kind of fencing."""
    acts: Counter[str] = Counter()
    sizes: set[int] = set()
    fencing: set[str] = set()
    for number in range(600):
        made = scenario.parse(chaos.generate(1, number))
        acts.update(act.do for act in made.timeline)
        sizes.add(len(made.hosts))
        fencing.add(made.cluster.fencing)

    assert set(acts) == set(ACTS) - NOT_CHAOS
    assert {2, 3, 4, 5, 6, 7} <= sizes
    assert max(sizes) > 16
    assert fencing == {"none", "always", "fails"}


def test_random_scenarios_keep_to_the_assumptions() -> None:
    """Clocks stay within rho, and an operator calls off only what has crashed and was not booted since."""
    for number in range(600):
        off: set[str] = set()
        for act in scenario.parse(chaos.generate(2, number)).timeline:
            host = act.arguments.get("host", "")
            match act.do:
                case "clock_rate":
                    assert abs(act.arguments["rate"] - 1) < RHO
                case "crash":
                    off.add(host)
                case "boot" | "reboot":
                    off.discard(host)
                case "confirm_off":
                    assert host in off


def breaking(raw: dict[str, Any]) -> bool:
    """Stands for a bug: h2 crashes while the management plane is cut off from h3."""
    try:
        made = scenario.parse(raw)
    except Exception:
        return False
    cut = any(act.do == "isolate" and "h3" in act.arguments["hosts"] for act in made.timeline)
    return cut and any(act.do == "crash" and act.arguments["host"] == "h2" and act.at > 5 for act in made.timeline)


def test_shrinking_leaves_what_is_needed() -> None:
    """Of a long scenario only the two acts, the two hosts and round times are left."""
    hosts = [{"id": f"h{i}", "memory_mib": 8192} for i in range(1, 7)]
    noise = [{"at": i + 0.123, "do": "crash", "host": f"h{1 + i % 6}"} for i in range(12) if 1 + i % 6 != 2]
    long = {
        "until": 90.0,
        "managers": 3,
        "cluster": {"fencing": "always"},
        "hosts": hosts,
        "vms": [{"id": "vm1", "host": "h1"}, {"id": "vm2", "host": "h2"}],
        "timeline": [
            *noise,
            {"at": 14.567, "do": "isolate", "hosts": ["h1", "h3", "h5"]},
            {"at": 20.5, "do": "crash", "host": "h2"},
            {"at": 21.0, "do": "heal_all"},
        ],
    }
    assert breaking(long)

    small = shrink.shrink(long, breaking)

    assert [(step["at"], step["do"]) for step in small["timeline"]] == [(15.0, "isolate"), (20.0, "crash")]
    assert small["timeline"][0]["hosts"] == ["h3"]
    assert [host["id"] for host in small["hosts"]] == ["h2", "h3"]
    assert small["vms"] == []
    assert small["managers"] == 1
    assert small["cluster"] == {}
    assert small["until"] == 21.0


def test_shrinking_keeps_within_its_budget() -> None:
    """No more candidates are run than allowed, and what is returned breaks."""
    asked = 0

    def breaks(raw: dict[str, Any]) -> bool:
        nonlocal asked
        asked += 1
        return len(raw["timeline"]) >= 3

    raw = chaos.generate(1, 0)
    raw["timeline"] = [{"at": i, "do": "heal_all"} for i in range(40)]
    small = shrink.shrink(raw, breaks, tries=20)

    assert asked <= 20
    assert len(small["timeline"]) >= 3
