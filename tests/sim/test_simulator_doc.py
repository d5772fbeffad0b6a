"""docs/simulator.md against the tables that the parser reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vmha.sim import result, scenario
from vmha.sim.acts import ACTS
from vmha.sim.fields import OPTIONAL, REQUIRED, Field, Kind
from vmha.sim.invariants import INVARIANTS
from vmha.sim.runner import run

DOC = (Path(__file__).resolve().parents[2] / "docs" / "simulator.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading: first cell -> the others."""
    section = re.split(rf"^#+ {heading}$", DOC, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    found = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in found}


def told(item: Field) -> Any:
    if item.default is REQUIRED:
        return "required"
    if item.kind is Kind.SWITCH:
        return "on" if item.default else "off"
    return list(item.default) if isinstance(item.default, tuple) else item.default


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("Top level", scenario.TOP),
        ("Cluster", scenario.CLUSTER),
        ("Hosts", scenario.HOST),
        ("VMs", scenario.VM),
        ("Groups", scenario.GROUP),
    ],
)
def test_every_field_is_told_with_its_default(heading: str, fields: tuple[Field, ...]) -> None:
    """The doc's tables have the parser's fields, in its order, with its defaults."""
    table = rows(heading)

    assert list(table) == [item.name for item in fields]
    for item in fields:
        written = table[item.name][1]
        assert (written if written == "required" else json.loads(written)) == told(item), item.name


def test_every_act_is_told_with_its_arguments() -> None:
    """The doc's table has every `do`, with its arguments, the optional ones with what is taken without them."""
    table = rows("Acts")

    assert list(table) == list(ACTS)
    for do, fields in ACTS.items():
        written = dict(re.findall(r"`(\w+)`(?: \(([^)]*)\))?", table[do][0]))
        assert list(written) == [item.name for item in fields], do
        for item in fields:
            assert bool(written[item.name]) == (item.default is not REQUIRED), f"{do}.{item.name}"
            if item.default not in (REQUIRED, OPTIONAL):
                assert json.loads(written[item.name]) == item.default, f"{do}.{item.name}"


def test_every_type_of_event_is_told() -> None:
    """All types that RESULT can have."""
    assert set(rows("Events")) == {*result.TYPES.values(), "refused"}


def test_every_invariant_is_told() -> None:
    """All invariants, in the order in which they are checked."""
    assert list(rows("Violations")) == list(INVARIANTS)


def test_the_example_of_the_doc_runs() -> None:
    """The scenario that the doc shows is one, and gives what it promises."""
    text = next(block for block in re.split(r"\n\n", DOC) if '"name": "a host lost"' in block)
    outcome = run(scenario.parse(json.loads(text)))

    assert outcome.violations == []
    assert outcome.truth.final["hosts"]["h1"] == "EVACUATED"
    assert outcome.truth.final["vms"]["vm1"]["outcome"] == "MOVED"
