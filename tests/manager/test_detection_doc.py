"""docs/detection.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from vmha.manager.hostview import TRANSITIONS
from vmha.model import FAST_TIMERS, STANDARD_TIMERS

DOC = Path(__file__).parents[2] / "docs" / "detection.md"
CORES = Path(__file__).parents[2] / "vmha" / "manager"


def test_the_documented_states_are_the_machine() -> None:
    """Each state's row in docs/detection.md names exactly the states that may follow it in the code's table."""
    section = DOC.read_text().split("## The states")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    documented = {row[0]: set(row[2].split(", ")) for row in rows[2:]}

    assert documented == {state.value: {follower.value for follower in followers} for state, followers in TRANSITIONS.items()}


def test_the_documented_figures_are_the_profiles() -> None:
    """Each figure of docs/detection.md is the one that a cluster of that profile starts from."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", DOC.read_text(), re.MULTILINE)

    assert len(rows) == 10
    for name, standard, fast in rows:
        field = name if hasattr(STANDARD_TIMERS, name) else f"{name}_s"
        assert (float(standard), float(fast)) == (getattr(STANDARD_TIMERS, field), getattr(FAST_TIMERS, field)), name


def test_the_documented_alarms_are_raised() -> None:
    """Each alarm of docs/detection.md is one that the cores raise, and each of theirs is in it."""
    section = DOC.read_text().split("## Alarms")[1]
    raised = {
        name
        for core in ("silence", "incidents", "detector")
        for name in re.findall(r'raise_alarm\(\s*host, "(\w+)"', (CORES / f"{core}.py").read_text())
    }

    assert set(re.findall(r"^\| ([A-Z_]+) \|", section, re.MULTILINE)) == raised
