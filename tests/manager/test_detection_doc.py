"""docs/detection.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from vmha.manager.hostview import TRANSITIONS

DOC = Path(__file__).parents[2] / "docs" / "detection.md"


def test_the_documented_states_are_the_machine() -> None:
    """Each state's row in docs/detection.md names exactly the states that may follow it in the code's table."""
    section = DOC.read_text().split("## The states")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    documented = {row[0]: set(row[2].split(", ")) for row in rows[2:]}

    assert documented == {state.value: {follower.value for follower in followers} for state, followers in TRANSITIONS.items()}
