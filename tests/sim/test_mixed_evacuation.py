"""Twenty VMs with rules of every kind, and an evacuator that is killed at every step: one outcome each, and never two copies."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from vmha.sim import scenario
from vmha.sim.runner import run

PARTS = 8
AWAY_S = 0.3
"""So long nobody evacuates."""


def vm(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "host": "h1", **more}


SCENE: dict[str, Any] = {
    "name": "twenty VMs with rules of every kind",
    "until": 60,
    "profile": "fast",
    "start_s": 0.2,
    "cluster": {"fencing": "always", "vtpm_state_shared": True, "parallel": 1, "parallel_per_target": 1},
    "hosts": [
        {"id": "h1", "aggregates": ["all", "ssd", "dongle"]},
        {"id": "h2", "aggregates": ["all", "ssd"]},
        *({"id": f"h{number}", "aggregates": ["all"]} for number in (3, 4, 5)),
    ],
    "vms": [
        *(vm(f"db{i}", aggregates=["ssd"], priority=10) for i in (1, 2)),
        *(vm(f"web{i}") for i in (1, 2, 3)),
        *(vm(f"app{i}") for i in (1, 2, 3)),
        *(vm(f"twin{i}") for i in (1, 2)),
        *(vm(f"plain{i}", aggregates=["all"]) for i in (1, 2)),
        vm("tpm1", vtpm=True),
        *(vm(f"local{i}", root_disk="local") for i in (1, 2)),
        vm("paused1", state="paused"),
        vm("off1", state="shutoff"),
        vm("gpu1", gpu=True),
        vm("resized1", resize_unconfirmed=True),
        vm("lonely1", aggregates=["dongle"]),
    ],
    "groups": [
        {"id": "web", "policy": "anti-affinity", "mode": "hard", "vms": ["web1", "web2", "web3"]},
        {"id": "app", "policy": "affinity", "mode": "soft", "vms": ["app1", "app2", "app3"]},
        {"id": "twin", "policy": "affinity", "mode": "hard", "vms": ["twin1", "twin2"]},
    ],
}
MOVED = ("db1", "db2", "web1", "web2", "web3", "app1", "app2", "app3", "twin1", "twin2", "plain1", "plain2", "tpm1")
OUTCOMES = {
    **dict.fromkeys(MOVED, "MOVED"),
    **dict.fromkeys(("local1", "local2"), "REBUILT"),
    **dict.fromkeys(("paused1", "off1"), "SKIPPED"),
    **dict.fromkeys(("gpu1", "resized1"), "FAILED"),
    "lonely1": "PENDING",
}
CRASH = {"at": 10, "do": "crash", "host": "h1"}


def result(timeline: list[dict[str, Any]]) -> dict[str, Any]:
    outcome = run(scenario.parse({**SCENE, "timeline": timeline}))
    found: dict[str, Any] = json.loads(outcome.text)
    return found


@cache
def steps() -> list[float]:
    """The instants at which the journal of an undisturbed evacuation grew."""
    return sorted({event["t"] for event in result([CRASH])["events"] if event["type"] in {"vm", "evacuation"}})


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {name: final["outcome"] for name, final in found["final"]["vms"].items()}


def test_every_vm_has_the_outcome_of_its_kind() -> None:
    """Undisturbed: what can move has moved, within its rules; of the rest each has its reason."""
    found = result([CRASH])

    assert found["violations"] == []
    assert outcomes(found) == OUTCOMES
    assert len(steps()) > 30


@pytest.mark.parametrize("part", range(PARTS))
def test_s07_killed_at_any_step_its_successor_comes_to_the_same_end(part: int) -> None:
    """Killed a moment after each growth of its journal, and followed by another: the same outcomes, no invariant broken."""
    for at in steps()[part::PARTS]:
        found = result([CRASH, {"at": at + 0.0005, "do": "evac_crash"}, {"at": at + AWAY_S, "do": "evac_start"}])

        assert (at, found["violations"], outcomes(found)) == (at, [], OUTCOMES)
