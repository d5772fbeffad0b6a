"""The table of requirements: each row of docs/requirements.md, the tests named after it, and how they ended.

    python -m tests.requirements [--list] [--no-lab]     # make requirements

A test belongs to a row by its name, `test_s12_...`, or by the scenario it runs, `tests/scenarios/s12-...`. Exit code 0: every row
has tests and all of them passed.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

TOP = Path(__file__).resolve().parent.parent
_ROW = re.compile(r"^\| ([SB]\d+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"(?:\btest_|\[)([sb]\d+)[_-]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement. `name`: as S12."""

    name: str
    text: str


def rows() -> list[Row]:
    """The rows of docs/requirements.md, in its order."""
    return [Row(name, text) for name, text in _ROW.findall((TOP / "docs" / "requirements.md").read_text())]


def row_of(test: str) -> str:
    """The row that a test's name or node id names, as S12; empty when it names none."""
    found = _TEST.search(test)
    return "" if found is None else f"{found[1][0].upper()}{int(found[1][1:])}"


def written() -> dict[str, list[str]]:
    """Tests and scenarios by row, from the source: quick, nothing is run."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((TOP / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (row := row_of(node.name)):
                found[row].append(f"{path.relative_to(TOP)}::{node.name}")
    for folder in sorted((TOP / "tests" / "scenarios").iterdir()):
        if row := row_of(f"[{folder.name}"):
            found[row].append(str(folder.relative_to(TOP)))
    return found


class _Results:
    """A pytest plugin: keeps the tests that name a row, and how each ended."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leaves out what names no row."""
        config.hook.pytest_deselected(items=[item for item in items if not row_of(item.nodeid)])
        items[:] = [item for item in items if row_of(item.nodeid)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test's call, or what kept it from being called."""
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[row_of(report.nodeid)][report.nodeid] = report.outcome


def run(*, lab: bool) -> Mapping[str, Mapping[str, str]]:
    """Runs the tests of all rows; row -> test -> passed, failed or skipped."""
    results = _Results()
    chosen = "not slow" if lab else "not slow and not lab"
    pytest.main(["-q", "-m", chosen, "--no-header", "-p", "no:cacheprovider", str(TOP / "tests")], plugins=[results])
    return results.outcomes


def _verdict(outcomes: Iterable[str]) -> str:
    outcomes = list(outcomes)
    if not outcomes:
        return "MISSING"
    return "holds" if all(outcome == "passed" for outcome in outcomes) else "BROKEN"


def show(console: Console, outcomes: Mapping[str, Mapping[str, str]]) -> bool:
    """Prints the table; whether every row holds."""
    table = Table(title="Requirements (docs/requirements.md)", show_lines=False)
    for heading in ("row", "what must be true", "tests", "result"):
        table.add_column(heading, justify="right" if heading == "tests" else "left", overflow="fold")
    verdicts = []
    for row in rows():
        mine = outcomes.get(row.name, {})
        verdicts.append(_verdict(mine.values()))
        table.add_row(row.name, row.text, str(len(mine)), verdicts[-1])
    console.print(table)
    for row in rows():
        for test, outcome in outcomes.get(row.name, {}).items():
            if outcome != "passed":
                console.print(f"{row.name} {outcome}: {test}", markup=False)
    held = sum(verdict == "holds" for verdict in verdicts)
    console.print(f"{held} of {len(verdicts)} rows hold")
    return held == len(verdicts)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.requirements", description="Each requirement, its tests, how they ended."
    )
    parser.add_argument("--list", action="store_true", help="only list the tests of each row")
    parser.add_argument("--no-lab", action="store_true", help="leave out the tests that need real hosts")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        found = written()
        for row in rows():
            print(f"{row.name}  {row.text}")  # noqa: T201 - a command line
            print("".join(f"      {test}\n" for test in found.get(row.name, ["MISSING"])), end="")  # noqa: T201
        return 0
    held = show(Console(width=None if sys.stdout.isatty() else 160, highlight=False), run(lab=not chosen.no_lab))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
