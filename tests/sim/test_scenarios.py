"""Every scenario of tests/scenarios runs, and shows what its expected.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sim.expectation import EXPECTATIONS, differences
from tests.sim.test_simulator_doc import rows
from vmha.sim import campaign, scenario
from vmha.sim.runner import run

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
NAMES = sorted(folder.name for folder in SCENARIOS.iterdir() if folder.is_dir())


@pytest.mark.timeout(300)  # twenty hosts on a slow machine
@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_shows_what_it_promises(name: str) -> None:
    """The run gives what expected.json says, and breaks no invariant."""
    folder = SCENARIOS / name
    made = scenario.load(folder / "scenario.json")
    expected = json.loads((folder / "expected.json").read_text())

    outcome = run(made)

    assert "\n".join(differences(json.loads(outcome.text), expected, made.until)) == ""


def test_r22_a_drain_that_takes_no_lock_is_found_out() -> None:
    """Without the word in the VM's record an evacuation starts a VM that has arrived: the scenario shows it."""
    raw = json.loads((SCENARIOS / "drain-that-no-agent-saw" / "scenario.json").read_text())

    assert set(campaign.attempt(raw, mutant="DRAIN_LOCK").broken) == {"no_lock_needed"}
    assert campaign.attempt(raw).broken == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_says_what_it_is_for(name: str) -> None:
    """Each folder has a README and expectations."""
    folder = SCENARIOS / name

    assert (folder / "README.md").read_text().startswith("# ")
    assert set(json.loads((folder / "expected.json").read_text())) <= set(EXPECTATIONS)


def test_every_expectation_is_told() -> None:
    """The doc lists what expected.json may say."""
    assert list(rows("Scenarios in the tests")) == list(EXPECTATIONS)


RESULT: dict[str, Any] = {
    "events": [
        {"t": 1.0, "type": "host_state", "host": "h1", "to": "DOWN"},
        {"t": 2.0, "type": "host_state", "host": "h1", "to": "FENCED"},
    ],
    "final": {"hosts": {"h1": "EVACUATED"}},
    "occupancy": {"vm1": [{"host": "h1", "from": 0.0, "to": 1.0}, {"host": "h2", "from": 3.0, "to": None}]},
    "violations": [],
}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"final": {"hosts": {"h1": "EVACUATED"}}}, {"final": {"hosts": {"h1": "DOWN"}}}),
        ({"events": [{"to": "DOWN"}, {"to": "FENCED", "after": 2}]}, {"events": [{"to": "FENCED"}, {"to": "DOWN"}]}),
        ({"events": [{"to": "DOWN", "before": 1}]}, {"events": [{"to": "DOWN", "before": 0.9}]}),
        ({"no_events": [{"to": "SUSPECT"}]}, {"no_events": [{"to": "DOWN"}]}),
        ({"occupancy": {"vm1": ["h1", "h2"]}}, {"occupancy": {"vm1": ["h1"]}}),
        ({"untouched": []}, {"untouched": ["vm1"]}),
        ({"gap_s": {"vm1": [2, 2]}}, {"gap_s": {"vm1": [0, 1]}}),
        ({"ends": {"vm1": [1, 2]}}, {"ends": {"vm1": [2, 3]}}),
        ({}, {"violations": True}),
    ],
)
def test_an_expectation_can_fail(right: dict[str, Any], wrong: dict[str, Any]) -> None:
    """Each kind of expectation holds for one result and not for another."""
    assert differences(RESULT, right, 10.0) == []
    assert len(differences(RESULT, wrong, 10.0)) == 1


def test_a_violation_is_never_expected_by_accident() -> None:
    """A run that breaks an invariant fails unless expected.json says so."""
    broken = {**RESULT, "violations": [{"t": 1.0, "message": "two copies"}]}

    assert differences(broken, {}, 10.0) == ["violation at 1.0 s: two copies"]
    assert differences(broken, {"violations": True}, 10.0) == []
