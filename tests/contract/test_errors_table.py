"""docs/errors.md against the code and the contract."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from vmha import errors
from vmha.rpc.interceptors import DeadlineExceeded

TOP = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| (.+) \| (.+) \|$", re.MULTILINE)
CLASSES: dict[str, type[errors.VmhaError]] = {
    **{name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.VmhaError)},
    "DeadlineExceeded": DeadlineExceeded,
}


def table() -> set[tuple[str, str]]:
    return {(row[1], row[2]) for row in ROW.finditer((TOP / "docs/errors.md").read_text())}


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted((TOP / "vmha").rglob("*.py")):
        if "_pb2" not in path.name:
            for node in ast.walk(ast.parse(path.read_text())):
                yield path, node


def raised() -> Iterator[tuple[str, str, str]]:
    """(where, class, reason) of every error that is made with a literal reason."""
    for path, node in sources():
        where = f"{path.relative_to(TOP)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and (name := _name(node.func)) in CLASSES:
            literals = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "reason")]
            for literal in literals:
                if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                    yield where, name, literal.value
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                first = value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and _name(first) in CLASSES:
                    yield where, _name(first), key.value


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_every_reason_in_the_code_is_in_the_table() -> None:
    """A program that meets a reason can look it up, under the code that it came with."""
    known = table()
    missing = [f"{where}: {kind} {reason}" for where, kind, reason in raised() if (CLASSES[kind].code, reason) not in known]

    assert missing == []
    assert sum(1 for _ in raised()) > 20


def test_every_reason_that_the_contract_promises_is_in_the_table() -> None:
    """The comments of the proto files name reasons in brackets after a code."""
    reasons = {reason for _, reason in table()}
    codes = "|".join(sorted({code for code, _ in table()}))
    promised = set()
    for path in sorted((TOP / "proto").rglob("*.proto")):
        text = re.sub(r"\n\s*//", " ", path.read_text())
        for match in re.finditer(rf"(?:{codes})\s+\(([^)]+)\)", text):
            promised |= set(re.findall(r"\b[A-Z][A-Z_]{4,}\b", match[1]))

    assert promised - reasons == set()
    assert len(promised) > 20


def test_no_reason_stands_twice_under_one_code() -> None:
    """One row for each."""
    rows = ROW.findall((TOP / "docs/errors.md").read_text())

    assert len(rows) == len({(code, reason) for code, reason, _, _ in rows})
