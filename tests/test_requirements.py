"""The table of requirements is complete, and says so when it is not."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests import requirements


def test_every_row_has_tests() -> None:
    """No requirement without a test or scenario that is named after it, and no test of a row that there is not."""
    wanted, found = {row.name for row in requirements.rows()}, set(requirements.written())

    assert sorted(wanted - found) == []
    assert sorted(found - wanted) == []


def test_all_rows_are_read() -> None:
    """S1 to S30 and B1 to B6."""
    assert [row.name for row in requirements.rows()] == [*(f"S{i}" for i in range(1, 31)), *(f"B{i}" for i in range(1, 7))]


@pytest.mark.parametrize(
    ("test", "row"),
    [
        ("tests/a/test_x.py::test_s09_created_first", "S9"),
        ("tests/sim/test_scenarios.py::test_scenario[s16-empty-aggregate]", "S16"),
        ("tests/a/test_sub.py::test_submission_s12_", ""),
        ("test_b04_waits[1]", "B4"),
    ],
)
def test_a_tests_name_says_its_row(test: str, row: str) -> None:
    """By the function's name, or by the scenario's."""
    assert requirements.row_of(test) == row


def test_a_row_without_tests_or_with_a_failed_one_does_not_hold() -> None:
    """The table names what is missing and what is broken."""
    console = Console(record=True, width=200)
    outcomes = {row.name: {f"test_{row.name.lower()}_x": "passed"} for row in requirements.rows()} | {"S2": {}}
    outcomes["S3"] = {"test_s03_x": "failed"}

    assert not requirements.show(console, outcomes)
    text = console.export_text()
    assert "MISSING" in text
    assert "S3 failed: test_s03_x" in text
    assert "34 of 36 rows hold" in text
