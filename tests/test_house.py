"""The house rules that a machine can check: who imports whom, and how long things are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
CORES = {
    "agent": {"probe_plan", "lease", "lease_events", "lapse", "kept", "watchdog", "storage", "shared_proof"},
    "manager": {
        "events",
        "effects",
        "votes",
        "hostview",
        "clusterview",
        "silence",
        "incidents",
        "evidence",
        "verdict",
        "detector",
        "guard",
        "enablement",
        "findings",
        "storage_rules",
        "capability_rules",
        "condition_rules",
        "watchgraph",
        "agenda",
        "clock_check",
        "committee",
        "contact",
        "copy_votes",
        "lease_rung",
        "looking",
        "membership",
        "sightings",
        "signs",
        "leadership",
    },
    "evac": {
        "drain",
        "drain_plan",
        "machine",
        "outlook",
        "pair_rules",
        "placement",
        "placement_explain",
        "placement_greedy",
        "placement_bounds",
        "placement_moves",
        "placement_problem",
        "placement_repack",
        "placement_repair",
        "placement_rooms",
        "placement_search",
        "placement_units",
        "planner",
        "rules",
        "workflow",
    },
}
NOT_IN_A_CORE = {
    "asyncio",
    "time",
    "random",
    "grpc",
    "redis",
    "libvirt",
    "socket",
    "threading",
    "os",
    "subprocess",
    "logging",
    "datetime",
    "structlog",
    "aiohttp",
}
FLOORS = ["cli", "agent", "manager", "evac", "store", "rpc", "v1"]
"""Rooms, top to bottom; a room imports only rooms below it (docs/architecture.md)."""
SERVICES = {"agent", "manager", "evac"}


def modules() -> list[Path]:
    return sorted(p for p in (TOP / "vmha").rglob("*.py") if "_pb2" not in p.name)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def room(path: Path) -> str:
    parts = path.relative_to(TOP / "vmha").parts
    return parts[0] if len(parts) > 1 else ""


def test_cores_import_nothing_that_acts() -> None:
    """A core module imports no clock, loop, network, randomness or log, so its decisions can be replayed."""
    wrong = [
        f"{path.relative_to(TOP)}:{line}: {name}"
        for path in modules()
        if path.stem in CORES.get(room(path), set())
        for line, name in imported(path)
        if name.split(".")[0] in NOT_IN_A_CORE
    ]

    assert wrong == []


def test_services_meet_only_in_contract_and_store() -> None:
    """manager, agent and evac never import one another."""
    wrong = [
        f"{path.relative_to(TOP)}:{line}: {name}"
        for path in modules()
        if room(path) in SERVICES
        for line, name in imported(path)
        if (match := re.match(r"vmha\.(\w+)", name)) and match[1] in SERVICES - {room(path)}
    ]

    assert wrong == []


def test_no_room_imports_a_room_above_it() -> None:
    """Data goes down the list of rooms and never back up; only the command line starts services, by name."""
    wrong = []
    for path in modules():
        here = room(path)
        if here not in FLOORS:
            continue
        above = set(FLOORS[: FLOORS.index(here)])
        wrong += [
            f"{path.relative_to(TOP)}:{line}: {name}"
            for line, name in imported(path)
            if (match := re.match(r"vmha\.(\w+)", name)) and match[1] in above and not {here, match[1]} <= SERVICES
        ]

    assert wrong == []


@pytest.mark.parametrize("folder", ["vmha", "lab", "bench"])
def test_modules_and_functions_stay_short(folder: str) -> None:
    """A module stays within 400 lines, a function within 40, a servicer method within 15."""
    wrong = []
    for path in sorted((TOP / folder).rglob("*.py")):
        if "_pb2" in path.name:
            continue
        text = path.read_text()
        if text.count("\n") > 400:
            wrong.append(f"{path.relative_to(TOP)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                servicer = any("Servicer" in ast.unparse(base) for base in node.bases)
                wrong += _too_long(path, node, 15 if servicer else 40)
        wrong += _too_long(path, ast.parse(text), 40)

    assert wrong == []


def _too_long(path: Path, owner: ast.AST, limit: int) -> list[str]:
    rows = []
    for node in ast.iter_child_nodes(owner):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            docstring = node.body[0] if ast.get_docstring(node) else None
            if docstring is not None and limit == 15:
                length -= (docstring.end_lineno or 0) - docstring.lineno + 1
            if length > limit:
                rows.append(f"{path.relative_to(TOP)}:{node.lineno}: {node.name} is {length} lines")
    return rows


def test_the_clock_is_read_in_one_place() -> None:
    """Only vmha/clock.py reads the kernel's clocks: the simulator replaces them there."""
    pattern = re.compile(r"\btime\.(time|monotonic|perf_counter|clock_gettime|sleep)\(|datetime\.(now|utcnow)\(")
    wrong = [
        f"{path.relative_to(TOP)}:{number}: {line.strip()}"
        for path in modules()
        if path.name != "clock.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]

    assert wrong == []
